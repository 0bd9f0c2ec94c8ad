// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "image/checksum.hpp"
#include "image/image_maker.hpp"
#include "model/names.hpp"
#include "run/data_folders.hpp"
#include "run/fresh.hpp"
#include "run/manager_impl.hpp"

namespace vmgraft {

ImageInfo Manager::Impl::image_info(const ImageRecord& record, const StoreFacts* refs) {
  ImageInfo info;
  const LayerRecord layer = store().layer(record.layer);
  info.name = record.name;
  info.layer = record.layer;
  info.virtual_size = layer.virtual_size;
  if (const auto file = host.stat(store().layer_file(record.layer))) info.disk_size = file->allocated;
  info.sha256 = record.sha256;
  info.origin = record.origin;
  info.created = record.created;
  if (layer.boot_direct) info.boot.emplace_back("direct");
  if (layer.boot_bios) info.boot.emplace_back("bios");
  if (layer.boot_uefi) info.boot.emplace_back("uefi");
  info.agent = layer.agent;
  info.cloud_init = layer.cloud_init;
  info.default_user = layer.default_user;
  if (refs != nullptr)
    info.used_by = static_cast<std::size_t>(
        std::count_if(refs->manifests.begin(), refs->manifests.end(), [&](const Manifest& manifest) {
          return reach(refs->layers, named_layers(manifest)).contains(record.layer);
        }));
  return info;
}

ImageInfo Manager::Impl::adopt_image(const std::string& name, bool force,
                                     const std::function<MadeImage(ImageWork&)>& make) {
  require_name("image", name);
  const auto refuse_taken = [&] {
    if (!force && store().find_image(name))
      throw Error(Errc::conflict, fmt::format("there is an image '{}' already", name),
                  "take another --name, or replace it with --force (VMs that stand on it keep their layers)");
  };
  refuse_taken();
  WorkFolder scratch(host, store());
  scratch.make();
  ImageWork work{host, scratch.path(), options.on_progress, options.interrupted};
  MadeImage made = make(work);
  // Of the file as it stands in the store: the image's own sum may be that of a download in another format.
  made.layer.sha256 = checksum_file(work, made.disk, Checksum::Algorithm::sha256, "hashing image " + name).hex;

  const Locks locks = lock_vms({"@image-" + name}, "image " + name);
  refuse_taken();
  LayerRecord& layer = made.layer;
  layer.id = fresh_layer_id();
  layer.created = now_rfc3339();
  layer.made_by = "image " + name;
  const ImageRecord record{name, layer.id, made.sha256, made.origin, layer.created};
  const std::optional<ImageRecord> before = store().find_image(name);
  Plan plan{"image " + name, {"@image-" + name}, {}};
  plan.steps.emplace_back(AdoptFile{made.disk, store().layer_file(layer.id)});
  if (layer.boot_direct) {
    plan.steps.emplace_back(AdoptFile{made.kernel, store().kernel_file(layer.id)});
    plan.steps.emplace_back(AdoptFile{made.initrd, store().initrd_file(layer.id)});
  }
  plan.steps.emplace_back(WriteFile{store().layer_record(layer.id), to_json_text(layer), 0444});
  plan.steps.emplace_back(WriteFile{store().image_record(name), to_json_text(record), 0600, before.has_value(),
                                    before ? to_json_text(*before) : std::string{}});
  execute(plan);
  return image_info(record, nullptr);
}

std::vector<ImageInfo> Manager::images() {
  const StoreFacts facts = impl_->store_facts();
  std::vector<ImageInfo> infos;
  for (const ImageRecord& record : facts.images) infos.push_back(impl_->image_info(record, &facts));
  return infos;
}

std::vector<CatalogueEntry> Manager::catalogue() const {
  std::vector<std::filesystem::path> folders = data_folders();
  folders.insert(folders.begin(), "/etc/vmgraft");
  return read_catalogue(impl_->host, folders);
}

ImageInfo Manager::image_build(const ImageBuildRequest& request) {
  const std::vector<std::string> known = recipes();
  if (std::find(known.begin(), known.end(), request.recipe) == known.end())
    throw Error(Errc::not_found, fmt::format("there is no recipe '{}'", printable(request.recipe)),
                did_you_mean(request.recipe, known, fmt::format("{}", fmt::join(known, ", "))));
  return impl_->adopt_image(request.name.empty() ? request.recipe : request.name, request.force, [&](ImageWork& work) {
    return request.recipe == "micro" ? build_micro(work) : build_debian(work, "bookworm");
  });
}

ImageInfo Manager::image_import(const ImageImportRequest& request) {
  const std::string name = request.name.empty() ? request.file.stem().string() : request.name;
  return impl_->adopt_image(name, request.force, [&](ImageWork& work) { return import_image(work, request); });
}

ImageInfo Manager::image_pull(const ImagePullRequest& request) {
  std::string name = request.name;
  if (name.empty()) {
    const bool is_url = request.source.find("://") != std::string::npos;
    name = is_url ? std::filesystem::path(request.source.substr(0, request.source.find_first_of("?#"))).stem().string()
                  : request.source;
  }
  const std::filesystem::path cache = impl_->store().tmp_folder() / "downloads";
  impl_->host.make_folder(cache, 0700);
  return impl_->adopt_image(name, request.force,
                            [&](ImageWork& work) { return pull_image(work, request, catalogue(), cache); });
}

std::vector<std::string> Manager::image_delete(const std::string& name) {
  static_cast<void>(impl_->store().image(name));
  Locks locks = impl_->lock_vms({"@image-" + name}, "image delete " + name);
  static_cast<void>(impl_->store().image(name));
  Plan plan{"image delete " + name, {"@image-" + name}, {}};
  plan.steps.emplace_back(Commit{});
  plan.steps.emplace_back(RemovePath{impl_->store().image_record(name)});
  std::vector<std::string> removed;
  impl_->execute_untidy(plan, locks, [&] { removed = impl_->sweep(); });
  return removed;
}

}  // namespace vmgraft

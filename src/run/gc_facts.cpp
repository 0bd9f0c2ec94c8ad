// SPDX-License-Identifier: Apache-2.0
#include "run/gc_facts.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "model/names.hpp"
#include "run/doctor.hpp"
#include "run/fresh.hpp"
#include "run/manager_impl.hpp"
#include "run/store_trust.hpp"

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

std::uint64_t size_below(Host& host, const fs::path& file) {
  const auto info = host.stat(file);
  if (!info) return 0;
  std::uint64_t size = info->allocated;
  if (info->is_folder)
    for (const std::string& name : host.list_folder(file)) size += size_below(host, file / name);
  return size;
}

/// vmgraft makes nothing but plain files beside its layers: a folder, link, FIFO or device of that name is somebody's
/// own.
bool is_plain_file(Host& host, const fs::path& file, const FileInfo& info) {
  if (info.is_folder || info.is_link) return false;
  try {
    static_cast<void>(host.read_range(file, 0, 1));
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// What stands in a store, but for its records and the layers that have one.
class StoreListing {
 public:
  StoreListing(Host& host, fs::path root, const std::function<bool(const std::string&)>& is_free)
      : host_(host), root_(std::move(root)), is_free_(is_free) {}

  std::vector<StoreFile> run() {
    for (const char* folder : {"", "layers", "images", "journal", "tmp"})
      for (const std::string& name : host_.list_folder(root_ / folder)) add(fs::path(folder) / name);
    for (const std::string& name : host_.list_folder(root_ / "vms")) add_tree(fs::path("vms") / name);
    return std::move(files_);
  }

 private:
  const StoreFile* add(const fs::path& relative) {
    const auto info = host_.stat(root_ / relative);
    if (!info) return nullptr;
    if (relative.parent_path() == "layers" && !is_plain_file(host_, root_ / relative, *info)) return nullptr;
    StoreFile file{relative.string(), info->allocated, info->is_folder, false};
    const std::string name = relative.filename();
    const bool is_work = relative.parent_path() == "tmp" && info->is_folder && is_layer_id(name);
    if (is_work) file.is_held = !is_free_(work_lock(name));
    if (const std::string writer = writer_of(name); !writer.empty()) file.is_held = host_.stat("/proc/" + writer).has_value();
    // A store's own folders are not summed up: they are never garbage.
    if (info->is_folder && relative.has_parent_path()) file.size = size_below(host_, root_ / relative);
    files_.push_back(std::move(file));
    return &files_.back();
  }

  void add_tree(const fs::path& relative) {
    const StoreFile* file = add(relative);
    if (file == nullptr || !file->is_folder) return;
    for (const std::string& name : host_.list_folder(root_ / relative)) add_tree(relative / name);
  }

  Host& host_;
  fs::path root_;
  const std::function<bool(const std::string&)>& is_free_;
  std::vector<StoreFile> files_;
};

/// The definition kept with the snapshot that the VM stands on, or with its last one, on the disks of now.
std::string xml_of_a_snapshot(Manager::Impl& impl, const Manifest& manifest) {
  const SnapshotRecord* record = find_snapshot(manifest, manifest.current);
  if (record == nullptr && !manifest.snapshots.empty()) record = &manifest.snapshots.back();
  if (record == nullptr) return {};
  const auto xml = impl.host.read_file(impl.store().snapshot_folder(manifest.name, record->name) / "domain.xml");
  if (!xml) return {};
  std::map<std::string, std::string> disks;
  for (const HeadRecord& head : manifest.heads) disks.emplace(head.target, impl.store().layer_file(head.layer));
  return with_disk_paths(*xml, disks);
}

/// The definition as create would make it from the resolved template that the manifest keeps.
std::string xml_of_the_template(Manager::Impl& impl, const Manifest& manifest) {
  const VmSpec spec = parse_spec(manifest.spec, manifest.template_name);
  CreateFacts facts{impl.store(), {manifest.template_name, manifest.template_name, spec, manifest.spec,
                                   manifest.template_digest},
                    {}, {}, {}, impl.hypervisor().info().is_session, manifest.owner, manifest.created, {}, {}};
  facts.virt_type = virt_type_for(impl.host, impl.host_facts(), spec.accel);
  NewVm vm{manifest.name, manifest.uuid, {}, {}, {}, {}};
  for (const DiskSpec& disk : spec.disks) {
    const auto head = std::find_if(manifest.heads.begin(), manifest.heads.end(),
                                   [&](const HeadRecord& each) { return each.name == disk.name; });
    if (head == manifest.heads.end())
      throw Error(Errc::other, fmt::format("its manifest has no disk '{}', which its template names", disk.name));
    vm.layers.push_back(head->layer);
    const LayerRecord root = impl.store().chain(head->layer).back();
    if (!disk.image.empty()) facts.images.emplace(disk.image, ImageFacts{{disk.image, root.id, {}, {}, {}}, root});
  }
  if (impl.host.stat(impl.store().seed_file(manifest.name))) vm.seed = "seed.iso";
  vm.macs = fresh_macs(spec.networks.size());
  return to_domain_xml(domain_config(facts, vm));
}

Redefinition redefine(Manager::Impl& impl, const Manifest& manifest, const std::vector<GcDomain>& domains) {
  for (const GcDomain& domain : domains)
    if (domain.name == manifest.name)
      return {{}, {}, fmt::format("its name is taken by the domain {}, which is another", domain.uuid)};
  try {
    for (const HeadRecord& head : manifest.heads)
      for (const LayerRecord& layer : impl.store().chain(head.layer))
        if (!impl.store().has_layer(layer.id))
          return {{}, {}, fmt::format("disk '{}': layer {} is missing", head.name, layer.id)};
    std::string xml = xml_of_a_snapshot(impl, manifest);
    const bool is_kept = !xml.empty();
    if (!is_kept) xml = xml_of_the_template(impl, manifest);
    require_known_reach(impl.hypervisor(), impl.store(), fmt::format("VM '{}'", manifest.name), manifest.uuid, xml);
    return {std::move(xml), is_kept ? "" : "its network cards have new addresses", {}};
  } catch (const Error& error) {
    return {{}, {}, error.what()};
  }
}

std::vector<GcJournal> read_journals(Manager::Impl& impl) {
  std::vector<GcJournal> journals;
  for (const fs::path& file : list_journals(impl.host, impl.store())) {
    GcJournal journal{{}, impl.host.read_file(file).value_or("")};
    try {
      JournalEntry entry = journal_from_json(journal.text, file);
      journal.vms = std::move(entry.plan.vms);
      journal.pid = entry.pid;
    } catch (const Error&) {
      // Told with the journals; its text still says what it is about.
    }
    journals.push_back(std::move(journal));
  }
  return journals;
}

}  // namespace

std::vector<StoreFile> list_store(Host& host, const Store& store,
                                  const std::function<bool(const std::string& lock)>& is_free) {
  return StoreListing(host, store.root(), is_free).run();
}

std::vector<GcDomain> read_domains(Hypervisor& hypervisor, const Store& store) {
  const std::string root = store.root();
  std::vector<GcDomain> domains;
  for (const DomainState& state : hypervisor.domains()) {
    GcDomain domain{state.name, state.uuid, state.state != VmState::shut_off && state.state != VmState::crashed, false, {}};
    try {
      const std::string xml = hypervisor.domain_xml(state.uuid, true);
      const DomainFacts facts = read_domain(xml);
      domain.is_ours = facts.store == root && facts.id == state.uuid;
      domain.paths = paths_below(xml, root);
      if (domain.is_active) domain.paths.merge(paths_below(hypervisor.domain_xml(state.uuid, false), root));
    } catch (const Error& error) {
      if (error.code() == Errc::not_found) continue;  // removed between the calls
      throw;
    }
    domains.push_back(std::move(domain));
  }
  return domains;
}

GcFacts Manager::Impl::gc_facts(const FileLock&) {
  // The journals first: one that ends meanwhile has written its manifest by then.
  std::vector<GcJournal> journals = read_journals(*this);
  GcFacts facts{store(), store_facts(), {}, {}, {}, std::move(journals), {}, {}, {}};
  facts.files = list_store(host, store(), [this](const std::string& lock) { return is_free(lock); });
  facts.domains = read_domains(hypervisor(), store());
  for (const auto& [id, layer] : facts.refs.layers)
    for (const fs::path& file : {store().layer_file(id), store().kernel_file(id), store().initrd_file(id)})
      if (const auto info = host.stat(file)) facts.layer_sizes[id] += info->allocated;
  for (const std::string& name : host.list_folder(store().vms_folder()))
    if (!is_free(name)) facts.held.insert(name);
  std::size_t known = 0;
  for (const Manifest& manifest : facts.refs.manifests) {
    const auto domain = std::find_if(facts.domains.begin(), facts.domains.end(),
                                     [&](const GcDomain& each) { return each.uuid == manifest.uuid; });
    if (domain == facts.domains.end()) {
      facts.redefinitions.emplace(manifest.name, redefine(*this, manifest, facts.domains));
      continue;
    }
    ++known;
    if (domain->is_active) facts.running.insert(manifest.name);
  }
  // Of a store's VMs libvirt may have lost one or some. That it has not one of them is another libvirt.
  if (known == 0 && facts.refs.manifests.size() > 1)
    facts.wrong_libvirt = fmt::format(
        "{} knows no VM of this store: is it the one they were made with (--connect URI)? If it is, and lost "
        "them: make any VM with it (vmgraft create micro --no-start), and gc defines the others again",
        uri());
  return facts;
}

}  // namespace vmgraft

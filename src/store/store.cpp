// SPDX-License-Identifier: Apache-2.0
#include "store/store.hpp"

#include <algorithm>
#include <array>
#include <set>

#include <unistd.h>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "store/qcow2.hpp"

namespace vmgraft {
namespace {

using std::filesystem::path;

constexpr std::string_view kFormat = "1\n";

constexpr std::size_t kReserve = 1 << 20;       ///< a journal holds the manifest and the definitions of a VM
constexpr std::uint64_t kPlenty = 64 * kReserve;
constexpr std::array<std::string_view, 6> kFolders{"layers", "images", "vms", "journal", "locks", "tmp"};
/// What `vmgraft image build` knows how to make.
constexpr std::array<std::string_view, 2> kBuildable{"micro", "debian-12"};

std::string quoted(const path& file) {
  return "'" + printable(file.native(), 4096) + "'";
}

bool is_name(std::string_view text) {
  try {
    require_name("file", text);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// A layer id as part of a path. Looser than what records may hold: what counts here is that it cannot lead out of the
/// folder.
const std::string& safe(const std::string& id) {
  if (!is_name(id)) throw Error(Errc::other, "'" + printable(id, 80) + "' is not the id of a layer");
  return id;
}

const std::string& safe_name(const char* what, const std::string& name) {
  require_name(what, name);
  return name;
}

/// The name in "NAME.json"; empty when it is no such name (a temporary that a dying process left, a file of somebody
/// else).
std::string stem_of(const std::string& file) {
  constexpr std::string_view suffix = ".json";
  if (!file.ends_with(suffix)) return {};
  std::string stem = file.substr(0, file.size() - suffix.size());
  return is_name(stem) ? stem : std::string();
}

/// Make a folder with what is missing above it.
void make_path(Host& host, const path& folder, unsigned mode_above, unsigned mode) {
  const auto found = host.stat(folder);
  if (found && (found->is_folder || found->is_link)) return;
  if (folder.has_relative_path()) make_path(host, folder.parent_path(), mode_above, mode_above);
  host.make_folder(folder, mode);
}

/// \throws Error when the format is not ours.
void require_format(const path& root, const std::string& format) {
  if (format == kFormat) return;
  const std::string number = format.substr(0, format.find('\n'));
  const bool is_number = !number.empty() && number.size() < 10 &&
                         std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (is_number && number != "0" && number != "1") {
    throw Error(Errc::host_unfit, "the store " + quoted(root) + " has format " + number + ", made by a newer vmgraft",
                "install that newer vmgraft, or use another store with --store DIR");
  }
  throw Error(Errc::other,
              quoted(root / "version") + ": '" + printable(number, 40) + "' is not the format of a store (want 1)",
              "if " + quoted(root) + " is not a store, use another folder with --store DIR");
}

}  // namespace

Store::Store(Host& host, path root, StoreAccess access) : host_(host), root_(root.lexically_normal()), access_(access) {
  if (!root_.has_filename() && root_.has_relative_path()) root_ = root_.parent_path();  // "/a/b/" is "/a/b"
}

void Store::prepare() {
  refuse_links();
  refuse_others_hands();
  if (const auto format = host_.read_file(root_ / "version")) return require_format(root_, *format);
  refuse_strangers();

  // Each of these may be done already, by a prepare() that was cut short: so all of it is said again.
  make_path(host_, root_, access_.own_labels ? 0755 : 0700, 0711);
  if (access_.own_labels) let_through(root_);
  for (const std::string_view name : kFolders) {
    const bool is_for_qemu = name == "layers" || name == "vms";
    const path folder = root_ / name;
    // QEMU has to get to its disks: as one of the group when it is another user, as the owner when it is us.
    const unsigned mode = !is_for_qemu ? 0700 : access_.own_labels ? 0710 : 0711;
    host_.make_folder(folder, mode);
    host_.set_mode(folder, mode);
    if (is_for_qemu && access_.own_labels) host_.set_owner(folder, 0, access_.gid);
  }
  host_.write_file(root_ / "version", kFormat, 0444);  // last: until it is there, the next one does all this again
}

void Store::require_readable() const {
  refuse_others_hands();
  const auto version = host_.stat(root_ / "version");
  if (!version || version->is_link) return;
  if (const auto format = host_.read_file(root_ / "version")) require_format(root_, *format);
}

void Store::keep_reserve() {
  if (host_.stat(reserve_file())) return;
  try {
    if (host_.free_space(root_).available >= kPlenty) host_.write_file(reserve_file(), std::string(kReserve, '\0'), 0600);
  } catch (const Error&) {
    // Whoever filled the disk meanwhile, or made it read-only, is told of it by what was asked for.
  }
}

void Store::spend_reserve() const {
  const std::optional<FileInfo> info = host_.stat(reserve_file());
  const bool is_ours = info && !info->is_folder && !info->is_link && info->size == kReserve;
  if (is_ours && host_.free_space(root_).available < kReserve) host_.remove(reserve_file());
}

void Store::refuse_links() const {
  for (const std::string_view name : kFolders)
    if (const auto facts = host_.stat(root_ / name); facts && facts->is_link)
      throw Error(Errc::conflict, quoted(root_ / name) + " is a symbolic link", kNoLinkedFolder);
}

void Store::refuse_others_hands() const {
  std::vector<path> folders{root_};
  for (const std::string_view name : kFolders) folders.push_back(root_ / name);
  for (const path& folder : folders) {
    auto facts = host_.stat(folder);
    if (facts && facts->is_link) {
      if (folder != root_) continue;     // not followed, so whose what it leads to is does not matter
      facts = host_.stat(folder / ".");  // where the store is, the user says
    }
    if (!facts) continue;
    if (facts->uid != 0 && facts->uid != ::geteuid()) {
      const std::string owner = std::to_string(facts->uid);
      throw Error(
          Errc::conflict,
          quoted(folder) + " belongs to user " + owner + ", who could lead vmgraft to any file of the host from there",
          "run vmgraft as that user, or use another store with --store DIR; if nobody else is to write to it any "
          "more: chown -R " +
              std::to_string(::geteuid()) + " " + printable(root_.native(), 4096));
    }
    if (facts->is_folder && (facts->mode & 0002U) != 0)
      throw Error(Errc::conflict, quoted(folder) + " is writable by everybody",
                  "see whether what is in it is all yours, then: chmod o-w " + printable(folder.native(), 4096));
  }
}

void Store::let_through(const path& folder) {
  // An empty folder that somebody made for us (mktemp -d: 0700) would keep the QEMU user out.
  const auto facts = host_.stat(folder);
  if (facts && facts->is_folder && (facts->mode & 0111U) != 0111U) host_.set_mode(folder, facts->mode | 0111U);
}

void Store::refuse_strangers() const {
  const auto facts = host_.stat(root_);
  if (!facts) return;
  if (!facts->is_folder && !facts->is_link)
    throw Error(Errc::conflict, quoted(root_) + " cannot be a store: it is a file");
  for (const std::string& name : host_.list_folder(root_)) {
    // What a prepare() that was cut short may leave: our folders, still empty, and the temporary of `version`. What doctor
    // tries a folder with.
    if (name.starts_with(".version.") || name.starts_with(".doctor-")) continue;
    const bool is_ours = std::find(kFolders.begin(), kFolders.end(), name) != kFolders.end();
    if (is_ours && host_.list_folder(root_ / name).empty()) continue;
    // Another process was just ahead of us: what stands there is its store's.
    if (host_.stat(root_ / "version")) return;
    throw Error(Errc::conflict,
                quoted(root_) + " cannot be made a store: it is not empty (it holds '" + printable(name, 80) + "')",
                "use an empty or a new folder with --store DIR");
  }
}

// --- paths

path Store::layer_file(const std::string& id) const {
  return layers_folder() / (safe(id) + ".qcow2");
}
path Store::layer_record(const std::string& id) const {
  return layers_folder() / (safe(id) + ".json");
}
path Store::kernel_file(const std::string& id) const {
  return layers_folder() / (safe(id) + ".kernel");
}
path Store::initrd_file(const std::string& id) const {
  return layers_folder() / (safe(id) + ".initrd");
}
path Store::image_record(const std::string& name) const {
  return images_folder() / (safe_name("image", name) + ".json");
}
path Store::vm_folder(const std::string& name) const {
  return vms_folder() / safe_name("VM", name);
}
path Store::manifest_file(const std::string& name) const {
  return vm_folder(name) / "vm.json";
}
path Store::nvram_file(const std::string& name) const {
  return vm_folder(name) / "nvram.fd";
}
path Store::seed_file(const std::string& name) const {
  return vm_folder(name) / "seed.iso";
}
path Store::console_log(const std::string& name) const {
  return vm_folder(name) / "console.log";
}
path Store::ssh_folder(const std::string& name) const {
  return vm_folder(name) / "ssh";
}
path Store::snapshot_folder(const std::string& vm, const std::string& snapshot) const {
  return vm_folder(vm) / "snapshots" / safe_name("snapshot", snapshot);
}

// --- reading

std::optional<Manifest> Store::find_manifest(const std::string& name) const {
  const path file = manifest_file(name);
  const auto text = host_.read_file(file);
  if (!text) return std::nullopt;
  Manifest manifest = manifest_from_json(*text, file.native());
  if (manifest.name != name) {
    throw Error(Errc::other,
                quoted(file) + ": /name: it is the manifest of '" + manifest.name + "', not of '" + name + "'",
                "the folder was renamed or copied by hand: give it back its name");
  }
  return manifest;
}

Manifest Store::manifest(const std::string& name) const {
  if (auto found = find_manifest(name)) return std::move(*found);
  if (host_.stat(vm_folder(name)))
    throw Error(Errc::not_found, "there is no VM '" + name + "': its folder " + quoted(vm_folder(name)) + " has no vm.json",
                "when it is not just being made or deleted, it was damaged by other means: see vmgraft check " + name);
  throw Error(Errc::not_found, "there is no VM '" + name + "'", did_you_mean(name, vm_names(), "vmgraft list --all"));
}

std::vector<std::string> Store::vm_names() const {
  std::vector<std::string> names = host_.list_folder(vms_folder());
  // A folder without manifest is a VM half made or half deleted: the journal knows of it.
  std::erase_if(names, [this](const std::string& name) { return !is_name(name) || !host_.stat(manifest_file(name)); });
  return names;
}

std::vector<Manifest> Store::manifests() const {
  std::vector<Manifest> all;
  for (const std::string& name : host_.list_folder(vms_folder())) {
    if (!is_name(name)) continue;
    if (auto found = find_manifest(name)) all.push_back(std::move(*found));
  }
  return all;
}

std::optional<ImageRecord> Store::find_image(const std::string& name) const {
  const path file = image_record(name);
  const auto text = host_.read_file(file);
  if (!text) return std::nullopt;
  ImageRecord image = image_from_json(*text, file.native());
  if (image.name != name) {
    throw Error(Errc::other, quoted(file) + ": /name: it is the record of '" + image.name + "', not of '" + name + "'",
                "the file was renamed or copied by hand: give it back its name");
  }
  return image;
}

ImageRecord Store::image(const std::string& name) const {
  if (auto found = find_image(name)) return std::move(*found);
  const bool is_buildable = std::find(kBuildable.begin(), kBuildable.end(), name) != kBuildable.end();
  std::vector<std::string> names;
  for (const std::string& file : host_.list_folder(images_folder())) names.push_back(stem_of(file));
  throw Error(Errc::not_found, "there is no image '" + name + "'",
              is_buildable ? "vmgraft image build " + name : did_you_mean(name, names, "vmgraft image list"));
}

std::vector<ImageRecord> Store::images() const {
  std::vector<ImageRecord> all;
  for (const std::string& file : host_.list_folder(images_folder())) {
    const std::string name = stem_of(file);
    if (name.empty()) continue;
    if (auto found = find_image(name)) all.push_back(std::move(*found));
  }
  return all;
}

LayerRecord Store::layer(const std::string& id) const {
  if (auto found = find_layer(id)) return std::move(*found);
  throw Error(Errc::other, "layer '" + id + "' is missing from " + quoted(layers_folder()));
}

std::optional<LayerRecord> Store::find_layer(const std::string& id) const {
  const path file = layer_record(id);
  const auto text = host_.read_file(file);
  if (!text) return std::nullopt;
  LayerRecord layer = layer_from_json(*text, file.native());
  if (layer.id != id) {
    throw Error(Errc::other, quoted(file) + ": /id: it is the record of '" + layer.id + "', not of '" + id + "'",
                "the file was renamed or copied by hand: give it back its name");
  }
  return layer;
}

std::vector<LayerRecord> Store::chain(const std::string& id) const {
  std::vector<LayerRecord> chain;
  std::set<std::string> seen;
  for (std::string next = id; !next.empty(); next = chain.back().parent) {
    if (!seen.insert(next).second) {
      throw Error(Errc::other, "layer '" + id + "' is broken: its chain comes back to layer '" + next + "'",
                  "the records in " + quoted(layers_folder()) + " were changed by hand: put back a copy");
    }
    auto layer = find_layer(next);
    if (!layer) {
      const std::string who = next == id ? "layer '" + id + "' is"
                                         : "layer '" + chain.back().id + "' stands on layer '" + next + "', which is";
      throw Error(Errc::other, who + " missing from " + quoted(layers_folder()),
                  "put back a copy of it, if there is one");
    }
    chain.push_back(std::move(*layer));
  }
  return chain;
}

std::map<std::string, LayerRecord> Store::layers() const {
  std::map<std::string, LayerRecord> all;
  for (const std::string& file : host_.list_folder(layers_folder())) {
    const std::string id = stem_of(file);
    if (!is_layer_id(id)) continue;
    if (auto layer = find_layer(id)) all.emplace(id, std::move(*layer));
  }
  return all;
}

bool Store::holds(const path& file) const {
  if (file.lexically_normal().native() != file.native()) return false;
  const path below = file.lexically_relative(root_);
  if (below.native().starts_with(".version.")) return !below.has_parent_path();  // the temporary of `version`
  if (!below.has_parent_path() || !below.has_filename()) return false;
  return std::find(kFolders.begin(), kFolders.end(), below.begin()->native()) != kFolders.end();
}

bool Store::has_layer(const std::string& id) const {
  return host_.stat(layer_record(id)) && host_.stat(layer_file(id));
}

bool Store::is_untouched(const std::string& id) const {
  const path file = layer_file(id);
  const auto header = read_qcow2(host_.read_range(file, 0, 128 << 10));
  if (!header) throw Error(Errc::other, quoted(file) + " is not qcow2");
  if (header->snapshots != 0) return false;
  // QEMU allocates an L2 table at the first write, and keeps it: no table, no data.
  const std::size_t length = std::size_t{header->l1_entries} * 8;
  const std::string table = host_.read_range(file, header->l1_offset, length);
  if (table.size() != length) throw Error(Errc::other, quoted(file) + " is damaged: it ends within its L1 table");
  return std::all_of(table.begin(), table.end(), [](char c) { return c == '\0'; });
}

}  // namespace vmgraft

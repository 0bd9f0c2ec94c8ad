// SPDX-License-Identifier: Apache-2.0
#include "plan/outside_change.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft {
namespace {

using Kind = OutsideChange::Kind;

/// A word as a shell takes it literally: for commands that people copy.
std::string shell_word(const std::string& text) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-_./:,+=@%").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), is_plain)) return text;
  std::string quoted = "'";
  for (const char c : printable(text, 4096)) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string xml_text(const std::string& text) {
  std::string escaped;
  for (const char c : text)
    escaped += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '"' ? "&quot;" : std::string(1, c);
  return escaped;
}

OutsideChange undefined_change(const Manifest& manifest, const DomainSight& sight) {
  const std::string& name = manifest.name;
  OutsideChange change{Kind::undefined, "domain", "libvirt has no domain of it any more: it was undefined by other means",
                       fmt::format("vmgraft gc defines it again from its manifest; its snapshots can be cloned (vmgraft "
                                   "clone {0}@SNAP NEW); vmgraft delete {0} removes it",
                                   name)};
  if (sight.namesake) {
    change.what = fmt::format("libvirt has no domain of it any more; the domain '{}' that it has now ({}) is another one, "
                              "which vmgraft does not touch",
                              name, sight.namesake->uuid);
    change.remedy = fmt::format("rename that one (virsh domrename {0} OTHER), then vmgraft gc defines the VM again; or "
                                "vmgraft delete {0}, which leaves that one alone",
                                name);
  }
  return change;
}

/// The same layer below another root: the store was moved or copied, as a folder, under its domains.
bool is_in_store(const std::string& root, const Store& store, const HeadRecord& head, const std::string& file) {
  const std::string own = store.layer_file(head.layer);
  return !root.empty() && root != store.root().string() && file == root + own.substr(store.root().string().size());
}

/// All its disks stand below the root that its metadata names.
bool is_of_moved_store(const Store& store, const Manifest& manifest, const DomainFacts& defined) {
  return !manifest.heads.empty() &&
         std::all_of(manifest.heads.begin(), manifest.heads.end(), [&](const HeadRecord& head) {
           return std::any_of(defined.disks.begin(), defined.disks.end(), [&](const DomainFacts::Disk& disk) {
             return disk.target == head.target && is_in_store(defined.store, store, head, disk.path);
           });
         });
}

OutsideChange moved_store_change(const Store& store, const DomainFacts& defined) {
  const std::string was = printable(defined.store, 4096);
  return {
      OutsideChange::Kind::not_ours, "domain-owner",
      fmt::format(
          "its domain and its disks are of the store {}: {} was moved from there, or is a copy of it; vmgraft does not "
          "touch it",
          was, store.root().string()),
      fmt::format(
          "moved: move it back, or put a link there (ln -s {} {}) and use it as --store {}; a copy: use the store {}",
          shell_word(store.root().string()), shell_word(defined.store), shell_word(defined.store), was)};
}

OutsideChange not_ours_change(const Store& store, const Manifest& manifest, const DomainFacts& defined) {
  if (is_of_moved_store(store, manifest, defined)) return moved_store_change(store, defined);
  const std::string whose = defined.store.empty()
                                ? "has lost the metadata that says so"
                                : fmt::format("says it is of the store {}", printable(defined.store, 4096));
  const std::string element = fmt::format("<vm id=\"{}\" store=\"{}\" template=\"{}\" digest=\"{}\"/>", manifest.uuid,
                                          xml_text(store.root().string()), xml_text(manifest.template_name),
                                          xml_text(manifest.template_digest));
  return {Kind::not_ours, "domain-owner",
          fmt::format("its domain does not belong to the store {}: it {}; vmgraft does not touch it", store.root().string(),
                      whose),
          fmt::format("if it is this VM, give it back: virsh metadata {} --config --uri {} --key vmgraft --set {}",
                      manifest.uuid, kMetadataNamespace, shell_word(element))};
}

/// Where a head's disk is in the domain; nothing: nowhere.
const DomainFacts::Disk* disk_at(const DomainFacts& domain, const std::string& target) {
  const auto found = std::find_if(domain.disks.begin(), domain.disks.end(),
                                  [&](const DomainFacts::Disk& disk) { return disk.target == target; });
  return found == domain.disks.end() ? nullptr : &*found;
}

/// The layer of the store that a path is the file of; nothing: none.
const LayerRecord* layer_at(const Store& store, const LayerMap& layers, const std::string& path) {
  const auto found = std::find_if(layers.begin(), layers.end(),
                                  [&](const auto& each) { return store.layer_file(each.first) == path; });
  return found == layers.end() ? nullptr : &found->second;
}

bool stands_on(const LayerMap& layers, const std::string& above, const std::string& below) {
  std::size_t steps = 0;
  for (auto at = layers.find(above); at != layers.end() && steps <= layers.size(); at = layers.find(at->second.parent), ++steps)
    if (at->first == below) return true;
  return false;
}

OutsideChange moved_change(const Store& store, const Manifest& manifest, const LayerMap& layers, const HeadRecord& head,
                           const std::string& path) {
  const std::string& name = manifest.name;
  const std::string file = store.layer_file(head.layer);
  OutsideChange change{Kind::disk_moved, "domain-disk", {}, {}};
  const LayerRecord* layer = layer_at(store, layers, path);
  if (layer != nullptr && stands_on(layers, layer->id, head.layer)) {
    change.what = fmt::format("its disk {} is on the newer layer {}, of which its manifest knows nothing: an older vm.json "
                              "was put in place of {}",
                              head.target, layer->id, store.manifest_file(name).string());
    change.remedy = fmt::format("put the newer vm.json back; to go on from layer {} instead: virsh undefine {} --keep-nvram "
                                "--snapshots-metadata while it is off, then vmgraft gc",
                                head.layer, name);
    return change;
  }
  if (layer != nullptr) {
    change.what = fmt::format("its disk {} is now on layer {}, not on its own layer {}: an edit or block job by other means "
                              "did that",
                              head.target, layer->id, head.layer);
    change.remedy = fmt::format("power it off, vmgraft check {0} to see whether that layer was written to, and give the disk "
                                "its file back (virsh edit {0}): {1}",
                                name, file);
    return change;
  }
  change.what = fmt::format("its disk {} is now {}, not the layer {} that vmgraft made it: a snapshot or edit by other means "
                            "did that",
                            head.target, path.empty() ? "without a file" : "'" + printable(path, 4096) + "'", head.layer);
  change.remedy = fmt::format(
      "when that is an overlay on the layer and is to be kept: virsh start {0} if it is off, then virsh blockcommit {0} {1} "
      "--base {2} --active --pivot; when it is not: power it off and give the disk its file back (virsh edit {0}): {2}",
      name, head.target, shell_word(file));  // without a base it would go down into the image
  return change;
}

void append_disks(const Store& store, const Manifest& manifest, const LayerMap& layers, const DomainFacts& domain,
                  bool is_live, std::vector<OutsideChange>& changes) {
  const char* const where = is_live ? "the running VM" : "its definition";
  for (const HeadRecord& head : manifest.heads) {
    const DomainFacts::Disk* const disk = disk_at(domain, head.target);
    if (disk == nullptr) {
      changes.push_back(
          {Kind::disk_gone, "domain-disk",
           fmt::format("its disk '{}' ({}) is not in {} any more: it was removed by other means", head.name,
                       head.target, where),
           fmt::format("plug it in again: virsh attach-disk {} {} {} --driver qemu --subdriver qcow2 {}", manifest.name,
                       store.layer_file(head.layer).string(), head.target, is_live ? "--live" : "--config")});
    } else if (disk->path != store.layer_file(head.layer).string() &&
               !is_in_store(domain.store, store, head, disk->path)) {
      changes.push_back(moved_change(store, manifest, layers, head, disk->path));
    }
  }
}

void append_strangers(const Manifest& manifest, const DomainFacts& domain, std::vector<OutsideChange>& changes) {
  for (const DomainFacts::Disk& disk : domain.disks) {
    const bool is_head = std::any_of(manifest.heads.begin(), manifest.heads.end(),
                                     [&](const HeadRecord& head) { return head.target == disk.target; });
    if (is_head || disk.is_cdrom) continue;
    changes.push_back({Kind::disk_added, "domain-extra-disk",
                       fmt::format("its disk {} ('{}') is not vmgraft's: no snapshot holds it", disk.target,
                                   printable(disk.path, 4096)),
                       "nothing, if that is meant so; else virsh detach-disk takes it out"});
  }
}

/// The live and the defined disks often say the same twice.
void drop_repeats(std::vector<OutsideChange>& changes) {
  std::vector<OutsideChange> once;
  for (OutsideChange& change : changes) {
    const bool is_known = std::any_of(once.begin(), once.end(), [&](const OutsideChange& each) { return each.what == change.what; });
    if (!is_known) once.push_back(std::move(change));
  }
  changes = std::move(once);
}

}  // namespace

std::vector<OutsideChange> hardware_changes(const Manifest& manifest, const VmSpec& spec, const DomainSight& sight) {
  if (!sight.domain) return {};
  std::vector<OutsideChange> changes;
  const DomainFacts& defined = sight.defined;
  const auto append = [&](const std::string& what) {
    changes.push_back({Kind::hardware, "domain-hardware", what,
                       fmt::format("nothing, if that is meant so; else virsh edit {}", manifest.name)});
  };
  // libvirt counts memory in KiB.
  if (defined.memory >> 10 != spec.memory >> 10)
    append(fmt::format("its definition has {} of memory, its template gave it {}", format_size(defined.memory),
                       format_size(spec.memory)));
  if (defined.cpus != spec.cpus)
    append(fmt::format("its definition has {} CPUs, its template gave it {}", defined.cpus, spec.cpus));
  return changes;
}

std::vector<OutsideChange> outside_changes(const Store& store, const Manifest& manifest, const LayerMap& layers,
                                           const DomainSight& sight) {
  if (!sight.domain) return {undefined_change(manifest, sight)};
  const std::string& name = manifest.name;
  const std::string now = printable(sight.domain->name);
  std::vector<OutsideChange> changes;
  if (sight.defined.store != store.root().string()) changes.push_back(not_ours_change(store, manifest, sight.defined));
  if (sight.domain->name != name)
    changes.push_back({Kind::renamed, "domain-name", fmt::format("its domain was renamed to '{}'", now),
                       fmt::format("rename it back while it is off: virsh domrename {} {}", shell_word(sight.domain->name), name)});
  if (!sight.domain->persistent)
    changes.push_back({Kind::transient, "domain-persistent",
                       "its domain runs but has no definition any more: it was undefined by other means",
                       fmt::format("vmgraft stop {}, then vmgraft gc defines it again from its manifest", name)});
  append_disks(store, manifest, layers, sight.defined, false, changes);
  if (sight.live) append_disks(store, manifest, layers, *sight.live, true, changes);
  if (sight.domain->saved)
    changes.push_back({Kind::saved, "domain-saved",
                       "its memory was saved by other means (virsh managedsave): its disks stand still in the middle of work",
                       fmt::format("vmgraft start {0} wakes it; virsh managedsave-remove {0} drops that memory, as if power "
                                   "had failed",
                                   name)});
  append_strangers(manifest, sight.live ? *sight.live : sight.defined, changes);
  drop_repeats(changes);
  return changes;
}

bool forbids(Kind kind, Act act) {
  switch (kind) {
    case Kind::not_ours: return true;
    case Kind::undefined: return act != Act::remove;
    case Kind::renamed:
    case Kind::disk_gone:
    case Kind::disk_moved: return act == Act::start || act == Act::disks;
    case Kind::transient:
    case Kind::saved: return act == Act::disks;
    case Kind::disk_added:
    case Kind::hardware: return false;
  }
  return true;
}

void require_unchanged(const Manifest& manifest, const std::vector<OutsideChange>& changes, Act act) {
  for (const OutsideChange& change : changes)
    if (forbids(change.kind, act))
      throw Error(Errc::conflict, fmt::format("VM '{}': {}", manifest.name, change.what), change.remedy);
}

}  // namespace vmgraft

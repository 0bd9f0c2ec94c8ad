// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "plan/outside_change.hpp"
#include "plan/plan_sweep.hpp"
#include "run/check_facts.hpp"
#include "run/vm_facts.hpp"
#include "template/template.hpp"

namespace vmgraft {
namespace {

/// One VM under the eyes of its checks.
struct Subject {
  const CheckInput& input;
  const CheckFacts& facts;
  const Manifest& manifest;
  std::string place;
  bool has_links;
  StoreFindings& rows;
};

/// Whether the chain from \p layer down is all there; says what is not.
bool check_chain(const Subject& vm, const std::string& layer, const std::string& who, const std::string& remedy) {
  std::set<std::string> seen;
  for (std::string at = layer; !at.empty();) {
    if (!seen.insert(at).second) {
      vm.rows.fail("vm-layers", vm.place, fmt::format("{} stands on layer {}, whose chain comes back to itself", who, at),
                   "its records were changed by hand: put back a copy of them");
      return false;
    }
    const auto record = vm.facts.records.find(at);
    if (record == vm.facts.records.end()) {
      const bool is_there = vm.facts.layers.contains(at);
      vm.rows.fail("vm-layers", vm.place,
                   fmt::format("{} stands on layer {}, which {}", who, at, is_there ? "cannot be read" : "is missing"), remedy);
      return false;
    }
    at = record->second.parent;
  }
  if (seen.size() > kMaxChainDepth)
    vm.rows.warn("vm-depth", vm.place, fmt::format("{} stands on {} layers, more than every libvirt starts", who, seen.size()),
                 fmt::format("vmgraft clone {} NEW --full makes one layer of them", vm.manifest.name));
  return true;
}

/// A head is written to: nothing else may stand on it or name it.
void check_head(const Subject& vm, const HeadRecord& head) {
  const std::string& name = vm.manifest.name;
  const std::string who = fmt::format("disk '{}'", head.name);
  if (!check_chain(vm, head.layer, who,
                   fmt::format("put back a copy of it, if there is one; a snapshot on other layers can be cloned (vmgraft clone "
                               "{0}@SNAP NEW); vmgraft delete {0} removes what is left",
                               name)))
    return;
  const auto shared = [&](const std::string& with) {
    vm.rows.fail("vm-head", vm.place,
                 fmt::format("{} writes to layer {}, {}: an older vm.json was put back, or records were changed by hand", who,
                             head.layer, with),
                 fmt::format("do not start it: put the newer vm.json back, or go on from a snapshot (vmgraft clone {}@SNAP NEW)",
                             name));
  };
  for (const auto& [id, record] : vm.facts.records)
    if (record.parent == head.layer) return shared(fmt::format("on which layer {} stands", id));
  for (const auto& [other, reading] : vm.facts.vms) {
    if (!reading.record) continue;
    for (const HeadRecord& each : reading.record->heads)
      if (each.layer == head.layer && (other != name || each.name != head.name))
        return shared(fmt::format("which is disk '{}' of VM '{}' too", each.name, other));
    for (const SnapshotRecord& snapshot : reading.record->snapshots)
      for (const SnapshotDisk& disk : snapshot.disks)
        if (disk.layer == head.layer) return shared(fmt::format("which snapshot {}@{} names", other, snapshot.name));
  }
  for (const auto& [image, reading] : vm.facts.images)
    if (reading.record && reading.record->layer == head.layer) return shared(fmt::format("which is the image '{}'", image));
}

/// Links in the VM's folder and below; that its vm.json is one, its record tells. \returns whether there is one: then what
/// is kept in there is not looked at.
bool check_links(const CheckInput& input, const std::string& vm, const std::filesystem::path& folder, StoreFindings& rows) {
  bool is_found = false;
  for (const std::string& name : input.host.list_folder(folder)) {
    const std::filesystem::path path = folder / name;
    const std::optional<FileInfo> info = input.host.stat(path);
    if (info && info->is_folder) {
      is_found = check_links(input, vm, path, rows) || is_found;
    } else if (info && info->is_link && path != input.store.manifest_file(vm)) {
      is_found = true;
      rows.fail("link", "VM " + vm, link_text(input.host, path), kLinkRemedy);
    }
  }
  return is_found;
}

void check_snapshot(const Subject& vm, const SnapshotRecord& snapshot) {
  const std::string ref = fmt::format("{}@{}", vm.manifest.name, snapshot.name);
  const std::string remedy =
      fmt::format("put back a copy of it, if there is one, or delete the snapshot: vmgraft snapshot delete {}", ref);
  for (const SnapshotDisk& disk : snapshot.disks)
    static_cast<void>(check_chain(vm, disk.layer, fmt::format("snapshot '{}', disk '{}'", snapshot.name, disk.name), remedy));
  if (vm.has_links) return;
  const std::filesystem::path folder = vm.input.store.snapshot_folder(vm.manifest.name, snapshot.name);
  const std::vector<std::pair<bool, const char*>> kept = {
      {true, "domain.xml"}, {snapshot.nvram, "nvram.fd"}, {snapshot.tpm, "tpm"}, {snapshot.memory, "memory"}};
  for (const auto& [is_kept, file] : kept)
    if (is_kept && !vm.input.host.stat(folder / file))
      vm.rows.fail("snapshot-files", vm.place,
                   fmt::format("snapshot '{}': its {} is missing", snapshot.name, (folder / file).string()), remedy);
  const std::optional<std::string> xml = vm.input.host.read_file(folder / "domain.xml");
  if (!xml) return;
  try {
    static_cast<void>(read_domain(*xml));
  } catch (const Error& error) {
    vm.rows.fail("snapshot-files", vm.place, fmt::format("snapshot '{}': {}", snapshot.name, error.what()), remedy);
  }
}

void check_nvram(const Subject& vm, const std::string& nvram) {
  if (nvram.empty() || vm.input.host.stat(nvram)) return;
  const auto& snapshots = vm.manifest.snapshots;
  const bool had_one = vm.manifest.provisioned ||
                       std::any_of(snapshots.begin(), snapshots.end(), [](const SnapshotRecord& each) { return each.nvram; });
  if (had_one)
    vm.rows.warn("vm-nvram", vm.place, fmt::format("its NVRAM {} is missing", printable(nvram, 4096)),
                 "put back a copy, or revert to a snapshot that has it; else libvirt makes a new one at the next start, with "
                 "none of the firmware's settings");
}

void check_domain(const Subject& vm, const std::optional<VmSpec>& spec) {
  DomainSight sight;
  try {
    sight = read_sight(*vm.facts.hypervisor, vm.manifest);
  } catch (const Error& error) {
    return vm.rows.warn("domain", vm.place, fmt::format("its domain could not be looked at: {}", error.what()),
                        "check it again");
  }
  std::vector<OutsideChange> changes = outside_changes(vm.input.store, vm.manifest, vm.facts.records, sight);
  if (spec)
    for (OutsideChange& change : hardware_changes(vm.manifest, *spec, sight)) changes.push_back(std::move(change));
  for (const OutsideChange& change : changes) {
    if (forbids(change.kind, Act::start))
      vm.rows.fail(change.id, vm.place, change.what, change.remedy);
    else
      vm.rows.warn(change.id, vm.place, change.what, change.remedy);
  }
  if (sight.domain && !vm.has_links) check_nvram(vm, sight.defined.nvram);
}

std::optional<VmSpec> check_spec(const Subject& vm) {
  try {
    return parse_spec(vm.manifest.spec, vm.manifest.template_name);
  } catch (const Error& error) {
    vm.rows.fail("vm-spec", vm.place, fmt::format("the template in its vm.json cannot be used: {}", error.what()),
                 "put back a copy of its vm.json");
    return std::nullopt;
  }
}

void check_mode(const Subject& vm) {
  const std::filesystem::path file = vm.input.store.manifest_file(vm.manifest.name);
  const std::optional<FileInfo> info = vm.input.host.stat(file);
  if (info && (info->mode & 0077U) != 0)
    vm.rows.warn("vm-mode", vm.place, fmt::format("{} has mode {:04o}: others may read it", file.string(), info->mode),
                 fmt::format("chmod 600 {}", file.string()));
}

}  // namespace

void check_vm(const CheckInput& input, const CheckFacts& facts, const std::string& name, StoreFindings& rows) {
  const std::string place = "VM " + name;
  const Reading<Manifest>& reading = facts.vms.at(name);
  const bool has_links = check_links(input, name, input.store.vm_folder(name), rows);
  if (!reading.error.empty()) return rows.fail("vm-record", place, reading.error, reading.remedy);
  if (!reading.record)
    return rows.fail("vm-record", place,
                     fmt::format("its folder {} has no vm.json: it was deleted by other means", input.store.vm_folder(name).string()),
                     "put back a copy of it; without, vmgraft gc says what is left and removes it");
  const Subject vm{input, facts, *reading.record, place, has_links, rows};
  const std::optional<VmSpec> spec = check_spec(vm);
  check_mode(vm);
  for (const HeadRecord& head : vm.manifest.heads) check_head(vm, head);
  for (const SnapshotRecord& snapshot : vm.manifest.snapshots) check_snapshot(vm, snapshot);
  if (facts.hypervisor != nullptr) check_domain(vm, spec);
  if (rows.has_findings(place)) return;
  const std::size_t snapshots = vm.manifest.snapshots.size();
  const std::size_t layers = reach(facts.records, named_layers(vm.manifest)).size();
  rows.ok("vm", place,
          fmt::format("{} snapshot{} and {} layer{} are there{}", snapshots, snapshots == 1 ? "" : "s", layers,
                      layers == 1 ? "" : "s", facts.hypervisor == nullptr ? "" : ", and its domain agrees"));
}

void check_image(const CheckInput& input, const CheckFacts& facts, const std::string& name, StoreFindings& rows) {
  const std::string place = "image " + name;
  if (const auto holder = facts.busy.find("@image-" + name); holder != facts.busy.end())
    return rows.warn("busy", place, fmt::format("not judged: {} is at work on it", holder->second),
                     "check it again when that is done");
  const Reading<ImageRecord>& reading = facts.images.at(name);
  if (!reading.error.empty()) return rows.fail("image-record", place, reading.error, reading.remedy);
  if (!reading.record) return;  // deleted meanwhile
  const std::string& layer = reading.record->layer;
  const auto record = facts.records.find(layer);
  const std::string remedy = fmt::format("make the image anew: vmgraft image build, pull or import with --force; or forget it: "
                                         "vmgraft image delete {}",
                                         name);
  if (record == facts.records.end()) {
    rows.fail("image-layer", place,
              fmt::format("it names layer {}, which {}", layer, facts.layers.contains(layer) ? "cannot be read" : "is missing"), remedy);
  } else if (!record->second.parent.empty()) {
    rows.fail("image-layer", place, fmt::format("it names layer {}, which is not a root: it stands on {}", layer, record->second.parent),
              remedy);
  } else {
    rows.ok("image", place, fmt::format("layer {}, {}", layer, printable(reading.record->origin, 1000)));
  }
  static_cast<void>(input);
}

void check_strange_domains(const CheckInput& input, const CheckFacts& facts, StoreFindings& rows) {
  const std::vector<std::string>& names = input.request.names;
  for (const DomainState& domain : facts.domains) {
    if (!names.empty() && std::find(names.begin(), names.end(), domain.name) == names.end()) continue;
    const bool is_known = std::any_of(facts.vms.begin(), facts.vms.end(), [&](const auto& vm) {
      return vm.second.record && vm.second.record->uuid == domain.uuid;
    });
    // A manifest that cannot be read is told as that: its domain is not lost.
    const auto reading = facts.vms.find(domain.name);
    const bool is_unread = !facts.is_all || (reading != facts.vms.end() && !reading->second.error.empty());
    if (is_known || is_unread || facts.busy.contains(domain.name)) continue;
    DomainFacts seen;
    try {
      seen = read_domain(facts.hypervisor->domain_xml(domain.uuid, true));
    } catch (const Error&) {
      continue;  // it went meanwhile
    }
    if (seen.store != input.store.root().string()) continue;
    if (seen.id != domain.uuid) {
      rows.warn(
          "domain-copy", "domain " + printable(domain.name),
          "other means made it as a copy of a VM of this store: vmgraft does not touch it, and keeps the layers that "
          "it uses",
          fmt::format("do not run it on the disks of that VM; when it is not needed: virsh undefine {}", domain.uuid));
      continue;
    }
    rows.fail("domain-orphan", "domain " + printable(domain.name),
              fmt::format("it is of this store, but no vm.json has its UUID {}", domain.uuid),
              "put back its vm.json, if it was deleted by hand; without, vmgraft gc removes the domain");
  }
}

}  // namespace vmgraft

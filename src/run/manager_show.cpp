// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>
#include <unordered_map>

#include "model/names.hpp"
#include "run/manager_impl.hpp"
#include "run/vm_facts.hpp"
#include "store/layer_file.hpp"
#include "template/gpu_request.hpp"

namespace vmgraft {
namespace {

VmSummary summary_of(const Manifest& manifest, const VmSpec& spec, const DomainState* domain) {
  VmSummary summary;
  summary.name = manifest.name;
  summary.uuid = manifest.uuid;
  summary.state = domain == nullptr ? VmState::missing : domain->state;
  summary.template_name = manifest.template_name;
  summary.cpus = spec.cpus;
  summary.memory = spec.memory;
  summary.snapshots = manifest.snapshots.size();
  summary.created = manifest.created;
  if (!manifest.expires.empty()) summary.expires = manifest.expires;
  summary.on_expire = spec.lifecycle.on_expire;
  return summary;
}

/// What a list of the domains alone tells; the definitions are only read by show and check.
std::vector<std::string> notes_of(const Manifest& manifest, const DomainState* domain) {
  if (domain == nullptr) return {"libvirt has no domain of it any more: it was undefined by other means"};
  std::vector<std::string> notes;
  if (domain->name != manifest.name)
    notes.push_back(fmt::format("its domain was renamed to '{}' by other means", printable(domain->name)));
  if (!domain->persistent) notes.emplace_back("its domain was undefined by other means, and is gone when it is off");
  if (domain->saved) notes.emplace_back("its memory was saved by other means (virsh managedsave)");
  return notes;
}

/// A VM whose manifest cannot be read still has a line.
VmSummary unreadable_vm(const std::string& name, const Error& error) {
  VmSummary summary;
  summary.name = name;
  summary.notes.push_back(fmt::format("{}; see vmgraft check {}", error.what(), name));
  return summary;
}

std::string nic_kind(const DomainFacts::Nic& nic) {
  if (nic.type != "network") return nic.type;
  return nic.source == kIsolatedNetwork ? "isolated" : "nat";
}

void add_networks(VmInfo& info, const DomainFacts& facts, const std::vector<NicInfo>& addresses) {
  for (const DomainFacts::Nic& nic : facts.nics) {
    NicInfo entry{nic_kind(nic), nic.mac, {}};
    for (const NicInfo& seen : addresses)
      if (seen.mac == nic.mac) entry.addresses = seen.addresses;
    info.networks.push_back(entry);
  }
}

void add_gpus(VmInfo& info, const std::string& live_xml) {
  std::set<std::string> slots;
  std::set<std::string> addresses;
  std::vector<std::string> mdevs;
  for (const DomainHostdev& device : read_hostdevs(live_xml)) {
    if (!device.address.empty()) addresses.insert(device.address);
    if (!device.mdev.empty()) mdevs.push_back(device.mdev);
  }
  // The first function of a slot is the GPU, the others come along with it.
  for (const std::string& address : addresses)
    if (slots.insert(address.substr(0, address.rfind('.'))).second) info.gpus.push_back(address);
  info.gpus.insert(info.gpus.end(), mdevs.begin(), mdevs.end());
  std::tie(info.tuning_done, info.tuning_not_done) = read_placement_notes(live_xml);
}

}  // namespace

std::vector<std::string> Manager::Impl::describe_layer(DiskInfo& disk, const std::string& layer) {
  disk.layer = layer;
  disk.path = store().layer_file(layer);
  std::vector<std::string> faults;
  try {
    const std::vector<LayerRecord> chain = store().chain(layer);
    disk.size = chain.front().virtual_size;
    disk.depth = chain.size();
    for (const LayerRecord& record : chain)
      for (const LayerFault& fault : inspect_layer(host, store(), record))
        faults.push_back(fmt::format("layer {}: {}", record.id, fault.what));
  } catch (const Error& error) {
    faults.emplace_back(error.what());
  }
  return faults;
}

std::vector<SnapshotInfo> Manager::Impl::snapshot_infos(const Manifest& manifest) {
  std::vector<SnapshotInfo> infos;
  for (const SnapshotRecord& record : manifest.snapshots) {
    SnapshotInfo info;
    info.name = record.name;
    if (!record.parent.empty()) info.parent = record.parent;
    info.created = record.created;
    info.consistency = record.consistency;
    info.memory = record.memory;
    info.current = record.name == manifest.current;
    info.description = record.description;
    for (const SnapshotDisk& disk : record.disks) {
      const auto head = std::find_if(manifest.heads.begin(), manifest.heads.end(),
                                     [&](const HeadRecord& each) { return each.name == disk.name; });
      DiskInfo& entry = info.disks.emplace_back();
      entry.name = disk.name;
      if (head != manifest.heads.end()) entry.target = head->target;
      describe_layer(entry, disk.layer);
    }
    infos.push_back(info);
  }
  return infos;
}

VmInfo Manager::Impl::vm_info(const Manifest& manifest) {
  const DomainSight sight = read_sight(hypervisor(), manifest);
  const std::optional<DomainState>& domain = sight.domain;
  const VmSpec spec = spec_of(manifest);
  VmInfo info;
  static_cast<VmSummary&>(info) = summary_of(manifest, spec, domain ? &*domain : nullptr);
  info.template_digest = manifest.template_digest;
  info.owner = manifest.owner;
  info.provisioned = manifest.provisioned;
  info.firmware = spec.firmware == Firmware::direct ? "direct" : spec.firmware == Firmware::bios ? "bios" : "uefi";
  info.tpm = spec.tpm;
  if (!manifest.current.empty()) info.snapshot = manifest.current;
  if (!manifest.source.empty()) info.source = manifest.source;
  info.console_log = store().console_log(manifest.name);
  for (const GpuSpec& each : spec.gpus) info.gpu_request.push_back({gpu_request_text(each), each.identity});
  for (const HeadRecord& head : manifest.heads) {
    DiskInfo& entry = info.disks.emplace_back();
    entry.name = head.name;
    entry.target = head.target;
    entry.snapshot = head.snapshot;
    for (const std::string& fault : describe_layer(entry, head.layer))
      info.notes.push_back(fmt::format("disk '{}': {}", head.name, fault));
  }
  info.snapshot_tree = snapshot_infos(manifest);
  std::vector<OutsideChange> changes = changes_of(manifest, sight);
  for (OutsideChange& change : hardware_changes(manifest, spec, sight)) changes.push_back(std::move(change));
  for (const OutsideChange& change : changes) info.notes.push_back(fmt::format("{}; {}", change.what, change.remedy));
  if (!domain) return info;
  const bool is_on = is_active(domain);
  const std::string xml = hypervisor().domain_xml(manifest.uuid, !is_on);
  const DomainFacts facts = read_domain(xml);
  info.accel = facts.virt_type == "kvm" ? "kvm" : "tcg";
  info.cpus = facts.cpus;
  info.memory = facts.memory;
  info.agent_connected = facts.agent_connected;
  if (is_on) add_gpus(info, xml);
  add_networks(info, facts, is_on ? hypervisor().addresses(manifest.uuid) : std::vector<NicInfo>{});
  if (hypervisor().info().is_session)
    for (const NetworkSpec& network : spec.networks)
      if (network.kind == NetworkKind::nat)
        info.notes.emplace_back("nat is QEMU's user networking in a session: the guest reaches out, nothing reaches in");
  if (manifest.identity_pending) info.notes.emplace_back("the clone gets its own identity inside when it first starts");
  if (const std::optional<StoreFacts> store_now = try_store_facts("what could be merged is not known")) {
    const MergePlan merges = plan_merge(*store_now, manifest, is_on, can_merge_live(hypervisor().info()));
    if (!merges.deferred.empty())
      info.notes.push_back(fmt::format("{} unused layers are merged when it is stopped", merges.deferred.size()));
  }
  return info;
}

std::vector<VmSummary> Manager::list() {
  const std::vector<std::string> names = impl_->store().vm_names();
  std::unordered_map<std::string, DomainState> domains;
  if (!names.empty())
    for (DomainState& domain : impl_->hypervisor().domains()) domains.emplace(domain.uuid, std::move(domain));
  std::vector<VmSummary> vms;
  for (const std::string& name : names) {
    try {
      const std::optional<Manifest> manifest = impl_->store().find_manifest(name);
      if (!manifest) continue;  // deleted meanwhile
      const auto found = domains.find(manifest->uuid);
      const DomainState* const domain = found == domains.end() ? nullptr : &found->second;
      VmSummary& summary =
          vms.emplace_back(summary_of(*manifest, parse_spec(manifest->spec, manifest->template_name), domain));
      summary.notes = notes_of(*manifest, domain);
    } catch (const Error& error) {
      vms.push_back(unreadable_vm(name, error));
    }
  }
  return vms;
}

VmInfo Manager::show(const std::string& vm) { return impl_->vm_info(impl_->store().manifest(vm)); }

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>
#include <unordered_map>

#include "run/manager_impl.hpp"

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
  for (const DomainHostdev& device : read_hostdevs(live_xml))
    if (!device.address.empty()) addresses.insert(device.address);
  // The first function of a slot is the GPU, the others come along with it.
  for (const std::string& address : addresses)
    if (slots.insert(address.substr(0, address.rfind('.'))).second) info.gpus.push_back(address);
  std::tie(info.tuning_done, info.tuning_not_done) = read_placement_notes(live_xml);
}

}  // namespace

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
      const std::vector<LayerRecord> chain = store().chain(disk.layer);
      const auto head = std::find_if(manifest.heads.begin(), manifest.heads.end(),
                                     [&](const HeadRecord& each) { return each.name == disk.name; });
      info.disks.push_back({disk.name, head == manifest.heads.end() ? "" : head->target, disk.layer,
                            store().layer_file(disk.layer), chain.front().virtual_size, chain.size(), true});
    }
    infos.push_back(info);
  }
  return infos;
}

VmInfo Manager::Impl::vm_info(const Manifest& manifest) {
  const std::optional<DomainState> domain = hypervisor().find_by_uuid(manifest.uuid);
  const VmSpec spec = parse_spec(manifest.spec, manifest.template_name);
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
  for (const HeadRecord& head : manifest.heads) {
    const std::vector<LayerRecord> chain = store().chain(head.layer);
    info.disks.push_back({head.name, head.target, head.layer, store().layer_file(head.layer), chain.front().virtual_size,
                          chain.size(), head.snapshot});
  }
  info.snapshot_tree = snapshot_infos(manifest);
  if (!domain) {
    info.notes.emplace_back("libvirt has no domain of this VM any more: it was undefined by other means");
    return info;
  }
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
  const MergePlan merges = plan_merge(store_facts(), manifest, is_on, can_merge_live(hypervisor().info()));
  if (!merges.deferred.empty())
    info.notes.push_back(fmt::format("{} unused layers are merged when it is stopped", merges.deferred.size()));
  return info;
}

std::vector<VmSummary> Manager::list() {
  const std::vector<Manifest> manifests = impl_->store().manifests();
  std::unordered_map<std::string, DomainState> domains;
  if (!manifests.empty())
    for (DomainState& domain : impl_->hypervisor().domains()) domains.emplace(domain.uuid, std::move(domain));
  std::vector<VmSummary> vms;
  for (const Manifest& manifest : manifests) {
    const auto domain = domains.find(manifest.uuid);
    vms.push_back(summary_of(manifest, parse_spec(manifest.spec, manifest.template_name),
                             domain == domains.end() ? nullptr : &domain->second));
  }
  return vms;
}

VmInfo Manager::show(const std::string& vm) { return impl_->vm_info(impl_->store().manifest(vm)); }

}  // namespace vmgraft

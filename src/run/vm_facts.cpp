// SPDX-License-Identifier: Apache-2.0
#include "run/vm_facts.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"
#include "model/names.hpp"
#include "plan/plan_sweep.hpp"

namespace vmgraft {
namespace {

/// Targets that are no head of ours; a head's target must still be on the layer that we gave it.
std::vector<std::string> other_targets(const Store& store, const Manifest& manifest, const DomainFacts& domain) {
  std::vector<std::string> others;
  for (const DomainFacts::Disk& disk : domain.disks) {
    const auto head = std::find_if(manifest.heads.begin(), manifest.heads.end(),
                                   [&](const HeadRecord& record) { return record.target == disk.target; });
    if (head == manifest.heads.end()) {
      others.push_back(disk.target);
    } else if (disk.path != store.layer_file(head->layer).string()) {
      throw Error(Errc::conflict,
                  fmt::format("VM '{}': its disk {} is now {}, not the layer {} that vmgraft made it", manifest.name,
                              disk.target, printable(disk.path), head->layer),
                  "a snapshot or edit by other means did that; put it back (virsh edit), or delete the VM");
    }
  }
  return others;
}

}  // namespace

VmFacts read_vm_facts(Host& host, Hypervisor& hypervisor, const Store& store, const Manifest& manifest,
                      const std::string& tpm_home) {
  VmFacts facts;
  facts.manifest = manifest;
  const std::optional<DomainState> domain = hypervisor.find_by_uuid(manifest.uuid);
  facts.is_running = is_active(domain);
  facts.inactive_xml = hypervisor.domain_xml(manifest.uuid, true);
  const DomainFacts inactive = read_domain(facts.inactive_xml);
  if (inactive.store != store.root().string())
    throw Error(Errc::conflict,
                fmt::format("the domain '{}' does not belong to the store {}", manifest.name, store.root().string()),
                "its metadata was changed by other means; vmgraft does not touch it");
  facts.agent_connected = facts.is_running && read_domain(hypervisor.domain_xml(manifest.uuid, false)).agent_connected;
  if (!inactive.nvram.empty() && host.stat(inactive.nvram)) facts.nvram = inactive.nvram;
  if (inactive.tpm) {
    facts.tpm_home = tpm_home;
    if (host.stat(tpm_home)) facts.tpm = tpm_home;
  }
  facts.other_targets = other_targets(store, manifest, inactive);
  for (std::string id : named_layers(manifest)) {
    while (!id.empty() && !facts.layers.contains(id)) {
      const LayerRecord layer = store.layer(id);
      facts.layers.emplace(id, layer);
      id = layer.parent;
    }
  }
  if (!facts.is_running)
    for (const HeadRecord& head : manifest.heads)
      if (store.is_untouched(head.layer)) facts.untouched.insert(head.layer);
  return facts;
}

}  // namespace vmgraft

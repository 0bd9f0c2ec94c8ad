// SPDX-License-Identifier: Apache-2.0
#include "run/vm_facts.hpp"

#include <algorithm>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"
#include "plan/plan_sweep.hpp"
#include "store/layer_file.hpp"

namespace vmgraft {
namespace {

/// Targets that are no head of ours. A disk that is only plugged into the running VM is one too.
std::vector<std::string> other_targets(const Manifest& manifest, const DomainSight& sight) {
  std::vector<std::string> others;
  for (const DomainFacts::Disk& disk : (sight.live ? *sight.live : sight.defined).disks) {
    const bool is_head = std::any_of(manifest.heads.begin(), manifest.heads.end(),
                                     [&](const HeadRecord& head) { return head.target == disk.target; });
    if (!is_head) others.push_back(disk.target);
  }
  return others;
}

}  // namespace

DomainSight read_sight(Hypervisor& hypervisor, const Manifest& manifest) {
  DomainSight sight;
  sight.domain = hypervisor.find_by_uuid(manifest.uuid);
  if (!sight.domain) {
    sight.namesake = hypervisor.find_by_name(manifest.name);
    return sight;
  }
  sight.defined = read_domain(hypervisor.domain_xml(manifest.uuid, true));
  if (is_active(sight.domain)) sight.live = read_domain(hypervisor.domain_xml(manifest.uuid, false));
  return sight;
}

LayerMap reached_layers(const Store& store, const Manifest& manifest) {
  LayerMap layers;
  for (const HeadRecord& head : manifest.heads)
    for (const LayerRecord& layer : store.chain(head.layer)) layers.emplace(layer.id, layer);
  for (const std::string& named : named_layers(manifest)) {
    if (layers.contains(named)) continue;
    try {
      for (const LayerRecord& layer : store.chain(named)) layers.emplace(layer.id, layer);
    } catch (const Error&) {
      // A snapshot that is broken takes nothing from the others.
    }
  }
  return layers;
}

VmFacts read_vm_facts(Host& host, Hypervisor& hypervisor, const Store& store, const Manifest& manifest,
                      const std::string& tpm_home) {
  const DomainSight sight = read_sight(hypervisor, manifest);
  VmFacts facts;
  facts.manifest = manifest;
  facts.layers = reached_layers(store, manifest);
  const std::vector<OutsideChange> changes = outside_changes(store, manifest, facts.layers, sight);
  const bool is_forbidden = std::any_of(changes.begin(), changes.end(), [](const OutsideChange& change) {
    return forbids(change.kind, Act::disks);
  });
  // Told better with every layer: the disk may be on one that an older manifest does not reach.
  if (is_forbidden) require_unchanged(manifest, outside_changes(store, manifest, store.layers(), sight), Act::disks);
  for (const HeadRecord& head : manifest.heads) {
    LayerMap chain;
    for (const LayerRecord& layer : chain_of(facts.layers, head.layer)) chain.emplace(layer.id, layer);
    require_whole(host, store, chain);
  }
  facts.is_running = is_active(sight.domain);
  facts.inactive_xml = hypervisor.domain_xml(manifest.uuid, true);
  facts.agent_connected = sight.live && sight.live->agent_connected;
  if (!sight.defined.nvram.empty() && host.stat(sight.defined.nvram)) facts.nvram = sight.defined.nvram;
  if (sight.defined.tpm) {
    facts.tpm_home = tpm_home;
    if (host.stat(tpm_home)) facts.tpm = tpm_home;
  }
  facts.other_targets = other_targets(manifest, sight);
  if (!facts.is_running)
    for (const HeadRecord& head : manifest.heads)
      if (store.is_untouched(head.layer)) facts.untouched.insert(head.layer);
  return facts;
}

}  // namespace vmgraft

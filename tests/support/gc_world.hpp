// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "run/gc_facts.hpp"
#include "support/plan_world.hpp"

namespace vmgraft {

/// What gc would read in that world. No process lives there, no lock is held.
[[nodiscard]] inline GcFacts gc_facts_of(PlanWorld& world) {
  GcFacts facts{world.store, world.store_facts(), {}, {}, {}, {}, {}, {}, {}};
  facts.files = list_store(world.host, world.store, [](const std::string&) { return true; });
  facts.domains = read_domains(world.hypervisor, world.store);
  for (const auto& [id, layer] : facts.refs.layers)
    facts.layer_sizes[id] = world.host.stat(world.store.layer_file(id)).value().allocated;
  for (const GcDomain& domain : facts.domains)
    if (domain.is_active) facts.running.insert(domain.name);
  return facts;
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_delete.hpp"

#include <fmt/format.h>

namespace vmgraft {

Plan plan_delete(const Store& store, const Manifest& manifest, bool domain_exists) {
  Plan plan{fmt::format("delete {}", manifest.name), {manifest.name}, {}};
  plan.steps.emplace_back(Commit{});
  if (domain_exists) {
    plan.steps.emplace_back(PowerOff{manifest.name, manifest.uuid});
    plan.steps.emplace_back(UndefineDomain{manifest.name, manifest.uuid, false});
  }
  plan.steps.emplace_back(RemovePath{store.vm_folder(manifest.name)});
  return plan;
}

}  // namespace vmgraft

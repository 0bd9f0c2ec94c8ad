// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "plan/facts.hpp"
#include "plan/steps.hpp"

namespace vmgraft {

struct RevertPlanInput {
  const Store& store;
  VmFacts vm;
  std::string snapshot;
  std::string snapshot_xml;      ///< the definition that the snapshot kept
  std::string undo_name;         ///< what the present state will be called
  std::string now;
  FreshIds ids;                  ///< two per disk
};

struct RevertPlan {
  Plan plan;
  std::string undo;              ///< the snapshot that names the state before
};

/// Put the VM back to a snapshot. The present state is named first, unless nothing of it differs from the snapshot it stands on.
/// The VM is off afterwards.
[[nodiscard]] RevertPlan plan_revert(RevertPlanInput input);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "faults/world.hpp"

namespace vmgraft {

/// A verb at work on a world.
struct FaultScenario {
  std::string name;
  std::function<void(FaultWorld&)> prepare;
  std::function<std::vector<std::string>(const FaultWorld&)> verb;
  bool has_qemu = false;  ///< a VM runs before or after: each point takes a second or so
  /// Makes, from the world before, another one in which a killed process may leave it: that of a verb of two operations,
  /// of which the first is done. Empty: there is none.
  std::function<void(FaultWorld&)> halfway = {};
  bool has_copies = false;  ///< qemu-img copies in no particular order: no two copies are the same file
  bool has_garbage = false;  ///< it begins with what nothing needs, and takes that away piece by piece
};

[[nodiscard]] std::vector<FaultScenario> fault_scenarios();

}  // namespace vmgraft

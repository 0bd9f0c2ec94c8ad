// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "faults/tracer.hpp"

namespace vmgraft {

/// Looks at the calls of whole runs for what a power loss could take: each file synced before it is renamed, its folder
/// afterwards, and nothing unsynced when the verb ends. Says at its end how many renames it has seen.
class SyncOrder {
 public:
  SyncOrder() = default;
  SyncOrder(const SyncOrder&) = delete;
  SyncOrder& operator=(const SyncOrder&) = delete;
  ~SyncOrder();
  void check(const std::string& verb, const std::vector<Call>& calls);

 private:
  std::size_t renames_ = 0;
};

}  // namespace vmgraft

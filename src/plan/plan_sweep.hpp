// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <string>
#include <vector>

#include "plan/facts.hpp"
#include "plan/steps.hpp"

namespace vmgraft {

/// Every ref of a store, read at one moment.
struct StoreFacts {
  std::vector<Manifest> manifests;
  std::vector<ImageRecord> images;
  LayerMap layers;
  std::set<std::string> in_use = {};  ///< layers that domains stand on, whatever the refs say: they stay
};

/// Layers that a ref names.
[[nodiscard]] std::set<std::string> named_layers(const StoreFacts& facts);
/// Layers that a manifest's heads and snapshots name.
[[nodiscard]] std::set<std::string> named_layers(const Manifest& manifest);
/// \p layers and everything below them.
[[nodiscard]] std::set<std::string> reach(const LayerMap& layers, const std::set<std::string>& from);

/// The lock of who removes what nobody reaches: shared by whoever makes or reads refs, for all of his operation.
inline constexpr const char* kSweepLock = "@sweep";

/// Delete the layers that no ref reaches, children before parents.
/// \param pinned  layers that stay all the same, with everything below them.
[[nodiscard]] Plan plan_sweep(const StoreFacts& facts, const std::set<std::string>& pinned = {});

struct MergePlan {
  Plan plan;
  std::vector<std::string> merged;    ///< layers that go
  std::vector<std::string> deferred;  ///< layers that could go but for the running VM
};

/// Merge, for one VM, the inner layers that nothing names any more into the one layer that stands on them.
/// Never the root of a chain (an image is not copied up), never a layer that another VM reaches.
/// \param can_merge_live  whether this hypervisor can merge into the head of a running VM.
[[nodiscard]] MergePlan plan_merge(const StoreFacts& facts, const Manifest& manifest, bool is_running, bool can_merge_live);
/// The VMs of which there is something to merge, were they off.
[[nodiscard]] std::vector<Manifest> vms_to_merge(const StoreFacts& facts);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "store/records.hpp"
#include "store/store.hpp"

namespace vmgraft {

using LayerMap = std::map<std::string, LayerRecord>;

/// Layers in a chain at most, the head included. libvirt stops at 200, and 10.8 to 11.10 fail to start a VM beyond about 25.
inline constexpr std::size_t kMaxChainDepth = 24;

/// What a planner has to know of a VM, read once under its lock.
struct VmFacts {
  Manifest manifest;
  bool is_running = false;
  bool agent_connected = false;
  std::string inactive_xml;
  std::string nvram;                       ///< path of its varstore when the file is there, else empty
  std::string tpm;                         ///< libvirt's folder of its TPM state when it is there, else empty
  std::string tpm_home;                    ///< where libvirt keeps (or would keep) it; empty when the VM has no TPM
  std::vector<std::string> other_targets;  ///< disks that are not ours to snapshot: CD-ROMs
  LayerMap layers;                         ///< every layer that its heads and snapshots reach
  std::set<std::string> untouched;         ///< heads to which nothing has been written
};

/// Layers from \p id down to the root.
[[nodiscard]] std::vector<LayerRecord> chain_of(const LayerMap& layers, const std::string& id);

/// The libvirt network of ours that "isolated" means.
inline constexpr const char* kIsolatedNetwork = "vmgraft-isolated";

/// Ids that were drawn for an operation, taken one by one. Planners make none themselves.
class FreshIds {
 public:
  explicit FreshIds(std::vector<std::string> ids) : ids_(std::move(ids)) {}
  [[nodiscard]] std::string take();

 private:
  std::vector<std::string> ids_;
  std::size_t next_ = 0;
};

/// How a VM's heads become immutable and it goes on writing to new ones.
struct HeadMove {
  std::vector<SnapshotDisk> frozen;        ///< the layers that now hold its state, one per disk that snapshots take
  std::vector<HeadRecord> heads;           ///< its heads afterwards, scratch disks included
  std::vector<LayerRecord> new_layers;     ///< to be created
  std::vector<std::string> freeze;         ///< layers to be frozen
  [[nodiscard]] bool changes() const { return !new_layers.empty(); }
};

/// A stopped VM's head to which nothing was written need not move: its parent holds the same state.
/// \throws Error conflict: a chain would grow beyond kMaxChainDepth.
[[nodiscard]] HeadMove move_heads(const VmFacts& vm, FreshIds& ids, const std::string& now, const std::string& made_by);

}  // namespace vmgraft

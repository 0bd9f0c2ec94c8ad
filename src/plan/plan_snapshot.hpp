// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "plan/facts.hpp"
#include "plan/steps.hpp"

namespace vmgraft {

struct SnapshotPlanInput {
  const Store& store;
  VmFacts vm;
  std::string name;
  std::string description;
  std::string now;
  bool freeze = false;          ///< through the agent; only for a running VM
  FreshIds ids;                 ///< one per disk
  bool memory = false;          ///< RAM and device state too; only for a running VM, and not with freeze
  std::vector<DetachDevice> unplug = {};  ///< host devices, which are out while memory is saved
};

/// Name the VM's state: its heads become immutable and get a new layer each; definition, NVRAM and TPM state are kept beside.
/// \throws Error conflict: the name is taken, or a chain would grow too long.
[[nodiscard]] Plan plan_snapshot(SnapshotPlanInput input);

/// Of a plan_snapshot() with memory, the one that keeps the disks alone.
[[nodiscard]] Plan without_memory(const Plan& plan);

/// Remove the name. Its layers go, or are merged, by plan_sweep and plan_merge afterwards.
[[nodiscard]] Plan plan_snapshot_delete(const Store& store, const Manifest& manifest, const std::string& snapshot);

// Shared with clone and revert.

/// Steps that put the definition and the sidecars of a stopped VM under snapshots/<name>/, and what was put there into \p record.
void append_sidecars(const Store& store, const VmFacts& vm, SnapshotRecord& record, std::vector<Step>& steps);
/// The manifest's new text over its old one.
[[nodiscard]] WriteFile write_manifest(const Store& store, const Manifest& before, const Manifest& after);
/// target -> path of the head's file.
[[nodiscard]] std::map<std::string, std::string> disk_paths(const Store& store, const std::vector<HeadRecord>& heads);
/// What happens to a running VM in the instant in which it moves to new heads.
struct LiveMove {
  bool freeze = false;
  std::vector<CopyPath> sidecars;
  std::string memory = {};                ///< file for its memory; empty: disks alone
  std::vector<DetachDevice> unplug = {};  ///< plugged in again right after
};
/// Steps that move a running VM to its new heads.
void append_live_move(const Store& store, const VmFacts& vm, const HeadMove& move, LiveMove live, std::vector<Step>& steps);
/// Steps that move a stopped VM to its new heads; nothing when no head moves.
void append_stopped_move(const Store& store, const VmFacts& vm, const HeadMove& move, std::vector<Step>& steps);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "plan/facts.hpp"
#include "plan/steps.hpp"

namespace vmgraft {

struct CloneTarget {
  std::string name;
  std::string uuid;
  std::vector<std::string> macs;     ///< as many as the source has NICs
  std::string seed;                  ///< a finished NoCloud seed to adopt; empty: the source has none
  std::string tpm_home;              ///< where libvirt will keep its TPM state; empty: no TPM
};

/// What clones are made from: immutable layers, and what the disks do not hold.
struct CloneBase {
  std::vector<SnapshotDisk> disks;
  std::string xml;                   ///< the source's definition
  std::string nvram;                 ///< a copy that stays as it is meanwhile; empty: none
  std::string tpm;                   ///< likewise
};

/// A VM's present state, made immutable without a name.
struct MovePlan {
  Plan plan;                         ///< no steps when its heads need not move
  CloneBase base;                    ///< to clone from once the plan is done
};

/// Move a VM on to new heads, so that others can stand on what it was. NVRAM and TPM state of a running VM are copied into
/// \p scratch in the same freeze; those of a stopped one are taken where they are.
[[nodiscard]] MovePlan plan_move(const Store& store, const VmFacts& vm, bool freeze, const std::string& scratch, FreshIds ids,
                                 const std::string& now);

struct ClonePlanInput {
  const Store& store;
  Manifest source;
  std::string snapshot;              ///< empty: its present state
  CloneBase base;
  LayerMap layers;                   ///< every layer that the base and the source's heads reach
  std::vector<CloneTarget> targets;
  bool full = false;
  bool keep_tpm = false;
  std::string owner;
  std::string now;
  std::string expires;
  FreshIds ids;                      ///< one per disk of each target
  std::string spec = {};             ///< the clones' own; empty: the source's
};

/// Make VMs that stand on the base. All or none; none is started.
/// \throws Error conflict: a chain would grow too long.
[[nodiscard]] Plan plan_clone(ClonePlanInput input);

}  // namespace vmgraft

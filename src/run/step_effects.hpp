// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "plan/steps.hpp"
#include "run/executor.hpp"

namespace vmgraft {

// What each step does to host and hypervisor, and how it is taken back. Both may be called again after they were done, or
// cut off anywhere: recovery does not know how far a dead process came.

void apply_step(World& world, const MakeFolder& step);
void apply_step(World& world, const CreateLayer& step);
void apply_step(World& world, const FlattenLayer& step);
void apply_step(World& world, const FreezeLayer& step);
void apply_step(World& world, const WriteFile& step);
void apply_step(World& world, const CopyPath& step);
void apply_step(World& world, const ReplacePath& step);
void apply_step(World& world, const AdoptFile& step);
void apply_step(World& world, const DefineDomain& step);
void apply_step(World& world, const StartDomain& step);
void apply_step(World& world, const SwitchDisks& step);
void apply_step(World& world, const Commit& step);
void apply_step(World& world, const PowerOff& step);
void apply_step(World& world, const UndefineDomain& step);
void apply_step(World& world, const DeleteLayer& step);
void apply_step(World& world, const RemovePath& step);
void apply_step(World& world, const RebaseLayer& step);
void apply_step(World& world, const PullLayer& step);
void apply_step(World& world, const BindDriver& step);
void apply_step(World& world, const WriteAttribute& step);
void apply_step(World& world, const MakeMdev& step);
void apply_step(World& world, const RemoveMdev& step);
void apply_step(World& world, const DetachDevice& step);
void apply_step(World& world, const AttachDevice& step);

void undo_step(World& world, const MakeFolder& step);
void undo_step(World& world, const CreateLayer& step);
void undo_step(World& world, const FlattenLayer& step);
void undo_step(World& world, const FreezeLayer& step);
void undo_step(World& world, const WriteFile& step);
void undo_step(World& world, const CopyPath& step);
void undo_step(World& world, const ReplacePath& step);
void undo_step(World& world, const AdoptFile& step);
void undo_step(World& world, const DefineDomain& step);
void undo_step(World& world, const StartDomain& step);
void undo_step(World& world, const BindDriver& step);
void undo_step(World& world, const WriteAttribute& step);
void undo_step(World& world, const MakeMdev& step);
void undo_step(World& world, const DetachDevice& step);
void undo_step(World& world, const AttachDevice& step);
/// Only reached when the switch did not happen: removes the sidecars, and thaws.
void undo_step(World& world, const SwitchDisks& step);
/// Steps that stand only after Commit are never undone.
template <typename Step>
void undo_step(World&, const Step&) {}

/// Whether the domain writes to the new heads already.
[[nodiscard]] bool has_switched(World& world, const SwitchDisks& step);
/// The VM died when libvirt had been asked for its memory: of a VM that is off libvirt takes the disks alone, and says
/// that all is done.
[[nodiscard]] bool has_missed_memory(World& world, const SwitchDisks& step);

}  // namespace vmgraft

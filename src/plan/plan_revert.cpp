// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_revert.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "domain/domain_xml.hpp"
#include "plan/plan_snapshot.hpp"

namespace vmgraft {
namespace {

/// The layers that hold the present state; which of them are still heads to be frozen.
struct Present {
  std::vector<SnapshotDisk> disks;
  std::vector<std::string> freeze;
};

Present present_of(const VmFacts& vm) {
  Present present;
  for (const HeadRecord& head : vm.manifest.heads) {
    if (!head.snapshot) continue;
    const LayerRecord& layer = vm.layers.at(head.layer);
    if (!vm.is_running && vm.untouched.contains(head.layer) && !layer.parent.empty()) {
      present.disks.push_back({head.name, layer.parent});
    } else {
      present.disks.push_back({head.name, head.layer});
      present.freeze.push_back(head.layer);
    }
  }
  return present;
}

bool is_already_named(const VmFacts& vm, const Present& present) {
  if (vm.is_running || !vm.nvram.empty() || !vm.tpm.empty()) return false;
  const SnapshotRecord* current = find_snapshot(vm.manifest, vm.manifest.current);
  return current != nullptr && current->disks == present.disks;
}

/// New heads on the snapshot's layers; scratch disks stay as they are.
std::vector<HeadRecord> append_new_heads(RevertPlanInput& input, const SnapshotRecord& snapshot, std::vector<Step>& steps) {
  std::vector<HeadRecord> heads;
  for (HeadRecord head : input.vm.manifest.heads) {
    const auto kept = std::find_if(snapshot.disks.begin(), snapshot.disks.end(),
                                   [&](const SnapshotDisk& disk) { return disk.name == head.name; });
    if (kept != snapshot.disks.end()) {
      LayerRecord layer;
      layer.id = input.ids.take();
      layer.parent = kept->layer;
      layer.virtual_size = input.vm.layers.at(kept->layer).virtual_size;
      layer.made_by = fmt::format("revert {}@{}", input.vm.manifest.name, snapshot.name);
      layer.created = input.now;
      steps.emplace_back(CreateLayer{layer});
      head.layer = layer.id;
    }
    heads.push_back(head);
  }
  return heads;
}

/// NVRAM or TPM state back to what the snapshot kept; what is there now is in the undo snapshot's folder.
void append_replace(bool kept, const std::string& kept_at, const std::string& now_at, const std::string& home,
                    const std::string& saved_at, std::vector<Step>& steps) {
  if (home.empty() || (!kept && now_at.empty())) return;
  steps.emplace_back(ReplacePath{kept ? kept_at : "", home, now_at.empty() ? "" : saved_at});
}

}  // namespace

RevertPlan plan_revert(RevertPlanInput input) {
  VmFacts& vm = input.vm;
  const std::string name = vm.manifest.name;
  const SnapshotRecord snapshot = *find_snapshot(vm.manifest, input.snapshot);
  RevertPlan result;
  Plan& plan = result.plan;
  plan.verb = fmt::format("revert {}@{}", name, input.snapshot);
  plan.vms = {name};
  const Present present = present_of(vm);
  const bool was_running = vm.is_running;

  const std::vector<HeadRecord> heads = append_new_heads(input, snapshot, plan.steps);
  if (was_running) {
    plan.steps.emplace_back(Commit{});
    plan.steps.emplace_back(PowerOff{name, vm.manifest.uuid});
    vm.is_running = false;  // so that the sidecars are copied from the stopped VM
  }
  Manifest after = vm.manifest;
  after.heads = heads;
  after.current = input.snapshot;
  if (!was_running && is_already_named(vm, present)) {
    result.undo = vm.manifest.current;
  } else {
    SnapshotRecord undo;
    undo.name = input.undo_name;
    undo.parent = vm.manifest.current;
    undo.created = input.now;
    undo.consistency = was_running ? Consistency::crash : Consistency::clean;
    undo.description = fmt::format("before the revert to '{}'", input.snapshot);
    undo.disks = present.disks;
    append_sidecars(input.store, vm, undo, plan.steps);
    for (const std::string& layer : present.freeze) plan.steps.emplace_back(FreezeLayer{layer});
    after.snapshots.push_back(undo);
    result.undo = undo.name;
  }
  plan.steps.emplace_back(DefineDomain{name, vm.manifest.uuid,
                                       with_disk_paths(input.snapshot_xml, disk_paths(input.store, heads)),
                                       vm.inactive_xml, true});
  const std::filesystem::path kept = input.store.snapshot_folder(name, input.snapshot);
  const std::filesystem::path saved = input.store.snapshot_folder(name, result.undo);
  append_replace(snapshot.nvram, kept / "nvram.fd", vm.nvram,
                 read_domain(input.snapshot_xml).nvram, saved / "nvram.fd", plan.steps);
  append_replace(snapshot.tpm, kept / "tpm", vm.tpm, vm.tpm_home, saved / "tpm", plan.steps);
  plan.steps.emplace_back(write_manifest(input.store, vm.manifest, after));
  return result;
}

}  // namespace vmgraft

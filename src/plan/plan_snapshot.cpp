// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_snapshot.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"

namespace vmgraft {

WriteFile write_manifest(const Store& store, const Manifest& before, const Manifest& after) {
  return {store.manifest_file(before.name), to_json_text(after), 0600, true, to_json_text(before)};
}

std::map<std::string, std::string> disk_paths(const Store& store, const std::vector<HeadRecord>& heads) {
  std::map<std::string, std::string> paths;
  for (const HeadRecord& head : heads) paths[head.target] = store.layer_file(head.layer);
  return paths;
}

void append_sidecars(const Store& store, const VmFacts& vm, SnapshotRecord& record, std::vector<Step>& steps) {
  const std::filesystem::path folder = store.snapshot_folder(vm.manifest.name, record.name);
  steps.emplace_back(MakeFolder{folder, 0700});
  steps.emplace_back(WriteFile{folder / "domain.xml", vm.inactive_xml});
  record.nvram = !vm.nvram.empty();
  record.tpm = !vm.tpm.empty();
  if (vm.is_running) return;
  if (record.nvram) steps.emplace_back(CopyPath{vm.nvram, folder / "nvram.fd"});
  if (record.tpm) steps.emplace_back(CopyPath{vm.tpm, folder / "tpm"});
}

void append_live_move(const Store& store, const VmFacts& vm, const HeadMove& move, LiveMove live, std::vector<Step>& steps) {
  SwitchDisks step;
  step.name = vm.manifest.name;
  step.uuid = vm.manifest.uuid;
  step.untouched = vm.other_targets;
  step.freeze = live.freeze;
  step.memory = std::move(live.memory);
  step.sidecars = std::move(live.sidecars);
  for (std::size_t i = 0; i < move.heads.size(); ++i) {
    const HeadRecord& head = move.heads[i];
    if (head.layer == vm.manifest.heads[i].layer)
      step.untouched.push_back(head.target);
    else
      step.disks.push_back({head.target, head.layer});
  }
  for (const LayerRecord& layer : move.new_layers) steps.emplace_back(CreateLayer{layer});
  for (const DetachDevice& device : live.unplug) steps.emplace_back(device);
  steps.emplace_back(step);
  for (const DetachDevice& device : live.unplug)
    steps.emplace_back(AttachDevice{device.name, device.uuid, device.alias, device.xml});
  for (const std::string& layer : move.freeze) steps.emplace_back(FreezeLayer{layer});
  // libvirt has written the chain of this moment into the definition (<backingStore>): a merge while the VM is off would
  // make it wrong. The chain has one home, the layers.
  steps.emplace_back(DefineDomain{vm.manifest.name, vm.manifest.uuid,
                                  with_disk_paths(vm.inactive_xml, disk_paths(store, move.heads)), vm.inactive_xml, true});
}

void append_stopped_move(const Store& store, const VmFacts& vm, const HeadMove& move, std::vector<Step>& steps) {
  if (!move.changes()) return;
  for (const LayerRecord& layer : move.new_layers) steps.emplace_back(CreateLayer{layer});
  for (const std::string& layer : move.freeze) steps.emplace_back(FreezeLayer{layer});
  steps.emplace_back(DefineDomain{vm.manifest.name, vm.manifest.uuid,
                                  with_disk_paths(vm.inactive_xml, disk_paths(store, move.heads)), vm.inactive_xml, true});
}

Plan plan_snapshot(SnapshotPlanInput input) {
  const VmFacts& vm = input.vm;
  const std::string& name = vm.manifest.name;
  if (find_snapshot(vm.manifest, input.name) != nullptr)
    throw Error(Errc::conflict, fmt::format("VM '{}' already has a snapshot '{}'", name, input.name),
                fmt::format("take another name, or delete it: vmgraft snapshot delete {}@{}", name, input.name));
  Plan plan{fmt::format("snapshot {}@{}", name, input.name), {name}, {}};
  SnapshotRecord record;
  record.name = input.name;
  record.parent = vm.manifest.current;
  record.created = input.now;
  record.description = input.description;
  record.memory = input.memory;
  record.consistency = !vm.is_running ? Consistency::clean : input.freeze ? Consistency::frozen : Consistency::crash;
  const HeadMove move = move_heads(vm, input.ids, input.now, fmt::format("snapshot {}@{}", name, input.name));
  record.disks = move.frozen;
  append_sidecars(input.store, vm, record, plan.steps);
  if (vm.is_running) {
    const std::filesystem::path folder = input.store.snapshot_folder(name, input.name);
    std::vector<CopyPath> sidecars;
    if (record.nvram) sidecars.push_back({vm.nvram, folder / "nvram.fd"});
    if (record.tpm) sidecars.push_back({vm.tpm, folder / "tpm"});
    append_live_move(input.store, vm, move,
                     {input.freeze, std::move(sidecars), input.memory ? (folder / "memory").string() : std::string{},
                      input.unplug},
                     plan.steps);
  } else {
    append_stopped_move(input.store, vm, move, plan.steps);
  }
  Manifest after = vm.manifest;
  after.heads = move.heads;
  after.snapshots.push_back(record);
  after.current = record.name;
  plan.steps.emplace_back(write_manifest(input.store, vm.manifest, after));
  return plan;
}

Plan without_memory(const Plan& plan) {
  Plan disks = plan;
  for (Step& step : disks.steps)
    if (auto* move = std::get_if<SwitchDisks>(&step)) move->memory.clear();
  // The manifest comes last. A journal of somebody else's may end with anything.
  if (auto* write = disks.steps.empty() ? nullptr : std::get_if<WriteFile>(&disks.steps.back())) {
    Manifest after = manifest_from_json(write->content, write->path);
    for (SnapshotRecord& snapshot : after.snapshots)
      if (snapshot.name == after.current) snapshot.memory = false;
    write->content = to_json_text(after);
  }
  return disks;
}

Plan plan_snapshot_delete(const Store& store, const Manifest& manifest, const std::string& snapshot) {
  Plan plan{fmt::format("snapshot delete {}@{}", manifest.name, snapshot), {manifest.name}, {}};
  Manifest after = manifest;
  const auto at = std::find_if(after.snapshots.begin(), after.snapshots.end(),
                               [&](const SnapshotRecord& record) { return record.name == snapshot; });
  const std::string parent = at->parent;
  after.snapshots.erase(at);
  for (SnapshotRecord& child : after.snapshots)
    if (child.parent == snapshot) child.parent = parent;
  if (after.current == snapshot) after.current = parent;
  plan.steps.emplace_back(write_manifest(store, manifest, after));
  plan.steps.emplace_back(Commit{});
  plan.steps.emplace_back(RemovePath{store.snapshot_folder(manifest.name, snapshot)});
  return plan;
}

}  // namespace vmgraft

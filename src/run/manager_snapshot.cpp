// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "model/names.hpp"
#include "plan/plan_revert.hpp"
#include "plan/plan_snapshot.hpp"
#include "run/fresh.hpp"
#include "run/manager_impl.hpp"
#include "run/store_trust.hpp"

namespace vmgraft {
namespace {

std::string free_snapshot_name(const Manifest& manifest, const std::string& base) {
  for (unsigned number = 1;; ++number) {
    std::string name = fmt::format("{}-{}", base, number);
    if (find_snapshot(manifest, name) == nullptr) return name;
  }
}

SnapshotPlanInput snapshot_input(Store& store, const VmFacts& vm, const SnapshotRequest& request, bool freeze) {
  return {store,
          vm,
          request.name.empty() ? free_snapshot_name(vm.manifest, "snap") : request.name,
          request.description,
          now_rfc3339(),
          freeze,
          fresh_ids(vm.manifest.heads.size())};
}

RevertPlanInput revert_input(Manager::Impl& impl, const VmFacts& vm, const std::string& snapshot) {
  impl.require_kept(vm.manifest, *find_snapshot(vm.manifest, snapshot));
  return {impl.store(),
          vm,
          snapshot,
          impl.snapshot_xml(vm.manifest.name, snapshot),
          free_snapshot_name(vm.manifest, "before-revert"),
          now_rfc3339(),
          fresh_ids(vm.manifest.heads.size())};
}

}  // namespace

/// Frozen file systems would be frozen in every wake-up, so nothing is frozen: RAM and disks are of one instant.
std::string Manager::Impl::snapshot_with_memory(const VmFacts& vm, const SnapshotRequest& request) {
  const Manifest& manifest = vm.manifest;
  static_cast<void>(running_domain(manifest));
  SnapshotPlanInput input = snapshot_input(store(), vm, request, false);
  input.memory = true;
  input.unplug = detach_steps(manifest, request.timeout, nullptr);
  if (!input.unplug.empty()) progress(fmt::format("taking the GPUs out of {} while its memory is saved", manifest.name));
  const std::string name = input.name;
  const bool asks_guest = !input.unplug.empty();
  if (asks_guest) expect_gpus_back(manifest, true);
  try {
    execute(vmgraft::plan_snapshot(std::move(input)));
  } catch (Error& error) {
    if (asks_guest && error.leftovers().empty()) error.add_context("no snapshot was taken, and nothing has changed");
    throw;
  }
  if (asks_guest) expect_gpus_back(manifest, false);
  return name;
}

/// Its GPUs are not in the saved memory: others may hold those of then, so it is given new ones.
void Manager::Impl::wake(const Manifest& manifest, const std::string& snapshot) {
  const std::string file = store().snapshot_folder(manifest.name, snapshot) / "memory";
  ensure_networks(hypervisor().domain_xml(manifest.uuid, true));
  const std::string xml = with_disk_paths(hypervisor().saved_memory_xml(file), disk_paths(store(), manifest.heads));
  require_known_reach(hypervisor(), store(), fmt::format("the memory of {}@{}", manifest.name, snapshot), manifest.uuid,
                      xml);
  require_own_files(xml);
  Plan plan{fmt::format("wake {}@{}", manifest.name, snapshot), {manifest.name}, {}};
  plan.steps.emplace_back(StartDomain{manifest.name, manifest.uuid, xml, file});
  execute(plan);
  const VmSpec spec = spec_of(manifest);
  if (spec.gpus.empty()) return;
  require_gpu_host();
  try {
    static_cast<void>(plug_gpus(manifest, spec, false));
    remember_gpus(manifest, spec);
  } catch (Error& error) {
    after_failure(error, [&] { static_cast<void>(release_gpus(manifest)); });
    error.add_context(fmt::format("VM '{}' is awake, without GPUs", manifest.name));
    throw;
  }
}

SnapshotResult Manager::snapshot(const SnapshotRequest& request) {
  Impl& impl = *impl_;
  if (!request.name.empty()) require_name("snapshot", request.name);
  static_cast<void>(impl.store().manifest(request.vm));
  Locks locks = impl.lock_vms({request.vm}, "snapshot " + request.vm);
  const VmFacts vm = impl.vm_facts(impl.store().manifest(request.vm));
  SnapshotResult result;
  result.vm = request.vm;
  std::string name;
  if (request.memory) {
    name = impl.snapshot_with_memory(vm, request);
  } else {
    const Impl::FreezeResult freeze = impl.with_freeze(vm, locks, [&](bool with_freeze) {
      SnapshotPlanInput input = snapshot_input(impl.store(), vm, request, with_freeze);
      name = input.name;
      impl.execute(vmgraft::plan_snapshot(std::move(input)));
    });
    result.note = freeze.note;
  }
  for (const SnapshotInfo& info : impl.snapshot_infos(impl.store().manifest(request.vm)))
    if (info.name == name) result.snapshot = info;
  return result;
}

PlanText Manager::plan_snapshot(const SnapshotRequest& request) {
  if (!request.name.empty()) require_name("snapshot", request.name);
  const VmFacts vm = impl_->vm_facts(impl_->store().manifest(request.vm));
  SnapshotPlanInput input = snapshot_input(impl_->store(), vm, request, vm.agent_connected && !request.memory);
  input.memory = request.memory;
  if (request.memory) {
    static_cast<void>(impl_->running_domain(vm.manifest));
    input.unplug = impl_->detach_steps(vm.manifest, request.timeout, nullptr);
  }
  return plan_text(vmgraft::plan_snapshot(std::move(input)));
}

std::vector<SnapshotInfo> Manager::snapshots(const std::string& vm) {
  return impl_->snapshot_infos(impl_->store().manifest(vm));
}

SnapshotDeleteResult Manager::snapshot_delete(const std::string& vm, const std::string& snapshot) {
  Impl& impl = *impl_;
  impl.require_snapshot(impl.store().manifest(vm), snapshot);
  SnapshotDeleteResult result;
  Locks locks = impl.lock_vms({vm}, "snapshot delete " + vm);
  const Manifest manifest = impl.store().manifest(vm);
  impl.require_snapshot(manifest, snapshot);
  impl.execute_untidy(vmgraft::plan_snapshot_delete(impl.store(), manifest, snapshot), locks, [&] {
    result.removed_layers = impl.sweep();
    const MergePlan merges = impl.merge(vm);
    result.merged_layers = merges.merged;
    if (!merges.deferred.empty())
      result.note = fmt::format("{} layers inside the chain of the running VM are merged when it is stopped",
                                merges.deferred.size());
  });
  return result;
}

PlanText Manager::plan_snapshot_delete(const std::string& vm, const std::string& snapshot) {
  const Manifest manifest = impl_->store().manifest(vm);
  impl_->require_snapshot(manifest, snapshot);
  return plan_text(vmgraft::plan_snapshot_delete(impl_->store(), manifest, snapshot));
}

RevertResult Manager::revert(const RevertRequest& request) {
  Impl& impl = *impl_;
  impl.require_snapshot(impl.store().manifest(request.vm), request.snapshot);
  RevertResult result;
  bool start = false;
  {
    Locks locks = impl.lock_vms({request.vm}, "revert " + request.vm);
    const Manifest manifest = impl.store().manifest(request.vm);
    impl.require_snapshot(manifest, request.snapshot);
    const VmFacts vm = impl.vm_facts(manifest);
    const bool has_memory = find_snapshot(manifest, request.snapshot)->memory;
    start = request.start.value_or(vm.is_running || has_memory);
    const RevertPlan plan = vmgraft::plan_revert(revert_input(impl, vm, request.snapshot));
    result.undo = plan.undo;
    impl.execute_untidy(plan.plan, locks, [&] {
      static_cast<void>(impl.release_gpus(manifest));
      // A head to which nothing was written is not named by anything any more.
      const std::set<std::string> named = named_layers(impl.store().manifest(request.vm));
      const std::set<std::string> before = named_layers(manifest);
      if (!std::includes(named.begin(), named.end(), before.begin(), before.end())) static_cast<void>(impl.sweep());
    });
    if (start && has_memory) impl.wake(impl.store().manifest(request.vm), request.snapshot);
  }
  if (start) impl.bring_up(request.vm, request.wait, request.timeout);
  result.vm = show(request.vm);
  return result;
}

PlanText Manager::plan_revert(const RevertRequest& request) {
  const Manifest manifest = impl_->store().manifest(request.vm);
  impl_->require_snapshot(manifest, request.snapshot);
  const VmFacts vm = impl_->vm_facts(manifest);
  PlanText text = plan_text(vmgraft::plan_revert(revert_input(*impl_, vm, request.snapshot)).plan);
  if (request.start.value_or(vm.is_running)) text.steps.push_back(describe(StartDomain{request.vm, manifest.uuid}));
  return text;
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "domain/placement.hpp"
#include "model/names.hpp"
#include "run/manager_impl.hpp"

namespace vmgraft {
namespace {

constexpr const char* kMdevs = "/sys/bus/mdev/devices";

}  // namespace

std::string Manager::Impl::release_gpus(const Manifest& manifest) {
  if (!owns_gpus()) return {};
  const std::vector<GpuRecord> records = ledger().records();
  release_mdevs(manifest);
  const auto is_its = [&](const GpuRecord& record) { return record.vm_uuid == manifest.uuid; };
  if (std::none_of(records.begin(), records.end(), is_its)) return {};
  const FileLock lock = lock_gpus("release GPUs of " + manifest.name);
  return release_leases(manifest);
}

void Manager::Impl::release_mdevs(const Manifest& manifest) {
  const std::vector<std::string> there = host.list_folder(kMdevs);
  if (there.empty()) return;
  std::set<std::string> held;
  if (const std::optional<DomainState> domain = hypervisor().find_by_uuid(manifest.uuid); is_active(domain))
    for (const DomainHostdev& device : read_hostdevs(hypervisor().domain_xml(manifest.uuid, false))) held.insert(device.mdev);
  execute(plan_remove_mdevs(manifest.name, manifest.uuid, there, held));
}

std::string Manager::Impl::release_leases(const Manifest& manifest) {
  std::string method;
  for (const GpuRecord& record : ledger().records()) {
    if (record.vm_uuid != manifest.uuid) continue;
    const GpuFacts facts = gpu_facts(GpuDepth::whole);
    const Gpu* gpu = facts.find(record.address);
    if (gpu == nullptr) {
      notice(fmt::format("GPU {}, which VM '{}' held, is not there any more", record.address, manifest.name));
      host.remove(ledger().file(record.address));
      continue;
    }
    if (gpu->state == GpuState::in_vm) continue;  // it still runs with it
    method = release_gpu(facts, *gpu, record);
  }
  return method;
}

void Manager::Impl::require_unopened(const GpuFacts& facts, const Gpu& gpu) {
  const std::vector<std::string> functions = functions_of(gpu);
  for (const DeviceUser& user : facts.use.users)
    if (user.node.starts_with("/dev/vfio/") &&
        std::find(functions.begin(), functions.end(), user.address) != functions.end())
      throw Error(Errc::conflict,
                  fmt::format("GPU {} cannot be released: process {} ({}) still has {} open", gpu.address, user.pid,
                              printable(user.command), user.node),
                  "wait until it has ended, or end it");
}

std::string Manager::Impl::release_gpu(const GpuFacts& facts, const Gpu& gpu, const GpuRecord& record) {
  require_unopened(facts, gpu);
  progress(fmt::format("releasing GPU {}", gpu.address));
  const ResetOutcome outcome = record.release == "keep" ? ResetOutcome{} : reset_gpu(host, facts, gpu);
  std::string quarantine = outcome.failure;
  try {
    execute(plan_release(facts, ledger(), gpu.address, outcome));
  } catch (const Error& error) {
    quarantine = fmt::format("it did not go back to its driver: {}", error.what());
    execute(plan_quarantine(gpu_facts(GpuDepth::list), ledger(), gpu.address, quarantine));
  }
  if (!quarantine.empty())
    notice(fmt::format("GPU {} is quarantined: {}; lift it with: vmgraft gpu return {} --force", gpu.address,
                       printable(quarantine), gpu.address));
  remove_idle_vfs();
  return outcome.method;
}

void Manager::Impl::remove_idle_vfs() {
  const std::vector<GpuRecord> records = ledger().records();
  if (std::all_of(records.begin(), records.end(), [](const GpuRecord& each) { return each.made_vfs == 0; })) return;
  const GpuFacts facts = gpu_facts(GpuDepth::whole);
  for (const std::string& physical : idle_physical_functions(facts)) execute(plan_remove_vfs(facts, ledger(), physical));
}

std::optional<FileLock> Manager::Impl::try_lock_vm(const std::string& vm) {
  return FileLock::try_take(store().locks_folder() / ("vm-" + vm + ".lock"), FileLock::Kind::exclusive,
                            "release GPUs of " + vm);
}

void Manager::Impl::expect_gpus_back(const Manifest& manifest, bool returns) {
  const FileLock lock = lock_gpus("note GPUs of " + manifest.name);
  for (GpuRecord& record : ledger().records()) {
    if (record.vm_uuid != manifest.uuid || record.returns == returns) continue;
    record.returns = returns;
    host.write_file(ledger().file(record.address), to_json_text(record), 0644);
  }
}

bool Manager::Impl::plug_again(const GpuRecord& record) {
  try {
    const GpuFacts facts = gpu_facts(GpuDepth::list);
    const Gpu* gpu = facts.find(record.address);
    if (gpu == nullptr) return false;
    const std::string live = hypervisor().domain_xml(record.vm_uuid, false);
    const std::vector<DomainHostdev> there = read_hostdevs(live);
    GpuChoice choice;
    Placement placement;
    for (const std::string& function : functions_of(*gpu)) {
      if (std::any_of(there.begin(), there.end(), [&](const auto& each) { return each.address == function; })) continue;
      choice.gpus.emplace_back().address = function;
      placement.gpus.emplace_back().functions.push_back({function, true, 0});
    }
    if (placement.gpus.empty()) return true;
    Plan plan = plan_plug(facts, choice, placement, record.vm, record.vm_uuid, live).plan;
    plan.verb = fmt::format("plug GPU {} into {} again", record.address, record.vm);
    notice(fmt::format("VM '{}' let GPU {} go for a memory snapshot that was given up: it is plugged in again",
                       record.vm, record.address));
    execute(plan);
    return true;
  } catch (const Error& error) {
    notice(fmt::format("GPU {} cannot be plugged into VM '{}' again: {}", record.address, record.vm, error.what()));
    return false;
  }
}

void Manager::Impl::reap_gpus() {
  if (!owns_gpus()) return;
  if (!host.list_folder(kMdevs).empty()) {
    for (const Manifest& manifest : store().manifests())
      if (const std::optional<FileLock> lock = try_lock_vm(manifest.name)) release_mdevs(manifest);
  }
  for (const GpuRecord& record : ledger().records()) {
    if (record.vm_uuid.empty() || record.store != store().root().string()) continue;
    const std::optional<FileLock> lock = try_lock_vm(record.vm);
    if (!lock) continue;  // somebody is at work on that VM, and does it himself
    Manifest gone;
    gone.name = record.vm;
    gone.uuid = record.vm_uuid;
    const std::optional<DomainState> domain = hypervisor().find_by_uuid(record.vm_uuid);
    if (is_active(domain)) {
      if (record.returns && plug_again(record)) continue;
      const std::vector<DomainHostdev> devices = read_hostdevs(hypervisor().domain_xml(record.vm_uuid, false));
      if (std::any_of(devices.begin(), devices.end(),
                      [&](const DomainHostdev& each) { return each.address == record.address; }))
        continue;
    }
    notice(fmt::format("releasing GPU {}, which VM '{}' held", record.address, record.vm));
    try {
      static_cast<void>(release_gpus(gone));
    } catch (const Error& error) {
      notice(error.what());  // what the command is about need not fail for it
    }
  }
  // Made for a start that then failed or died; whoever holds the lock is about to use them.
  if (!host.stat(ledger().folder())) return;
  const auto lock = FileLock::try_take(ledger().lock_file(), FileLock::Kind::exclusive, "remove idle VFs");
  if (!lock) return;
  try {
    remove_idle_vfs();
  } catch (const Error& error) {
    notice(error.what());
  }
}

void Manager::Impl::try_reap() {
  try {
    if (owns_gpus()) static_cast<void>(store());
  } catch (const Error& error) {
    notice(fmt::format("what VMs left is not looked after: {}", error.what()));
  }
}

}  // namespace vmgraft

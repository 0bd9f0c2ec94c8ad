// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_gpu.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <vmgraft/error.hpp>

#include "gpu/named_gpus.hpp"
#include "host/sha256.hpp"
#include "plan/plan_snapshot.hpp"
#include "template/gpu_request.hpp"

namespace vmgraft {
namespace {

constexpr const char* kVfio = "vfio-pci";

std::string to_word(GpuRelease release) {
  switch (release) {
    case GpuRelease::reset: return "reset";
    case GpuRelease::driver: return "driver";
    case GpuRelease::keep: return "keep";
  }
  return "reset";
}

const PciFunction& function(const GpuFacts& facts, const std::string& address) {
  const PciFunction* found = facts.devices.find(address);
  if (found == nullptr) throw Error(Errc::not_found, fmt::format("there is no PCI function {}", address));
  return *found;
}

const Gpu& gpu_at(const GpuFacts& facts, const std::string& address) {
  const Gpu* found = facts.find(address);
  if (found == nullptr) throw Error(Errc::not_found, fmt::format("there is no GPU at {}", address));
  return *found;
}

/// What the ledger has of the device that is at the address now; of another one it says nothing.
GpuRecord known(const GpuFacts& facts, const std::string& address) {
  const std::string identity = identity_of(function(facts, address));
  if (const GpuRecord* record = facts.record(address); record != nullptr && record->identity == identity) return *record;
  GpuRecord record;
  record.address = address;
  record.identity = identity;
  return record;
}

WriteFile write_record(const GpuFacts& facts, const GpuLedger& ledger, const GpuRecord& after) {
  const GpuRecord* before = facts.record(after.address);
  return {ledger.file(after.address), to_json_text(after), 0644, before != nullptr,
          before == nullptr ? std::string{} : to_json_text(*before)};
}

/// A vGPU's VF stays on its vendor's driver, which makes its VFIO device.
bool is_ready(const PciFunction& function) {
  return is_vfio_driver(function.driver) || (!function.physical_function.empty() && function.driver == "nvidia");
}

/// Onto vfio-pci what is not there, remembering where it came from.
std::vector<Step> take(const GpuFacts& facts, const Gpu& gpu, GpuRecord& record) {
  std::vector<Step> steps;
  for (const std::string& address : functions_of(gpu)) {
    const PciFunction& each = function(facts, address);
    if (is_ready(each)) continue;
    record.origins.push_back({address, each.driver, each.driver_override});
    steps.emplace_back(BindDriver{address, kVfio, kVfio, each.driver, each.driver_override});
  }
  return steps;
}

std::string sysfs(const std::string& address, const char* attribute) {
  return fmt::format("/sys/bus/pci/devices/{}/{}", address, attribute);
}

/// vfio-pci lets an idle function sleep, and from D3cold some GPUs never wake up: what is for VMs stays awake. A VF has no
/// power of its own.
std::vector<Step> keep_awake(const GpuFacts& facts, const Gpu& gpu, GpuRecord& record) {
  std::vector<Step> steps;
  for (const std::string& address : functions_of(gpu)) {
    const PciFunction& each = function(facts, address);
    if (!each.physical_function.empty() || (each.d3cold_allowed != "1" && each.power_control != "auto")) continue;
    record.power.push_back({address, each.d3cold_allowed, each.power_control});
    if (each.d3cold_allowed == "1") steps.emplace_back(WriteAttribute{sysfs(address, "d3cold_allowed"), "0", "1"});
    if (each.power_control == "auto") steps.emplace_back(WriteAttribute{sysfs(address, "power/control"), "on", "auto"});
  }
  return steps;
}

/// As it was before; the record forgets it.
std::vector<Step> let_sleep(const GpuFacts& facts, GpuRecord& record) {
  std::vector<Step> steps;
  for (const GpuPower& before : record.power) {
    if (facts.devices.find(before.address) == nullptr) continue;
    if (before.control == "auto") steps.emplace_back(WriteAttribute{sysfs(before.address, "power/control"), "auto", "on"});
    if (before.d3cold_allowed == "1")
      steps.emplace_back(WriteAttribute{sysfs(before.address, "d3cold_allowed"), "1", "0"});
  }
  record.power.clear();
  return steps;
}

/// Where each function came from, the GPU before its companions; the record forgets it.
std::vector<Step> give_back(const GpuFacts& facts, GpuRecord& record) {
  std::vector<Step> steps;
  std::reverse(record.origins.begin(), record.origins.end());
  for (const GpuOrigin& origin : record.origins) {
    const PciFunction& now = function(facts, origin.address);
    steps.emplace_back(
        BindDriver{origin.address, origin.driver, origin.driver_override, now.driver, now.driver_override});
  }
  record.origins.clear();
  return steps;
}

/// Through its host driver, whose start clears what it clears, and back to vfio-pci.
std::vector<Step> pass_through_driver(const GpuFacts& facts, const GpuRecord& record) {
  std::vector<Step> steps;
  for (const GpuOrigin& origin : record.origins) {
    if (origin.address != record.address || origin.driver.empty()) continue;
    const PciFunction& now = function(facts, origin.address);
    steps.emplace_back(
        BindDriver{origin.address, origin.driver, origin.driver_override, now.driver, now.driver_override});
    steps.emplace_back(
        BindDriver{origin.address, now.driver, now.driver_override, origin.driver, origin.driver_override});
  }
  return steps;
}

void end_lease(GpuRecord& record) {
  record.vm.clear();
  record.vm_uuid.clear();
  record.store.clear();
  record.release.clear();
  record.returns = false;
}

std::string reset_note(const ResetOutcome& outcome) {
  return fmt::format("reset by {}; its memory was not overwritten", outcome.method);
}

Plan new_plan(const std::string& verb) { return {verb, {kGpuLock}, {}}; }

void append(std::vector<Step>& to, std::vector<Step> steps) {
  to.insert(to.end(), std::make_move_iterator(steps.begin()), std::make_move_iterator(steps.end()));
}

}  // namespace

std::vector<std::string> functions_of(const Gpu& gpu) {
  std::vector<std::string> functions = gpu.companions;
  functions.push_back(gpu.address);
  return functions;
}

std::string mdev_uuid(const std::string& vm_uuid, std::size_t index) {
  // RFC 9562, version 8: a name of our own, hashed.
  std::string hex = sha256_text(fmt::format("{}/mdev/{}", vm_uuid, index)).substr(0, 32);
  hex[12] = '8';
  hex[16] = '8';
  for (const std::size_t at : {20u, 16u, 12u, 8u}) hex.insert(at, 1, '-');
  return hex;
}

std::vector<std::string> free_mdev_uuids(const HostDevices& devices, const std::string& vm_uuid, std::size_t count) {
  std::set<std::string> there;
  for (const PciFunction& each : devices.functions) there.insert(each.mdevs.begin(), each.mdevs.end());
  std::vector<std::string> found;
  for (std::size_t index = 0; found.size() < count; ++index) {
    if (index == kMostMdevs)
      throw Error(Errc::conflict, fmt::format("a VM has {} mediated devices at most", kMostMdevs),
                  "detach one that it has: vmgraft gpu detach");
    std::string uuid = mdev_uuid(vm_uuid, index);
    if (!there.contains(uuid)) found.push_back(std::move(uuid));
  }
  return found;
}

Plan plan_remove_mdevs(const std::string& vm, const std::string& vm_uuid, const std::vector<std::string>& there,
                       const std::set<std::string>& held) {
  Plan plan{fmt::format("remove mediated devices of {}", vm), {vm}, {}};
  for (std::size_t i = 0; i < kMostMdevs; ++i) {
    const std::string uuid = mdev_uuid(vm_uuid, i);
    if (std::find(there.begin(), there.end(), uuid) != there.end() && !held.contains(uuid))
      plan.steps.emplace_back(RemoveMdev{uuid});
  }
  if (!plan.steps.empty()) plan.steps.insert(plan.steps.begin(), Commit{});
  return plan;
}

std::optional<GpuPart> find_gpu_part(const GpuFacts& facts, const std::string& device) {
  for (const Gpu& gpu : facts.gpus) {
    const std::vector<std::string>& mdevs = function(facts, gpu.address).mdevs;
    if (std::find(mdevs.begin(), mdevs.end(), device) != mdevs.end()) return GpuPart{gpu.address, {device}};
    if (gpu.address != device) continue;
    GpuPart part{gpu.address, functions_of(gpu)};
    part.devices.insert(part.devices.end(), mdevs.begin(), mdevs.end());
    return part;
  }
  return std::nullopt;
}

std::vector<DetachDevice> detach_steps(const std::string& vm, const std::string& vm_uuid, const std::string& xml,
                                       unsigned timeout, const std::vector<std::string>* only) {
  std::optional<GuestRoom> room;
  std::vector<DetachDevice> steps;
  for (const DomainHostdev& device : read_hostdevs(xml)) {
    const std::string& name = device.address.empty() ? device.mdev : device.address;
    if (device.alias.empty() || name.empty()) continue;
    if (only != nullptr && std::find(only->begin(), only->end(), name) == only->end()) continue;
    unsigned port = device.port;
    if (device.guest_function != 0) {  // libvirt hot-plugs only first functions: it comes back on a port of its own
      if (!room) room = read_guest_room(xml);
      const std::optional<unsigned> free = room->take_port(room->cell_of(port));
      if (!free)
        throw Error(Errc::conflict,
                    fmt::format("VM '{}' has no free PCIe root port for {}, which has to be plugged in again", vm, name),
                    "stop the VM first");
      port = *free;
    }
    PassedGpu alone;
    alone.mdev = device.mdev;
    if (device.mdev.empty()) alone.functions.push_back({device.address, true, 0});
    steps.push_back({vm, vm_uuid, device.alias, hostdev_xml(alone, 0, device.alias, port), timeout});
  }
  std::reverse(steps.begin(), steps.end());
  return steps;
}

Plan plan_lease(const GpuFacts& facts, const GpuLedger& ledger, const std::vector<std::string>& addresses,
                const std::vector<MakeMdev>& mdevs, const Lease& lease) {
  Plan plan = new_plan(fmt::format("take GPUs for {}", lease.vm));
  plan.vms.push_back(lease.vm);
  std::vector<Step> binds;
  for (const std::string& address : addresses) {
    GpuRecord record = known(facts, address);
    record.vm = lease.vm;
    record.vm_uuid = lease.vm_uuid;
    record.store = lease.store;
    record.release = to_word(lease.release);
    record.returns = false;
    record.note.clear();
    append(binds, keep_awake(facts, gpu_at(facts, address), record));
    append(binds, take(facts, gpu_at(facts, address), record));
    plan.steps.emplace_back(write_record(facts, ledger, record));
  }
  append(plan.steps, std::move(binds));
  plan.steps.insert(plan.steps.end(), mdevs.begin(), mdevs.end());
  return plan;
}

Plan plan_release(const GpuFacts& facts, const GpuLedger& ledger, const std::string& address,
                  const ResetOutcome& outcome) {
  Plan plan = new_plan(fmt::format("release GPU {}", address));
  GpuRecord record = known(facts, address);
  const std::string policy = record.release;
  end_lease(record);
  if (policy == "keep") {
    record.lent = true;
    record.note = "kept as the VM left it: not reset, its memory not cleared";
  } else if (!outcome.failure.empty()) {
    record.quarantine = outcome.failure;
  } else {
    record.note = reset_note(outcome);
    if (policy == "driver" && record.lent) append(plan.steps, pass_through_driver(facts, record));
    if (policy == "driver" && !record.origins.empty())
      record.note = fmt::format("reset by {}, then started by its host driver", outcome.method);
    if (!record.lent) {
      append(plan.steps, give_back(facts, record));
      append(plan.steps, let_sleep(facts, record));
    }
  }
  plan.steps.emplace_back(write_record(facts, ledger, record));
  return plan;
}

Plan plan_quarantine(const GpuFacts& facts, const GpuLedger& ledger, const std::string& address,
                     const std::string& reason) {
  Plan plan = new_plan(fmt::format("quarantine GPU {}", address));
  GpuRecord record = known(facts, address);
  end_lease(record);
  record.quarantine = reason;
  plan.steps.emplace_back(write_record(facts, ledger, record));
  return plan;
}

Plan plan_lend(const GpuFacts& facts, const GpuLedger& ledger, const std::string& address) {
  Plan plan = new_plan(fmt::format("lend GPU {}", address));
  GpuRecord record = known(facts, address);
  record.lent = true;
  record.note.clear();
  std::vector<Step> binds = keep_awake(facts, gpu_at(facts, address), record);
  append(binds, take(facts, gpu_at(facts, address), record));
  plan.steps.emplace_back(write_record(facts, ledger, record));
  append(plan.steps, std::move(binds));
  return plan;
}

Plan plan_return(const GpuFacts& facts, const GpuLedger& ledger, const std::string& address,
                 const ResetOutcome& outcome) {
  Plan plan = new_plan(fmt::format("return GPU {}", address));
  GpuRecord record = known(facts, address);
  end_lease(record);
  record.lent = false;
  record.quarantine.clear();
  record.note = outcome.failure.empty() ? reset_note(outcome)
                                        : fmt::format("returned by force: {}", outcome.failure);
  append(plan.steps, give_back(facts, record));
  append(plan.steps, let_sleep(facts, record));
  plan.steps.emplace_back(write_record(facts, ledger, record));
  return plan;
}

Plan plan_gpu_request(const Store& store, const Manifest& vm, const std::vector<GpuSpec>& request,
                      const HostDevices& devices) {
  Manifest after = vm;
  after.spec = with_gpus(vm.spec, request);
  after.template_digest = sha256_text(after.spec);
  after.named_gpus = name_gpus(devices, request, {});
  return {fmt::format("gpu request {}", vm.name), {vm.name}, {write_manifest(store, vm, after)}};
}

Plan plan_remember_gpus(const Store& store, const Manifest& vm, const std::vector<GpuSpec>& request,
                        const HostDevices& devices) {
  Plan plan{fmt::format("remember the GPUs of {}", vm.name), {vm.name}, {}};
  Manifest after = vm;
  after.named_gpus = name_gpus(devices, request, vm.named_gpus);
  if (after != vm) plan.steps.emplace_back(write_manifest(store, vm, after));
  return plan;
}

Plan plan_make_vfs(const GpuFacts& facts, const GpuLedger& ledger, const std::string& physical, unsigned count) {
  const PciFunction& pf = function(facts, physical);
  if (pf.vfs != 0 || count > pf.most_vfs)
    throw Error(Errc::conflict, fmt::format("{} cannot make {} virtual functions: it has {} of {}", physical, count, pf.vfs,
                                            pf.most_vfs));
  Plan plan = new_plan(fmt::format("make {} virtual functions of {}", count, physical));
  GpuRecord record = known(facts, physical);
  record.made_vfs = count;
  plan.steps.emplace_back(write_record(facts, ledger, record));
  plan.steps.emplace_back(WriteAttribute{sysfs(physical, "sriov_drivers_autoprobe"), "0", "1"});
  plan.steps.emplace_back(WriteAttribute{sysfs(physical, "sriov_numvfs"), std::to_string(count), "0"});
  return plan;
}

std::vector<std::string> idle_physical_functions(const GpuFacts& facts) {
  const auto is_idle = [&](const std::string& address) {
    const Gpu* vf = facts.find(address);
    return vf == nullptr || vf->state == GpuState::host || vf->state == GpuState::vfio;
  };
  std::vector<std::string> found;
  for (const GpuRecord& record : facts.records) {
    const PciFunction* physical = facts.devices.find(record.address);
    if (record.made_vfs == 0 || physical == nullptr || facts.record(record.address) == nullptr) continue;
    const std::vector<std::string>& vfs = physical->virtual_functions;
    if (std::all_of(vfs.begin(), vfs.end(), is_idle)) found.push_back(record.address);
  }
  return found;
}

Plan plan_remove_vfs(const GpuFacts& facts, const GpuLedger& ledger, const std::string& physical) {
  Plan plan = new_plan(fmt::format("remove the virtual functions of {}", physical));
  GpuRecord record = known(facts, physical);
  record.made_vfs = 0;
  plan.steps.emplace_back(
      WriteAttribute{sysfs(physical, "sriov_numvfs"), "0", std::to_string(function(facts, physical).vfs)});
  plan.steps.emplace_back(WriteAttribute{sysfs(physical, "sriov_drivers_autoprobe"), "1", "0"});
  plan.steps.emplace_back(write_record(facts, ledger, record));
  return plan;
}

}  // namespace vmgraft

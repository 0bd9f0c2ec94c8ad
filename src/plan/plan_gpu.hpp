// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "domain/placement.hpp"
#include "gpu/choose.hpp"
#include "gpu/gpu.hpp"
#include "model/vm_spec.hpp"
#include "plan/steps.hpp"
#include "store/gpu_ledger.hpp"
#include "store/store.hpp"

namespace vmgraft {

/// What is locked by plans over GPUs: the host's lock of them, whatever the store.
inline constexpr const char* kGpuLock = "@gpus";

/// The VM that GPUs are for.
struct Lease {
  std::string vm;
  std::string vm_uuid;
  std::string store;
  GpuRelease release = GpuRelease::reset;
};

/// What came of a reset.
struct ResetOutcome {
  std::string method;    ///< "hot", "bus", "flr" ...; empty: none was done
  std::string failure;   ///< why the GPU is not fit for another; empty: it is
};

/// The functions of a GPU in the order they are taken from their drivers: companions first.
[[nodiscard]] std::vector<std::string> functions_of(const Gpu& gpu);

/// The mediated device that a VM gets for the n-th GPU it asks for: always the same, so that it is known without a record.
[[nodiscard]] std::string mdev_uuid(const std::string& vm_uuid, std::size_t index);
/// As many a VM can have at most: the template's limit.
inline constexpr std::size_t kMostMdevs = 64;
/// Those of \p count more mediated devices for a VM: none that it has already.
/// \throws Error conflict: it has kMostMdevs then.
[[nodiscard]] std::vector<std::string> free_mdev_uuids(const HostDevices& devices, const std::string& vm_uuid,
                                                       std::size_t count);
/// Remove the mediated devices that vmgraft made for a VM and that it does not have (any more). Nothing: no step.
/// \param there  UUIDs of all that the host has. \param held  of those in the running VM.
[[nodiscard]] Plan plan_remove_mdevs(const std::string& vm, const std::string& vm_uuid,
                                     const std::vector<std::string>& there, const std::set<std::string>& held);

/// What a VM can hold of the GPU that \p device names: its functions, or mediated devices made on it. The UUID of one of
/// those means that one alone.
struct GpuPart {
  std::string gpu;                     ///< address
  std::vector<std::string> devices;    ///< addresses and UUIDs
};
/// \returns nothing when there is no such GPU or mediated device.
[[nodiscard]] std::optional<GpuPart> find_gpu_part(const GpuFacts& facts, const std::string& device);

/// Ask a running VM for the devices of the host that it has, companions before their GPU.
/// \param xml   the running domain's. \param only  addresses and UUIDs; nullptr: all.
/// \throws Error conflict: no free root port for one that has to be plugged in again.
[[nodiscard]] std::vector<DetachDevice> detach_steps(const std::string& vm, const std::string& vm_uuid,
                                                     const std::string& xml, unsigned timeout,
                                                     const std::vector<std::string>* only);

/// GPUs into a running VM.
struct PlugPlan {
  Plan plan;
  std::vector<std::string> notes;      ///< what is worse than a start would have made it
};
/// Each visible function on a root port of its own: of the pxb-pcie of the guest's NUMA cell on the GPU's node where one is
/// free, else of the root bus, else any.
/// \param choice  of which \p placement was made. \param xml  the running domain's.
/// \throws Error conflict: no free root port.
[[nodiscard]] PlugPlan plan_plug(const GpuFacts& facts, const GpuChoice& choice, const Placement& placement,
                                 const std::string& vm, const std::string& vm_uuid, const std::string& xml);

/// Write the leases, keep every function awake, then put it on vfio-pci where it is on no VFIO driver.
[[nodiscard]] Plan plan_lease(const GpuFacts& facts, const GpuLedger& ledger, const std::vector<std::string>& addresses,
                              const std::vector<MakeMdev>& mdevs, const Lease& lease);
/// The VM that held the GPU is gone: end the lease, and put the GPU where its policy says; quarantine it when the reset failed.
[[nodiscard]] Plan plan_release(const GpuFacts& facts, const GpuLedger& ledger, const std::string& address,
                                const ResetOutcome& outcome);
/// Only the ledger: why no VM may have it.
[[nodiscard]] Plan plan_quarantine(const GpuFacts& facts, const GpuLedger& ledger, const std::string& address,
                                   const std::string& reason);
/// From the host's driver to VMs, until plan_return().
[[nodiscard]] Plan plan_lend(const GpuFacts& facts, const GpuLedger& ledger, const std::string& address);
/// Back to the drivers that it came from; a quarantine is lifted.
[[nodiscard]] Plan plan_return(const GpuFacts& facts, const GpuLedger& ledger, const std::string& address,
                               const ResetOutcome& outcome);

/// Put another request for GPUs in place of a VM's; an address means the card that stands there now.
[[nodiscard]] Plan plan_gpu_request(const Store& store, const Manifest& vm, const std::vector<GpuSpec>& request,
                                    const HostDevices& devices);
/// Note the cards at addresses that a VM asks for, where none was seen yet. No step: there is nothing new.
[[nodiscard]] Plan plan_remember_gpus(const Store& store, const Manifest& vm, const std::vector<GpuSpec>& request,
                                      const HostDevices& devices);

/// Make \p count virtual functions on a physical one that has none; they get no driver of the host.
[[nodiscard]] Plan plan_make_vfs(const GpuFacts& facts, const GpuLedger& ledger, const std::string& physical, unsigned count);
/// Physical functions whose VFs we made and nobody has: for a start that failed or died, or for VMs that are gone.
[[nodiscard]] std::vector<std::string> idle_physical_functions(const GpuFacts& facts);
/// Remove those that we made.
[[nodiscard]] Plan plan_remove_vfs(const GpuFacts& facts, const GpuLedger& ledger, const std::string& physical);

}  // namespace vmgraft

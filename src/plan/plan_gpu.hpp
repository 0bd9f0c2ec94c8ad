// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "gpu/gpu.hpp"
#include "model/vm_spec.hpp"
#include "plan/steps.hpp"
#include "store/gpu_ledger.hpp"

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

/// Write the leases, then put every function on vfio-pci that is on no VFIO driver.
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

/// Make \p count virtual functions on a physical one that has none; they get no driver of the host.
[[nodiscard]] Plan plan_make_vfs(const GpuFacts& facts, const GpuLedger& ledger, const std::string& physical, unsigned count);
/// Remove those that we made.
[[nodiscard]] Plan plan_remove_vfs(const GpuFacts& facts, const GpuLedger& ledger, const std::string& physical);

}  // namespace vmgraft

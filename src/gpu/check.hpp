// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include <vmgraft/gpu.hpp>

#include "gpu/gpu.hpp"
#include "model/vm_spec.hpp"

namespace vmgraft {

struct PlaceFor;

/// What rows that depend on the VM need to know. Absent spec: such rows are left out.
struct CheckFor {
  const VmSpec* spec = nullptr;
  std::string vm;                      ///< name of the VM that asks, for remedies; empty: a new one
  std::string vm_uuid;                 ///< the VM that asks: its own hold on a GPU is no hindrance; empty: a new one
  std::vector<std::string> together;   ///< the GPUs that the VM is to get, this one included; empty: this one alone
  bool force_console = false;
  /// How the VM gets it. vf or mdev of a GPU that is no VF itself: the GPU stays on its host driver, which makes the
  /// part that the VM gets, so rows of its group and of its driver are left out.
  GpuKind kind = GpuKind::gpu;
};

// One row for each row of the list of failures in vmgraft-gpu(7) that can be known beforehand. Pure.

/// Rows of the host as a whole, their address empty: IOMMU, vfio, unsafe interrupts, ACS override, hooks, lockdown ...
[[nodiscard]] std::vector<GpuCheck> check_host(const GpuFacts& facts);
/// Rows of one GPU.
[[nodiscard]] std::vector<GpuCheck> check_gpu(const GpuFacts& facts, const Gpu& gpu, const CheckFor& wanted);
/// The report for a VM that would be started now: rows of the host; a row `choice`, its address empty, with the verdict of
/// choose_gpus() on the request; where that gives GPUs that are there, a row `placement` with what place() does with them, or
/// its refusal; and rows of each GPU that is, or can make, something of a kind that is asked for. Rows
/// that depend on the VM and on the GPUs that it gets together are of the chosen ones, as the start will judge them.
/// \param spec     spec.gpus is the request
/// \param address  of a GPU among the facts: rows of it alone, and a request of which it is to be one: in place of one of
///                 those that are asked for, or the only one where none is. Empty: every GPU, and the request as it is.
/// \param host     null: how the VM would be placed is not judged
[[nodiscard]] std::vector<GpuCheck> check_start(const GpuFacts& facts, const VmSpec& spec, const std::string& address,
                                                const PlaceFor* host = nullptr);

/// "GPU 0000:41:00.0: <seen> [id]".
[[nodiscard]] std::string check_text(const GpuCheck& row);
/// Every failing row as one Error(host_unfit, or conflict when all that fails is another holder), the first by
/// check_text() as its message, its remedy as the hint, the rest as context. Nothing when none fails.
void refuse_failures(const std::vector<GpuCheck>& rows);

}  // namespace vmgraft

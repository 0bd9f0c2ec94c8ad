// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "plan/plan_gpu.hpp"
#include "support/plan_world.hpp"

namespace vmgraft {

/// A GPU with its companion on host drivers (0000:41:00.0, .1), and a GPU that makes two VFs (0000:42:00.0).
void add_gpus(FakeHost& host);
[[nodiscard]] GpuFacts gpu_facts_of(FakeHost& host);
[[nodiscard]] GpuLedger ledger_of(FakeHost& host);
/// Of 0000:41:00.0 for a VM.
[[nodiscard]] Plan lease_of(FakeHost& host, const std::string& vm, GpuRelease release = GpuRelease::reset);

/// Mediated devices of 0000:41:00.0, of type nvidia-11, for a VM.
[[nodiscard]] Plan mdev_lease_of(FakeHost& host, const std::string& vm, const std::string& uuid, std::size_t count);

/// A PlanWorld with the GPUs of add_gpus().
class GpuWorld : public PlanWorld {
 public:
  GpuWorld() { add_gpus(host); }

  [[nodiscard]] GpuLedger ledger() { return ledger_of(host); }
  [[nodiscard]] GpuFacts facts() { return gpu_facts_of(host); }
  [[nodiscard]] Plan lease(const std::string& vm, GpuRelease release = GpuRelease::reset) {
    return lease_of(host, vm, release);
  }
  /// After a reset that went well.
  [[nodiscard]] Plan release();
  /// Both functions of 0000:41:00 are on vfio-pci before vmgraft comes.
  void dedicate();
};

}  // namespace vmgraft

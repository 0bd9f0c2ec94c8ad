// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gpu/gpu.hpp"
#include "host/host.hpp"
#include "plan/plan_gpu.hpp"

namespace vmgraft {

/// Reset a GPU that no VM holds any more by the strongest means it has, and look whether it is alive afterwards.
/// Strongest first: its bus or slot through VFIO, when all functions are on vfio-pci and nothing else is touched; then what
/// reset_method lists. Neither clears its memory.
/// \returns  how it was reset, or in `failure` why no other VM may have it.
[[nodiscard]] ResetOutcome reset_gpu(Host& host, const GpuFacts& facts, const Gpu& gpu);

/// What is wrong with a function that should answer: nothing when it is alive. Reads config space, power state and BARs.
[[nodiscard]] std::string why_dead(Host& host, const PciFunction& function);

}  // namespace vmgraft

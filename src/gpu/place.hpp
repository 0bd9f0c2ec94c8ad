// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "domain/placement.hpp"
#include "gpu/choose.hpp"
#include "gpu/gpu.hpp"
#include "model/vm_spec.hpp"

namespace vmgraft {

/// What hypervisor and firmware can do, as far as placement asks.
struct PlaceFor {
  bool is_kvm = false;
  unsigned libvirt_version = 0;    ///< major * 1000000 + minor * 1000 + release
};

/// Devices, NUMA cells, pinning, huge pages, MMIO window and physical bits for a choice. Pure.
/// tuning none: devices and the MMIO window only. auto: what can be done is done, the rest said in not_done. strict: refuse.
/// vCPUs get CPUs that no running domain of facts has for its own, hyper-threads of a core side by side, and leave each
/// node's first core to the emulator. Software emulation gets devices and a window, no tuning. Without GPUs: nothing.
/// \param choice  with no VF left to be made. A mediated device is placed without its UUID: the caller puts it in.
/// \throws Error host_unfit: tuning is strict and something cannot be done, or the address space cannot hold the BARs.
///               other: a chosen GPU is not among the facts, or its VF is not made yet.
[[nodiscard]] Placement place(const GpuFacts& facts, const GpuChoice& choice, const VmSpec& spec, const PlaceFor& host);

/// Refuse what with_placement() would leave undone for what the definition has of its own, when the VM wants strict tuning.
/// \param xml        the inactive definition, as libvirt tells it
/// \param placement  by place(), with the UUIDs of its mediated devices
/// \throws Error conflict: an element of the definition takes the place of some of the tuning, and each such is named.
///               other: as with_placement().
void refuse_own_tuning(const VmSpec& spec, const std::string& xml, const Placement& placement);

/// Seconds that the start will take at least, rounded up, from memory to be zeroed and pinned and BARs to be mapped.
[[nodiscard]] std::uint64_t start_estimate(const Placement& placement, const GpuFacts& facts, const VmSpec& spec);

}  // namespace vmgraft

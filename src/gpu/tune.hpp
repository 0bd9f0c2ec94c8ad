// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "domain/placement.hpp"
#include "gpu/gpu.hpp"
#include "gpu/place.hpp"
#include "model/vm_spec.hpp"

namespace vmgraft {

/// Give the VM CPUs and memory of its GPUs' NUMA nodes: placement.tuning, the cells of its GPUs, done and not_done.
/// \param functions  of each GPU of the placement the one that is passed, or that a mediated device is made on.
void tune(const GpuFacts& facts, const std::vector<const PciFunction*>& functions, const VmSpec& spec,
          const PlaceFor& host, Placement& placement);

}  // namespace vmgraft

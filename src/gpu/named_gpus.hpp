// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "gpu/devices.hpp"
#include "model/vm_spec.hpp"
#include "store/records.hpp"

namespace vmgraft {

/// The cards that a request by address means: those that are \p known already, and where none is, what stands there now.
[[nodiscard]] std::vector<NamedGpu> name_gpus(const HostDevices& devices, const std::vector<GpuSpec>& request,
                                              const std::vector<NamedGpu>& known);

/// The request with the cards that it means; check_gpu() finds another one at such an address moved.
[[nodiscard]] std::vector<GpuSpec> with_identities(std::vector<GpuSpec> request, const std::vector<NamedGpu>& known);

/// A request that names a GPU by its address.
[[nodiscard]] bool names_gpu(const std::vector<GpuSpec>& request);

}  // namespace vmgraft

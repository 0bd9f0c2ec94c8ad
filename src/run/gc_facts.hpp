// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "host/host.hpp"
#include "libvirt/hypervisor.hpp"
#include "plan/plan_gc.hpp"

namespace vmgraft {

/// What stands in a store: all of vms/, the first level of the other folders.
/// \param is_free  whether nobody holds the lock of that name.
[[nodiscard]] std::vector<StoreFile> list_store(Host& host, const Store& store,
                                                const std::function<bool(const std::string& lock)>& is_free);

/// Every domain of libvirt's, as far as it has to do with the store.
[[nodiscard]] std::vector<GcDomain> read_domains(Hypervisor& hypervisor, const Store& store);

}  // namespace vmgraft

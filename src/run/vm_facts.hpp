// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "host/host.hpp"
#include "libvirt/hypervisor.hpp"
#include "plan/facts.hpp"

namespace vmgraft {

/// What planners have to know of a VM whose domain exists, read once under its lock.
/// \param tpm_home  where libvirt keeps the TPM state of this UUID.
/// \throws Error conflict: the domain is not of this store, or stands on other disks than its manifest says.
[[nodiscard]] VmFacts read_vm_facts(Host& host, Hypervisor& hypervisor, const Store& store, const Manifest& manifest,
                                    const std::string& tpm_home);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "host/host.hpp"
#include "libvirt/hypervisor.hpp"
#include "plan/facts.hpp"
#include "plan/outside_change.hpp"

namespace vmgraft {

/// What libvirt says of the VM now.
[[nodiscard]] DomainSight read_sight(Hypervisor& hypervisor, const Manifest& manifest);

/// Layers that its heads and snapshots reach; those of a broken snapshot are left out.
/// \throws Error other: the chain of a head is broken.
[[nodiscard]] LayerMap reached_layers(const Store& store, const Manifest& manifest);

/// What planners have to know of a VM whose domain exists, read once under its lock.
/// \param tpm_home  where libvirt keeps the TPM state of this UUID.
/// \throws Error conflict: by other means its domain became another one, or its layers did.
[[nodiscard]] VmFacts read_vm_facts(Host& host, Hypervisor& hypervisor, const Store& store, const Manifest& manifest,
                                    const std::string& tpm_home);

}  // namespace vmgraft

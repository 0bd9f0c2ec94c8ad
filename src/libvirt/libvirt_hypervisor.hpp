// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "libvirt/hypervisor.hpp"

namespace vmgraft {

/// Which connection an empty URI means: LIBVIRT_DEFAULT_URI, else qemu:///system when its socket is reachable, else
/// qemu:///session.
[[nodiscard]] std::string choose_uri(const std::string& asked);

/// Connect. \throws Error unreachable: what to start, or which group to join, as hint. Source: virConnectOpenAuth.
[[nodiscard]] std::unique_ptr<Hypervisor> connect_libvirt(const std::string& uri);

}  // namespace vmgraft

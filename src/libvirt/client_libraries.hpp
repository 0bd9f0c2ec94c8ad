// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace vmgraft {

/// What the program loads for itself when it needs libvirt, in this order.
inline constexpr const char* client_libraries[] = {"libvirt.so.0", "libvirt-qemu.so.0"};

}  // namespace vmgraft

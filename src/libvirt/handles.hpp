// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <memory>

#include <libvirt/libvirt.h>

namespace vmgraft {

/// Deleter of a libvirt object. Trap: freeing *any* handle clears the thread's last error (virResetLastError).
template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* handle) const noexcept {
    static_cast<void>(Free(handle));
  }
};

using ConnectHandle = std::unique_ptr<virConnect, Freer<virConnectClose>>;
using DomainHandle = std::unique_ptr<virDomain, Freer<virDomainFree>>;
using NetworkHandle = std::unique_ptr<virNetwork, Freer<virNetworkFree>>;
using SnapshotHandle = std::unique_ptr<virDomainSnapshot, Freer<virDomainSnapshotFree>>;
using StreamHandle = std::unique_ptr<virStream, Freer<virStreamFree>>;
/// A string that libvirt allocated for us.
using TextHandle = std::unique_ptr<char, Freer<std::free>>;

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <memory>

#include <libvirt/libvirt.h>

#include "model/freer.hpp"

namespace vmgraft {

/// Calls and no more, where Freer takes a function's address: an address is looked up when the program's module is loaded,
/// and libvirt is not there yet (event_loop.cpp).
/// Trap: freeing *any* handle clears the thread's last error (virResetLastError).
struct LibvirtFreer {
  void operator()(virConnectPtr handle) const noexcept { virConnectClose(handle); }
  void operator()(virDomainPtr handle) const noexcept { virDomainFree(handle); }
  void operator()(virNetworkPtr handle) const noexcept { virNetworkFree(handle); }
  void operator()(virDomainSnapshotPtr handle) const noexcept { virDomainSnapshotFree(handle); }
  void operator()(virStreamPtr handle) const noexcept { virStreamFree(handle); }
};

using ConnectHandle = std::unique_ptr<virConnect, LibvirtFreer>;
using DomainHandle = std::unique_ptr<virDomain, LibvirtFreer>;
using NetworkHandle = std::unique_ptr<virNetwork, LibvirtFreer>;
using SnapshotHandle = std::unique_ptr<virDomainSnapshot, LibvirtFreer>;
using StreamHandle = std::unique_ptr<virStream, LibvirtFreer>;
/// A string that libvirt allocated for us.
using TextHandle = std::unique_ptr<char, Freer<std::free>>;

}  // namespace vmgraft

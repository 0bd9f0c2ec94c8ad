// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <memory>

#include <libvirt/libvirt.h>

#include "model/freer.hpp"

namespace vmgraft {

// Trap: freeing *any* handle clears the thread's last error (virResetLastError).
using ConnectHandle = std::unique_ptr<virConnect, Freer<virConnectClose>>;
using DomainHandle = std::unique_ptr<virDomain, Freer<virDomainFree>>;
using NetworkHandle = std::unique_ptr<virNetwork, Freer<virNetworkFree>>;
using SnapshotHandle = std::unique_ptr<virDomainSnapshot, Freer<virDomainSnapshotFree>>;
using StreamHandle = std::unique_ptr<virStream, Freer<virStreamFree>>;
/// A string that libvirt allocated for us.
using TextHandle = std::unique_ptr<char, Freer<std::free>>;

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "host/host.hpp"

/// What config space alone tells, of which the kernel shows all but the first 64 bytes to root only. Not to be asked of
/// a function in D3cold, which would wake up. Source: PCI Express Base Specification, "Extended Capabilities"; the
/// kernel's include/uapi/linux/pci_regs.h.
namespace vmgraft {

/// The port of a switch sends what the functions below it copy to each other up to the root, where the IOMMU sees it
/// (ACS P2P Request Redirect).
[[nodiscard]] bool redirects_peers(Host& host, const std::string& port);
/// The function can ask the IOMMU beforehand, and what it then copies to another passes such a port (Address
/// Translation Services).
[[nodiscard]] bool has_ats(Host& host, const std::string& address);

}  // namespace vmgraft

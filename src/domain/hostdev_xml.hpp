// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "domain/placement.hpp"
#include "domain/xml_tree.hpp"

namespace vmgraft {

/// "ua-gpu0-1". libvirt keeps an alias that begins with "ua-" as it is.
[[nodiscard]] std::string gpu_alias(std::size_t gpu, std::size_t function);

/// Make an empty <hostdev> that of a function of \p gpu, on the root port of index \p port.
/// \throws Error other: the function has no address of the host, or the mediated device no UUID.
void fill_hostdev(xmlNode* hostdev, const PassedGpu& gpu, std::size_t function, const std::string& alias,
                  unsigned port);

/// What the host calls the device of a <hostdev> that hostdev_xml() made: its PCI address, or the UUID of a mediated
/// device.
[[nodiscard]] std::string host_device_of(const std::string& hostdev_xml);

/// The host's device of a <hostdev> or an <interface type='hostdev'>.
[[nodiscard]] DomainHostdev read_hostdev(const xmlNode* device);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "libvirt/hypervisor.hpp"

namespace vmgraft {

/// \p text as the content of an attribute in single quotes.
/// \throws Error other: a control character that XML 1.0 has no way to write.
[[nodiscard]] std::string escape_attribute(std::string_view text);

/// The <domainsnapshot> that puts \p disks on their prepared overlays and leaves \p untouched alone.
/// Every disk of the domain must be in one of the lists: libvirt snapshots what is not named.
/// Written as text, because this layer has no libxml2 and the document is one flat list.
[[nodiscard]] std::string overlay_snapshot_xml(const std::vector<OverlayTarget>& disks,
                                               const std::vector<std::string>& untouched);

/// The same with the memory of the domain, which goes to \p file.
[[nodiscard]] std::string memory_snapshot_xml(const std::string& file, const std::vector<OverlayTarget>& disks,
                                              const std::vector<std::string>& untouched);

}  // namespace vmgraft

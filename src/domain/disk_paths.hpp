// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "domain/xml_tree.hpp"

namespace vmgraft {

/// Target of a disk element, "vda"; empty when it says none.
[[nodiscard]] std::string disk_target(const xmlNode* disk);

/// \p target -> path on the disks of \p domain, their <backingStore> dropped. Others are left as they are.
/// \throws Error other: a target is not there.
void set_disk_paths(const xmlNode* domain, const std::map<std::string, std::string>& disks);

/// Point a disk of any type at a local file. What <source> held for that file stays (seclabel), the rest of it goes.
void set_disk_path(xmlNode* disk, const std::string& path);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "image/guest_tree.hpp"

namespace vmgraft {

/// /init of the micro image's initramfs: loads the modules in this order, mounts the root disk, hands over.
[[nodiscard]] std::string micro_initramfs_script(const std::vector<std::string>& modules);

/// The scripts and configuration of the micro image's root file system.
/// \param disk_size  bytes of the disk as built: a bigger one is grown into at boot.
void add_micro_files(GuestTree& tree, std::uint64_t disk_size);

}  // namespace vmgraft

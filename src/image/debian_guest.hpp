// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "image/archive_io.hpp"

namespace vmgraft {

/// Configuration that must be there before the kernel package is: what its initramfs holds.
[[nodiscard]] std::vector<ArchiveFile> debian_early_files();
/// Configuration laid over the finished system.
[[nodiscard]] std::vector<ArchiveFile> debian_late_files(const std::string& suite);
/// A shell script for mmdebstrap's customize hook ($1 is the new root): boot loaders into /boot-tools, units enabled,
/// identity removed.
[[nodiscard]] std::string debian_customize_script();
/// Packages beyond the minimum.
[[nodiscard]] std::vector<std::string> debian_packages();

}  // namespace vmgraft

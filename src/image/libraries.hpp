// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "host/host.hpp"

namespace vmgraft {

/// Shared libraries that programs need, found by reading ELF files: nothing is run, unlike ldd.
struct LibraryClosure {
  std::map<std::string, std::filesystem::path> files;  ///< path in the guest -> file here
  std::vector<std::string> missing;                    ///< names that stand in no folder
};

/// \param programs  files, as read here.
/// \param roots     looked in, in order: "/" and trees of unpacked packages.
[[nodiscard]] LibraryClosure find_libraries(Host& host, const std::vector<std::filesystem::path>& programs,
                                            const std::vector<std::filesystem::path>& roots);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

namespace vmgraft {

/// Folders that hold our shipped templates/ and catalogue.json, best first: VMGRAFT_DATA, beside the program
/// (../share/vmgraft, so in a build folder too), and where it was installed.
[[nodiscard]] std::vector<std::filesystem::path> data_folders();

}  // namespace vmgraft

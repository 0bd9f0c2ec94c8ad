// SPDX-License-Identifier: Apache-2.0
#include "run/data_folders.hpp"

#include <cstdlib>

namespace vmgraft {

std::vector<std::filesystem::path> data_folders() {
  std::vector<std::filesystem::path> folders;
  if (const char* own = std::getenv("VMGRAFT_DATA"); own != nullptr && *own != '\0') folders.emplace_back(own);
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) folders.push_back(program.parent_path().parent_path() / "share/vmgraft");
  folders.emplace_back(VMGRAFT_DATA_FOLDER);
  return folders;
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

/// A path of the source tree, which CMake gives as VMGRAFT_REPOSITORY.
inline std::filesystem::path source_path(const std::string& relative) {
  return std::filesystem::path(VMGRAFT_REPOSITORY) / relative;
}

inline std::string read_text(const std::filesystem::path& path) {
  const std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

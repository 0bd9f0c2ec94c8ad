// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include <sys/stat.h>

namespace vmgraft {

/// A file of the user on the host, read piece by piece. \throws Error not_found, other: errno's text.
class LocalReader {
 public:
  explicit LocalReader(const std::filesystem::path& path);
  LocalReader(const LocalReader&) = delete;
  LocalReader& operator=(const LocalReader&) = delete;
  ~LocalReader();

  /// Empty at the end.
  std::string read_piece();

 private:
  std::filesystem::path path_;
  int fd_;
};

/// A file of the user on the host, written beside its place and moved there by finish(); without that it never was.
class LocalWriter {
 public:
  /// \param mode  permission bits, cut by the umask.
  LocalWriter(std::filesystem::path path, unsigned mode);
  LocalWriter(const LocalWriter&) = delete;
  LocalWriter& operator=(const LocalWriter&) = delete;
  ~LocalWriter();

  void write(std::string_view bytes);
  void finish();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_;
};

/// lstat or stat. \throws Error not_found, other.
[[nodiscard]] struct stat local_facts(const std::filesystem::path& path, bool follow);

/// A new folder beside \p path, for what will be moved there. Removed by the caller.
[[nodiscard]] std::filesystem::path make_folder_beside(const std::filesystem::path& path);

}  // namespace vmgraft

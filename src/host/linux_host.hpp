// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "host/host.hpp"

namespace vmgraft {

/// The real host.
class LinuxHost final : public Host {
 public:
  std::optional<std::string> read_file(const std::filesystem::path& path) override;
  std::optional<FileInfo> stat(const std::filesystem::path& path) override;
  std::vector<std::string> list_folder(const std::filesystem::path& path) override;
  std::string read_range(const std::filesystem::path& path, std::uint64_t offset, std::size_t most) override;
  FreeSpace free_space(const std::filesystem::path& path) override;
  void write_file(const std::filesystem::path& path, std::string_view content, unsigned mode) override;
  void create_sparse(const std::filesystem::path& path, std::uint64_t size, const std::vector<Extent>& extents,
                     unsigned mode) override;
  void make_folder(const std::filesystem::path& path, unsigned mode) override;
  void copy(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void hard_link(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void remove(const std::filesystem::path& path) override;
  void set_mode(const std::filesystem::path& path, unsigned mode) override;
  void set_owner(const std::filesystem::path& path, uid_t uid, gid_t gid) override;
  CommandResult run(const Command& command) override;
  std::filesystem::path find_program(const std::string& name) override;
};

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

#include "host/host.hpp"

namespace vmgraft::fuzz {

/// A host on which every file holds the same bytes, to be read and nothing else. FakeHost takes longer to make than
/// most inputs take to be read.
class OneFile final : public Host {
 public:
  explicit OneFile(const std::string& content) : content_(content) {}
  std::optional<std::string> read_file(const std::filesystem::path&) override { return content_; }

  std::optional<FileInfo> stat(const std::filesystem::path&) override { refuse(); }
  std::optional<std::string> read_link(const std::filesystem::path&) override { refuse(); }
  std::optional<std::uint64_t> device_number(const std::filesystem::path&) override { refuse(); }
  std::vector<std::string> list_folder(const std::filesystem::path&) override { refuse(); }
  std::string read_range(const std::filesystem::path&, std::uint64_t, std::size_t) override { refuse(); }
  FreeSpace free_space(const std::filesystem::path&) override { refuse(); }
  void write_file(const std::filesystem::path&, std::string_view, unsigned) override { refuse(); }
  void create_sparse(const std::filesystem::path&, std::uint64_t, const std::vector<Extent>&, unsigned) override {
    refuse();
  }
  void make_folder(const std::filesystem::path&, unsigned) override { refuse(); }
  void copy(const std::filesystem::path&, const std::filesystem::path&) override { refuse(); }
  void rename(const std::filesystem::path&, const std::filesystem::path&) override { refuse(); }
  void hard_link(const std::filesystem::path&, const std::filesystem::path&) override { refuse(); }
  void remove(const std::filesystem::path&) override { refuse(); }
  void set_mode(const std::filesystem::path&, unsigned) override { refuse(); }
  void set_owner(const std::filesystem::path&, uid_t, gid_t) override { refuse(); }
  void write_attribute(const std::filesystem::path&, std::string_view, std::chrono::seconds) override { refuse(); }
  void hot_reset(const std::vector<std::string>&, std::chrono::seconds) override { refuse(); }
  CommandResult run(const Command&) override { refuse(); }
  std::filesystem::path find_program(const std::string&) override { refuse(); }

 private:
  [[noreturn]] static void refuse() { throw std::logic_error("OneFile: only a file can be read"); }
  const std::string& content_;
};

}  // namespace vmgraft::fuzz

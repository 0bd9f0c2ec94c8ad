// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <utility>

#include "host/host.hpp"
#include "host/posix.hpp"

namespace vmgraft {

/// The real host; or, where a recording is given, a host whose devices are those of the recording.
class LinuxHost final : public Host {
 public:
  /// \param facts_root  a folder with a recorded /sys, /proc, /dev, /etc/vmgraft, /etc/libvirt/hooks, /run/vmgraft or
  ///                    /lib/modules, from which paths below those are then read (what a link says is given as it
  ///                    stands). Its devices cannot be changed: write_attribute and hot_reset throw Error(usage).
  ///                    Empty: the real host.
  explicit LinuxHost(std::filesystem::path facts_root = {}) : facts_root_(std::move(facts_root)) {}

  /// From now on what lies below \p root, a store, is reached inside it only: through no symbolic link on the way or at
  /// the end, whoever put it there. \p root itself may stand behind links. What others do by path (QEMU, libvirt, the
  /// programs of run()) is theirs. \throws Error conflict, from every method: there is a link.
  void keep_beneath(const std::filesystem::path& root);

  std::optional<std::string> read_file(const std::filesystem::path& path) override;
  std::optional<FileInfo> stat(const std::filesystem::path& path) override;
  std::optional<std::string> read_link(const std::filesystem::path& path) override;
  std::optional<std::uint64_t> device_number(const std::filesystem::path& path) override;
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
  void write_attribute(const std::filesystem::path& path, std::string_view value,
                       std::chrono::seconds deadline) override;
  void hot_reset(const std::vector<std::string>& addresses, std::chrono::seconds deadline) override;
  CommandResult run(const Command& command) override;
  std::filesystem::path find_program(const std::string& name) override;

 private:
  /// Where a path really stands: in a recording, or in the store by the descriptor of its folder, which is held open.
  struct Located {
    std::filesystem::path path;
    bool in_store = false;
    posix::Fd folder = {};
  };
  [[nodiscard]] Located located(const std::filesystem::path& path) const;
  [[nodiscard]] Located located_in_store(const std::filesystem::path& path) const;
  /// \throws Error usage: the host is a recorded one.
  void refuse_recorded() const;

  std::filesystem::path facts_root_;
  std::string store_;  ///< as keep_beneath() was told, without an end slash; empty: none
};

}  // namespace vmgraft

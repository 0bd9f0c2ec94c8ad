// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace vmgraft {

/// A program to run: argv only, never a shell string.
struct Command {
  std::vector<std::string> argv;                    ///< argv[0] is looked up in PATH
  std::string input;                                ///< given as stdin; empty: /dev/null
  std::vector<std::string> environment;             ///< "K=V" added to ours
  std::filesystem::path folder;                     ///< working folder; empty: ours
  std::chrono::seconds deadline{600};               ///< killed after this, with its process group
  std::size_t output_cap = 4u << 20;                ///< bytes kept of each stream (the last ones)
  const std::atomic<bool>* interrupted = nullptr;   ///< killed when it turns true
  std::function<void(std::string_view)> on_line;    ///< each line of stdout and stderr that is not empty, as it comes; may be empty
};

struct CommandResult {
  int exit_code = 0;                                ///< 128 + signal when a signal ended it
  bool timed_out = false;
  std::string out;
  std::string err;
};

struct FileInfo {
  std::uint64_t size = 0;                           ///< bytes
  std::uint64_t allocated = 0;                      ///< bytes taken on disk
  unsigned mode = 0;                                ///< permission bits
  uid_t uid = 0;
  gid_t gid = 0;
  bool is_folder = false;
  bool is_link = false;
};

struct FreeSpace {
  std::uint64_t available = 0;                      ///< bytes, for us
  std::uint64_t total = 0;
};

/// Bytes of a sparse file at an offset.
struct Extent {
  std::uint64_t offset = 0;
  std::string bytes;
};

/// Everything vmgraft does to the host but talk to libvirt. Paths are absolute.
/// All methods throw Error(other) with path and errno's text, ENOSPC with the remedy; "absent" is a value where it can be.
class Host {
 public:
  Host() = default;
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  virtual ~Host() = default;

  // --- reading
  [[nodiscard]] virtual std::optional<std::string> read_file(const std::filesystem::path& path) = 0;
  [[nodiscard]] virtual std::optional<FileInfo> stat(const std::filesystem::path& path) = 0;  ///< of a link itself
  /// What a symbolic link says; nothing when there is no link.
  [[nodiscard]] virtual std::optional<std::string> read_link(const std::filesystem::path& path) = 0;
  /// Number of the character device that the path leads to, links followed; nothing when it leads to none. No file
  /// server is asked.
  [[nodiscard]] virtual std::optional<std::uint64_t> device_number(const std::filesystem::path& path) = 0;
  /// Names in a folder, sorted; empty when there is none.
  [[nodiscard]] virtual std::vector<std::string> list_folder(const std::filesystem::path& path) = 0;
  [[nodiscard]] virtual std::string read_range(const std::filesystem::path& path, std::uint64_t offset, std::size_t most) = 0;
  [[nodiscard]] virtual FreeSpace free_space(const std::filesystem::path& path) = 0;

  // --- writing; each is durable when it returns (file and folder synced)
  /// Replace a file at once: temporary beside it, fsync, rename, fsync of the folder.
  virtual void write_file(const std::filesystem::path& path, std::string_view content, unsigned mode) = 0;
  /// Make a new sparse file of \p size bytes. \throws Error conflict when the path exists.
  virtual void create_sparse(const std::filesystem::path& path, std::uint64_t size, const std::vector<Extent>& extents,
                             unsigned mode) = 0;
  /// Make a folder; its parents must exist. Existing is fine.
  virtual void make_folder(const std::filesystem::path& path, unsigned mode) = 0;
  /// Copy a file or a tree: by reflink where the file system can, else sparse. Owner, mode kept where we may.
  virtual void copy(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  virtual void hard_link(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  /// Remove a file or a tree, never following a link. Absent is fine.
  virtual void remove(const std::filesystem::path& path) = 0;
  virtual void set_mode(const std::filesystem::path& path, unsigned mode) = 0;
  virtual void set_owner(const std::filesystem::path& path, uid_t uid, gid_t gid) = 0;

  // --- devices
  /// Write to an attribute of sysfs, in a process of its own: the kernel may keep the writer for ever, and one that
  /// cannot be killed. \throws Error other: errno's text; unreachable: not done by \p deadline, the helper is left behind.
  virtual void write_attribute(const std::filesystem::path& path, std::string_view value,
                               std::chrono::seconds deadline) = 0;
  /// Reset PCI functions on vfio-pci together, by their bus or slot; every function that the reset touches must be among
  /// them. In a process of its own, as above. Source: VFIO_DEVICE_PCI_HOT_RESET.
  virtual void hot_reset(const std::vector<std::string>& addresses, std::chrono::seconds deadline) = 0;

  // --- programs
  [[nodiscard]] virtual CommandResult run(const Command& command) = 0;
  /// Path of a program in PATH (and /usr/sbin, /sbin); empty when there is none.
  [[nodiscard]] virtual std::filesystem::path find_program(const std::string& name) = 0;
};

}  // namespace vmgraft

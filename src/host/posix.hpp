// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include <sys/types.h>

namespace vmgraft::posix {

/// A deadline that means "never" must not overflow the clock.
constexpr std::chrono::seconds kLongestWait = std::chrono::hours(24 * 3650);

/// An open file descriptor, closed at the end of its scope.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { close(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void close() noexcept;

 private:
  int fd_ = -1;
};

/// Throw what errno \p number means for \p doing ("write") on \p path: conflict for EEXIST, else other; with the remedy
/// for a full disk and for missing permission.
[[noreturn]] void fail(const std::string& doing, const std::filesystem::path& path, int number);

/// open(2) with O_CLOEXEC, restarted on EINTR. The result may be closed: look at errno.
[[nodiscard]] Fd try_open(const std::filesystem::path& path, int flags, mode_t mode = 0) noexcept;
/// The same, or fail(\p doing, \p path).
[[nodiscard]] Fd open(const std::filesystem::path& path, int flags, const std::string& doing, mode_t mode = 0);

/// The folder \p below inside the folder \p root, reached through no symbolic link and never outside of it: openat2(2)
/// with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, or try_walk_beneath(). errno is ELOOP at a link. \param below
/// relative, without "." and ".."; empty: \p root itself. The result is no more than a place (O_PATH).
[[nodiscard]] Fd try_open_beneath(int root, const std::filesystem::path& below) noexcept;
/// The same, name by name: for kernels before 5.6, and sandboxes that know no openat2.
[[nodiscard]] Fd try_walk_beneath(int root, const std::filesystem::path& below) noexcept;

/// \p path in quotes, fit to be printed; one that goes by a descriptor (/proc/self/fd/7/vm.json) as it was asked for.
[[nodiscard]] std::string quoted(const std::filesystem::path& path);

/// Everything, at the descriptor's position. \param path  said in the error.
void write_all(int fd, std::string_view bytes, const std::filesystem::path& path);
/// Everything, at \p offset.
void write_all_at(int fd, std::string_view bytes, off_t offset, const std::filesystem::path& path);

void sync(int fd, const std::filesystem::path& path);
/// fsync of a folder: what makes a new name in it survive a power cut.
void sync_folder(const std::filesystem::path& folder);
/// The folder that holds \p path.
[[nodiscard]] std::filesystem::path folder_of(const std::filesystem::path& path);

/// A size or offset as the kernel takes it. \throws Error other: more than it can take.
[[nodiscard]] off_t to_off(std::uint64_t value, const std::filesystem::path& path);

}  // namespace vmgraft::posix

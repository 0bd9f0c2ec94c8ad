// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>

namespace vmgraft {

/// An flock on a file, held until destruction or the end of the process. Move-only.
/// Its text says who holds it: "pid 123: create ci-7".
class FileLock {
 public:
  enum class Kind { shared, exclusive };

  /// Wait for the lock. \throws Error interrupted; conflict when \p wait is false and somebody holds it, naming the holder.
  static FileLock take(const std::filesystem::path& path, Kind kind, const std::string& purpose, bool wait,
                       const std::atomic<bool>* interrupted);
  /// The lock when it is free, nothing when it is held.
  static std::optional<FileLock> try_take(const std::filesystem::path& path, Kind kind, const std::string& purpose);

  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace vmgraft

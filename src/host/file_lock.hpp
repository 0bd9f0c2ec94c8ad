// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace vmgraft {

/// An flock on a file, held until destruction or the end of the process. Move-only.
/// Its text says who holds it: "pid 123: create ci-7".
class FileLock {
 public:
  enum class Kind { shared, exclusive };
  /// Told who holds the lock ("pid 123: create ci-7") when it has been waited for a second, and then every half minute.
  /// From another thread, while the one that waits does nothing else; may be empty.
  using OnWait = std::function<void(const std::string& holder)>;

  /// Wait for the lock. \throws Error interrupted; conflict when \p wait is false and somebody holds it, naming the
  /// holder.
  static FileLock take(const std::filesystem::path& path, Kind kind, const std::string& purpose, bool wait,
                       const std::atomic<bool>* interrupted, const OnWait& on_wait = {});
  /// The lock when it is free, nothing when it is held.
  static std::optional<FileLock> try_take(const std::filesystem::path& path, Kind kind, const std::string& purpose);
  /// Whether nobody holds it. The file is not made by asking.
  [[nodiscard]] static bool is_free(const std::filesystem::path& path);
  /// Remove a lock file that nobody holds; who waits for it meanwhile takes a new one.
  static void remove_if_free(const std::filesystem::path& path);

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

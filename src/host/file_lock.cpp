// SPDX-License-Identifier: Apache-2.0
#include "host/file_lock.hpp"

#include <array>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "host/posix.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

posix::Fd open_lock_file(const std::filesystem::path& path) {
  return posix::open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NOCTTY, "open the lock file", 0600);
}

/// True when \p fd is still the file of that name: who deletes a VM removes its lock file under those who wait for it.
bool is_still_there(int fd, const std::filesystem::path& path) {
  struct stat held {};
  struct stat named {};
  return ::fstat(fd, &held) == 0 && ::lstat(path.c_str(), &named) == 0 && held.st_dev == named.st_dev &&
         held.st_ino == named.st_ino;
}

/// What the holder wrote; "another process" in the moment before it has, or when the last of several sharers wrote it
/// away.
std::string holder_in(int fd) {
  std::array<char, 256> text{};
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  if (got <= 0) return "another process";
  std::string_view holder(text.data(), static_cast<std::size_t>(got));
  return printable(holder.substr(0, holder.find('\n')));
}

/// Only a help for people: a lock on a full disk is still a lock.
void write_holder(int fd, const std::string& purpose) {
  const std::string text = "pid " + std::to_string(::getpid()) + ": " + purpose + "\n";
  if (::ftruncate(fd, 0) == 0) [[maybe_unused]]
    const ssize_t written = ::pwrite(fd, text.data(), text.size(), 0);
}

int operation(FileLock::Kind kind) {
  return kind == FileLock::Kind::shared ? LOCK_SH : LOCK_EX;
}

bool is_set(const std::atomic<bool>* flag) {
  return flag != nullptr && flag->load();
}

/// One try. \returns false when somebody else holds it.
bool lock_now(int fd, FileLock::Kind kind, const std::filesystem::path& path) {
  while (::flock(fd, operation(kind) | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) posix::fail("lock", path, errno);
  }
  return true;
}

/// Wait in the kernel: first come, first served. A signal whose handler was set without SA_RESTART ends the wait with
/// EINTR; one that comes just before flock() is entered is noticed with the next.
void lock_waiting(int fd, FileLock::Kind kind, const std::filesystem::path& path, const std::string& purpose,
                  const std::atomic<bool>* interrupted) {
  for (;;) {
    if (is_set(interrupted)) {
      throw Error(Errc::interrupted,
                  "'" + printable(purpose) + "' was interrupted while it waited for " + holder_in(fd));
    }
    if (::flock(fd, operation(kind)) == 0) return;
    if (errno != EINTR) posix::fail("lock", path, errno);
  }
}

}  // namespace

FileLock FileLock::take(const std::filesystem::path& path, Kind kind, const std::string& purpose, bool wait,
                        const std::atomic<bool>* interrupted) {
  for (;;) {
    posix::Fd fd = open_lock_file(path);
    if (!lock_now(fd.get(), kind, path)) {
      if (!wait) {
        throw Error(Errc::conflict, "'" + printable(purpose) + "' must wait: locked by " + holder_in(fd.get()),
                    "try again when that is done");
      }
      lock_waiting(fd.get(), kind, path, purpose, interrupted);
    }
    if (!is_still_there(fd.get(), path)) continue;
    write_holder(fd.get(), purpose);
    return FileLock(fd.release());
  }
}

std::optional<FileLock> FileLock::try_take(const std::filesystem::path& path, Kind kind, const std::string& purpose) {
  for (;;) {
    posix::Fd fd = open_lock_file(path);
    if (!lock_now(fd.get(), kind, path)) return std::nullopt;
    if (!is_still_there(fd.get(), path)) continue;
    write_holder(fd.get(), purpose);
    return FileLock(fd.release());
  }
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileLock::~FileLock() {
  if (fd_ < 0) return;
  // Else the next one who has to wait is told of a holder long gone.
  [[maybe_unused]] const int result = ::ftruncate(fd_, 0);
  ::close(fd_);
}

}  // namespace vmgraft

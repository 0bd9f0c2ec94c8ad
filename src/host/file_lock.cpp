// SPDX-License-Identifier: Apache-2.0
#include "host/file_lock.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

/// The first line of a lock file: "pid 12: create web"; empty when nobody has written one.
std::string line_in(int fd) {
  std::array<char, 256> text{};
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  if (got <= 0) return {};
  const std::string_view line(text.data(), static_cast<std::size_t>(got));
  return printable(line.substr(0, line.find('\n')));
}

std::string start_of_line(pid_t pid) {
  return "pid " + std::to_string(pid) + ": ";
}

/// Who holds a lock on the file, as the kernel knows it; empty where /proc does not tell. Source: proc(5), /proc/locks.
std::vector<pid_t> holders_of(int fd) {
  struct stat facts {};
  if (::fstat(fd, &facts) != 0) return {};
  std::vector<pid_t> holders;
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    // "7: FLOCK  ADVISORY  WRITE 4711 08:01:393222 0 EOF"; those that wait have an arrow before FLOCK.
    std::istringstream words(line);
    std::string number, kind, advisory, access, place;
    pid_t pid = 0;
    if (!(words >> number >> kind >> advisory >> access >> pid >> place) || kind != "FLOCK" || pid <= 0) continue;
    // The device is that of the file system, which stat() does not tell of each (btrfs): the inode has to do.
    if (const auto inode = place.rfind(':');
        inode != std::string::npos && place.substr(inode + 1) == std::to_string(facts.st_ino))
      holders.push_back(pid);
  }
  return holders;
}

/// "pid 12: vmgraft delete web", by how the process was started.
std::string started_as(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline");
  std::string words;
  std::getline(file, words);
  std::replace(words.begin(), words.end(), '\0', ' ');
  while (!words.empty() && words.back() == ' ') words.pop_back();
  return start_of_line(pid) + (words.empty() ? "another process" : printable(words, 200));
}

/// What the holder wrote. Of several who share it only one has: then, and in the moment before it has, the kernel is
/// asked.
std::string holder_in(int fd) {
  const std::string line = line_in(fd);
  std::vector<pid_t> holders = holders_of(fd);
  if (holders.empty()) return line.empty() ? "another process" : line;
  const auto writer =
      std::find_if(holders.begin(), holders.end(), [&](pid_t pid) { return line.starts_with(start_of_line(pid)); });
  std::string text = writer != holders.end() ? line : started_as(holders.front());
  if (holders.size() > 1) text += " (and " + std::to_string(holders.size() - 1) + " more)";
  return text;
}

/// Only a help for people: a lock on a full disk is still a lock.
void write_holder(int fd, const std::string& purpose) {
  const std::string text = start_of_line(::getpid()) + purpose + "\n";
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

/// Says who holds a lock that is waited for.
class WaitTeller {
 public:
  WaitTeller(int fd, const FileLock::OnWait& on_wait) {
    if (!on_wait) return;
    // Signals are for the thread that waits: one that came here would not end its flock().
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      thread_ = std::thread([this, fd, &on_wait] { tell(fd, on_wait); });
    } catch (const std::system_error&) {
      // Without a thread nobody is told; the lock comes all the same.
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  WaitTeller(const WaitTeller&) = delete;
  WaitTeller& operator=(const WaitTeller&) = delete;
  ~WaitTeller() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_over_ = true;
    }
    over_.notify_all();
    thread_.join();
  }

 private:
  void tell(int fd, const FileLock::OnWait& on_wait) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (std::chrono::seconds pause = kPatience; !over_.wait_for(lock, pause, [this] { return is_over_; });
         pause = kReminder)
      on_wait(holder_in(fd));
  }

  static constexpr std::chrono::seconds kPatience{1};
  static constexpr std::chrono::seconds kReminder{30};
  std::mutex mutex_;
  std::condition_variable over_;
  bool is_over_ = false;
  std::thread thread_;
};

/// Wait in the kernel, in line with the others. A signal whose handler was set without SA_RESTART ends the wait with
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
                        const std::atomic<bool>* interrupted, const OnWait& on_wait) {
  for (;;) {
    posix::Fd fd = open_lock_file(path);
    if (!lock_now(fd.get(), kind, path)) {
      if (!wait) {
        throw Error(Errc::conflict, "'" + printable(purpose) + "' must wait: locked by " + holder_in(fd.get()),
                    "try again when that is done");
      }
      const WaitTeller teller(fd.get(), on_wait);
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

bool FileLock::is_free(const std::filesystem::path& path) {
  const posix::Fd fd = posix::try_open(path, O_RDWR | O_NOFOLLOW | O_NOCTTY);
  return !fd || lock_now(fd.get(), Kind::exclusive, path);
}

void FileLock::remove_if_free(const std::filesystem::path& path) {
  const posix::Fd fd = posix::try_open(path, O_RDWR | O_NOFOLLOW | O_NOCTTY);
  if (fd && lock_now(fd.get(), Kind::exclusive, path) && is_still_there(fd.get(), path)) ::unlink(path.c_str());
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileLock::~FileLock() {
  if (fd_ < 0) return;
  // Else the next one who has to wait is told of a holder long gone. Another who shares the lock keeps its line.
  if (line_in(fd_).starts_with(start_of_line(::getpid()))) [[maybe_unused]]
    const int result = ::ftruncate(fd_, 0);
  ::close(fd_);
}

}  // namespace vmgraft

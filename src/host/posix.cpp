// SPDX-License-Identifier: Apache-2.0
#include "host/posix.hpp"

#include <array>
#include <cerrno>
#include <limits>
#include <system_error>

#include <fcntl.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "model/names.hpp"

namespace vmgraft::posix {
namespace {

std::string current_user() {
  const uid_t uid = ::geteuid();
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 4096> buffer{};
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) return found->pw_name;
  return "uid " + std::to_string(uid);
}

Error no_permission(const std::string& start, const std::filesystem::path& path, int number) {
  const bool is_root = ::geteuid() == 0;
  std::string hint;
  if (number == EPERM) {
    hint = "look for an immutable flag on it (lsattr), or a security profile or container that forbids this";
  } else if (is_root) {
    hint = "look at the mount (an NFS export with root_squash?) and at security profiles";
  } else {
    hint = "run vmgraft as root (sudo), or give '" + current_user() + "' access to it and search permission (x) on " +
           "every folder above " + quoted(folder_of(path));
  }
  return {Errc::other, start + "permission denied for user '" + current_user() + "'", hint};
}

}  // namespace

std::string quoted(const std::filesystem::path& path) {
  constexpr std::string_view kDescriptors = "/proc/self/fd/";
  std::string text = path.native();
  if (text.starts_with(kDescriptors)) {
    const std::size_t end = text.find('/', kDescriptors.size());
    std::error_code error;
    const std::filesystem::path folder = std::filesystem::read_symlink(text.substr(0, end), error);
    if (!error) text = folder.native() + (end == std::string::npos ? "" : text.substr(end));
  }
  return "'" + printable(text, 4096) + "'";
}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Fd::close() noexcept {
  // Not repeated on EINTR: Linux has released the number by then, and another thread may own it.
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void fail(const std::string& doing, const std::filesystem::path& path, int number) {
  const std::string start = "cannot " + doing + " " + quoted(path) + ": ";
  switch (number) {
    case ENOSPC:
    case EDQUOT: {
      const std::string why = number == ENOSPC ? "the file system is full" : "the disk quota is used up";
      throw Error(Errc::other, start + why + " (folder " + quoted(folder_of(path)) + ")",
                  "free space there: delete snapshots, VMs or images that are no longer needed; "
                  "or use a store on another disk with --store DIR");
    }
    case EACCES:
    case EPERM:
      throw no_permission(start, path, number);
    case EEXIST:
      throw Error(Errc::conflict, start + "it exists already");
    case EROFS:
      throw Error(Errc::other, start + "the file system is mounted read-only",
                  "mount it writable, or use a store elsewhere with --store DIR");
    case EMFILE:
    case ENFILE:
      throw Error(Errc::other, start + "too many open files", "raise the limit (ulimit -n)");
    default:
      throw Error(Errc::other, start + std::generic_category().message(number));
  }
}

Fd try_open(const std::filesystem::path& path, int flags, mode_t mode) noexcept {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return Fd(fd);
}

Fd open(const std::filesystem::path& path, int flags, const std::string& doing, mode_t mode) {
  Fd fd = try_open(path, flags, mode);
  if (!fd) fail(doing, path, errno);
  return fd;
}

Fd try_open_beneath(int root, const std::filesystem::path& below) noexcept {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const char* const name = below.empty() ? "." : below.c_str();
  for (;;) {
    const long fd = ::syscall(SYS_openat2, root, name, &how, sizeof how);
    if (fd >= 0) return Fd(static_cast<int>(fd));
    if (errno == EINTR) continue;
    // EPERM: a sandbox's word for a call that it does not know. EAGAIN: something was renamed meanwhile.
    if (errno == ENOSYS || errno == EPERM || errno == EAGAIN) return try_walk_beneath(root, below);
    return {};
  }
}

Fd try_walk_beneath(int root, const std::filesystem::path& below) noexcept {
  constexpr int kPlace = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  Fd here(::openat(root, ".", kPlace));
  for (const std::filesystem::path& name : below) {
    if (!here) return here;
    Fd next(::openat(here.get(), name.c_str(), kPlace));
    struct stat facts {};
    // O_DIRECTORY calls a link no folder, and so does the kernel a file: only one of them is an attack.
    if (!next && errno == ENOTDIR) {
      const bool is_link =
          ::fstatat(here.get(), name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(facts.st_mode);
      errno = is_link ? ELOOP : ENOTDIR;
    }
    here = std::move(next);
  }
  return here;
}

void write_all(int fd, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t done = ::write(fd, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail("write", path, errno);
    bytes.remove_prefix(static_cast<std::size_t>(done));
  }
}

void write_all_at(int fd, std::string_view bytes, off_t offset, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t done = ::pwrite(fd, bytes.data(), bytes.size(), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail("write", path, errno);
    bytes.remove_prefix(static_cast<std::size_t>(done));
    offset += done;
  }
}

void sync(int fd, const std::filesystem::path& path) {
  while (::fsync(fd) != 0) {
    if (errno == EINTR) continue;
    // Some network and FUSE file systems have no fsync for this kind of file; there is nothing more to be had there.
    if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP) return;
    fail("sync", path, errno);
  }
}

void sync_folder(const std::filesystem::path& folder) {
  const Fd fd = open(folder, O_RDONLY | O_DIRECTORY, "sync");
  sync(fd.get(), folder);
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  // "/a/b/" ends in an empty name, whose parent_path() would be the folder itself.
  const std::filesystem::path folder = (path.has_filename() ? path : path.parent_path()).parent_path();
  return folder.empty() ? std::filesystem::path(".") : folder;
}

off_t to_off(std::uint64_t value, const std::filesystem::path& path) {
  if (value > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) fail("reach so far into", path, EFBIG);
  return static_cast<off_t>(value);
}

}  // namespace vmgraft::posix

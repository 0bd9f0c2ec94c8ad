// SPDX-License-Identifier: Apache-2.0
// LinuxHost::copy: files and trees, sharing blocks where the file system can and keeping holes where it cannot.
#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "host/linux_host.hpp"
#include "host/posix.hpp"

namespace vmgraft {
namespace {

using std::filesystem::path;

struct stat look_at(const path& file) {
  struct stat facts {};
  if (::lstat(file.c_str(), &facts) != 0) posix::fail("copy", file, errno);
  return facts;
}

/// Two open files, for the errors with their paths.
struct Pair {
  int in;
  int out;
  const path& from;
  const path& to;
};

[[noreturn]] void fail_shrunk(const Pair& files) {
  throw Error(Errc::other, "cannot copy " + posix::quoted(files.from) + ": it became shorter while it was copied");
}

void copy_bytes(const Pair& files, off_t begin, off_t end) {
  constexpr std::size_t piece = 1 << 20;
  const auto buffer = std::make_unique<char[]>(piece);
  while (begin < end) {
    const std::size_t want = std::min(piece, static_cast<std::size_t>(end - begin));
    const ssize_t got = ::pread(files.in, buffer.get(), want, begin);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) posix::fail("read", files.from, errno);
    if (got == 0) fail_shrunk(files);
    posix::write_all_at(files.out, {buffer.get(), static_cast<std::size_t>(got)}, begin, files.to);
    begin += got;
  }
}

/// In the kernel where the file systems let it, else by read and write.
void copy_range(const Pair& files, off_t begin, off_t end) {
  while (begin < end) {
    off_t in_at = begin;
    off_t out_at = begin;
    const ssize_t done =
        ::copy_file_range(files.in, &in_at, files.out, &out_at, static_cast<std::size_t>(end - begin), 0);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO)) posix::fail("write", files.to, errno);
    // Other refusals, and 0 (some file systems and old kernels give it before the end), say only that this way is
    // closed.
    if (done <= 0) return copy_bytes(files, begin, end);
    begin += done;
  }
}

/// Data only: the holes stay holes.
void copy_sparse(const Pair& files, off_t size) {
  if (::ftruncate(files.out, size) != 0) posix::fail("size", files.to, errno);
  for (off_t at = 0; at < size;) {
    const off_t data = ::lseek(files.in, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return;            // nothing but a hole up to the end
    if (data < 0) return copy_range(files, at, size);  // SEEK_DATA is not known here
    off_t hole = ::lseek(files.in, data, SEEK_HOLE);
    if (hole < 0) hole = size;
    // Both may pass `size` when the file grows meanwhile: what is copied is what was there at the start.
    copy_range(files, std::min(data, size), std::min(hole, size));
    at = hole;
  }
}

/// Owner (as root) and mode, in this order: chown clears set-user-id bits.
void keep_rights(int fd, const struct stat& facts, const path& to) {
  if (::geteuid() == 0 && ::fchown(fd, facts.st_uid, facts.st_gid) != 0) posix::fail("set the owner of", to, errno);
  if (::fchmod(fd, facts.st_mode & 07777U) != 0) posix::fail("set the mode of", to, errno);
}

void copy_regular(const path& from, const path& to) {
  // Not through a link, and not hanging on a FIFO: the name may have changed hands since it was looked at.
  const posix::Fd in = posix::open(from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, "copy");
  struct stat facts {};
  if (::fstat(in.get(), &facts) != 0) posix::fail("copy", from, errno);
  if (!S_ISREG(facts.st_mode)) throw Error(Errc::other, "cannot copy " + posix::quoted(from) + ": not a regular file");
  const posix::Fd out = posix::open(to, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, "create", 0600);
  try {
    if (::ioctl(out.get(), FICLONE, in.get()) != 0) copy_sparse({in.get(), out.get(), from, to}, facts.st_size);
    keep_rights(out.get(), facts, to);
    posix::sync(out.get(), to);
  } catch (...) {
    ::unlink(to.c_str());
    throw;
  }
}

void copy_link(const path& from, const path& to, const struct stat& facts) {
  std::error_code error;
  const path target = std::filesystem::read_symlink(from, error);
  if (error) posix::fail("copy", from, error.value());
  if (::symlink(target.c_str(), to.c_str()) != 0) posix::fail("create", to, errno);
  if (::geteuid() != 0 || ::lchown(to.c_str(), facts.st_uid, facts.st_gid) == 0) return;
  const int number = errno;
  ::unlink(to.c_str());
  posix::fail("set the owner of", to, number);
}

/// \param links  whether links are copied too; else there may be none.
void copy_any(LinuxHost& host, const path& from, const path& to, bool links);

void copy_folder(LinuxHost& host, const path& from, const path& to, const struct stat& facts, bool links) {
  if (::mkdir(to.c_str(), 0700) != 0) posix::fail("create", to, errno);
  try {
    for (const std::string& name : host.list_folder(from)) copy_any(host, from / name, to / name, links);
    const posix::Fd folder = posix::open(to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, "sync");
    keep_rights(folder.get(), facts, to);
    posix::sync(folder.get(), to);
  } catch (...) {
    std::error_code ignored;  // the first error counts
    std::filesystem::remove_all(to, ignored);
    throw;
  }
}

void copy_any(LinuxHost& host, const path& from, const path& to, bool links) {
  const struct stat facts = look_at(from);
  if (S_ISREG(facts.st_mode)) return copy_regular(from, to);
  if (S_ISLNK(facts.st_mode) && !links)
    throw Error(Errc::conflict, posix::quoted(from) + " is a symbolic link",
                "a store holds none: whoever uses the copy could be led to any file of the host; remove it");
  if (S_ISLNK(facts.st_mode)) return copy_link(from, to, facts);
  if (S_ISDIR(facts.st_mode)) return copy_folder(host, from, to, facts, links);
  throw Error(Errc::other, "cannot copy " + posix::quoted(from) + ": neither a file, a folder nor a link",
              "remove it from there, or copy what is beside it");
}

/// A folder copied into itself would never end.
void refuse_nesting(const path& from, const path& to) {
  std::error_code error;
  const path source = std::filesystem::canonical(from, error);
  if (error) return;  // a dangling link: no folder
  const path target = std::filesystem::weakly_canonical(to, error);
  if (error) posix::fail("create", to, error.value());
  const auto [ours, theirs] = std::mismatch(source.begin(), source.end(), target.begin(), target.end());
  if (ours == source.end() && std::filesystem::is_directory(std::filesystem::symlink_status(from))) {
    throw Error(Errc::other,
                "cannot copy " + posix::quoted(from) + " to " + posix::quoted(to) + ": a folder cannot hold itself");
  }
}

}  // namespace

void LinuxHost::copy(const path& asked_from, const path& asked_to) {
  const Located source = located(asked_from);
  const Located target = located(asked_to);
  const path& from = source.path;
  const path& to = target.path;
  refuse_nesting(from, to);
  copy_any(*this, from, to, !source.in_store && !target.in_store);
  try {
    posix::sync_folder(posix::folder_of(to));
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove_all(to, ignored);
    throw;
  }
}

}  // namespace vmgraft

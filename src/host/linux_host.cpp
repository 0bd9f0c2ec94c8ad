// SPDX-License-Identifier: Apache-2.0
#include "host/linux_host.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "host/posix.hpp"
#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft {
namespace {

using std::filesystem::path;

/// read_file is for records, settings and seeds. A disk put in the place of one must not eat the memory.
constexpr off_t kLongestText = 1 << 30;

bool is_absent(int number) {
  return number == ENOENT || number == ENOTDIR;
}

[[noreturn]] void refuse_link(const std::string& file) {
  throw Error(Errc::conflict, file + " is reached through a symbolic link",
              "a store holds none: a link could lead to any file of the host; look who put it there, and remove it");
}

/// Open a file for reading without ever hanging on a FIFO that somebody put in its place.
/// \param follow  0, or O_NOFOLLOW
posix::Fd open_regular(const path& file, int follow, struct stat& facts, const std::string& doing) {
  posix::Fd fd = posix::try_open(file, O_RDONLY | O_NONBLOCK | O_NOCTTY | follow);
  if (!fd && errno == ELOOP && follow != 0) refuse_link(posix::quoted(file));
  if (!fd) return fd;
  if (::fstat(fd.get(), &facts) != 0) posix::fail(doing, file, errno);
  if (S_ISDIR(facts.st_mode)) posix::fail(doing, file, EISDIR);
  if (!S_ISREG(facts.st_mode)) {
    throw Error(Errc::other, "cannot " + doing + " " + posix::quoted(file) + ": not a regular file");
  }
  return fd;
}

/// Remove a file we made when what followed failed; gives up silently, the first error counts.
class Unlinker {
 public:
  explicit Unlinker(path file) : file_(std::move(file)) {}
  Unlinker(const Unlinker&) = delete;
  Unlinker& operator=(const Unlinker&) = delete;
  ~Unlinker() {
    if (!kept_) ::unlink(file_.c_str());
  }
  void keep() noexcept { kept_ = true; }

 private:
  path file_;
  bool kept_ = false;
};

/// A new file beside \p file, of a name that no other process or thread takes.
std::pair<posix::Fd, path> make_temporary(const path& file) {
  static std::atomic<unsigned> counter{0};
  for (;;) {
    const std::string name =
        "." + file.filename().string() + "." + std::to_string(::getpid()) + "." + std::to_string(counter++) + ".tmp";
    path temporary = posix::folder_of(file) / name;
    posix::Fd fd = posix::try_open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd) return {std::move(fd), std::move(temporary)};
    // Left behind by a process that had our number and died: take the next name.
    if (errno != EEXIST) posix::fail("write", file, errno);
  }
}

/// Open \p file to change its mode or owner: never through a link.
posix::Fd open_for_change(const path& file, struct stat& facts, const std::string& doing) {
  posix::Fd fd = posix::open(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, doing);
  if (::fstat(fd.get(), &facts) != 0) posix::fail(doing, file, errno);
  return fd;
}

}  // namespace

// --- reading

void LinuxHost::keep_beneath(const path& root) {
  store_ = root.lexically_normal().native();
  while (store_.ends_with('/')) store_.pop_back();
}

LinuxHost::Located LinuxHost::located_in_store(const path& file) const {
  const path below = file.lexically_normal().lexically_relative(store_);
  if (below == ".") return {file};
  if (below.empty() || *below.begin() == "..")
    throw Error(Errc::other, posix::quoted(file) + " leads out of the store " + posix::quoted(store_));
  const path name = below.has_filename() ? below : below.parent_path();  // "vms/a/" is "vms/a"
  // The parts above the store are the user's: they may be links.
  const posix::Fd root = posix::try_open(store_, O_PATH | O_DIRECTORY);
  posix::Fd folder;
  if (root) folder = posix::try_open_beneath(root.get(), name.parent_path());
  if (!folder) {
    if (is_absent(errno)) return {"/proc/self/fd/none/" + name.filename().native(), true};  // what is there is no file
    if (errno == ELOOP || errno == EXDEV) refuse_link(posix::quoted(file));
    posix::fail("reach", file, errno);
  }
  path where = "/proc/self/fd/" + std::to_string(folder.get());
  return {std::move(where) / name.filename(), true, std::move(folder)};
}

LinuxHost::Located LinuxHost::located(const path& file) const {
  if (!store_.empty() && file.native().starts_with(store_ + "/")) return located_in_store(file);
  if (facts_root_.empty()) return {file};
  // Thousands of attributes are read: a path is taken apart only where it has to be.
  const std::string whole = file.native().find("/.") == std::string::npos ? file.native() : file.lexically_normal().native();
  for (const std::string_view top :
       {"/sys", "/proc", "/dev", "/etc/vmgraft", "/etc/libvirt/hooks", "/run/vmgraft", "/lib/modules"}) {
    // The whole name: "/system" is not below "/sys".
    if (whole.starts_with(top) && (whole.size() == top.size() || whole[top.size()] == '/'))
      return {facts_root_.native() + whole};
  }
  return {file};
}

void LinuxHost::refuse_recorded() const {
  if (facts_root_.empty()) return;
  throw Error(Errc::usage, "a recorded host cannot be changed: its devices are read from '" +
                               printable(facts_root_.native(), 4096) + "'");
}

std::optional<std::string> LinuxHost::read_file(const path& asked) {
  const Located place = located(asked);
  const path& file = place.path;
  struct stat facts {};
  const posix::Fd fd = open_regular(file, place.in_store ? O_NOFOLLOW : 0, facts, "read");
  if (!fd) {
    if (is_absent(errno)) return std::nullopt;
    posix::fail("read", file, errno);
  }
  if (facts.st_size > kLongestText) {
    throw Error(Errc::other, "cannot read " + posix::quoted(file) + ": " +
                                 format_size(static_cast<std::uint64_t>(facts.st_size)) +
                                 " is too long to be read at once");
  }
  // Files of /proc and /sys say 0 or a page: the size is only a guess, the end of file is the truth.
  std::string content;
  std::size_t filled = 0;
  content.resize(static_cast<std::size_t>(facts.st_size) + (facts.st_size == 0 ? 4096 : 1));
  for (;;) {
    const ssize_t got = ::read(fd.get(), content.data() + filled, content.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) posix::fail("read", file, errno);
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
    // A regular file and an attribute of sysfs say their size and come whole in one read; /proc says 0.
    if (facts.st_size > 0 && filled < content.size()) break;
    if (filled == content.size()) content.resize(content.size() * 2);
  }
  content.resize(filled);
  return content;
}

std::optional<FileInfo> LinuxHost::stat(const path& asked) {
  const Located place = located(asked);
  const path& file = place.path;
  struct stat facts {};
  if (::lstat(file.c_str(), &facts) != 0) {
    if (is_absent(errno)) return std::nullopt;
    posix::fail("look at", file, errno);
  }
  FileInfo info;
  info.size = static_cast<std::uint64_t>(facts.st_size);
  info.allocated =
      static_cast<std::uint64_t>(facts.st_blocks) * 512;  // st_blocks counts 512 bytes whatever st_blksize says
  info.mode = facts.st_mode & 07777U;
  info.uid = facts.st_uid;
  info.gid = facts.st_gid;
  info.is_folder = S_ISDIR(facts.st_mode);
  info.is_link = S_ISLNK(facts.st_mode);
  return info;
}

std::optional<std::uint64_t> LinuxHost::device_number(const path& asked) {
  const Located place = located(asked);
  struct statx facts {};
  // A file that a process has open may lie on a server that is gone: what is known here is enough.
  if (::statx(AT_FDCWD, place.path.c_str(), AT_STATX_DONT_SYNC, STATX_TYPE, &facts) != 0 || !S_ISCHR(facts.stx_mode))
    return std::nullopt;
  return (std::uint64_t{facts.stx_rdev_major} << 32) | facts.stx_rdev_minor;
}

std::optional<std::string> LinuxHost::read_link(const path& asked) {
  const Located place = located(asked);
  const path& link = place.path;
  std::string target(256, '\0');
  for (;;) {
    const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
    if (length < 0) {
      if (is_absent(errno) || errno == EINVAL) return std::nullopt;  // EINVAL: there is something, but no link
      posix::fail("read the link", link, errno);
    }
    if (static_cast<std::size_t>(length) < target.size()) {
      target.resize(static_cast<std::size_t>(length));
      return target;
    }
    target.resize(target.size() * 2);  // it may be cut off
  }
}

std::vector<std::string> LinuxHost::list_folder(const path& asked) {
  const Located place = located(asked);
  const path& folder = place.path;
  struct Closer {
    void operator()(DIR* dir) const { ::closedir(dir); }
  };
  posix::Fd fd = posix::try_open(folder, O_RDONLY | O_DIRECTORY | (place.in_store ? O_NOFOLLOW : 0));
  const std::unique_ptr<DIR, Closer> dir(fd ? ::fdopendir(fd.get()) : nullptr);
  if (!dir) {
    if (is_absent(errno)) return {};
    posix::fail("list", folder, errno);
  }
  static_cast<void>(fd.release());  // the stream's now
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(dir.get());
    if (entry == nullptr) break;
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  if (errno != 0) posix::fail("list", folder, errno);
  std::sort(names.begin(), names.end());
  return names;
}

std::string LinuxHost::read_range(const path& asked, std::uint64_t offset, std::size_t most) {
  const Located place = located(asked);
  const path& file = place.path;
  struct stat facts {};
  const posix::Fd fd = open_regular(file, place.in_store ? O_NOFOLLOW : 0, facts, "read");
  if (!fd) posix::fail("read", file, errno);
  const auto size = static_cast<std::uint64_t>(facts.st_size);
  if (offset >= size) return {};
  std::string content(static_cast<std::size_t>(std::min<std::uint64_t>(most, size - offset)), '\0');
  std::size_t filled = 0;
  while (filled < content.size()) {
    const off_t at = posix::to_off(offset + filled, file);
    const ssize_t got = ::pread(fd.get(), content.data() + filled, content.size() - filled, at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) posix::fail("read", file, errno);
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  content.resize(filled);
  return content;
}

FreeSpace LinuxHost::free_space(const path& place) {
  // It tells of a file system, whichever way it is reached. Asked for a store that is yet to be made: its nearest
  // folder that exists is on the same file system.
  for (path here = place;;) {
    struct statvfs facts {};
    if (::statvfs(here.c_str(), &facts) == 0) {
      return {static_cast<std::uint64_t>(facts.f_bavail) * facts.f_frsize,
              static_cast<std::uint64_t>(facts.f_blocks) * facts.f_frsize};
    }
    if (errno == EINTR) continue;
    const path above = posix::folder_of(here);
    if (!is_absent(errno) || above == here) posix::fail("look at", place, errno);
    here = above;
  }
}

// --- writing

void LinuxHost::write_file(const path& asked, std::string_view content, unsigned mode) {
  const Located place = located(asked);
  const path& file = place.path;
  auto [fd, temporary] = make_temporary(file);
  Unlinker unlinker(temporary);
  posix::write_all(fd.get(), content, file);
  if (::fchmod(fd.get(), mode) != 0) posix::fail("set the mode of", file, errno);
  posix::sync(fd.get(), file);
  if (::rename(temporary.c_str(), file.c_str()) != 0) posix::fail("write", file, errno);
  unlinker.keep();
  posix::sync_folder(posix::folder_of(file));
}

void LinuxHost::create_sparse(const path& asked, std::uint64_t size, const std::vector<Extent>& extents,
                              unsigned mode) {
  const Located place = located(asked);
  const path& file = place.path;
  const posix::Fd fd = posix::open(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, "create", 0600);
  Unlinker unlinker(file);
  if (::ftruncate(fd.get(), posix::to_off(size, file)) != 0) posix::fail("size", file, errno);
  for (const Extent& extent : extents) {
    posix::write_all_at(fd.get(), extent.bytes, posix::to_off(extent.offset, file), file);
  }
  if (::fchmod(fd.get(), mode) != 0) posix::fail("set the mode of", file, errno);
  posix::sync(fd.get(), file);
  posix::sync_folder(posix::folder_of(file));
  unlinker.keep();
}

void LinuxHost::make_folder(const path& asked, unsigned mode) {
  const Located place = located(asked);
  const path& folder = place.path;
  if (::mkdir(folder.c_str(), 0700) != 0) {
    const int number = errno;
    struct stat facts {};
    const int follow = place.in_store ? AT_SYMLINK_NOFOLLOW : 0;
    if (number == EEXIST && ::fstatat(AT_FDCWD, folder.c_str(), &facts, follow) == 0 && S_ISDIR(facts.st_mode)) return;
    posix::fail("make the folder", folder, number);
  }
  // By chmod: mkdir's own mode is narrowed by the umask.
  if (::chmod(folder.c_str(), mode) != 0) {
    const int number = errno;
    ::rmdir(folder.c_str());
    posix::fail("set the mode of", folder, number);
  }
  posix::sync_folder(folder);  // its mode
  posix::sync_folder(posix::folder_of(folder));
}

void LinuxHost::rename(const path& asked_from, const path& asked_to) {
  const Located source = located(asked_from);
  const Located target = located(asked_to);
  const path& from = source.path;
  const path& to = target.path;
  // Whoever wrote it (a program, another call): after a power loss the new name must not stand for a file without content.
  struct stat facts {};
  if (::lstat(from.c_str(), &facts) == 0 && S_ISREG(facts.st_mode))
    posix::sync(posix::open(from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, "sync").get(), from);
  if (::rename(from.c_str(), to.c_str()) != 0) {
    posix::fail("move " + posix::quoted(from) + " to", to, errno);
  }
  posix::sync_folder(posix::folder_of(to));
  if (posix::folder_of(asked_from) != posix::folder_of(asked_to)) posix::sync_folder(posix::folder_of(from));
}

void LinuxHost::hard_link(const path& asked_from, const path& asked_to) {
  const Located source = located(asked_from);
  const Located target = located(asked_to);
  const path& from = source.path;
  const path& to = target.path;
  if (::link(from.c_str(), to.c_str()) != 0) {
    posix::fail("link " + posix::quoted(from) + " to", to, errno);
  }
  posix::sync_folder(posix::folder_of(to));
}

void LinuxHost::remove(const path& asked) {
  const Located place = located(asked);
  const path& target = place.path;
  // remove_all goes down by openat and unlinkat and does not follow links (libstdc++ 12).
  std::error_code error;
  const std::uintmax_t removed = std::filesystem::remove_all(target, error);
  if (error) posix::fail("remove", target, error.value());
  if (removed != 0) posix::sync_folder(posix::folder_of(target));
}

void LinuxHost::set_mode(const path& asked, unsigned mode) {
  const Located place = located(asked);
  const path& target = place.path;
  struct stat facts {};
  const posix::Fd fd = open_for_change(target, facts, "set the mode of");
  if ((facts.st_mode & 07777U) == mode) return;
  if (::fchmod(fd.get(), mode) != 0) posix::fail("set the mode of", target, errno);
  posix::sync(fd.get(), target);
}

void LinuxHost::set_owner(const path& asked, uid_t uid, gid_t gid) {
  const Located place = located(asked);
  const path& target = place.path;
  struct stat facts {};
  const posix::Fd fd = open_for_change(target, facts, "set the owner of");
  if (facts.st_uid == uid && facts.st_gid == gid) return;
  if (::fchown(fd.get(), uid, gid) != 0) posix::fail("set the owner of", target, errno);
  posix::sync(fd.get(), target);
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "guest/local_file.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "guest/agent_calls.hpp"

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, int problem) {
  throw Error(problem == ENOENT ? Errc::not_found : Errc::other,
              fmt::format("{}: {}", path.string(), std::strerror(problem)),
              problem == ENOSPC ? "make room on the host's disk" : "");
}

// Beside its place, so that the move is one rename.
fs::path name_beside(const fs::path& path) {
  return path.parent_path() / fmt::format(".{}.vmgraft-{}", path.filename().string().substr(0, 200), random_hex(8));
}

}  // namespace

LocalReader::LocalReader(const fs::path& path) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) fail(path_, errno);
}

LocalReader::~LocalReader() {
  ::close(fd_);
}

std::string LocalReader::read_piece() {
  std::string piece(kWritePiece, '\0');
  for (;;) {
    const ssize_t got = ::read(fd_, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path_, errno);
    piece.resize(static_cast<std::size_t>(got));
    return piece;
  }
}

LocalWriter::LocalWriter(fs::path path, unsigned mode)
    : path_(std::move(path)),
      temporary_(name_beside(path_)),
      fd_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0777u)) {
  if (fd_ < 0) fail(path_, errno);
}

LocalWriter::~LocalWriter() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void LocalWriter::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(path_, errno);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void LocalWriter::finish() {
  if (::close(std::exchange(fd_, -1)) != 0) fail(path_, errno);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, errno);
  temporary_.clear();
}

struct stat local_facts(const fs::path& path, bool follow) {
  struct stat facts {};
  if ((follow ? ::stat(path.c_str(), &facts) : ::lstat(path.c_str(), &facts)) != 0) fail(path, errno);
  return facts;
}

fs::path make_folder_beside(const fs::path& path) {
  fs::path folder = name_beside(path);
  if (::mkdir(folder.c_str(), 0700) != 0) fail(folder, errno);
  return folder;
}

}  // namespace vmgraft

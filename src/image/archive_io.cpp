// SPDX-License-Identifier: Apache-2.0
#include "image/archive_io.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include <array>

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "guest/archive_handles.hpp"

namespace vmgraft {

namespace {

void check(archive* handle, la_ssize_t result, const std::string& what) {
  if (result < ARCHIVE_WARN) {
    const char* why = archive_error_string(handle);
    throw Error(Errc::other, fmt::format("cannot {}: {}", what, why != nullptr ? why : "libarchive does not say why"));
  }
}

la_ssize_t append(archive*, void* text, const void* buffer, size_t size) {
  static_cast<std::string*>(text)->append(static_cast<const char*>(buffer), size);
  return static_cast<la_ssize_t>(size);
}

unsigned file_type(ArchiveFile::Kind kind) {
  switch (kind) {
    case ArchiveFile::Kind::folder:
      return S_IFDIR;
    case ArchiveFile::Kind::link:
      return S_IFLNK;
    case ArchiveFile::Kind::character_device:
      return S_IFCHR;
    case ArchiveFile::Kind::file:
      break;
  }
  return S_IFREG;
}

/// \param set_format  of libarchive: which kind of archive it becomes.
std::string to_archive(const std::vector<ArchiveFile>& files, int (*set_format)(archive*)) {
  const std::string what = "write an archive";
  std::string bytes;
  const WriteHandle handle(archive_write_new());
  check(handle.get(), set_format(handle.get()), what);
  check(handle.get(), archive_write_set_bytes_in_last_block(handle.get(), 1), what);
  check(handle.get(), archive_write_open(handle.get(), &bytes, nullptr, append, nullptr), what);
  for (const auto& file : files) {
    const EntryHandle entry(archive_entry_new());
    archive_entry_set_pathname(entry.get(), file.path.c_str());
    archive_entry_set_mode(entry.get(), static_cast<mode_t>(file_type(file.kind) | file.mode));
    archive_entry_set_size(entry.get(), 0);
    if (file.kind == ArchiveFile::Kind::file)
      archive_entry_set_size(entry.get(), static_cast<la_int64_t>(file.content.size()));
    if (file.kind == ArchiveFile::Kind::link) archive_entry_set_symlink(entry.get(), file.content.c_str());
    if (file.kind == ArchiveFile::Kind::character_device) {
      archive_entry_set_rdev(entry.get(), makedev(file.major, file.minor));
    }
    check(handle.get(), archive_write_header(handle.get(), entry.get()), what);
    if (file.kind == ArchiveFile::Kind::file) {
      check(handle.get(), archive_write_data(handle.get(), file.content.data(), file.content.size()), what);
    }
  }
  check(handle.get(), archive_write_close(handle.get()), what);
  return bytes;
}

}  // namespace

std::string to_cpio(const std::vector<ArchiveFile>& files) {
  return to_archive(files, archive_write_set_format_cpio_newc);
}

std::string to_tar(const std::vector<ArchiveFile>& files) {
  return to_archive(files, archive_write_set_format_ustar);
}

std::string decompressed(std::string_view bytes, const std::string& where) {
  const std::string what = fmt::format("decompress '{}'", where);
  const ReadHandle handle(archive_read_new());
  check(handle.get(), archive_read_support_filter_gzip(handle.get()), what);
  check(handle.get(), archive_read_support_filter_xz(handle.get()), what);
  check(handle.get(), archive_read_support_filter_zstd(handle.get()), what);
  check(handle.get(), archive_read_support_format_raw(handle.get()), what);
  check(handle.get(), archive_read_open_memory(handle.get(), bytes.data(), bytes.size()), what);
  archive_entry* entry = nullptr;
  check(handle.get(), archive_read_next_header(handle.get(), &entry), what);
  std::string content;
  std::array<char, 65536> buffer;
  for (;;) {
    const auto got = archive_read_data(handle.get(), buffer.data(), buffer.size());
    check(handle.get(), got, what);
    if (got <= 0) return content;
    content.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

std::vector<OwnedFile> unpack_tar(const std::filesystem::path& tar, const std::filesystem::path& folder,
                                  const std::atomic<bool>* interrupted) {
  const auto what = fmt::format("unpack '{}'", tar.string());
  const ReadHandle reader(archive_read_new());
  check(reader.get(), archive_read_support_format_tar(reader.get()), what);
  check(reader.get(), archive_read_open_filename(reader.get(), tar.c_str(), 1u << 20), what);
  const WriteHandle disk(archive_write_disk_new());
  check(
      disk.get(),
      archive_write_disk_set_options(disk.get(), ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_UNLINK |
                                                     ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_SYMLINKS),
      what);
  std::vector<OwnedFile> differing;
  const auto uid = geteuid();
  const auto gid = getegid();
  archive_entry* entry = nullptr;
  for (;;) {
    if (interrupted != nullptr && interrupted->load())
      throw Error(Errc::interrupted, fmt::format("interrupted: {}", what));
    const auto next = archive_read_next_header(reader.get(), &entry);
    if (next == ARCHIVE_EOF) break;
    check(reader.get(), next, what);
    const auto type = archive_entry_filetype(entry);
    if (type == AE_IFCHR || type == AE_IFBLK) continue;
    const auto path = ("/" / std::filesystem::path(archive_entry_pathname(entry)).relative_path()).lexically_normal();
    OwnedFile file{path.string(), static_cast<unsigned>(archive_entry_uid(entry)),
                   static_cast<unsigned>(archive_entry_gid(entry)), static_cast<unsigned>(archive_entry_mode(entry))};
    if (file.path.size() > 1 && file.path.back() == '/') file.path.pop_back();
    const bool special = type != AE_IFLNK && (file.mode & 07000U) != 0;
    // A hard link carries no type and nothing that its first name has not.
    const bool is_hard_link = archive_entry_hardlink(entry) != nullptr;
    if (!is_hard_link && (file.uid != uid || file.gid != gid || special)) differing.push_back(file);
    archive_entry_set_pathname(entry, (folder / path.relative_path()).c_str());
    if (const char* target = archive_entry_hardlink(entry)) {
      const auto other = (folder / std::filesystem::path(target).relative_path()).lexically_normal();
      archive_entry_set_hardlink(entry, other.c_str());
    }
    check(disk.get(), archive_read_extract2(reader.get(), entry, disk.get()), what);
  }
  check(disk.get(), archive_write_close(disk.get()), what);
  return differing;
}

}  // namespace vmgraft

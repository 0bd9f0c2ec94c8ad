// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace vmgraft {

/// One file of an archive.
struct ArchiveFile {
  enum class Kind { file, folder, link, character_device };
  Kind kind = Kind::file;
  std::string path;               ///< without a leading "/"
  unsigned mode = 0644;           ///< permission bits
  std::string content;            ///< of a file; the target of a link
  unsigned major = 0, minor = 0;  ///< of a device
};

/// An uncompressed cpio archive ("newc"), all root's, as the kernel unpacks it. Source: libarchive.
[[nodiscard]] std::string to_cpio(const std::vector<ArchiveFile>& files);
/// A tar archive (ustar), all root's.
[[nodiscard]] std::string to_tar(const std::vector<ArchiveFile>& files);

/// The content of a file compressed by gzip, xz or zstd, or the bytes themselves when they are not compressed.
/// \param where  the file's name, for errors. \throws Error other: damaged.
[[nodiscard]] std::string decompressed(std::string_view bytes, const std::string& where);

/// What an archive says of a file and an unpacked copy may not have: another owner, or bits that only its owner may
/// set.
struct OwnedFile {
  std::string path;  ///< absolute, as in the guest
  unsigned uid = 0, gid = 0;
  unsigned mode = 0;  ///< type and permission bits
};

/// Unpack a tar file as whoever we are: content, links, permissions and times; device nodes are left out.
/// \param folder  canonical. \returns all files whose owner or mode may differ from the archive's.
/// \throws Error interrupted; other: damaged archive, full disk.
[[nodiscard]] std::vector<OwnedFile> unpack_tar(const std::filesystem::path& tar, const std::filesystem::path& folder,
                                                const std::atomic<bool>* interrupted);

}  // namespace vmgraft

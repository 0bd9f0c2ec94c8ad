// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "image/image_maker.hpp"

namespace vmgraft {

/// Run a debugfs script on a file system, and check the result with e2fsck.
/// \param device  a file, or "FILE?offset=BYTES".
/// \throws Error other: a command of it failed (debugfs itself exits 0 whatever happens).
void run_debugfs(ImageWork& work, const std::string& device, const std::string& script);

/// An argument of a debugfs command. \throws Error other: debugfs has no way to say it.
[[nodiscard]] std::string debugfs_quoted(const std::string& text);

/// Files of a small guest, all owned by root, gathered without touching a disk.
class GuestTree {
 public:
  void add_folder(const std::string& path, unsigned mode = 0755);
  /// Its parent folders are added as well.
  void add_text(const std::string& path, std::string content, unsigned mode = 0644);
  /// A file of the host.
  void add_file(const std::string& path, const std::filesystem::path& source, unsigned mode = 0755);
  void add_link(const std::string& path, const std::string& target);
  [[nodiscard]] bool has(const std::string& path) const { return entries_.count(path) != 0; }

  /// Write them as a raw ext4 file system of \p size bytes. No root needed: debugfs gives every file its owner and
  /// mode. \throws Error other: a program failed; the result passed e2fsck otherwise.
  void write_ext4(ImageWork& work, const std::filesystem::path& image, std::uint64_t size,
                  const std::string& label) const;

 private:
  struct Entry {
    enum class Kind { folder, text, file, link } kind = Kind::folder;
    std::string content;  ///< text, or a link's target
    std::filesystem::path source;
    unsigned mode = 0755;
  };

  void add(const std::string& path, Entry entry);
  [[nodiscard]] std::string debugfs_script(ImageWork& work) const;

  std::map<std::string, Entry> entries_;  ///< sorted: a folder stands before what is in it
};

}  // namespace vmgraft

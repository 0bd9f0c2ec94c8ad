// SPDX-License-Identifier: Apache-2.0
#include "image/guest_tree.hpp"

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "image/programs.hpp"

namespace vmgraft {

std::string debugfs_quoted(const std::string& text) {
  if (text.find_first_of("\"\n") != std::string::npos) {
    throw Error(Errc::other, fmt::format("debugfs cannot take the path '{}'", text),
                "use a store whose path has no quotes");
  }
  return '"' + text + '"';
}

void run_debugfs(ImageWork& work, const std::string& device, const std::string& script) {
  const auto file = work.folder / "debugfs.script";
  work.host.write_file(file, script, 0644);
  ToolRun fill;
  fill.what = "fill the file system";
  fill.argv = {need_program(work.host, "debugfs", "e2fsprogs").string(), "-w", "-f", file.string(), device};
  const auto result = run_tool(work, fill);
  // Only its banner may stand in stderr.
  for (const auto& line : lines_of(result.err)) {
    if (line.rfind("debugfs ", 0) != 0) throw tool_error(fill.what, line, work.folder);
  }
  work.host.remove(file);

  ToolRun check;
  check.what = "check the file system";
  check.argv = {need_program(work.host, "e2fsck", "e2fsprogs").string(), "-f", "-n", device};
  check.may_fail = true;
  const auto checked = run_tool(work, check);
  if (checked.exit_code != 0) throw tool_error(check.what, checked.out, work.folder);  // e2fsck complains on stdout
}

void GuestTree::add(const std::string& path, Entry entry) {
  const auto parent = std::filesystem::path(path).parent_path().string();
  if (parent != "/" && entries_.count(parent) == 0) add_folder(parent);
  entries_[path] = std::move(entry);
}

void GuestTree::add_folder(const std::string& path, unsigned mode) {
  Entry entry;
  entry.mode = mode;
  add(path, std::move(entry));
}

void GuestTree::add_text(const std::string& path, std::string content, unsigned mode) {
  Entry entry;
  entry.kind = Entry::Kind::text;
  entry.content = std::move(content);
  entry.mode = mode;
  add(path, std::move(entry));
}

void GuestTree::add_file(const std::string& path, const std::filesystem::path& source, unsigned mode) {
  Entry entry;
  entry.kind = Entry::Kind::file;
  entry.source = source;
  entry.mode = mode;
  add(path, std::move(entry));
}

void GuestTree::add_link(const std::string& path, const std::string& target) {
  Entry entry;
  entry.kind = Entry::Kind::link;
  entry.content = target;
  add(path, std::move(entry));
}

std::string GuestTree::debugfs_script(ImageWork& work) const {
  const auto texts = work.folder / "texts";
  work.host.make_folder(texts, 0755);
  std::string script;
  std::size_t number = 0;
  for (const auto& [path, entry] : entries_) {
    // `write` and `symlink` take a name in the current folder, not a path.
    const std::filesystem::path place(path);
    const auto name = debugfs_quoted(place.filename().string());
    script += fmt::format("cd {}\n", debugfs_quoted(place.parent_path().string()));
    unsigned type = 0100000;
    switch (entry.kind) {
      case Entry::Kind::folder:
        script += fmt::format("mkdir {}\n", name);
        type = 040000;
        break;
      case Entry::Kind::link:
        script += fmt::format("symlink {} {}\n", name, debugfs_quoted(entry.content));
        continue;
      case Entry::Kind::file:
        script += fmt::format("write {} {}\n", debugfs_quoted(entry.source.string()), name);
        break;
      case Entry::Kind::text: {
        const auto source = texts / std::to_string(number++);
        work.host.write_file(source, entry.content, 0644);
        script += fmt::format("write {} {}\n", debugfs_quoted(source.string()), name);
        break;
      }
    }
    script += fmt::format("sif {} mode 0{:o}\nsif {} uid 0\nsif {} gid 0\n", name, type | entry.mode, name, name);
  }
  return script;
}

void GuestTree::write_ext4(ImageWork& work, const std::filesystem::path& image, std::uint64_t size,
                           const std::string& label) const {
  work.host.create_sparse(image, size, {}, 0644);
  ToolRun format;
  format.what = "make the file system";
  // No lazy initialisation: the guest's kernel would write inode tables into every VM's overlay at its first boot.
  format.argv = {need_program(work.host, "mke2fs", "e2fsprogs").string(),
                 "-q",
                 "-t",
                 "ext4",
                 "-F",
                 "-b",
                 "4096",
                 "-I",
                 "256",
                 "-m",
                 "0",
                 "-L",
                 label,
                 "-E",
                 "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0",
                 image.string()};
  run_tool(work, format);

  run_debugfs(work, image.string(), debugfs_script(work));
}

}  // namespace vmgraft

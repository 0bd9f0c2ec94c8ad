// SPDX-License-Identifier: Apache-2.0
#include "guest/tree_archive.hpp"

#include <array>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "guest/archive_handles.hpp"
#include "guest/local_file.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(struct archive* archive, const std::string& what) {
  const char* why = archive_error_string(archive);
  throw Error(Errc::other, fmt::format("{}: {}", what, why != nullptr ? why : "unknown failure"));
}

// A tar stream that is pulled: entries go in at one end, bytes are taken out of the other. What is in between is small,
// because one piece of one file is added at a time.
class TarPipe {
 public:
  TarPipe() : archive_(archive_write_new()) {
    archive_write_set_format_gnutar(archive_.get());
    archive_write_set_bytes_per_block(archive_.get(), 0);
    if (archive_write_open2(archive_.get(), this, nullptr, take, nullptr, nullptr) != ARCHIVE_OK) {
      fail(archive_.get(), "cannot begin a tar stream");
    }
  }

  void begin(struct archive_entry* entry, const std::string& what) {
    if (archive_write_header(archive_.get(), entry) < ARCHIVE_WARN) fail(archive_.get(), what);
  }
  void add(std::string_view bytes, const std::string& what) {
    if (archive_write_data(archive_.get(), bytes.data(), bytes.size()) < 0) fail(archive_.get(), what);
  }
  void end() {
    if (archive_write_close(archive_.get()) != ARCHIVE_OK) fail(archive_.get(), "cannot end a tar stream");
  }
  std::string take_all() { return std::exchange(ready_, {}); }
  [[nodiscard]] bool has_some() const { return !ready_.empty(); }

 private:
  static la_ssize_t take(struct archive* archive, void* self, const void* bytes, std::size_t size) {
    try {
      static_cast<TarPipe*>(self)->ready_.append(static_cast<const char*>(bytes), size);
      return static_cast<la_ssize_t>(size);
    } catch (const std::bad_alloc&) {
      archive_set_error(archive, ENOMEM, "out of memory");
      return -1;
    }
  }

  std::string ready_;
  WriteHandle archive_;
};

// Walks a folder, parents before children, and gives its tar streams piece by piece.
class TreeWriter {
 public:
  TreeWriter(fs::path source, std::string name, std::uint64_t segment)
      : source_(std::move(source)), name_(std::move(name)), segment_(segment), walk_(source_) {}

  CopyCount write(const std::function<void(const std::function<std::optional<std::string>()>&)>& on_segment) {
    while (!done_) {
      tar_ = std::make_unique<TarPipe>();
      sent_ = 0;
      ended_ = false;
      on_segment([this] { return next(); });
    }
    return count_;
  }

 private:
  std::optional<std::string> next() {
    while (!ended_ && !tar_->has_some()) advance();
    if (!tar_->has_some()) return std::nullopt;
    std::string bytes = tar_->take_all();
    sent_ += bytes.size();
    return bytes;
  }

  // One step: a piece of the open file, else the next entry, else the end of this stream.
  void advance() {
    if (open_) {
      std::string piece = open_->read_piece();
      if (piece.size() > left_) piece.resize(left_);  // grew while it was read
      if (piece.empty() && left_ > 0) {
        throw Error(Errc::other, fmt::format("{}: the file shrank while it was copied", open_path_));
      }
      tar_->add(piece, open_path_);
      left_ -= piece.size();
      count_.bytes += piece.size();
      if (left_ == 0) open_.reset();
      return;
    }
    if (!root_written_) {
      root_written_ = true;
      add_entry(source_, name_);
      return;
    }
    if (walk_ == fs::recursive_directory_iterator()) {
      done_ = true;
    } else if (sent_ < segment_) {
      const fs::path path = walk_->path();
      add_entry(path, name_ + "/" + path.lexically_relative(source_).string());
      walk_.increment(walk_error_);
      if (walk_error_) throw Error(Errc::other, fmt::format("{}: {}", path.string(), walk_error_.message()));
      return;
    }
    tar_->end();
    ended_ = true;
  }

  void add_entry(const fs::path& path, const std::string& name) {
    const struct stat facts = local_facts(path, false);
    const EntryHandle entry(archive_entry_new());
    archive_entry_copy_stat(entry.get(), &facts);
    archive_entry_set_perm(entry.get(), facts.st_mode & 0777u);  // a set-id file would become root's there
    archive_entry_set_uid(entry.get(), 0);
    archive_entry_set_gid(entry.get(), 0);
    archive_entry_copy_pathname(entry.get(), name.c_str());
    if (S_ISLNK(facts.st_mode)) {
      archive_entry_copy_symlink(entry.get(), fs::read_symlink(path).c_str());
      archive_entry_set_size(entry.get(), 0);
    } else if (S_ISREG(facts.st_mode)) {
      open_ = std::make_unique<LocalReader>(path);
      open_path_ = path.string();
      left_ = static_cast<std::uint64_t>(facts.st_size);
      ++count_.files;
    } else if (S_ISDIR(facts.st_mode)) {
      archive_entry_set_size(entry.get(), 0);
    } else {
      throw Error(Errc::conflict,
                  fmt::format("{}: it is a socket, pipe or device, which cannot be copied", path.string()));
    }
    tar_->begin(entry.get(), path.string());
    if (open_ && left_ == 0) open_.reset();
  }

  fs::path source_;
  std::string name_;
  std::uint64_t segment_;
  fs::recursive_directory_iterator walk_;
  std::error_code walk_error_;
  std::unique_ptr<TarPipe> tar_;
  std::unique_ptr<LocalReader> open_;
  std::string open_path_;
  std::uint64_t left_ = 0;
  std::uint64_t sent_ = 0;
  bool root_written_ = false;
  bool ended_ = false;
  bool done_ = false;
  CopyCount count_;
};

// --- reading

struct PieceSource {
  const std::function<std::optional<std::string>()>* next = nullptr;
  std::string piece;
  std::exception_ptr failure;
};

la_ssize_t give(struct archive* archive, void* data, const void** bytes) {
  auto* source = static_cast<PieceSource*>(data);
  try {
    std::optional<std::string> piece = (*source->next)();
    source->piece = piece ? std::move(*piece) : std::string();
    *bytes = source->piece.data();
    return static_cast<la_ssize_t>(source->piece.size());
  } catch (...) {  // C code is above us: kept, and thrown again behind it
    source->failure = std::current_exception();
    archive_set_error(archive, EIO, "the stream broke");
    return -1;
  }
}

// Names of a guest: relative, and without "..", whatever libarchive's own checks say.
fs::path checked_name(const char* text) {
  const std::string name = text == nullptr ? "" : text;
  const fs::path path(name);
  bool harmless = !name.empty() && !path.is_absolute();
  for (const fs::path& part : path) harmless = harmless && part != "..";
  if (!harmless) {
    throw Error(Errc::other, fmt::format("the guest sent '{}', a name outside what was asked for", printable(name)));
  }
  return path.lexically_normal();
}

void unpack_entry(struct archive* in, struct archive* out, struct archive_entry* entry, const fs::path& target,
                  CopyCount& count) {
  const fs::path name = checked_name(archive_entry_pathname(entry));
  const mode_t type = archive_entry_filetype(entry);
  const char* hard_link = archive_entry_hardlink(entry);
  if (hard_link == nullptr && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK) {
    throw Error(Errc::conflict, fmt::format("'{}' is a socket, pipe or device in the guest, which cannot be copied",
                                            printable(name.string())));
  }
  if (hard_link != nullptr) {
    archive_entry_copy_hardlink(entry, (target / checked_name(hard_link)).c_str());
  }
  archive_entry_copy_pathname(entry, (target / name).c_str());
  // Folders stay writable for us until the tree is complete, whatever the guest says.
  archive_entry_set_perm(entry, (archive_entry_perm(entry) & 0777u) | (type == AE_IFDIR ? 0700u : 0u));
  const std::string what = printable(name.string());
  if (archive_write_header(out, entry) < ARCHIVE_WARN) fail(out, what);
  if (hard_link != nullptr || type != AE_IFREG) return;
  const void* bytes = nullptr;
  std::size_t size = 0;
  la_int64_t offset = 0;
  for (;;) {
    const int got = archive_read_data_block(in, &bytes, &size, &offset);
    if (got == ARCHIVE_EOF) break;
    if (got < ARCHIVE_WARN) fail(in, what);
    if (archive_write_data_block(out, bytes, size, offset) < ARCHIVE_WARN) fail(out, what);
    count.bytes += size;
  }
  if (archive_write_finish_entry(out) < ARCHIVE_WARN) fail(out, what);
  ++count.files;
}

}  // namespace

CopyCount write_tree(const fs::path& source, const std::string& name, std::uint64_t segment,
                     const std::function<void(const std::function<std::optional<std::string>()>&)>& on_segment) {
  try {
    return TreeWriter(source, name, segment).write(on_segment);
  } catch (const fs::filesystem_error& error) {
    throw Error(Errc::other, fmt::format("{}: {}", error.path1().string(), error.code().message()));
  }
}

CopyCount read_tree(const std::function<std::optional<std::string>()>& next, const fs::path& target) {
  PieceSource source;
  source.next = &next;
  const ReadHandle in(archive_read_new());
  archive_read_support_format_tar(in.get());
  const WriteHandle out(archive_write_disk_new());
  archive_write_disk_set_options(out.get(), ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_UNLINK |
                                                ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT);
  const auto check = [&source](int code, struct archive* archive) {
    if (source.failure) std::rethrow_exception(source.failure);
    if (code < ARCHIVE_WARN) fail(archive, "the guest's tar stream cannot be read");
  };
  CopyCount count;
  // SECURE_SYMLINKS looks at the whole path, so the part that is ours must hold no link.
  const fs::path real_target = fs::canonical(target.parent_path()) / target.filename();
  try {
    check(archive_read_open(in.get(), &source, nullptr, give, nullptr), in.get());
    struct archive_entry* entry = nullptr;
    for (;;) {
      const int got = archive_read_next_header(in.get(), &entry);
      if (got == ARCHIVE_EOF) break;
      check(got, in.get());
      unpack_entry(in.get(), out.get(), entry, real_target, count);
    }
    if (archive_write_close(out.get()) < ARCHIVE_WARN) fail(out.get(), target.string());
  } catch (const Error&) {
    if (source.failure) std::rethrow_exception(source.failure);
    throw;
  }
  if (source.failure) std::rethrow_exception(source.failure);
  return count;
}

}  // namespace vmgraft

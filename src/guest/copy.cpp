// SPDX-License-Identifier: Apache-2.0
#include <condition_variable>
#include <deque>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "guest/local_file.hpp"
#include "guest/output_tail.hpp"
#include "guest/provision.hpp"
#include "guest/tree_archive.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

// The guest keeps one segment of a tree beside the files it becomes.
constexpr std::uint64_t kSegment = 32u << 20;

void require_absolute(const GuestAgent& agent, const std::string& path) {
  if (!path.empty() && path.front() == '/') return;
  throw Error(Errc::usage, fmt::format("{}: '{}' is not an absolute path in the guest", agent.place(), printable(path)),
              fmt::format("write {}:/path", agent.vm_name()));
}

enum class GuestKind { absent, folder, program, file, special };

GuestKind kind_in_guest(GuestAgent& agent, const std::string& path) {
  const std::string word = agent.shell(
      "if [ -d \"$1\" ]; then echo folder; elif [ -f \"$1\" ]; then [ -x \"$1\" ] && echo program || echo file\n"
      "elif [ -e \"$1\" ] || [ -L \"$1\" ]; then echo special; else echo absent; fi",
      {path});
  if (word == "folder\n") return GuestKind::folder;
  if (word == "program\n") return GuestKind::program;
  if (word == "file\n") return GuestKind::file;
  return word == "special\n" ? GuestKind::special : GuestKind::absent;
}

std::string without_end_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

// "/a/b" to {"/a", "b"}.
std::pair<std::string, std::string> split_last(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

void require_guest_folder(GuestAgent& agent, const std::string& path) {
  if (kind_in_guest(agent, path) == GuestKind::folder) return;
  throw Error(Errc::not_found, fmt::format("{}: there is no folder '{}' in the guest", agent.place(), printable(path)));
}

// Where the source lands in the guest, as with cp: into a folder that exists, else under the name given.
std::string landing_in_guest(GuestAgent& agent, const fs::path& source, const std::string& destination,
                             bool source_is_folder) {
  const GuestKind kind = kind_in_guest(agent, destination);
  if (kind == GuestKind::folder) {
    std::string name = source.filename().string();
    if (name.empty() || name == "." || name == "..") name = fs::canonical(source).filename().string();
    const std::string landing = without_end_slashes(destination) + (destination == "/" ? "" : "/") + name;
    const GuestKind there = kind_in_guest(agent, landing);
    if (there == GuestKind::absent || (there == GuestKind::folder) == source_is_folder) return landing;
    throw Error(Errc::conflict, fmt::format("{}: '{}' in the guest is {}, the source is not", agent.place(),
                                            printable(landing), there == GuestKind::folder ? "a folder" : "no folder"));
  }
  if (destination.back() == '/') require_guest_folder(agent, without_end_slashes(destination));
  if (source_is_folder && kind != GuestKind::absent) {
    throw Error(Errc::conflict, fmt::format("{}: '{}' in the guest is not a folder, the source is", agent.place(),
                                            printable(destination)));
  }
  return destination;
}

CopyCount file_to_guest(GuestAgent& agent, const fs::path& source, const std::string& landing) {
  LocalReader reader(source);
  CopyCount count{1, 0};
  const unsigned mode = local_facts(source, true).st_mode & 0777u;
  agent.write_file(
      landing,
      [&]() -> std::optional<std::string> {
        agent.stop_when_interrupted("copying");
        std::string piece = reader.read_piece();
        if (piece.empty()) return std::nullopt;
        count.bytes += piece.size();
        return piece;
      },
      mode);
  return count;
}

CopyCount tree_to_guest(GuestAgent& agent, const fs::path& source, const std::string& landing) {
  const auto [parent, name] = split_last(landing);
  require_guest_folder(agent, parent);
  return write_tree(source, name, kSegment, [&, parent = parent](const auto& next) {
    GuestCommand unpack;
    unpack.argv = {"tar", "-xf", "-", "-C", parent};
    unpack.read_input = [&] {
      agent.stop_when_interrupted("copying");
      return next();
    };
    const GuestCommandResult result = agent.run(unpack);
    if (result.exit_code != 0) {
      throw Error(Errc::other, fmt::format("{}: tar failed in the guest with exit code {}: {}", agent.place(),
                                           result.exit_code, last_line(result.err)));
    }
  });
}

// Pieces on their way from the thread that talks to the guest to the one that unpacks them.
class PieceQueue {
 public:
  /// Waits while the queue is full. False when nobody takes pieces any more.
  bool push(std::string piece) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return pieces_.size() < kMost || closed_; });
    if (closed_) return false;
    pieces_.push_back(std::move(piece));
    changed_.notify_all();
    return true;
  }
  /// Nullopt once the writer has ended and all is taken.
  std::optional<std::string> pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !pieces_.empty() || ended_; });
    if (pieces_.empty()) return std::nullopt;
    std::string piece = std::move(pieces_.front());
    pieces_.pop_front();
    changed_.notify_all();
    return piece;
  }
  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  static constexpr std::size_t kMost = 16;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> pieces_;
  bool ended_ = false;
  bool closed_ = false;
};

// Ends the packing because its other end failed; that failure is the one to tell.
struct UnpackingStopped : Error {
  UnpackingStopped() : Error(Errc::other, "unpacking stopped") {}
};

// GNU tar says 1 when a file changed while it was read, as a log does: that is no failure. busybox says 1 for failures.
constexpr const char* kPackScript = R"sh(
cd "$1" || exit 2
tar -cf - .
r=$?
[ $r != 1 ] || ! tar --version 2>/dev/null | grep -q GNU || r=0
exit $r
)sh";

void pack_in_guest(GuestAgent& agent, const std::string& source, PieceQueue& queue) {
  GuestCommand pack;
  OutputTail words;
  pack.argv = {"/bin/sh", "-c", kPackScript, "sh", source};
  pack.on_err = [&words](std::string_view bytes) { words.add(bytes); };
  pack.on_out = [&](std::string_view bytes) {
    if (!queue.push(std::string(bytes))) throw UnpackingStopped();
  };
  const GuestCommandResult result = agent.run(pack);
  if (result.exit_code == 0) return;
  const std::vector<std::string> lines = words.lines(1);
  throw Error(Errc::other, fmt::format("{}: tar failed in the guest with exit code {}: {}", agent.place(),
                                       result.exit_code, lines.empty() ? "no output" : lines.front()));
}

// The guest's folder into `folder`, which is new. The agent is driven by this thread, libarchive by another, because
// each of the two wants to call the other.
CopyCount fetch_tree(GuestAgent& agent, const std::string& source, const fs::path& folder) {
  PieceQueue queue;
  CopyCount count;
  std::exception_ptr unpack_failure;
  std::exception_ptr pack_failure;
  std::thread unpacking([&] {
    try {
      count = read_tree([&queue] { return queue.pop(); }, folder);
      while (queue.pop()) {  // the padding behind the end
      }
    } catch (...) {  // must not leave the thread
      unpack_failure = std::current_exception();
    }
    queue.close();
  });
  try {
    pack_in_guest(agent, source, queue);
  } catch (...) {  // the thread must be joined first
    pack_failure = std::current_exception();
  }
  queue.end();
  unpacking.join();
  try {
    if (pack_failure) std::rethrow_exception(pack_failure);
  } catch (const UnpackingStopped&) {
  }
  if (unpack_failure) std::rethrow_exception(unpack_failure);
  return count;
}

// Move a complete tree over one that exists. Links of the destination are not followed.
void merge_tree(const fs::path& from, const fs::path& to) {
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    const fs::path target = to / entry.path().filename();
    const fs::file_status there = fs::symlink_status(target);
    const bool is_folder = entry.symlink_status().type() == fs::file_type::directory;
    if (fs::exists(there) && (there.type() == fs::file_type::directory) != is_folder) {
      throw Error(Errc::conflict, fmt::format("{}: it is {}, in the guest it is not", target.string(),
                                              is_folder ? "not a folder" : "a folder"));
    }
    if (is_folder && fs::exists(there)) {
      merge_tree(entry.path(), target);
    } else {
      fs::rename(entry.path(), target);
    }
  }
}

// Folders of a guest may be closed to their owner; ours is removed whatever it holds.
class TemporaryTree {
 public:
  explicit TemporaryTree(const fs::path& landing) : path_(make_folder_beside(landing)) {}
  TemporaryTree(const TemporaryTree&) = delete;
  TemporaryTree& operator=(const TemporaryTree&) = delete;
  ~TemporaryTree() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

fs::path landing_here(const std::string& source, const fs::path& destination) {
  if (!fs::is_directory(destination)) {
    const fs::path absolute = fs::absolute(destination);
    const bool wants_folder = !absolute.has_filename();
    const fs::path folder = absolute.parent_path();  // of "/a/b/" it is "/a/b"
    if (wants_folder || !fs::is_directory(folder)) {
      throw Error(Errc::not_found, fmt::format("{}: there is no such folder", folder.string()));
    }
    return absolute;
  }
  const std::string name = split_last(without_end_slashes(source)).second;
  if (name.empty() || name == "." || name == "..") {
    throw Error(Errc::usage, fmt::format("'{}' has no name to use in {}", printable(source), destination.string()),
                "name a destination that does not exist yet");
  }
  return fs::absolute(destination) / name;
}

CopyCount tree_from_guest(GuestAgent& agent, const std::string& source, const fs::path& landing) {
  const fs::file_status there = fs::symlink_status(landing);
  if (fs::exists(there) && !fs::is_directory(landing)) {
    throw Error(Errc::conflict, fmt::format("{}: it is not a folder, in the guest it is", landing.string()));
  }
  const TemporaryTree temporary(landing);
  const fs::path tree = temporary.path() / "tree";
  const CopyCount count = fetch_tree(agent, source, tree);
  if (fs::exists(there)) {
    merge_tree(tree, landing);
  } else {
    fs::rename(tree, landing);
  }
  return count;
}

CopyCount file_from_guest(GuestAgent& agent, const std::string& source, const fs::path& landing, unsigned mode) {
  if (fs::is_directory(landing)) {
    throw Error(Errc::conflict, fmt::format("{}: it is a folder, in the guest it is not", landing.string()));
  }
  LocalWriter writer(landing, mode);
  CopyCount count{1, 0};
  agent.read_file(source, [&](std::string_view bytes) {
    agent.stop_when_interrupted("copying");
    writer.write(bytes);
    count.bytes += bytes.size();
  });
  writer.finish();
  return count;
}

}  // namespace

CopyCount copy_to_guest(GuestAgent& agent, const fs::path& source, const std::string& destination) {
  require_absolute(agent, destination);
  const bool is_folder = S_ISDIR(local_facts(source, true).st_mode);
  if (!is_folder && !S_ISREG(local_facts(source, true).st_mode)) {
    throw Error(Errc::conflict, fmt::format("{}: it is neither a file nor a folder", source.string()));
  }
  const std::string landing = landing_in_guest(agent, source, destination, is_folder);
  return is_folder ? tree_to_guest(agent, fs::canonical(source), landing)
                   : file_to_guest(agent, source, landing);
}

CopyCount copy_from_guest(GuestAgent& agent, const std::string& source, const fs::path& destination) {
  require_absolute(agent, source);
  try {
    const GuestKind kind = kind_in_guest(agent, source);
    if (kind == GuestKind::absent) {
      throw Error(Errc::not_found, fmt::format("{}: there is no '{}' in the guest", agent.place(), printable(source)));
    }
    if (kind == GuestKind::special) {
      throw Error(Errc::conflict,
                  fmt::format("{}: '{}' in the guest is neither a file nor a folder", agent.place(), printable(source)));
    }
    const fs::path landing = landing_here(source, destination);
    if (kind == GuestKind::folder) return tree_from_guest(agent, source, landing);
    return file_from_guest(agent, source, landing, kind == GuestKind::program ? 0777 : 0666);
  } catch (const fs::filesystem_error& error) {
    throw Error(Errc::other, fmt::format("{}: {}", error.path1().string(), error.code().message()));
  }
}

}  // namespace vmgraft

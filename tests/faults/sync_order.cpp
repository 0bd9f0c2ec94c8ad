// SPDX-License-Identifier: Apache-2.0
#include "faults/sync_order.hpp"

#include <filesystem>
#include <iostream>
#include <map>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>

#include "support/catch.hpp"

namespace vmgraft {
namespace {

std::string folder_of(const std::string& path) {
  return std::filesystem::path(path).parent_path();
}

bool is_sync(const Call& call) {
  return call.name == "fsync" || call.name == "fdatasync";
}

bool is_rename(const Call& call) {
  return call.name.starts_with("rename");
}

/// Calls after which a folder says something else than before; what they may lose is not worth a sync: locks, which are
/// nothing after a power loss, and work folders, which nobody names.
bool changes_folder(const Call& call) {
  if (call.path.find("/store/locks/") != std::string::npos || call.path.find("/store/tmp/") != std::string::npos)
    return false;
  return call.name.starts_with("mkdir") || call.name.starts_with("link") || call.name.starts_with("unlink") ||
         call.name == "rmdir" || (call.name.starts_with("open") && !call.existed && (call.flags & O_CREAT) != 0);
}

/// Follows the calls of one run: what has reached the disk for certain, what has not.
class Durability {
 public:
  void see(const Call& call) {
    if (call.result < 0) return;
    if (call.path == "socket") return see_message();
    if (is_sync(call)) {
      unsynced_files_.erase(call.path);
      unsynced_folders_.erase(call.path);
      return;
    }
    if (is_rename(call)) return see_rename(call);
    if (call.name.starts_with("unlink") || call.name == "rmdir") {
      unsynced_files_.erase(call.path);
      std::erase_if(unsynced_folders_, [&](const auto& folder) { return folder.first == call.path; });
    } else if (call.name.find("write") != std::string::npos || call.name.find("truncate") != std::string::npos ||
               call.name == "copy_file_range" || call.name == "ioctl") {
      if (call.path.find("/store/locks/") == std::string::npos) unsynced_files_.insert(call.path);
    }
    if (changes_folder(call)) unsynced_folders_[folder_of(call.path)] = call.name + " " + call.path;
  }

  /// At the end, when the user has been told that it is done.
  void end() {
    for (const std::string& file : unsynced_files_)
      if (file.find("/store/tmp/") == std::string::npos) wrong_.push_back("never synced: " + file);
    for (const auto& [folder, what] : unsynced_folders_) wrong_.push_back("folder never synced after " + what);
  }

  [[nodiscard]] const std::vector<std::string>& wrong() const { return wrong_; }
  [[nodiscard]] std::size_t renames() const { return renames_; }

 private:
  void see_rename(const Call& call) {
    ++renames_;
    if (unsynced_files_.contains(call.path)) wrong_.push_back("renamed before it was synced: " + call.path);
    unsynced_files_.erase(call.path);
    unsynced_folders_[folder_of(call.to)] = "rename to " + call.to;
  }

  /// libvirt is told of something: what it is told of must be there after a power loss. Its own files are its own
  /// affair.
  void see_message() {
    for (const auto& [folder, what] : unsynced_folders_)
      if (what.starts_with("rename")) wrong_.push_back("libvirt is called before the folder was synced after " + what);
  }

  std::set<std::string> unsynced_files_;
  std::map<std::string, std::string> unsynced_folders_;  ///< and what changed it
  std::vector<std::string> wrong_;
  std::size_t renames_ = 0;
};

}  // namespace

SyncOrder::~SyncOrder() {
  if (renames_ != 0) std::cout << fmt::format("order of writes, syncs and renames: looked at {} renames\n", renames_);
}

void SyncOrder::check(const std::string& verb, const std::vector<Call>& calls) {
  Durability durability;
  for (const Call& call : calls) durability.see(call);
  durability.end();
  renames_ += durability.renames();
  CHECK(durability.renames() > 0);
  for (const std::string& wrong : durability.wrong()) {
    INFO(verb << ": " << wrong);
    CHECK(wrong.empty());
  }
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "faults/disk_model.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

std::string read_all(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

void write_all(const fs::path& file, const std::string& content) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << content;
  if (!out.flush()) throw std::runtime_error("cannot write " + file.native());
}

bool changes_content(const Call& call) {
  return call.name.find("write") != std::string::npos || call.name.find("truncate") != std::string::npos ||
         call.name == "fallocate" || call.name == "copy_file_range" || call.name == "sendfile" || call.name == "ioctl";
}

struct Rights {
  unsigned mode = 0;
  unsigned uid = 0;
  unsigned gid = 0;
};

void set_rights(const fs::path& place, const Rights& rights) {
  if (::lchown(place.c_str(), rights.uid, rights.gid) != 0 || ::chmod(place.c_str(), rights.mode) != 0)
    throw std::runtime_error("cannot set the rights of " + place.native());
}

}  // namespace

struct DiskModel::Node {
  bool is_folder = false;
  std::string target;     ///< of a symbolic link
  Names now;              ///< what stands in the folder
  Names durable;          ///< the same on the disk
  Rights rights;          ///< on the disk
  std::string content;    ///< on the disk
  bool is_dirty = false;  ///< content was changed since
};

DiskModel::DiskModel(const fs::path& kept, fs::path folder) : folder_(std::move(folder)), root_(read(kept)) {}

DiskModel::NodePtr DiskModel::read(const fs::path& kept) {
  struct stat facts {};
  if (::lstat(kept.c_str(), &facts) != 0) throw std::runtime_error("cannot look at " + kept.native());
  auto node = std::make_shared<Node>();
  node->is_folder = S_ISDIR(facts.st_mode);
  node->rights = {facts.st_mode & 07777U, facts.st_uid, facts.st_gid};
  if (S_ISLNK(facts.st_mode)) node->target = fs::read_symlink(kept);
  if (S_ISREG(facts.st_mode)) node->content = read_all(kept);
  if (node->is_folder)
    for (const auto& entry : fs::directory_iterator(kept))
      node->now.emplace(entry.path().filename(), read(entry.path()));
  node->durable = node->now;
  return node;
}

DiskModel::NodePtr DiskModel::find(const std::string& path) {
  const fs::path relative = fs::path(path).lexically_normal().lexically_relative(folder_);
  if (relative.empty() || *relative.begin() == "..") return nullptr;
  NodePtr node = root_;
  for (const fs::path& name : relative) {
    if (name == ".") continue;
    const auto found = node->now.find(name);
    if (found == node->now.end()) return nullptr;
    node = found->second;
  }
  return node;
}

DiskModel::Names* DiskModel::names_above(const std::string& path) {
  const NodePtr folder = find(fs::path(path).lexically_normal().parent_path());
  return folder == nullptr ? nullptr : &folder->now;
}

void DiskModel::see(const Call& call) {
  if (!call.is_done || call.result < 0 || !call.is_file) return;
  const std::string name = fs::path(call.path).filename();
  Names* names = names_above(call.path);
  if (call.name.starts_with("open") || call.name == "creat") {
    see_open(call);
  } else if (call.name.starts_with("mkdir")) {
    auto made = std::make_shared<Node>();
    made->is_folder = true;
    made->rights.mode = static_cast<unsigned>(call.mode) & 0755U;  // by the usual umask
    if (names != nullptr) (*names)[name] = made;
  } else if (call.name.starts_with("rename")) {
    see_rename(call);
  } else if (call.name.starts_with("link")) {
    Names* to = names_above(call.to);
    if (to != nullptr) (*to)[fs::path(call.to).filename()] = find(call.path);
  } else if (call.name.starts_with("symlink")) {
    auto made = std::make_shared<Node>();
    made->target = "?";
    if (Names* to = names_above(call.to)) (*to)[fs::path(call.to).filename()] = made;
  } else if (call.name.starts_with("unlink") || call.name == "rmdir") {
    if (names != nullptr) names->erase(name);
  } else if (call.name == "fsync" || call.name == "fdatasync") {
    see_sync(call);
  } else if (changes_content(call)) {
    if (const NodePtr node = find(call.path)) node->is_dirty = true;
  }
}

void DiskModel::see_open(const Call& call) {
  NodePtr node = find(call.path);
  if (node == nullptr && (call.flags & O_CREAT) != 0) {
    Names* names = names_above(call.path);
    if (names == nullptr) return;
    node = std::make_shared<Node>();
    node->rights.mode = static_cast<unsigned>(call.mode) & 0755U;
    (*names)[fs::path(call.path).filename()] = node;
  } else if (node != nullptr && (call.flags & O_TRUNC) != 0) {
    node->is_dirty = true;
  }
}

void DiskModel::see_rename(const Call& call) {
  Names* from = names_above(call.path);
  Names* to = names_above(call.to);
  const NodePtr node = find(call.path);
  if (from == nullptr || to == nullptr || node == nullptr) return;
  from->erase(fs::path(call.path).filename());
  (*to)[fs::path(call.to).filename()] = node;
}

void DiskModel::see_sync(const Call& call) {
  const NodePtr node = find(call.path);
  if (node == nullptr) return;
  node->rights = {static_cast<unsigned>(call.mode), call.uid, call.gid};
  node->durable = node->now;
  node->content = call.data;
  node->is_dirty = false;
}

void DiskModel::put(const Node& node, const fs::path& place) const {
  if (!node.target.empty()) return fs::create_symlink(node.target, place);
  if (!node.is_folder) {
    write_all(place, node.content);
    return set_rights(place, node.rights);
  }
  fs::create_directory(place);
  for (const auto& [name, child] : node.durable) put(*child, place / name);
  set_rights(place, node.rights);
}

void DiskModel::keep_strangers(const Node& node, const fs::path& was, const fs::path& place) const {
  for (const auto& entry : fs::directory_iterator(was)) {
    const std::string name = entry.path().filename();
    const auto known = node.now.find(name);
    if (known == node.now.end() && !fs::exists(fs::symlink_status(place / name)))
      fs::rename(entry.path(), place / name);
    else if (known != node.now.end() && known->second->is_folder && fs::is_directory(place / name))
      keep_strangers(*known->second, entry.path(), place / name);
  }
}

void DiskModel::lose_content(const Node& node, const fs::path& place) const {
  for (const auto& [name, child] : node.now) {
    if (child->is_folder) lose_content(*child, place / name);
    if (!child->is_dirty || !child->target.empty()) continue;
    std::string content = child->content;
    content.resize(static_cast<std::size_t>(fs::file_size(place / name)), '\0');
    const fs::path file = place / name;
    const auto mode = fs::status(file).permissions();
    write_all(file, content);
    fs::permissions(file, mode);
  }
}

void DiskModel::lose_power(Loss loss) {
  if (loss == Loss::content) return lose_content(*root_, folder_);
  const fs::path was = folder_.native() + ".was";
  fs::rename(folder_, was);
  put(*root_, folder_);
  keep_strangers(*root_, was, folder_);
  fs::remove_all(was);
}

}  // namespace vmgraft

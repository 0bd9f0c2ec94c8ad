// SPDX-License-Identifier: Apache-2.0
#include "support/fake_host.hpp"

#include <algorithm>
#include <cerrno>
#include <stdexcept>

#include "host/posix.hpp"
#include "host/sha256.hpp"

namespace vmgraft {
namespace {

using std::filesystem::path;

constexpr std::uint64_t kMostRead = 64U << 20;

/// One spelling for each path; "/" stays "/".
std::string spelled(const path& file) {
  if (!file.is_absolute()) throw std::logic_error("FakeHost: not an absolute path: '" + file.native() + "'");
  std::string text = file.lexically_normal().native();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

std::string octal(unsigned mode) {
  std::string text;
  for (int shift = 9; shift >= 0; shift -= 3) text += static_cast<char>('0' + ((mode >> shift) & 7U));
  return text;
}

}  // namespace

std::string FakeHost::Node::bytes(std::uint64_t offset, std::size_t most) const {
  if (offset >= size) return {};
  std::string out(static_cast<std::size_t>(std::min<std::uint64_t>(most, size - offset)), '\0');
  const std::uint64_t end = offset + out.size();
  for (const Extent& extent : extents) {
    const std::uint64_t from = std::max(extent.offset, offset);
    const std::uint64_t to = std::min<std::uint64_t>(extent.offset + extent.bytes.size(), end);
    for (std::uint64_t at = from; at < to; ++at) out[at - offset] = extent.bytes[at - extent.offset];
  }
  return out;
}

FakeHost::FakeHost() {
  put("/", {Node::Kind::folder, 0755, 0, 0, 0, {}, {}});
}

// Host itself is not copied: it has no state.
FakeHost::FakeHost(const FakeHost& other) : Host() {
  *this = other;
}

FakeHost& FakeHost::operator=(const FakeHost& other) {
  names_ = other.names_;
  nodes_ = other.nodes_;
  next_node_ = other.next_node_;
  programs_ = other.programs_;
  own_drivers_ = other.own_drivers_;
  possible_vfs_ = other.possible_vfs_;
  first_methods_ = other.first_methods_;
  devices_ = other.devices_;
  hanging_ = other.hanging_;
  breaking_ = other.breaking_;
  space_ = other.space_;
  calls_ = other.calls_;
  effects_ = other.effects_;
  fail_at_ = other.fail_at_;
  fill_at_ = other.fill_at_;
  die_at_ = other.die_at_;
  die_when_ = other.die_when_;
  is_dead_ = other.is_dead_;
  return *this;
}

// --- making a world

void FakeHost::add_folder(const path& folder, unsigned mode) {
  const std::string name = spelled(folder);
  if (names_.contains(name)) return;
  add_folder(path(name).parent_path());
  put(name, {Node::Kind::folder, mode, 0, 0, 0, {}, {}});
}

void FakeHost::add_file(const path& file, std::string content, unsigned mode) {
  const std::string name = spelled(file);
  add_folder(path(name).parent_path());
  const std::uint64_t size = content.size();
  const Node* old = find(name);  // a file that is written again keeps its owner
  put(name, {Node::Kind::file, mode, old ? old->uid : 0, old ? old->gid : 0, size, {{0, std::move(content)}}, {}});
}

void FakeHost::add_link(const path& link, std::string target) {
  const std::string name = spelled(link);
  add_folder(path(name).parent_path());
  put(name, {Node::Kind::link, 0777, 0, 0, target.size(), {}, std::move(target)});
}

void FakeHost::erase(const path& target) {
  const std::string name = spelled(target);
  for (const std::string& child : below(name)) names_.erase(child);
  names_.erase(name);
}

void FakeHost::add_program(const std::string& name, Program program) {
  programs_[name] = std::move(program);
}

void FakeHost::die_at(std::size_t effect, When when) {
  die_at_ = effect;
  die_when_ = when;
}

void FakeHost::revive() {
  fail_at_ = 0;
  fill_at_ = 0;
  die_at_ = 0;
  is_dead_ = false;
}

void FakeHost::reset() {
  revive();
  effects_ = 0;
  calls_.clear();
}

std::string FakeHost::tree() const {
  std::string text;
  for (const auto& [name, number] : names_) {
    const Node& node = nodes_.at(number);
    text += name + " " + octal(node.mode) + " " + std::to_string(node.uid) + ":" + std::to_string(node.gid);
    if (node.kind == Node::Kind::link) text += " -> " + node.target;
    if (node.kind == Node::Kind::file) {
      text += " " + std::to_string(node.size);
      for (const Extent& extent : node.extents) {
        if (extent.bytes.empty()) continue;
        const bool is_short = extent.bytes.size() <= 64;
        text += " @" + std::to_string(extent.offset) + " " + (is_short ? extent.bytes : sha256_text(extent.bytes));
      }
    }
    text += "\n";
  }
  return text;
}

bool FakeHost::exists(const path& file) const {
  return find(file) != nullptr;
}

// --- the machinery

void FakeHost::require_alive() const {
  if (is_dead_) throw Death{};
}

namespace {

bool takes_room(const std::string& call) {
  const std::string name = call.substr(0, call.find(' '));
  return name == "write_file" || name == "create_sparse" || name == "make_folder" || name == "copy" || name == "hard_link";
}

}  // namespace

void FakeHost::effect(const std::string& call, const path& file, const std::function<void()>& act) {
  require_alive();
  ++effects_;
  calls_.push_back(call);
  if (effects_ == die_at_ && die_when_ == When::before) {
    is_dead_ = true;
    throw Death{};
  }
  if (effects_ == fail_at_ || (fill_at_ != 0 && effects_ >= fill_at_ && takes_room(call))) posix::fail("write", file, ENOSPC);
  act();
  if (effects_ == die_at_) {
    is_dead_ = true;
    throw Death{};
  }
}

std::string FakeHost::followed(const path& file, bool last_too) const {
  std::string name = spelled(file);
  for (int links = 0; links < 40; ++links) {
    bool is_plain = true;
    for (std::size_t end = name.find('/', 1); is_plain && (last_too || end != std::string::npos);
         end = name.find('/', end + 1)) {
      const auto found = names_.find(name.substr(0, end));
      if (found != names_.end() && nodes_.at(found->second).kind == Node::Kind::link) {
        const path target = path(found->first).parent_path() / nodes_.at(found->second).target;
        name = spelled(target.native() + (end == std::string::npos ? "" : name.substr(end)));
        is_plain = false;
      }
      if (end == std::string::npos) break;
    }
    if (is_plain) return name;
  }
  throw std::logic_error("FakeHost: links in a circle: '" + file.native() + "'");
}

std::string FakeHost::located(const path& file) const {
  std::string name = spelled(file);
  return names_.contains(name) ? name : followed(file, false);
}

const FakeHost::Node* FakeHost::find(const path& file) const {
  const auto found = names_.find(located(file));
  return found == names_.end() ? nullptr : &nodes_.at(found->second);
}

FakeHost::Node& FakeHost::must_find(const path& file, const std::string& doing) {
  const auto found = names_.find(located(file));
  if (found == names_.end()) posix::fail(doing, file, ENOENT);
  return nodes_.at(found->second);
}

void FakeHost::require_parent(const path& file, const std::string& doing) const {
  const Node* parent = find(path(spelled(file)).parent_path());
  if (parent == nullptr) posix::fail(doing, file, ENOENT);
  if (parent->kind == Node::Kind::link)
    throw std::logic_error("FakeHost: a link within a path: '" + file.native() + "'");
  if (parent->kind != Node::Kind::folder) posix::fail(doing, file, ENOTDIR);
}

void FakeHost::require_absent(const path& file, const std::string& doing) const {
  require_parent(file, doing);
  if (find(file) != nullptr) posix::fail(doing, file, EEXIST);
}

/// All that stands below a folder, parents first.
std::vector<std::string> FakeHost::below(const std::string& folder) const {
  const std::string start = folder == "/" ? folder : folder + "/";
  std::vector<std::string> found;
  for (auto it = names_.lower_bound(start); it != names_.end() && it->first.starts_with(start); ++it) {
    if (it->first != folder) found.push_back(it->first);
  }
  return found;
}

void FakeHost::put(const std::string& name, Node node) {
  names_[name] = next_node_;
  nodes_[next_node_++] = std::move(node);
}

// --- reading

std::optional<std::string> FakeHost::read_file(const path& file) {
  require_alive();
  const Node* node = find(file);
  if (node == nullptr) return std::nullopt;
  if (node->kind == Node::Kind::folder) posix::fail("read", file, EISDIR);
  if (node->kind == Node::Kind::link) return read_file(followed(file, true));
  if (node->size > kMostRead) throw std::logic_error("FakeHost: read_file of a large file: '" + file.native() + "'");
  return node->bytes(0, static_cast<std::size_t>(node->size));
}

std::optional<FileInfo> FakeHost::stat(const path& file) {
  require_alive();
  const Node* node = find(file);
  if (node == nullptr) return std::nullopt;
  std::uint64_t allocated = 0;
  for (const Extent& extent : node->extents) allocated += (extent.bytes.size() + 4095) / 4096 * 4096;
  return FileInfo{node->size,
                  allocated,
                  node->mode,
                  node->uid,
                  node->gid,
                  node->kind == Node::Kind::folder,
                  node->kind == Node::Kind::link};
}

std::optional<std::string> FakeHost::read_link(const path& link) {
  require_alive();
  const Node* node = find(link);
  if (node == nullptr || node->kind != Node::Kind::link) return std::nullopt;
  return node->target;
}

std::optional<std::uint64_t> FakeHost::device_number(const path& node) {
  const auto found = devices_.find(read_link(node).value_or(node.native()));
  return found == devices_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::string> FakeHost::list_folder(const path& folder) {
  require_alive();
  const std::string above = followed(folder, true);
  std::vector<std::string> names;
  for (const std::string& name : below(above)) {
    const path child(name);
    if (child.parent_path() == above) names.push_back(child.filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string FakeHost::read_range(const path& file, std::uint64_t offset, std::size_t most) {
  require_alive();
  const Node& node = must_find(file, "read");
  if (node.kind != Node::Kind::file) throw std::logic_error("FakeHost: read_range of no file: '" + file.native() + "'");
  return node.bytes(offset, most);
}

FreeSpace FakeHost::free_space(const path&) {
  require_alive();
  return space_;
}

// --- writing

void FakeHost::write_file(const path& file, std::string_view content, unsigned mode) {
  effect("write_file " + file.native(), file, [&] {
    require_parent(file, "write");
    const Node* old = find(file);
    if (old != nullptr && old->kind == Node::Kind::folder) posix::fail("write", file, EISDIR);
    put(spelled(file), {Node::Kind::file, mode, 0, 0, content.size(), {{0, std::string(content)}}, {}});
  });
}

void FakeHost::create_sparse(const path& file, std::uint64_t size, const std::vector<Extent>& extents, unsigned mode) {
  effect("create_sparse " + file.native(), file, [&] {
    require_absent(file, "create");
    std::vector<Extent> sorted = extents;
    std::sort(sorted.begin(), sorted.end(), [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
    std::uint64_t length = size;
    for (const Extent& extent : sorted) length = std::max<std::uint64_t>(length, extent.offset + extent.bytes.size());
    put(spelled(file), {Node::Kind::file, mode, 0, 0, length, std::move(sorted), {}});
  });
}

void FakeHost::make_folder(const path& folder, unsigned mode) {
  effect("make_folder " + folder.native(), folder, [&] {
    const Node* old = find(folder);
    if (old != nullptr && old->kind == Node::Kind::folder) return;
    require_absent(folder, "make the folder");
    put(spelled(folder), {Node::Kind::folder, mode, 0, 0, 0, {}, {}});
  });
}

void FakeHost::copy(const path& from, const path& to) {
  effect("copy " + from.native() + " " + to.native(), to, [&] {
    const std::string source = spelled(from);
    const std::string target = spelled(to);
    must_find(from, "copy");
    require_absent(to, "create");
    if (target.starts_with(source + "/")) throw std::logic_error("FakeHost: copy of a folder into itself");
    put(target, Node(must_find(from, "copy")));
    for (const std::string& name : below(source)) {
      put(target + name.substr(source.size()), Node(nodes_.at(names_.at(name))));
    }
  });
}

void FakeHost::rename(const path& from, const path& to) {
  effect("rename " + from.native() + " " + to.native(), to, [&] {
    const std::string source = spelled(from);
    const std::string target = spelled(to);
    const std::string doing = "move '" + from.native() + "' to";
    const Node& moved = must_find(from, doing);
    require_parent(to, doing);
    if (target.starts_with(source + "/")) posix::fail(doing, to, EINVAL);
    if (source == target) return;
    if (const Node* old = find(to)) {
      const bool was_folder = old->kind == Node::Kind::folder;
      const bool is_folder = moved.kind == Node::Kind::folder;
      if (was_folder && !is_folder) posix::fail(doing, to, EISDIR);
      if (!was_folder && is_folder) posix::fail(doing, to, ENOTDIR);
      if (was_folder && !below(target).empty()) posix::fail(doing, to, ENOTEMPTY);
    }
    std::vector<std::string> all = below(source);
    all.push_back(source);
    for (const std::string& name : all) {
      names_[target + name.substr(source.size())] = names_.at(name);
      names_.erase(name);
    }
  });
}

void FakeHost::hard_link(const path& from, const path& to) {
  effect("hard_link " + from.native() + " " + to.native(), to, [&] {
    const std::string doing = "link '" + from.native() + "' to";
    if (must_find(from, doing).kind == Node::Kind::folder) posix::fail(doing, to, EPERM);
    require_absent(to, doing);
    names_[spelled(to)] = names_.at(spelled(from));
  });
}

void FakeHost::remove(const path& target) {
  effect("remove " + target.native(), target, [&] {
    if (spelled(target) == "/") throw std::logic_error("FakeHost: remove of /");
    erase(target);
  });
}

void FakeHost::set_mode(const path& target, unsigned mode) {
  effect("set_mode " + target.native() + " " + octal(mode), target,
         [&] { must_find(target, "set the mode of").mode = mode; });
}

void FakeHost::set_owner(const path& target, uid_t uid, gid_t gid) {
  const std::string owner = std::to_string(uid) + ":" + std::to_string(gid);
  effect("set_owner " + target.native() + " " + owner, target, [&] {
    Node& node = must_find(target, "set the owner of");
    node.uid = uid;
    node.gid = gid;
  });
}

// --- programs

CommandResult FakeHost::run(const Command& command) {
  if (command.argv.empty()) throw std::logic_error("FakeHost: run without argv");
  const auto program = programs_.find(path(command.argv.front()).filename());
  if (program == programs_.end()) throw std::logic_error("FakeHost: no program '" + command.argv.front() + "'");
  std::string call = "run";
  for (const std::string& argument : command.argv) call += " " + argument;
  CommandResult result;
  effect(call, "/", [&] { result = program->second(*this, command); });
  return result;
}

path FakeHost::find_program(const std::string& name) {
  require_alive();
  return programs_.contains(name) ? path("/usr/bin") / name : path();
}

}  // namespace vmgraft

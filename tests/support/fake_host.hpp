// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "host/host.hpp"

namespace vmgraft {

/// Thrown by a fake where the process is meant to die. Not a std::exception: no handler of errors may take it for one.
struct Death {};

/// A host in memory: a tree of files, a log of what was done to it, and faults on demand. Copy it to keep a world for
/// later;
/// == compares the trees. An effect is one call that changes something, run() included; reading is none.
/// Throws std::logic_error on what it does not model.
class FakeHost final : public Host {
 public:
  enum class When { before, after };
  /// It may change the tree by the add_ functions and erase(): of the host it is given, which may be a copy.
  using Program = std::function<CommandResult(FakeHost&, const Command&)>;

  FakeHost();
  FakeHost(const FakeHost& other);
  FakeHost& operator=(const FakeHost& other);

  // --- making a world; no effects, parents are made as well
  void add_folder(const std::filesystem::path& path, unsigned mode = 0755);
  void add_file(const std::filesystem::path& path, std::string content, unsigned mode = 0644);
  void add_link(const std::filesystem::path& path, std::string target);
  void erase(const std::filesystem::path& path);
  /// What run() does for argv[0] == \p name, which find_program() then finds in /usr/bin.
  void add_program(const std::string& name, Program program);
  void set_free_space(FreeSpace space) { space_ = space; }

  // --- faults, by the number of the effect counted from the start or the last reset(): the first is 1
  /// That effect fails as on a full disk and changes nothing; those after it work.
  void fail_at(std::size_t effect) { fail_at_ = effect; }
  /// The process dies: Death, from then on at every call, until revive().
  void die_at(std::size_t effect, When when);
  /// The next process: alive, no faults.
  void revive();
  /// No faults, counter and log at their start; the tree stays.
  void reset();

  [[nodiscard]] std::size_t effects() const { return effects_; }
  /// "write_file /store/version", one for each effect that was tried.
  [[nodiscard]] const std::vector<std::string>& calls() const { return calls_; }
  /// Whole tree as text, one line for each path: for the message of a failed comparison.
  [[nodiscard]] std::string tree() const;
  [[nodiscard]] bool exists(const std::filesystem::path& path) const;
  friend bool operator==(const FakeHost& a, const FakeHost& b) { return a.tree() == b.tree(); }

  // --- Host
  std::optional<std::string> read_file(const std::filesystem::path& path) override;
  std::optional<FileInfo> stat(const std::filesystem::path& path) override;
  std::vector<std::string> list_folder(const std::filesystem::path& path) override;
  std::string read_range(const std::filesystem::path& path, std::uint64_t offset, std::size_t most) override;
  FreeSpace free_space(const std::filesystem::path& path) override;
  void write_file(const std::filesystem::path& path, std::string_view content, unsigned mode) override;
  void create_sparse(const std::filesystem::path& path, std::uint64_t size, const std::vector<Extent>& extents,
                     unsigned mode) override;
  void make_folder(const std::filesystem::path& path, unsigned mode) override;
  void copy(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void hard_link(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void remove(const std::filesystem::path& path) override;
  void set_mode(const std::filesystem::path& path, unsigned mode) override;
  void set_owner(const std::filesystem::path& path, uid_t uid, gid_t gid) override;
  CommandResult run(const Command& command) override;
  std::filesystem::path find_program(const std::string& name) override;

 private:
  struct Node {
    enum class Kind { file, folder, link } kind = Kind::file;
    unsigned mode = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    std::uint64_t size = 0;
    std::vector<Extent> extents;  ///< of a file: what is not zero, in order
    std::string target;           ///< of a link

    [[nodiscard]] std::string bytes(std::uint64_t offset, std::size_t most) const;
  };

  void require_alive() const;
  void effect(const std::string& call, const std::filesystem::path& path, const std::function<void()>& act);
  [[nodiscard]] const Node* find(const std::filesystem::path& path) const;
  Node& must_find(const std::filesystem::path& path, const std::string& doing);
  void require_parent(const std::filesystem::path& path, const std::string& doing) const;
  void require_absent(const std::filesystem::path& path, const std::string& doing) const;
  [[nodiscard]] std::vector<std::string> below(const std::string& path) const;
  void put(const std::string& path, Node node);

  std::map<std::string, std::size_t> names_;  ///< path to number in nodes_: hard links share one
  std::map<std::size_t, Node> nodes_;
  std::size_t next_node_ = 0;
  std::map<std::string, Program> programs_;
  FreeSpace space_{std::uint64_t{100} << 30, std::uint64_t{200} << 30};
  std::vector<std::string> calls_;
  std::size_t effects_ = 0;
  std::size_t fail_at_ = 0;  ///< 0: never
  std::size_t die_at_ = 0;
  When die_when_ = When::before;
  bool is_dead_ = false;
};

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <set>
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
class FakeHost : public Host {
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
  /// A character device's node; several may be of one device.
  void add_device(const std::filesystem::path& path, std::uint64_t number) { devices_[path.native()] = number; }
  void erase(const std::filesystem::path& path);
  /// What run() does for argv[0] == \p name, which find_program() then finds in /usr/bin.
  void add_program(const std::string& name, Program program);
  void set_free_space(FreeSpace space) { space_ = space; }

  // --- making PCI functions, as sysfs shows them: no effects. Written to by write_attribute, they do as a kernel does.
  // What the model does not have is written by add_file below pci_folder().
  /// A function in an IOMMU group of that number, below \p bridges, without a driver; vfio-pci is loaded. It has class,
  /// vendor, device, config, numa_node, power_state, driver_override, reset and reset_method ("flr bus").
  void add_pci_function(const std::string& address, unsigned group,
                        const std::string& bridges = "pci0000:40/0000:40:01.0");
  /// The function's own driver: loaded, bound now when it has no other, and bound by drivers_probe without an override.
  void add_pci_driver(const std::string& address, const std::string& driver);
  /// A VF that writing to sriov_numvfs of \p physical makes: the first one declared is virtfn0.
  /// \param driver  its own; empty: none
  void add_virtual_function(const std::string& physical, const std::string& address, unsigned group,
                            const std::string& driver);
  void add_mdev_type(const std::string& address, const std::string& type, unsigned instances);
  /// Where its attributes are: "/sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0".
  [[nodiscard]] std::string pci_folder(const std::string& address) const;
  /// Name of the driver that the function has now; empty: none.
  [[nodiscard]] std::string pci_driver(const std::string& address) const;
  /// Writing there never comes back: write_attribute throws Error(unreachable), and nothing changes.
  void hang_on(const std::filesystem::path& path) { hanging_.insert(path.native()); }
  /// The next reset of the function succeeds and leaves it dead: its config space reads 0xff.
  void break_at_reset(const std::string& address) { breaking_.insert(address); }

  // --- faults, by the number of the effect counted from the start or the last reset(): the first is 1
  /// That effect fails as on a full disk and changes nothing; those after it work.
  void fail_at(std::size_t effect) { fail_at_ = effect; }
  /// From that effect on the disk is full: what takes room fails, what moves and removes works.
  void fill_at(std::size_t effect) { fill_at_ = effect; }
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
  std::optional<std::string> read_link(const std::filesystem::path& path) override;
  std::optional<std::uint64_t> device_number(const std::filesystem::path& path) override;
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
  void write_attribute(const std::filesystem::path& path, std::string_view value,
                       std::chrono::seconds deadline) override;
  void hot_reset(const std::vector<std::string>& addresses, std::chrono::seconds deadline) override;
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
  /// \p path with every link followed: those on the way, and the last name when \p last_too.
  [[nodiscard]] std::string followed(const std::filesystem::path& path, bool last_too) const;
  /// The name it has in names_: as it is given, else with the links on the way followed.
  [[nodiscard]] std::string located(const std::filesystem::path& path) const;

  // PCI: fake_host_pci.cpp
  struct VirtualFunction {
    std::string address;
    unsigned group = 0;
  };
  [[nodiscard]] std::string text(const std::string& file) const;
  void set_text(const std::string& file, const std::string& content);
  void change_attribute(const std::filesystem::path& path, const std::string& value);
  bool change_of_device(const std::string& folder, const std::string& name, const std::string& value,
                        const std::function<void(int)>& refuse);
  void set_reset_methods(const std::string& folder, const std::string& value, const std::function<void(int)>& refuse);
  [[nodiscard]] std::vector<std::string> group_members(const std::string& group) const;
  [[nodiscard]] std::string group_of(const std::string& address) const;
  void bind(const std::string& address, const std::string& driver);
  void unbind(const std::string& address);
  void probe(const std::string& address);
  void remove_pci_function(const std::string& address);
  void set_vfs(const std::string& physical, const std::string& value, const std::function<void(int)>& refuse);
  void create_mdev(const std::string& type_folder, const std::string& uuid, const std::function<void(int)>& refuse);
  void remove_mdev(const std::string& folder);
  void was_reset(const std::string& address);

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
  std::map<std::string, std::string> own_drivers_;                   ///< function to the driver made for it
  std::map<std::string, std::vector<VirtualFunction>> possible_vfs_; ///< by physical function
  std::map<std::string, std::string> first_methods_;                 ///< reset_method before it was written, by folder
  std::map<std::string, std::uint64_t> devices_;
  std::set<std::string> hanging_;
  std::set<std::string> breaking_;
  FreeSpace space_{std::uint64_t{100} << 30, std::uint64_t{200} << 30};
  std::vector<std::string> calls_;
  std::size_t effects_ = 0;
  std::size_t fail_at_ = 0;  ///< 0: never
  std::size_t fill_at_ = 0;  ///< 0: never
  std::size_t die_at_ = 0;
  When die_when_ = When::before;
  bool is_dead_ = false;
};

}  // namespace vmgraft

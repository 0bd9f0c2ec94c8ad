// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "faults/tracer.hpp"
#include "host/linux_host.hpp"

namespace vmgraft {

/// A store of its own and the domains of it, looked at by other means than vmgraft's: the folder, libvirt's own calls,
/// /proc, qemu-img. Set by tests/run: VMGRAFT_TEST_URI, VMGRAFT_TEST_WORK, VMGRAFT_TEST_TEMPLATES, VMGRAFT_BINARY.
class FaultWorld {
 public:
  FaultWorld();
  ~FaultWorld();
  FaultWorld(const FaultWorld&) = delete;
  FaultWorld& operator=(const FaultWorld&) = delete;

  /// A store with the image "tiny", no VM.
  void begin();
  /// From here on `restore` brings back what is there now.
  void keep();
  void restore();

  [[nodiscard]] std::vector<std::string> command(std::vector<std::string> arguments) const;
  /// Run vmgraft, untraced; throws when it does not end with 0.
  CommandResult must(std::vector<std::string> arguments);
  CommandResult run(std::vector<std::string> arguments);
  CommandResult program(std::vector<std::string> argv);
  /// Put data on a disk of a stopped VM, as a guest would.
  void write_disk(const std::string& vm, const std::string& disk, const std::string& pattern);

  /// Everything there is, one thing a line; what is drawn afresh in each run (ids, times, MACs) is masked.
  /// Locks are left out: they are empty files.
  [[nodiscard]] std::string state();
  /// What is wrong with it, whatever the state is: dangling references, layers that nothing reaches, journals, temporaries,
  /// QEMUs without a domain, locks held. Empty when all is well.
  [[nodiscard]] std::vector<std::string> flaws();
  /// Compare disks without a parent by what a guest reads.
  void set_copies_differ(bool differ) { copies_differ_ = differ; }
  [[nodiscard]] std::size_t journals() const;
  [[nodiscard]] std::string read_text(const std::filesystem::path& file) const;
  /// What `gc --dry-run` finds, an entry each.
  [[nodiscard]] std::vector<std::string> garbage();
  /// Every VM is off, at once.
  void power_off();
  /// Delete every VM by vmgraft; what is left besides images is told.
  [[nodiscard]] std::vector<std::string> delete_all();

  [[nodiscard]] const std::filesystem::path& store() const { return store_; }
  [[nodiscard]] const std::filesystem::path& kept() const { return kept_; }
  [[nodiscard]] const std::filesystem::path& work() const { return work_; }
  [[nodiscard]] std::string vm() const { return prefix_ + "a"; }
  [[nodiscard]] std::string other() const { return prefix_ + "b"; }
  [[nodiscard]] std::vector<pid_t> qemus() const;
  void reconnect();

 private:
  struct Domains;
  void drop_domains();

  LinuxHost host_;
  std::string uri_;
  std::filesystem::path work_;
  std::filesystem::path store_;
  std::filesystem::path kept_;
  std::string templates_;
  std::string binary_;
  std::string prefix_;
  std::set<std::string> kept_running_;
  std::map<std::string, std::string> kept_domains_;  ///< name: XML
  std::set<std::string> sound_layers_;               ///< contents that qemu-img has checked already
  std::unique_ptr<Domains> domains_;
  bool copies_differ_ = false;
};

/// Ids, UUIDs, MACs and times of a text made equal.
[[nodiscard]] std::string masked(std::string text);

}  // namespace vmgraft

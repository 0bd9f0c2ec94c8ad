// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "host/linux_host.hpp"
#include "support/catch.hpp"

namespace vmgraft {

/// The built program on a real libvirt: one store for the run with the micro image in it, and other tools to check by.
/// Set by tests/run: VMGRAFT_TEST_URI, VMGRAFT_TEST_STORE (with the image "micro"), VMGRAFT_TEST_PREFIX (of VM names),
/// VMGRAFT_TEST_TEMPLATES, VMGRAFT_BINARY.
class Lab {
 public:
  Lab();
  /// Every VM of this test goes, whatever happened.
  ~Lab();

  [[nodiscard]] std::string name(const std::string& suffix);
  /// From now on on another store, or over another connection.
  void use_store(const std::filesystem::path& store) { store_ = store; }
  void use_uri(const std::string& uri) { uri_ = uri; }
  [[nodiscard]] const std::filesystem::path& store() const { return store_; }
  [[nodiscard]] const std::string& uri() const { return uri_; }
  [[nodiscard]] bool is_session() const { return uri_.find("/session") != std::string::npos; }

  /// Run vmgraft; REQUIREs exit 0 unless told otherwise.
  CommandResult vmgraft(std::vector<std::string> arguments, int want_exit = 0, const std::string& input = {});
  /// The "result" of a --json record.
  nlohmann::json json(std::vector<std::string> arguments);
  /// The "error" of a --json record that must have failed with this exit code.
  nlohmann::json error(std::vector<std::string> arguments, int want_exit);
  /// stdout of a command in the guest; it must succeed.
  std::string guest(const std::string& vm, const std::string& script);

  /// Whether this QEMU can merge layers of a running VM, by its own word.
  [[nodiscard]] bool can_merge_live();

  /// Path of another program that was built.
  [[nodiscard]] std::string program(const std::string& name) const;
  CommandResult run(std::vector<std::string> argv);
  std::string virsh(std::vector<std::string> arguments);
  /// Layer files from the head of a disk down, as qemu-img sees them.
  std::vector<std::string> chain(const std::string& vm, const std::string& disk = "root");
  /// `qemu-img check` of every layer file of a stopped VM's disks.
  void check_images(const std::string& vm);
  /// Paths under the store, but locks/ and images: what an operation that failed must not change.
  [[nodiscard]] std::vector<std::string> inventory();
  [[nodiscard]] std::string read(const std::filesystem::path& path);

 private:
  LinuxHost host_;
  std::string uri_;
  std::filesystem::path store_;
  std::string prefix_;
  std::string binary_;
  std::vector<std::string> names_;
};

}  // namespace vmgraft

/// Catch2 2 cannot skip: said, counted by tests/run, and left.
#define VMGRAFT_SKIP(why)                        \
  do {                                           \
    std::cout << "SKIPPED: " << (why) << '\n';   \
    return;                                      \
  } while (false)

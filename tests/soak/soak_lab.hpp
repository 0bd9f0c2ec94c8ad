// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <set>
#include <string>
#include <vector>

#include "faults/world.hpp"

namespace vmgraft {

/// How one run of the program ended.
struct SoakRun {
  CommandResult result;
  bool was_killed = false;
  double seconds = 0;
  std::string line;  ///< the command, for people
};

/// What is on the "data" disk of a VM and of each of its snapshots: a number, written there by the tests; 0: never.
struct OwnVm {
  int content = 0;
  std::map<std::string, int> snapshots;
  bool operator==(const OwnVm&) const = default;
};
using OwnVms = std::map<std::string, OwnVm>;

/// A store that many processes work on, what they count, and what went wrong. All of it may be used from many threads.
class SoakLab {
 public:
  SoakLab();

  /// A new store with the image "micro".
  void begin();
  [[nodiscard]] FaultWorld& world() { return world_; }
  [[nodiscard]] std::string name(const std::string& suffix) const { return prefix_ + suffix; }

  /// Run vmgraft. \param kill_after  SIGKILL to it, and not to what it started, after so long.
  SoakRun run(const std::vector<std::string>& arguments, std::optional<std::chrono::milliseconds> kill_after = {});
  SoakRun program(std::vector<std::string> argv);
  /// Have the VM's QEMU run when nobody else wants the processor: what its guest does is not what is tested, and a guest
  /// that boots in emulation takes as much as a hundred commands.
  void give_way(const std::string& vm);

  // --- what the store's files say, read without vmgraft
  [[nodiscard]] bool has_vm(const std::string& vm);
  /// Of the manifest; nothing when there is none.
  [[nodiscard]] std::optional<std::set<std::string>> snapshots(const std::string& vm);
  /// Ids of the journals that name the VM, whoever has them: by its process one cannot tell, numbers come again within minutes.
  [[nodiscard]] std::set<std::string> journals(const std::string& vm);
  /// What stands in the VM's lock file.
  [[nodiscard]] std::string lock_line(const std::string& vm);
  /// File of the layer that the disk "data" of a VM, or of a snapshot of it, has; empty when there is none.
  [[nodiscard]] std::string data_file(const std::string& vm, const std::string& snapshot = {});
  /// Put a number on the VM's disk as a guest would: nobody else is at work on that VM meanwhile.
  void write_content(const std::string& vm, int content);
  /// Whether that number is there, as QEMU reads it.
  [[nodiscard]] bool holds(const std::string& file, int content);

  void fail(const std::string& what);
  [[nodiscard]] std::vector<std::string> failures();
  [[nodiscard]] bool has_failed() const { return failed_.load(); }

  struct Counts {
    std::atomic<std::size_t> operations{0}, runs{0}, starts{0}, conflicts{0}, not_found{0}, kills{0}, recoveries{0};
  };
  Counts counts;
  /// Of all QEMUs: memory and processors are not without end.
  std::counting_semaphore<64> qemus;
  /// A moment within the time that such a command has taken until now, on this machine with all its load.
  /// \param part  0 to 1 of it.
  [[nodiscard]] std::chrono::milliseconds moment_of(const std::vector<std::string>& arguments, double part);
  /// Time by verb: how long it took in all, and how often it was run.
  [[nodiscard]] std::string profile();

 private:
  FaultWorld world_;
  std::string prefix_;
  std::mutex mutex_;
  std::vector<std::string> failures_;
  std::map<std::string, std::pair<double, std::size_t>> times_;
  std::atomic<bool> failed_{false};
};

/// A number of the environment.
[[nodiscard]] std::size_t soak_number(const char* name, std::size_t otherwise);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fmt/format.h>

#include "faults/sweep.hpp"
#include "faults/sync_order.hpp"
#include "support/catch.hpp"

using namespace vmgraft;

namespace {

/// What the run ends with: the figures of each kind, and of all.
struct Totals {
  struct Count {
    std::size_t faults = 0;
    std::size_t right = 0;
  };
  std::map<std::string, Count> kinds;
  Count all;

  void add(const std::string& kind, const SweepResult& result) {
    for (Count* count : {&kinds[kind], &all}) {
      count->faults += result.faults;
      count->right += result.right;
    }
  }
  ~Totals() {
    const auto tell = [](const std::string& kind, const Count& count) {
      std::cout << fmt::format("{:<16} {:>5} faults injected, {:>5} ended right, {} wrong\n", kind, count.faults,
                               count.right, count.faults - count.right);
    };
    for (const auto& [kind, count] : kinds) tell(kind, count);
    if (all.faults != 0) tell("all", all);
  }
};

Totals& totals() {
  static Totals all;
  return all;
}

bool is_whole() {
  const char* value = std::getenv("VMGRAFT_FAULTS");
  return value != nullptr && std::string(value) == "all";
}

std::size_t number(const char* name, std::size_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : static_cast<std::size_t>(std::strtoull(value, nullptr, 10));
}

using Sweeping = std::function<SweepResult(FaultSweep&, std::size_t step, std::size_t offset)>;

/// A kind of fault. \p every: of a verb's points, which are tried when not all are; a quarter of them where a VM runs.
struct Kind {
  const char* name;
  std::size_t every;
  Sweeping act;
};

Kind at_calls(const char* name, Fault::Kind kind, int error, std::size_t every) {
  return {name, every, [=](FaultSweep& sweep, std::size_t step, std::size_t offset) {
            return sweep.sweep(kind, error, step, offset);
          }};
}

Kind outage(const char* name, DiskModel::Loss loss, std::size_t every) {
  return {name, every,
          [=](FaultSweep& sweep, std::size_t step, std::size_t offset) { return sweep.sweep(loss, step, offset); }};
}

std::vector<FaultScenario> scenarios() {
  std::vector<FaultScenario> chosen = fault_scenarios();
  if (const char* only = std::getenv("VMGRAFT_FAULTS_VERB"))
    std::erase_if(chosen, [&](const FaultScenario& scenario) { return scenario.name != only; });
  if (const char* share = std::getenv("VMGRAFT_FAULTS_SHARE")) {  // "1/2": the first of two machines that share the work
    std::size_t mine = 0;
    std::size_t machines = 0;
    REQUIRE(std::sscanf(share, "%zu/%zu", &mine, &machines) == 2);
    REQUIRE((mine >= 1 && mine <= machines));
    std::vector<FaultScenario> shared;
    for (std::size_t i = mine - 1; i < chosen.size(); i += machines) shared.push_back(chosen[i]);
    chosen = shared;
  }
  REQUIRE_FALSE(chosen.empty());
  return chosen;
}

/// Of a short run the points begin elsewhere from day to day.
void sweep_one(const Kind& kind, FaultSweep& sweep, const FaultScenario& scenario) {
  const std::size_t every = scenario.has_qemu ? 4 * kind.every : kind.every;
  const std::size_t step = number("VMGRAFT_FAULTS_STEP", is_whole() ? 1 : every);
  const std::size_t offset = number("VMGRAFT_FAULTS_OFFSET", 0) % step;
  const SweepResult result = kind.act(sweep, step, offset);
  totals().add(kind.name, result);
  std::cout << fmt::format(
                   "{:<16} {:<26} {:>4} points, every {}{}: {:>4} faults, {:>4} right ({} as before), {} wrong{}\n",
                   kind.name, scenario.name, result.points, step, step == 1 ? "" : fmt::format(" from {}", 1 + offset),
                   result.faults, result.right, result.undone, result.wrong.size(),
                   result.worst_seconds == 0 ? "" : fmt::format(", at most {:.2f} s", result.worst_seconds))
            << std::flush;
  for (const std::string& wrong : result.wrong) {
    std::cout << "WRONG: " << wrong << std::endl;
    CHECK(wrong.empty());
  }
}

void sweep_all(const Kind& kind, FaultWorld& world, const std::function<bool(const FaultScenario&)>& concerns) {
  for (const FaultScenario& scenario : scenarios()) {
    if (!concerns(scenario)) continue;
    FaultSweep sweep(world, scenario);
    sweep_one(kind, sweep, scenario);
  }
}

void sweep_all(const Kind& kind) {
  FaultWorld world;
  const auto before = totals().all.faults;
  sweep_all(kind, world, [](const FaultScenario&) { return true; });
  CHECK(totals().all.faults > before);
}

Kind killed() {
  return at_calls("kill before", Fault::Kind::kill_before, 0, 12);
}
Kind killed_after() {
  return at_calls("kill after", Fault::Kind::kill_after, 0, 20);
}
Kind killed_asking() {
  return {"kill, asked", 9, [](FaultSweep& sweep, std::size_t step, std::size_t offset) { return sweep.sweep_requests(step, offset); }};
}
Kind interrupted() {
  return at_calls("SIGINT", Fault::Kind::interrupt, 0, 21);
}
Kind full_once() {
  return at_calls("ENOSPC once", Fault::Kind::fail, ENOSPC, 27);
}
Kind failing_once() {
  return at_calls("EIO once", Fault::Kind::fail, EIO, 27);
}
Kind read_only_once() {
  return at_calls("EROFS once", Fault::Kind::fail, EROFS, 27);
}
Kind full_from() {
  return at_calls("ENOSPC from", Fault::Kind::fail_from, ENOSPC, 27);
}
Kind read_only_from() {
  return at_calls("EROFS from", Fault::Kind::fail_from, EROFS, 27);
}
Kind without_names() {
  return outage("power, all", DiskModel::Loss::everything, 36);
}
Kind without_content() {
  return outage("power, content", DiskModel::Loss::content, 36);
}

pid_t libvirtd() {
  std::ifstream file("/run/libvirtd.pid");
  pid_t pid = 0;
  file >> pid;
  return pid;
}

}  // namespace

// Each world is made once for all kinds: that takes as long as a dozen faults.
TEST_CASE(
    "a verb ends all or nothing: killed, interrupted, without power, and where all is asked for with a failing disk",
    "[each]") {
  std::vector<Kind> kinds{killed(), killed_asking(), interrupted(), without_names(), without_content()};
  if (is_whole())
    kinds.insert(kinds.end(),
                 {killed_after(), full_once(), failing_once(), read_only_once(), full_from(), read_only_from()});
  FaultWorld world;
  SyncOrder order;
  for (const FaultScenario& scenario : scenarios()) {
    FaultSweep sweep(world, scenario);
    order.check(scenario.name, sweep.calls());
    for (const Kind& kind : kinds) sweep_one(kind, sweep, scenario);
  }
}

TEST_CASE("killed before any call that changes something, a verb is finished or undone by the next command", "[kill]") {
  sweep_all(killed());
}

TEST_CASE("killed after any call that changes something, a verb is finished or undone by the next command", "[kill-after]") {
  sweep_all(killed_after());
}

// A snapshot of memory was undone under libvirt's hands: the VM ran on layers that were deleted.
TEST_CASE("killed when it has asked libvirt for something, a verb is finished or undone by the next command", "[kill-asked]") {
  sweep_all(killed_asking());
}

TEST_CASE("a verb to which the disk is full at one call changes nothing or is finished", "[errno]") {
  sweep_all(full_once());
}

TEST_CASE("a verb to which the disk fails at one call changes nothing or is finished", "[errno]") {
  sweep_all(failing_once());
}

TEST_CASE("a verb to which the file system is read-only at one call changes nothing or is finished", "[errno]") {
  sweep_all(read_only_once());
}

TEST_CASE("a verb that fills the disk is finished or undone, at the latest when there is room again", "[errno]") {
  sweep_all(full_from());
}

TEST_CASE("a verb under which the file system turns read-only is finished or undone when it is writable again", "[errno]") {
  sweep_all(read_only_from());
}

TEST_CASE("Ctrl-C at any point undoes what is under way", "[interrupt]") {
  sweep_all(interrupted());
}

TEST_CASE("power that goes takes all that was not synced, and the next command finishes or undoes the verb",
          "[power]") {
  sweep_all(without_names());
}

TEST_CASE(
    "power that goes takes what files hold that were not synced, and the next command finishes or undoes the verb",
    "[power]") {
  sweep_all(without_content());
}

TEST_CASE("every file is synced before it is renamed, its folder afterwards, and nothing is unsynced when a verb ends",
          "[power]") {
  FaultWorld world;
  SyncOrder order;
  for (const FaultScenario& scenario : scenarios()) order.check(scenario.name, FaultSweep(world, scenario).calls());
}

TEST_CASE("libvirtd that is killed in the middle of a verb and started again loses nothing", "[libvirtd]") {
  if (std::getenv("VMGRAFT_TEST_OWN_LIBVIRTD") == nullptr) {
    std::cout << "SKIPPED: killing libvirtd: it was not started by this test run\n";
    return;
  }
  std::signal(SIGPIPE, SIG_IGN);  // libvirt's client raises it when it closes the connection to a dead one
  FaultWorld world;
  Death death;
  death.die = [] {
    const pid_t pid = libvirtd();
    REQUIRE(pid > 1);
    const int handle = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    ::kill(pid, SIGKILL);
    pollfd end{handle, POLLIN, 0};  // readable when it has ended
    ::poll(&end, 1, -1);
    ::close(handle);
  };
  death.come_back = [&] {
    if (world.program({"virsh", "-c", "qemu:///system", "version"}).exit_code == 0) return;
    REQUIRE(world.program({"libvirtd", "-d"}).exit_code == 0);  // its parent ends when its socket is there
    world.reconnect();
  };
  sweep_all({"libvirtd killed", 50,
             [&](FaultSweep& sweep, std::size_t step, std::size_t offset) { return sweep.sweep(death, step, offset); }},
            world, [](const FaultScenario& scenario) {
              return scenario.name != "image import" && scenario.name != "image delete";
            });
}

TEST_CASE("a QEMU that is killed in the middle of a verb leaves a VM that is off, and nothing else", "[qemu-killed]") {
  FaultWorld world;
  Death death;
  death.die = [&] {
    for (const pid_t pid : world.qemus()) ::kill(pid, SIGKILL);
  };
  death.takes_vms_along = true;
  sweep_all({"QEMU killed", 10,
             [&](FaultSweep& sweep, std::size_t step, std::size_t offset) { return sweep.sweep(death, step, offset); }},
            world, [](const FaultScenario& scenario) { return scenario.has_qemu; });
}

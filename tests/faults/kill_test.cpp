// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fmt/format.h>

#include "faults/sweep.hpp"
#include "support/catch.hpp"

using namespace vmgraft;

namespace {

struct Totals {
  std::size_t faults = 0;
  std::size_t right = 0;
  ~Totals() {
    if (faults != 0) std::cout << fmt::format("{} faults injected, {} ended right, {} wrong\n", faults, right, faults - right);
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

/// What of a verb's points is tried in a short run: every `step`-th, beginning elsewhere from day to day.
std::size_t step_of(const FaultScenario& scenario, std::size_t divisor) {
  if (is_whole()) return 1;
  return number("VMGRAFT_FAULTS_STEP", scenario.has_qemu ? 4 * divisor : divisor);
}

using Sweeping = std::function<SweepResult(FaultSweep&, std::size_t step, std::size_t offset)>;

void sweep_all(const char* kind_name, FaultWorld& world, const Sweeping& act, std::size_t divisor,
               const std::function<bool(const FaultScenario&)>& concerns) {
  const char* only = std::getenv("VMGRAFT_FAULTS_VERB");
  for (const FaultScenario& scenario : fault_scenarios()) {
    if ((only != nullptr && scenario.name != only) || !concerns(scenario)) continue;
    FaultSweep sweep(world, scenario);
    const std::size_t step = step_of(scenario, divisor);
    const std::size_t offset = number("VMGRAFT_FAULTS_OFFSET", 0) % step;
    const SweepResult result = act(sweep, step, offset);
    totals().faults += result.faults;
    totals().right += result.right;
    std::cout << fmt::format("{:<14} {:<26} {:>4} points, every {}{}: {:>4} faults, {:>4} right ({} as before), {} wrong{}\n", kind_name,
                             scenario.name, result.points, step, step == 1 ? "" : fmt::format(" from {}", 1 + offset), result.faults,
                             result.right, result.undone, result.wrong.size(),
                             result.worst_seconds == 0 ? "" : fmt::format(", at most {:.2f} s", result.worst_seconds))
              << std::flush;
    for (const std::string& wrong : result.wrong) {
      std::cout << "WRONG: " << wrong << std::endl;
      CHECK(wrong.empty());
    }
  }
}

void sweep_all(const char* kind_name, Fault::Kind kind, int error, std::size_t divisor) {
  FaultWorld world;
  const auto before = totals().faults;
  sweep_all(kind_name, world, [&](FaultSweep& sweep, std::size_t step, std::size_t offset) { return sweep.sweep(kind, error, step, offset); },
            divisor, [](const FaultScenario&) { return true; });
  CHECK(totals().faults > before);
}

pid_t libvirtd() {
  std::ifstream file("/run/libvirtd.pid");
  pid_t pid = 0;
  file >> pid;
  return pid;
}

}  // namespace

TEST_CASE("killed before any call that changes something, a verb is finished or undone by the next command", "[kill]") {
  sweep_all("kill before", Fault::Kind::kill_before, 0, 9);
}

TEST_CASE("killed after any call that changes something, a verb is finished or undone by the next command", "[kill-after]") {
  sweep_all("kill after", Fault::Kind::kill_after, 0, 20);
}

TEST_CASE("a verb to which the disk is full at one call changes nothing or is finished", "[errno]") {
  sweep_all("ENOSPC once", Fault::Kind::fail, ENOSPC, 27);
}

TEST_CASE("a verb to which the disk fails at one call changes nothing or is finished", "[errno]") {
  sweep_all("EIO once", Fault::Kind::fail, EIO, 27);
}

TEST_CASE("a verb to which the file system is read-only at one call changes nothing or is finished", "[errno]") {
  sweep_all("EROFS once", Fault::Kind::fail, EROFS, 27);
}

TEST_CASE("a verb that fills the disk is finished or undone, at the latest when there is room again", "[errno]") {
  sweep_all("ENOSPC from", Fault::Kind::fail_from, ENOSPC, 27);
}

TEST_CASE("a verb under which the file system turns read-only is finished or undone when it is writable again", "[errno]") {
  sweep_all("EROFS from", Fault::Kind::fail_from, EROFS, 27);
}

TEST_CASE("Ctrl-C at any point undoes what is under way", "[interrupt]") {
  sweep_all("SIGINT", Fault::Kind::interrupt, 0, 15);
}

TEST_CASE("libvirtd that is killed in the middle of a verb and started again loses nothing", "[libvirtd]") {
  if (std::getenv("VMGRAFT_TEST_OWN_LIBVIRTD") == nullptr) {
    std::cout << "SKIPPED: killing libvirtd: it was not started by this test run\n";
    return;
  }
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
  sweep_all("libvirtd killed", world, [&](FaultSweep& sweep, std::size_t step, std::size_t offset) { return sweep.sweep(death, step, offset); },
            50, [](const FaultScenario& scenario) { return scenario.name != "image import" && scenario.name != "image delete"; });
}

TEST_CASE("a QEMU that is killed in the middle of a verb leaves a VM that is off, and nothing else", "[qemu-killed]") {
  FaultWorld world;
  Death death;
  death.die = [&] {
    for (const pid_t pid : world.qemus()) ::kill(pid, SIGKILL);
  };
  death.takes_vms_along = true;
  sweep_all("QEMU killed", world, [&](FaultSweep& sweep, std::size_t step, std::size_t offset) { return sweep.sweep(death, step, offset); }, 10,
            [](const FaultScenario& scenario) { return scenario.has_qemu; });
}

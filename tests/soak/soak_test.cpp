// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <iostream>
#include <mutex>
#include <random>
#include <sstream>
#include <thread>

#include <fmt/format.h>

#include "soak/soak_watch.hpp"
#include "soak/soak_worker.hpp"
#include "support/catch.hpp"

using namespace vmgraft;

namespace {

/// libvirtd's own limits as it is installed. Source: libvirtd.conf, field notes: max_clients, max_workers.
constexpr std::size_t kMaxClients = 5000;
constexpr std::size_t kMaxWorkers = 20;

std::set<std::string> virsh_names(SoakLab& lab) {
  const SoakRun run = lab.program({"virsh", "-c", "qemu:///system", "list", "--all", "--name"});
  REQUIRE(run.result.exit_code == 0);
  std::set<std::string> names;
  std::istringstream lines(run.result.out);
  for (std::string name; std::getline(lines, name);)
    if (name.starts_with(lab.name(""))) names.insert(name);
  return names;
}

void report(const std::vector<std::string>& failures) {
  for (const std::string& failure : failures) {
    std::cout << "WRONG: " << failure << std::endl;
    CHECK(failure.empty());
  }
}

/// The VMs that one worker alone has touched are what it made of them, whoever is asked but vmgraft.
void check_own(SoakLab& lab, const OwnVms& own, const std::set<std::string>& domains) {
  for (const auto& [name, vm] : own) {
    if (!domains.contains(name)) lab.fail("libvirt has no domain of " + name);
    const auto snapshots = lab.snapshots(name);
    std::set<std::string> wanted;
    for (const auto& [snapshot, content] : vm.snapshots) {
      wanted.insert(snapshot);
      if (!lab.holds(lab.data_file(name, snapshot), content))
        lab.fail(fmt::format("{}@{} does not hold {}", name, snapshot, content));
    }
    if (!snapshots)
      lab.fail("the store has no VM " + name);
    else if (*snapshots != wanted)
      lab.fail(fmt::format("{} has {} snapshots, and should have {}", name, snapshots->size(), wanted.size()));
    if (!lab.holds(lab.data_file(name), vm.content)) lab.fail(fmt::format("{} does not hold {}", name, vm.content));
  }
}

/// By four at once, each a few after the other: what is deleted may be what others stand on.
void delete_all(SoakLab& lab, const std::set<std::string>& names) {
  constexpr std::size_t kAtOnce = 10;
  std::mutex mutex;
  auto next = names.begin();
  const auto draw = [&] {
    const std::lock_guard<std::mutex> lock(mutex);
    std::vector<std::string> arguments{"--quiet", "delete", "--yes"};
    for (std::size_t i = 0; i < kAtOnce && next != names.end(); ++i) arguments.push_back(*next++);
    return arguments;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (std::vector<std::string> arguments = draw(); arguments.size() > 3; arguments = draw()) {
        const SoakRun run = lab.run(arguments);
        if (run.result.exit_code != 0) lab.fail("deleting all VMs fails: " + run.result.err);
      }
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST_CASE("a hundred processes on one store fail with nothing but conflicts, lose nothing and leave nothing behind",
          "[soak]") {
  const std::size_t processes = soak_number("VMGRAFT_SOAK_PROCESSES", 100);
  const std::size_t operations = soak_number("VMGRAFT_SOAK_OPERATIONS", 20);
  const std::size_t starts = soak_number("VMGRAFT_SOAK_STARTS", 200);
  const std::uint64_t seed = soak_number("VMGRAFT_SOAK_SEED", std::random_device{}());
  std::cout << fmt::format("{} processes, {} operations each, VMGRAFT_SOAK_SEED={}\n", processes, operations, seed)
            << std::flush;
  SoakLab lab;
  lab.begin();
  const auto begun = std::chrono::steady_clock::now();
  PublicVms others;
  std::vector<std::unique_ptr<SoakWorker>> workers;
  // A fifth and eight more: no start is counted of a VM that somebody else has deleted, or whose creation was killed.
  const std::size_t tries = starts + starts / 5 + 8;
  for (std::size_t i = 0; i < processes; ++i)
    workers.push_back(std::make_unique<SoakWorker>(lab, others, i, seed, operations,
                                                   tries / processes + (i < tries % processes ? 1 : 0)));
  SoakWatch watch;
  std::vector<std::thread> threads;
  for (const auto& worker : workers)
    threads.emplace_back([&lab, &worker] {
      try {
        worker->work();
      } catch (const std::exception& error) {
        lab.fail(error.what());
      }
    });
  for (std::thread& thread : threads) thread.join();
  const SoakWatch::Peak peak = watch.stop();
  const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  std::cout << fmt::format(
                   "{} operations in {:.0f} s: {} runs of vmgraft, {} starts, {} conflicts, {} not found, {} kills, {} "
                   "recoveries; at most "
                   "{} connections and {} workers of libvirtd, {:.1f} s of waiting for a lock ({}), {} looks\n",
                   lab.counts.operations.load(), seconds, lab.counts.runs.load(), lab.counts.starts.load(),
                   lab.counts.conflicts.load(), lab.counts.not_found.load(), lab.counts.kills.load(),
                   lab.counts.recoveries.load(), peak.connections, peak.workers, peak.lock_wait, peak.lock, peak.looks)
            << lab.profile() << std::flush;
  report(lab.failures());
  REQUIRE_FALSE(lab.has_failed());

  // Shared VMs may have been left running, and a killed process's work undone: the next command sees to that.
  REQUIRE(lab.run({"list"}).result.exit_code == 0);
  std::set<std::string> names;
  for (const std::string& name : SoakWorker::shared_names(lab)) {
    if (!lab.has_vm(name)) continue;
    names.insert(name);
    CHECK(lab.run({"--quiet", "stop", name, "--timeout", "0"}).result.exit_code == 0);
  }
  for (const auto& worker : workers)
    for (const auto& [name, vm] : worker->own()) names.insert(name);
  const std::set<std::string> domains = virsh_names(lab);
  CHECK(domains == names);
  for (const auto& worker : workers) check_own(lab, worker->own(), domains);
  report(lab.failures());
  report(lab.world().flaws());
  CHECK(lab.counts.operations == processes * operations);
  CHECK(lab.counts.starts >= starts);
  CHECK(lab.counts.kills > 0);
  CHECK(peak.connections > 0);
  CHECK(peak.connections <= std::min(kMaxClients, 2 * processes));  // those of killed ones are closed a little later
  CHECK(peak.workers <= kMaxWorkers);

  delete_all(lab, names);
  report(lab.failures());
  const SoakRun gc = lab.run({"gc", "--dry-run", "--json"});
  INFO(gc.result.out << gc.result.err);
  REQUIRE(gc.result.exit_code == 0);
  const nlohmann::json found = nlohmann::json::parse(gc.result.out).at("result");
  for (const char* list : {"layers", "files", "domains", "manifests", "journals", "expired"})
    CHECK(found.at(list).empty());
  report(lab.world().flaws());
  report(lab.world().delete_all());
  CHECK(virsh_names(lab).empty());
  CHECK(lab.world().qemus().empty());
  for (const auto& entry : std::filesystem::directory_iterator(lab.world().store() / "locks")) {
    const std::string file = entry.path().filename();
    INFO(file);
    CHECK_FALSE((file.starts_with("vm-") || file.starts_with("work-")));
  }
}

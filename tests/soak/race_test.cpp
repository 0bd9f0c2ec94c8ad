// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <iostream>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "soak/soak_lab.hpp"
#include "support/catch.hpp"

using namespace vmgraft;

namespace {

/// All at once; in the order of the commands.
std::vector<SoakRun> run_all(SoakLab& lab, const std::vector<std::vector<std::string>>& commands) {
  std::vector<SoakRun> runs(commands.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < commands.size(); ++i) threads.emplace_back([&, i] { runs[i] = lab.run(commands[i]); });
  for (std::thread& thread : threads) thread.join();
  return runs;
}

void require_sound(SoakLab& lab) {
  const std::vector<std::string> flaws = lab.world().flaws();
  INFO(fmt::format("{}", fmt::join(flaws, "\n")));
  REQUIRE(flaws.empty());
}

void require_exit(const SoakRun& run, int code) {
  INFO(run.line << "\n" << run.result.out << run.result.err);
  REQUIRE(run.result.exit_code == code);
}

}  // namespace

TEST_CASE("fifty processes that make one new store at once all find it made", "[race]") {
  SoakLab lab;
  lab.begin();
  const std::filesystem::path store = lab.world().store();
  for (int round = 0; round < 3; ++round) {
    std::filesystem::remove_all(store);
    for (const SoakRun& run : run_all(lab, std::vector<std::vector<std::string>>(50, {"list", "--all"})))
      require_exit(run, 0);
    std::ifstream version(store / "version");
    std::string format;
    version >> format;
    CHECK(format == "1");
  }
}

TEST_CASE("of twenty that create one name at once one does, and the others are told of the conflict", "[race]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("one");
  std::size_t done = 0;
  for (const SoakRun& run :
       run_all(lab, std::vector<std::vector<std::string>>(20, {"create", "soak", vm, "--no-start"}))) {
    if (run.result.exit_code == 0)
      ++done;
    else
      require_exit(run, exit_code(Errc::conflict));
  }
  CHECK(done == 1);
  require_sound(lab);
}

TEST_CASE("two starts of one VM at once start it once", "[race]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("one");
  require_exit(lab.run({"create", "soak", vm, "--no-start"}), 0);
  for (const SoakRun& run : run_all(lab, std::vector<std::vector<std::string>>(4, {"start", vm, "--wait", "none"})))
    require_exit(run, 0);
  CHECK(lab.world().qemus().size() == 1);
  require_exit(lab.run({"stop", vm, "--timeout", "0"}), 0);
  require_sound(lab);
}

TEST_CASE("a clone of a VM that is deleted meanwhile is made, or does not find it", "[race]") {
  SoakLab lab;
  lab.begin();
  for (int round = 0; round < 6; ++round) {
    const std::string source = lab.name(fmt::format("source-{}", round));
    const std::string clone = lab.name(fmt::format("clone-{}", round));
    require_exit(lab.run({"create", "soak", source, "--no-start"}), 0);
    lab.write_content(source, 7);
    const std::vector<SoakRun> runs =
        run_all(lab, {{"clone", source, clone, "--count", "3"}, {"delete", "--yes", source}, {"gc"}});
    if (runs[0].result.exit_code != 0) require_exit(runs[0], exit_code(Errc::not_found));
    require_exit(runs[1], 0);
    require_exit(runs[2], 0);
    CHECK_FALSE(lab.has_vm(source));
    CHECK(lab.has_vm(clone + "-1") == (runs[0].result.exit_code == 0));
    if (lab.has_vm(clone + "-1")) CHECK(lab.holds(lab.data_file(clone + "-2"), 7));
    require_sound(lab);
  }
}

TEST_CASE("what one dead process left is seen to once by a hundred that come at the same time", "[race]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("many");
  // Killed as soon as it has its journal, or a little later: fifty VMs take it a while.
  std::size_t recovered = 0;
  for (int round = 0; round < 3; ++round) {
    require_exit(
        lab.run({"create", "soak", vm, "--count", "50", "--no-start"}, std::chrono::milliseconds(400 + 300 * round)),
        137);
    const bool has_journal = lab.world().journals() != 0;
    const std::size_t before = lab.counts.recoveries;
    for (const SoakRun& run : run_all(lab, std::vector<std::vector<std::string>>(100, {"list"}))) require_exit(run, 0);
    // A work folder beside the journal is told of as well, none of both twice.
    CHECK(lab.counts.recoveries - before <= 2);
    CHECK(lab.world().journals() == 0);
    if (has_journal) ++recovered;
    require_sound(lab);
    if (lab.has_vm(vm + "-1"))
      require_exit(lab.run({"create", "soak", vm + "-1", "--no-start"}), exit_code(Errc::conflict));
    static_cast<void>(lab.world().delete_all());
  }
  CHECK(recovered > 0);
}

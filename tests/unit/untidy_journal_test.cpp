// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "plan/plan_delete.hpp"
#include "plan/plan_snapshot.hpp"
#include "run/journal.hpp"
#include "support/catch.hpp"
#include "support/plan_world.hpp"

using namespace vmgraft;

namespace {

std::vector<JournalEntry> journals(PlanWorld& world) {
  std::vector<JournalEntry> entries;
  for (const std::string& file : world.host.list_folder(world.store.journal_folder()))
    entries.push_back(journal_from_json(world.host.read_file(world.store.journal_folder() / file).value(), file));
  return entries;
}

}  // namespace

// A `delete` that was killed between its last step and its sweep had no journal any more: its layers stayed for ever.
TEST_CASE("a plan that takes names away keeps its journal, without steps, until what it leaves is swept") {
  PlanWorld world;
  world.add_vm("a");
  Executor executor(world.world());
  const std::string id = executor.execute_untidy(plan_delete(world.store, world.store.manifest("a"), true));
  const std::vector<JournalEntry> open = journals(world);
  REQUIRE(open.size() == 1);
  CHECK(open.front().id == id);
  CHECK(open.front().tidy);
  CHECK(open.front().committed);
  CHECK(open.front().plan.steps.empty());
  CHECK(open.front().plan.vms == std::vector<std::string>{"a"});

  // The name may have been given again meanwhile: the journal must not delete that VM.
  world.add_vm("a");
  CHECK(Executor(world.world()).recover(open.front()) ==
        "finished 'delete a', which process " + std::to_string(open.front().pid) + " had left half done");
  CHECK(world.store.find_manifest("a").has_value());
  CHECK(journals(world).size() == 1);  // still to be tidied up, by who recovers
  executor.close(id);
  CHECK(journals(world).empty());
}

TEST_CASE("a plan that takes names away and fails before its commit leaves no journal") {
  PlanWorld world;
  world.add_vm("a");
  world.touch("a");
  world.run(world.plan_snap("a", "s1"));
  world.host.reset();
  world.host.fail_at(2);  // the manifest; the first is the journal
  CHECK_THROWS_AS(static_cast<void>(Executor(world.world()).execute_untidy(
                      plan_snapshot_delete(world.store, world.store.manifest("a"), "s1"))),
                  Error);
  CHECK(journals(world).empty());
}

// The remedy for a full disk was to delete something, and that wrote a journal first.
TEST_CASE("on a full disk the store's reserve is spent on what frees room, and on nothing else") {
  PlanWorld world;
  world.add_vm("a");
  world.store.keep_reserve();
  REQUIRE(world.host.exists(world.store.reserve_file()));
  const Plan create = world.plan_new({"b"});
  const Plan remove = plan_delete(world.store, world.store.manifest("a"), true);
  const auto spends = [&](const Plan& plan) {
    PlanWorld other(world);
    other.run(plan);
    return !other.host.exists(other.store.reserve_file());
  };
  CHECK_FALSE(spends(remove));
  world.host.set_free_space({4096, std::uint64_t{200} << 30});
  CHECK_FALSE(spends(create));
  CHECK(spends(remove));
  PlanWorld strange(world);
  strange.host.add_file(strange.store.reserve_file(), "somebody's own", 0600);
  strange.run(remove);
  CHECK(strange.host.exists(strange.store.reserve_file()));

  world.run(remove);
  world.store.keep_reserve();  // the disk is full still
  CHECK_FALSE(world.host.exists(world.store.reserve_file()));
  world.host.set_free_space({std::uint64_t{100} << 30, std::uint64_t{200} << 30});
  world.store.keep_reserve();
  CHECK(world.host.exists(world.store.reserve_file()));
}

TEST_CASE("a journal that was written before journals said whether to tidy up is read") {
  const std::string text = R"({"version":1,"id":"0123","committed":true,"pid":42,"verb":"stop a","vms":["a"],"steps":[]})";
  CHECK_FALSE(journal_from_json(text, "0123.json").tidy);
}

// It was told as garbage, to be looked at by hand.
TEST_CASE("a journal of another vmgraft says who can finish it") {
  const std::string text = R"({"version":2,"id":"0123","committed":true,"pid":42,"verb":"stop a","vms":["a"],"steps":[]})";
  const Error error = error_of([&] { static_cast<void>(journal_from_json(text, "0123.json")); });
  CHECK(error.code() == Errc::host_unfit);
  CHECK(std::string(error.what()) == "0123.json: not a journal that can be read: it has format 2, and this vmgraft reads 1");
  CHECK(error.hint() == "an operation of another vmgraft was interrupted: any command of that one finishes or undoes it");
}

TEST_CASE("a layer that a journal speaks of is not swept") {
  PlanWorld world;
  world.add_vm("a");
  const std::string head = world.head("a");
  world.run(plan_delete(world.store, world.store.manifest("a"), true));
  const auto deletes_head = [&](const Plan& plan) {
    return std::any_of(plan.steps.begin(), plan.steps.end(), [&](const Step& step) {
      const auto* removal = std::get_if<DeleteLayer>(&step);
      return removal != nullptr && removal->id == head;
    });
  };
  CHECK(deletes_head(plan_sweep(world.store_facts())));
  CHECK_FALSE(deletes_head(plan_sweep(world.store_facts(), {head})));
}

// A delete merged no clone's chain: the deleted VM's own head, not yet swept, counted as a second child.
TEST_CASE("a head that nothing names any more does not keep a clone's layers from being merged") {
  PlanWorld world;
  world.add_vm("a");
  world.touch("a");
  world.run(world.plan_snap("a", "s1"));
  const std::string shared = world.store.manifest("a").snapshots.at(0).disks.at(0).layer;
  world.run(world.plan_cloned("a", "s1", {"b"}));
  CHECK(plan_merge(world.store_facts(), world.store.manifest("b"), false, false).merged.empty());
  CHECK(vms_to_merge(world.store_facts()).empty());
  world.run(plan_delete(world.store, world.store.manifest("a"), true));
  const MergePlan merge = plan_merge(world.store_facts(), world.store.manifest("b"), false, false);
  CHECK(merge.merged == std::vector<std::string>{shared});
  const std::vector<Manifest> vms = vms_to_merge(world.store_facts());
  REQUIRE(vms.size() == 1);
  CHECK(vms.front().name == "b");
}

// qemu-img names the new base in the header before it writes the tables that lead to what it copied: the header was
// taken for the proof that a merge was done, and the layer that held the data was deleted. What a disk refuses when
// qemu-img closes the file is told on stderr, and in no exit code: an image whose tables were lost was taken for whole.
TEST_CASE("a merge whose qemu-img died after it had named the new base is done once more before anything is deleted") {
  const CommandResult first =
      GENERATE(CommandResult{137, false, {}, {}},
               CommandResult{0, false, {}, "qemu-img: Failed to flush the L2 table cache: Input/output error\n"});
  PlanWorld world;
  world.add_vm("a");
  world.touch("a");
  world.run(world.plan_snap("a", "s1"));
  world.touch("a");
  const std::string middle = world.head("a");
  world.run(world.plan_snap("a", "s2"));
  world.touch("a");
  world.run(plan_snapshot_delete(world.store, world.store.manifest("a"), "s2"));
  const Plan plan = plan_merge(world.store_facts(), world.store.manifest("a"), false, true).plan;
  const std::string base = world.store.layer(middle).parent + ".qcow2";
  world.host.reset();
  std::vector<std::string> runs;
  world.host.add_program("qemu-img", [&](FakeHost& host, const Command& command) {
    std::string run = command.argv.at(1);
    if (run == "rebase") {
      fake_rebase(host, command.folder / command.argv.back(), command.argv.at(7));
      run += command.argv.at(8) == "-u" ? " -u " : " ";
      run += command.argv.at(7);
    }
    runs.push_back(run);
    return runs.size() == 1 ? first : CommandResult{0, false, {}, "qemu-img: warning: the disk is slow\n"};
  });
  CHECK_THROWS_AS(world.run(plan), Error);
  REQUIRE(journals(world).size() == 1);
  CHECK(world.store.has_layer(middle));
  static_cast<void>(Executor(world.world()).recover(journals(world).front()));
  CHECK(runs ==
        std::vector<std::string>{"rebase " + base, "rebase -u " + middle + ".qcow2", "rebase " + base, "check"});
  CHECK_FALSE(world.store.has_layer(middle));
}

// SPDX-License-Identifier: Apache-2.0
// libvirt goes on with what it was asked for by a process that is dead.
#include <algorithm>

#include "domain/domain_xml.hpp"
#include "run/journal.hpp"
#include "support/catch.hpp"
#include "support/plan_world.hpp"

using namespace vmgraft;

namespace {

/// A snapshot of the running VM "a", whose process died when it had asked libvirt to switch the disks, and before libvirt did.
class Asked {
 public:
  Asked() {
    world_.add_vm("a");
    uuid_ = world_.uuid("a");
    world_.hypervisor.set_running(uuid_, true);
    world_.host.reset();
    const Plan plan = world_.plan_snap("a", "s1");
    for (const Step& step : plan.steps)
      if (const auto* found = std::get_if<SwitchDisks>(&step)) step_ = *found;
    REQUIRE(step_.uuid == uuid_);
    PlanWorld whole(world_);
    whole.run(plan);
    const std::vector<std::string>& calls = whole.host.calls();
    const auto asked = std::find_if(calls.begin(), calls.end(),
                                    [](const std::string& call) { return call.find(" /libvirt/") != std::string::npos; });
    world_.host.die_at(static_cast<std::size_t>(asked - calls.begin()) + 1, FakeHost::When::before);
    try {
      world_.run(plan);
      FAIL("it did not die");
    } catch (const Death&) {
      world_.host.revive();
    }
  }

  /// libvirt has done it when it is waited for the \p nth time.
  void done_at(unsigned nth) {
    world_.hypervisor.leave_at_work(
        [this] {
          std::vector<OverlayTarget> overlays;
          for (const SwitchDisk& disk : step_.disks)
            overlays.push_back({disk.target, world_.store.layer_file(disk.layer), false});
          world_.hypervisor.switch_to_overlays(uuid_, overlays, {});
        },
        nth);
  }

  std::string recover() {
    const std::string file = world_.host.list_folder(world_.store.journal_folder()).at(0);
    const std::string path = world_.store.journal_folder() / file;
    return Executor(world_.world()).recover(journal_from_json(*world_.host.read_file(path), path));
  }

  /// Each disk that the VM runs on is there, and is a head of its manifest.
  void expect_whole() {
    const Manifest manifest = world_.store.manifest("a");
    CHECK(manifest.snapshots.size() == 1);
    std::vector<std::string> heads;
    for (const auto& head : manifest.heads) heads.push_back(world_.store.layer_file(head.layer));
    for (const DomainFacts::Disk& disk : read_domain(world_.hypervisor.domain_xml(uuid_, false)).disks) {
      if (std::find(heads.begin(), heads.end(), disk.path) == heads.end()) FAIL(disk.path << " is no head");
      CHECK(world_.host.exists(disk.path));
    }
    CHECK(world_.host.list_folder(world_.store.journal_folder()).empty());
  }

 private:
  PlanWorld world_;
  std::string uuid_;
  SwitchDisks step_;
};

}  // namespace

// The snapshot was undone, its layers deleted, and then the VM ran on them: what it wrote from then on was lost when it stopped.
TEST_CASE("a snapshot that libvirt still makes for a dead process is waited for, and finished") {
  Asked asked;
  asked.done_at(1);
  CHECK(asked.recover().starts_with("finished 'snapshot"));
  asked.expect_whole();
}

TEST_CASE("a snapshot that libvirt begins for a dead process while it is undone keeps its layers, and is finished by the next") {
  Asked asked;
  asked.done_at(3);  // by recovery, and for the definition that it puts back
  CHECK_THROWS_AS(asked.recover(), Error);
  CHECK(asked.recover().starts_with("finished 'snapshot"));
  asked.expect_whole();
}

TEST_CASE("a snapshot that libvirt never made for a dead process is undone") {
  Asked asked;
  CHECK(asked.recover().starts_with("undid 'snapshot"));
}

namespace {

/// A VM "a" that goes off when its memory is asked for: libvirt makes a snapshot of its disks, and says done.
struct GoesOff {
  PlanWorld world;
  std::string uuid;
  std::string definition;
  Plan plan;

  GoesOff() {
    world.add_vm("a");
    uuid = world.uuid("a");
    world.hypervisor.set_running(uuid, true);
    world.hypervisor.lose_power_when_memory_is_saved();
    definition = world.hypervisor.domain_xml(uuid, true);
    SnapshotPlanInput input{world.store, world.facts("a"), "s1", "", "2026-01-02T03:04:05Z", false, world.ids(2)};
    input.memory = true;
    plan = plan_snapshot(std::move(input));
    world.host.reset();
  }

  /// The call of the host in which libvirt is asked.
  [[nodiscard]] std::size_t asked() const {
    PlanWorld whole(world);
    whole.hypervisor.lose_power_when_memory_is_saved();
    CHECK_THROWS_AS(whole.run(plan), Error);
    const std::vector<std::string>& calls = whole.host.calls();
    const auto found = std::find_if(calls.begin(), calls.end(), [](const std::string& call) {
      return call.find(" /libvirt/") != std::string::npos;
    });
    REQUIRE(found != calls.end());
    return static_cast<std::size_t>(found - calls.begin()) + 1;
  }

  std::string recover() {
    const std::string file = world.store.journal_folder() / world.host.list_folder(world.store.journal_folder()).at(0);
    return Executor(world.world()).recover(journal_from_json(*world.host.read_file(file), file));
  }
};

}  // namespace

// libvirt's answer to a VM that has just gone off is a snapshot of its disks. It was kept as one that has a memory.
TEST_CASE("a VM that goes off while its memory is asked for keeps its disks and gets no snapshot") {
  GoesOff off;
  PlanWorld& world = off.world;
  const std::string manifest = *world.host.read_file(world.store.manifest_file("a"));
  const std::vector<std::string> layers = world.host.list_folder(world.store.layers_folder());
  try {
    world.run(off.plan);
    FAIL("a snapshot with a memory of a VM that is off");
  } catch (const Error& error) {
    CHECK(std::string(error.what()) == "VM 'a' went off while its memory was to be saved");
    CHECK(error.leftovers() == std::vector<std::string>{});
  }
  CHECK(*world.host.read_file(world.store.manifest_file("a")) == manifest);
  CHECK(world.hypervisor.domain_xml(off.uuid, true) == off.definition);
  CHECK(world.host.list_folder(world.store.layers_folder()) == layers);
  CHECK(world.host.list_folder(world.store.journal_folder()).empty());
  CHECK_FALSE(world.host.exists(world.store.snapshot_folder("a", "s1")));
}

// The VM was put back on its old layers, and what it had written to the new ones since was deleted with them.
TEST_CASE("of a VM that went off while its memory was asked for by a dead process, a snapshot of the disks is kept") {
  const bool runs_again = GENERATE(false, true);
  GoesOff off;
  PlanWorld& world = off.world;
  world.host.die_at(off.asked(), FakeHost::When::after);
  CHECK_THROWS_AS(world.run(off.plan), Death);
  world.host.revive();
  const std::string moved = world.hypervisor.domain_xml(off.uuid, true);
  CHECK_FALSE(moved == off.definition);
  world.hypervisor.set_running(off.uuid, runs_again);

  const std::string said = off.recover();
  CHECK(said.starts_with("finished 'snapshot a@s1'"));
  CHECK(said.ends_with(", without a memory: the VM had gone off before it was written"));
  const Manifest manifest = world.store.manifest("a");
  REQUIRE(manifest.snapshots.size() == 1);
  CHECK(manifest.snapshots[0].name == "s1");
  CHECK_FALSE(manifest.snapshots[0].memory);
  for (const HeadRecord& head : manifest.heads) {
    const std::string file = world.store.layer_file(head.layer);
    CHECK(moved.find(file) != std::string::npos);
    CHECK(world.hypervisor.domain_xml(off.uuid, true).find(file) != std::string::npos);
    CHECK(world.host.exists(file));
  }
  CHECK(world.host.list_folder(world.store.journal_folder()).empty());
}

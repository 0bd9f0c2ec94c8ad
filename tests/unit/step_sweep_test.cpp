// SPDX-License-Identifier: Apache-2.0
#include <functional>
#include <iostream>
#include <map>
#include <set>
#include <sstream>

#include "domain/placement.hpp"
#include "plan/plan_delete.hpp"
#include "plan/plan_snapshot.hpp"
#include "run/journal.hpp"
#include "support/catch.hpp"
#include "support/gc_world.hpp"
#include "support/gpu_world.hpp"
#include "support/plan_world.hpp"

using namespace vmgraft;

namespace {

/// A verb at work on a world.
struct Scenario {
  std::string name;
  std::function<void(PlanWorld&)> prepare;
  std::function<Plan(PlanWorld&)> plan;
  /// What the user does about a device that was left out; empty: nothing ever is.
  std::function<void(PlanWorld&)> plug_in_again = {};
};

/// What the next command does first.
void recover_all(PlanWorld& world) {
  for (const std::string& file : world.host.list_folder(world.store.journal_folder())) {
    const std::string path = world.store.journal_folder() / file;
    static_cast<void>(Executor(world.world()).recover(journal_from_json(*world.host.read_file(path), path)));
  }
}

std::string plugged_gpu() {
  PassedGpu gpu;
  gpu.functions.push_back({"0000:41:00.0", true, 0});
  return hostdev_xml(gpu, 0, "ua-gpu0-0", 3);
}

std::string plugged_mdev(const std::string& vm_uuid) {
  PassedGpu gpu;
  gpu.mdev = mdev_uuid(vm_uuid, 0);
  return hostdev_xml(gpu, 0, "ua-gpu0-0", 3);
}

std::vector<Scenario> scenarios() {
  const auto with_history = [](PlanWorld& world) {
    world.add_vm("a", {false, true});
    world.touch("a");
    world.run(world.plan_snap("a", "s1"));
    world.touch("a");
    world.host.reset();
  };
  const auto with_unnamed_middle = [with_history](PlanWorld& world) {
    with_history(world);
    world.run(world.plan_snap("a", "s2"));
    world.touch("a");
    world.run(plan_snapshot_delete(world.store, world.store.manifest("a"), "s2"));
    world.host.reset();
  };
  const auto running = [](const auto& prepare) {
    return [prepare](PlanWorld& world) {
      prepare(world);
      world.hypervisor.set_running(world.uuid("a"), true);
    };
  };
  const auto one_vm = [](PlanWorld& world) { world.add_vm("a", {true, true}); world.touch("a"); };
  const std::string gpu = "0000:41:00.0";
  const auto with_gpus = [one_vm](PlanWorld& world) {
    one_vm(world);
    add_gpus(world.host);
  };
  const auto with_lease = [with_gpus](PlanWorld& world) {
    with_gpus(world);
    world.run(lease_of(world.host, "a"));
    world.host.reset();
  };
  const auto with_plugged = [with_lease](PlanWorld& world) {
    with_lease(world);
    world.hypervisor.set_running(world.uuid("a"), true);
    world.hypervisor.attach_device(world.uuid("a"), plugged_gpu());
    world.host.reset();
  };
  const auto with_lent = [with_gpus, gpu](PlanWorld& world) {
    with_gpus(world);
    world.run(plan_lend(gpu_facts_of(world.host), ledger_of(world.host), gpu));
    world.host.reset();
  };
  const auto with_vfs = [with_gpus](PlanWorld& world) {
    with_gpus(world);
    world.run(plan_make_vfs(gpu_facts_of(world.host), ledger_of(world.host), "0000:42:00.0", 2));
    world.host.reset();
  };
  const auto with_mdev_type = [with_gpus, gpu](PlanWorld& world) {
    with_gpus(world);
    world.host.add_mdev_type(gpu, "nvidia-11", 4);
    world.host.reset();
  };
  const auto with_mdevs = [with_mdev_type](PlanWorld& world) {
    with_mdev_type(world);
    world.run(mdev_lease_of(world.host, "a", world.uuid("a"), 2));
    world.host.reset();
  };
  const auto with_plugged_mdev = [with_mdevs](PlanWorld& world) {
    with_mdevs(world);
    world.hypervisor.set_running(world.uuid("a"), true);
    world.hypervisor.attach_device(world.uuid("a"), plugged_mdev(world.uuid("a")));
    world.host.reset();
  };
  return {
      {"mediated devices made", with_mdev_type,
       [](PlanWorld& w) { return mdev_lease_of(w.host, "a", w.uuid("a"), 2); }},
      {"mediated devices removed", with_mdevs,
       [](PlanWorld& w) {
         return plan_remove_mdevs("a", w.uuid("a"), w.host.list_folder("/sys/bus/mdev/devices"), {});
       }},
      {"detach of a mediated device", with_plugged_mdev,
       [](PlanWorld& w) {
         Plan plan{"gpu detach a", {"a"}, {}};
         for (DetachDevice& step : detach_steps("a", w.uuid("a"), w.hypervisor.domain_xml(w.uuid("a"), false), 60, nullptr))
           plan.steps.emplace_back(std::move(step));
         return plan;
       }},
      {"GPU lease", with_gpus, [](PlanWorld& w) { return lease_of(w.host, "a"); }},
      {"GPU release", with_lease,
       [gpu](PlanWorld& w) {
         return plan_release(gpu_facts_of(w.host), ledger_of(w.host), gpu, {"hot", {}});
       }},
      {"GPU quarantine", with_lease,
       [gpu](PlanWorld& w) {
         return plan_release(gpu_facts_of(w.host), ledger_of(w.host), gpu, {{}, "it is dead"});
       }},
      {"GPU lend", with_gpus, [gpu](PlanWorld& w) { return plan_lend(gpu_facts_of(w.host), ledger_of(w.host), gpu); }},
      {"GPU return", with_lent,
       [gpu](PlanWorld& w) {
         return plan_return(gpu_facts_of(w.host), ledger_of(w.host), gpu, {"hot", {}});
       }},
      {"virtual functions made", with_gpus,
       [](PlanWorld& w) { return plan_make_vfs(gpu_facts_of(w.host), ledger_of(w.host), "0000:42:00.0", 2); }},
      {"virtual functions removed", with_vfs,
       [](PlanWorld& w) { return plan_remove_vfs(gpu_facts_of(w.host), ledger_of(w.host), "0000:42:00.0"); }},
      {"stop with a GPU", with_plugged,
       [](PlanWorld& w) {
         return Plan{"stop a", {"a"}, {Commit{}, PowerOff{"a", w.uuid("a")}}};
       }},
      {"start with a GPU", with_lease,
       [](PlanWorld& w) {
         std::string xml = w.hypervisor.domain_xml(w.uuid("a"), true);
         xml.insert(xml.find("</devices>"), plugged_gpu());
         return Plan{"start a", {"a"}, {StartDomain{"a", w.uuid("a"), xml}}};
       }},
      {"GPU attach", running(with_lease),
       [](PlanWorld& w) {
         return Plan{"gpu attach a", {"a"}, {AttachDevice{"a", w.uuid("a"), "ua-gpu0-0", plugged_gpu()}}};
       }},
      {"GPU detach", with_plugged,
       [](PlanWorld& w) {
         return Plan{"gpu detach a", {"a"}, {DetachDevice{"a", w.uuid("a"), "ua-gpu0-0", plugged_gpu(), 60}}};
       }},
      {"memory snapshot with a GPU", with_plugged,
       [](PlanWorld& w) {
         SnapshotPlanInput input{w.store, w.facts("a"), "warm", "", "2026-01-02T03:04:05Z", false, w.ids(2)};
         input.memory = true;
         input.unplug = {{"a", w.uuid("a"), "ua-gpu0-0", plugged_gpu(), 60}};
         return plan_snapshot(std::move(input));
       },
       [](PlanWorld& w) { w.hypervisor.attach_device(w.uuid("a"), plugged_gpu()); }},
      {"create of three", [](PlanWorld&) {},
       [](PlanWorld& w) {
         return w.plan_new({"a", "b", "c"});
       }},
      {"snapshot, stopped", one_vm, [](PlanWorld& w) { return w.plan_snap("a", "s1"); }},
      {"snapshot, running and frozen", running(one_vm), [](PlanWorld& w) { return w.plan_snap("a", "s1", true); }},
      {"snapshot, running and not frozen", running(one_vm), [](PlanWorld& w) { return w.plan_snap("a", "s1"); }},
      {"move before a clone, stopped", one_vm, [](PlanWorld& w) { return w.plan_moved("a").plan; }},
      {"move before a clone, running", running(one_vm), [](PlanWorld& w) { return w.plan_moved("a", true).plan; }},
      {"clone of a snapshot, twice", with_history,
       [](PlanWorld& w) {
         return w.plan_cloned("a", "s1", {"b", "c"});
       }},
      {"full clone", with_history, [](PlanWorld& w) { return w.plan_cloned("a", "s1", {"b"}, true); }},
      {"revert, stopped", with_history, [](PlanWorld& w) { return w.plan_back("a", "s1").plan; }},
      {"revert, running", running(with_history), [](PlanWorld& w) { return w.plan_back("a", "s1").plan; }},
      {"snapshot delete", with_history,
       [](PlanWorld& w) { return plan_snapshot_delete(w.store, w.store.manifest("a"), "s1"); }},
      {"delete, stopped", with_history, [](PlanWorld& w) { return plan_delete(w.store, w.store.manifest("a"), true); }},
      {"delete, running", running(with_history),
       [](PlanWorld& w) { return plan_delete(w.store, w.store.manifest("a"), true); }},
      {"sweep",
       [with_history](PlanWorld& w) {
         with_history(w);
         w.run(plan_delete(w.store, w.store.manifest("a"), true));
         w.host.reset();
       },
       [](PlanWorld& w) { return plan_sweep(w.store_facts()); }},
      {"gc of files and layers",
       [with_history](PlanWorld& w) {
         with_history(w);
         w.host.erase(w.store.manifest_file("a"));
         w.hypervisor.undefine("00000000-0000-4000-8000-610000000000", true);
         w.host.add_file("/store/layers/.x.json.7.0.tmp", "x", 0600);
         w.host.erase("/store/tmp/work");
         w.host.reset();
       },
       [](PlanWorld& w) { return plan_gc(gc_facts_of(w)).removal; }},
      {"gc of a domain",
       [with_history](PlanWorld& w) {
         with_history(w);
         w.host.erase(w.store.manifest_file("a"));
         w.host.reset();
       },
       [](PlanWorld& w) { return plan_gc(gc_facts_of(w)).domains.at(0).plan; }},
      {"gc of a manifest",
       [with_history](PlanWorld& w) {
         with_history(w);
         w.hypervisor.undefine(w.uuid("a"), true);
         w.host.reset();
       },
       [](PlanWorld& w) {
         GcFacts facts = gc_facts_of(w);
         facts.redefinitions = {{"a", {*w.host.read_file("/store/vms/a/snapshots/s1/domain.xml")}}};
         return plan_gc(facts).manifests.at(0).plan;
       }},
      {"merge, stopped", with_unnamed_middle,
       [](PlanWorld& w) { return plan_merge(w.store_facts(), w.store.manifest("a"), false, true).plan; }},
      {"merge, running", running(with_unnamed_middle),
       [](PlanWorld& w) { return plan_merge(w.store_facts(), w.store.manifest("a"), true, true).plan; }},
      {"start", one_vm,
       [](PlanWorld& w) {
         return Plan{"start a", {"a"}, {StartDomain{"a", w.uuid("a")}}};
       }},
  };
}

/// How many faults each verb was given; those of GPUs one by one, for they are tried on no real GPU.
class Figures {
 public:
  explicit Figures(const char* what) : what_(what) {}
  ~Figures() {
    std::size_t all = 0;
    for (const auto& [name, count] : counts_) {
      if (name.find("GPU") != std::string::npos || name.find("virtual function") != std::string::npos)
        std::cout << "step sweep: " << name << ": " << count << " " << what_ << "\n";
      all += count;
    }
    std::cout << "step sweep: " << counts_.size() << " verbs: " << all << " " << what_ << "\n";
  }
  void count(const Scenario& scenario) { ++counts_[scenario.name]; }

 private:
  const char* what_;
  std::map<std::string, std::size_t> counts_;
};

/// Lines of the tree that only one of two worlds has: what a failed comparison is about.
std::string difference(const FakeHost& a, const FakeHost& b) {
  std::istringstream left(a.tree());
  std::istringstream right(b.tree());
  std::set<std::string> only_left;
  std::set<std::string> only_right;
  for (std::string line; std::getline(left, line);) only_left.insert(line);
  for (std::string line; std::getline(right, line);)
    if (only_left.erase(line) == 0) only_right.insert(line);
  std::string text;
  for (const std::string& line : only_left) text += "- " + line.substr(0, 300) + "\n";
  for (const std::string& line : only_right) text += "+ " + line.substr(0, 300) + "\n";
  return text;
}

struct Worlds {
  PlanWorld start;
  PlanWorld finish;
  std::size_t effects = 0;
};

Worlds worlds_of(const Scenario& scenario) {
  PlanWorld start;
  scenario.prepare(start);
  start.host.reset();
  PlanWorld finish(start);
  finish.run(scenario.plan(finish));
  const std::size_t effects = finish.host.effects();
  return {start, finish, effects};
}

}  // namespace

TEST_CASE("a plan of which any effect fails leaves the start, or names what is left and is finished by the next command",
          "[sweep]") {
  Figures figures("failures injected");
  for (const Scenario& scenario : scenarios()) {
    const Worlds worlds = worlds_of(scenario);
    REQUIRE(worlds.effects > 1);
    REQUIRE_FALSE(worlds.start.host == worlds.finish.host);
    for (std::size_t k = 1; k <= worlds.effects; ++k) {
      INFO(scenario.name << ", effect " << k << " of " << worlds.effects);
      PlanWorld world(worlds.start);
      const Plan plan = scenario.plan(world);
      world.host.fail_at(k);
      const Error error = error_of([&] { world.run(plan); });
      const bool is_pending = !world.host.list_folder(world.store.journal_folder()).empty();
      if (!is_pending && scenario.plug_in_again && !error.leftovers().empty()) {
        CHECK(error.leftovers().front().find("0000:41:00.0 is not in VM 'a' any more") == 0);
        scenario.plug_in_again(world);
        INFO(difference(worlds.finish.host, world.host));
        CHECK(world.host == worlds.finish.host);
      } else if (!is_pending) {
        INFO(difference(worlds.start.host, world.host));
        CHECK(world.host == worlds.start.host);
        CHECK(error.leftovers().empty());
      } else {
        world.host.reset();
        recover_all(world);
        const bool is_whole = world.host == worlds.finish.host || world.host == worlds.start.host;
        INFO(difference(worlds.finish.host, world.host));
        CHECK(is_whole);
      }
      figures.count(scenario);
    }
  }
}

// Of a revert on a disk that stayed full the undo failed as well, and went on to delete the copy that it had failed to put back.
TEST_CASE("a plan on a disk that is full from any effect on leaves what is whole once there is room", "[sweep]") {
  Figures figures("full disks survived");
  for (const Scenario& scenario : scenarios()) {
    const Worlds worlds = worlds_of(scenario);
    for (std::size_t k = 1; k <= worlds.effects; ++k) {
      INFO(scenario.name << ", full from effect " << k << " of " << worlds.effects);
      PlanWorld world(worlds.start);
      const Plan plan = scenario.plan(world);
      world.host.fill_at(k);
      try {
        world.run(plan);
      } catch (const Error&) {
        // Whole is asked for, not that it fails: the rest of a plan may need no room.
      }
      world.host.reset();
      recover_all(world);
      const bool is_whole = world.host == worlds.finish.host || world.host == worlds.start.host;
      INFO(difference(worlds.start.host, world.host));
      CHECK(is_whole);
      figures.count(scenario);
    }
  }
}

TEST_CASE("a process that dies before or after any effect leaves what the next command makes whole", "[sweep]") {
  Figures figures("deaths survived");
  for (const Scenario& scenario : scenarios()) {
    const Worlds worlds = worlds_of(scenario);
    for (std::size_t k = 1; k <= worlds.effects; ++k) {
      for (const FakeHost::When when : {FakeHost::When::before, FakeHost::When::after}) {
        INFO(scenario.name << ", dead " << (when == FakeHost::When::before ? "before" : "after") << " effect " << k);
        PlanWorld world(worlds.start);
        const Plan plan = scenario.plan(world);
        world.host.die_at(k, when);
        bool died = false;
        try {
          world.run(plan);
        } catch (const Death&) {
          died = true;
        }
        CHECK(died);
        world.host.revive();
        recover_all(world);
        const bool is_whole = world.host == worlds.finish.host || world.host == worlds.start.host;
        INFO(difference(worlds.finish.host, world.host));
        CHECK(is_whole);
        figures.count(scenario);
      }
    }
  }
}

TEST_CASE("recovery that dies itself is taken up by the one after it", "[sweep]") {
  Figures figures("deaths in recovery survived");
  for (const Scenario& scenario : scenarios()) {
    const Worlds worlds = worlds_of(scenario);
    for (std::size_t k = 2; k <= worlds.effects; k += 3) {
      PlanWorld crashed(worlds.start);
      const Plan plan = scenario.plan(crashed);
      crashed.host.die_at(k, FakeHost::When::after);
      CHECK_THROWS_AS(crashed.run(plan), Death);
      crashed.host.revive();
      for (std::size_t m = 1;; ++m) {
        INFO(scenario.name << ", dead after effect " << k << ", recovery dead after effect " << m);
        PlanWorld world(crashed);
        world.host.reset();
        world.host.die_at(m, FakeHost::When::after);
        bool died = false;
        try {
          recover_all(world);
        } catch (const Death&) {
          died = true;
        }
        world.host.revive();
        recover_all(world);
        const bool is_whole = world.host == worlds.finish.host || world.host == worlds.start.host;
        CHECK(is_whole);
        if (!died) break;
        figures.count(scenario);
      }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
#include "faults/scenarios.hpp"

#include <filesystem>

namespace vmgraft {
namespace {

/// A VM whose disk holds something that its image does not: a snapshot or clone of it has to move it to a new layer.
void add_written(FaultWorld& world, const std::string& name, const std::string& pattern) {
  world.must({"create", "idle", name, "--no-start"});
  world.write_disk(name, "root", pattern);
}

/// The same with UEFI variables, as its first start would have made them.
void add_uefi(FaultWorld& world, const std::string& name) {
  world.must({"create", "idle-uefi", name, "--no-start"});
  world.write_disk(name, "root", "1");
  const std::filesystem::path nvram = world.store() / "vms" / name / "nvram.fd";
  std::filesystem::copy_file("/usr/share/OVMF/OVMF_VARS_4M.fd", nvram);
  std::filesystem::permissions(nvram, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

void add_snapshot(FaultWorld& world, const std::string& name, const std::string& snapshot, const std::string& pattern) {
  world.must({"snapshot", "create", name, snapshot});
  world.write_disk(name, "root", pattern);
}

void start(FaultWorld& world, const std::string& name) { world.must({"start", name, "--wait", "none"}); }

}  // namespace

std::vector<FaultScenario> fault_scenarios() {
  using World = FaultWorld;
  const auto nothing = [](World&) {};
  return {
      {"create", nothing, [](const World& w) { return std::vector<std::string>{"create", "idle", w.vm(), "--no-start"}; }},
      {"create two", nothing,
       [](const World& w) { return std::vector<std::string>{"create", "idle", w.vm(), "--count", "2", "--no-start"}; }},
      {"snapshot stopped", [](World& w) { add_uefi(w, w.vm()); },
       [](const World& w) { return std::vector<std::string>{"snapshot", "create", w.vm(), "s1"}; }},
      {"snapshot delete",
       [](World& w) {
         add_written(w, w.vm(), "1");
         add_snapshot(w, w.vm(), "s1", "2");
         add_snapshot(w, w.vm(), "s2", "3");
       },
       [](const World& w) { return std::vector<std::string>{"snapshot", "delete", w.vm() + "@s1"}; }},
      {"revert",
       [](World& w) {
         add_uefi(w, w.vm());
         add_snapshot(w, w.vm(), "s1", "2");
       },
       [](const World& w) { return std::vector<std::string>{"revert", w.vm() + "@s1"}; }},
      {"revert, head unused",
       [](World& w) {
         add_written(w, w.vm(), "1");
         w.must({"snapshot", "create", w.vm(), "s1"});
       },
       [](const World& w) { return std::vector<std::string>{"revert", w.vm() + "@s1"}; }},
      {"clone", [](World& w) { add_uefi(w, w.vm()); },
       [](const World& w) { return std::vector<std::string>{"clone", w.vm(), w.other()}; }},
      {"clone of a snapshot",
       [](World& w) {
         add_written(w, w.vm(), "1");
         add_snapshot(w, w.vm(), "s1", "2");
       },
       [](const World& w) { return std::vector<std::string>{"clone", w.vm() + "@s1", w.other()}; }},
      {"clone --full", [](World& w) { add_written(w, w.vm(), "1"); },
       [](const World& w) { return std::vector<std::string>{"clone", w.vm(), w.other(), "--full"}; }, false, {}, true},
      {"delete",
       [](World& w) {
         add_written(w, w.vm(), "1");
         add_snapshot(w, w.vm(), "s1", "2");
       },
       [](const World& w) { return std::vector<std::string>{"delete", "--yes", w.vm()}; }},
      {"delete, and merge a clone",
       [](World& w) {
         add_written(w, w.vm(), "1");
         w.must({"clone", w.vm(), w.other()});
         w.write_disk(w.other(), "root", "2");
       },
       [](const World& w) { return std::vector<std::string>{"delete", "--yes", w.vm()}; }},
      {"image import", nothing,
       [](const World& w) { return std::vector<std::string>{"image", "import", w.work() / "tiny.raw", "second"}; }, false, {}, true},
      {"image delete",
       [](World& w) { w.must({"image", "import", w.work() / "tiny.raw", "second"}); },
       [](const World&) { return std::vector<std::string>{"image", "delete", "second"}; }},
      {"start", [](World& w) { add_written(w, w.vm(), "1"); },
       [](const World& w) { return std::vector<std::string>{"start", w.vm(), "--wait", "none"}; }, true},
      {"create and start", nothing,
       [](const World& w) { return std::vector<std::string>{"create", "idle", w.vm(), "--wait", "none"}; }, true,
       [](World& w) { w.must({"create", "idle", w.vm(), "--no-start"}); }},
      {"snapshot live",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
       },
       [](const World& w) { return std::vector<std::string>{"snapshot", "create", w.vm(), "s1"}; }, true},
      {"clone of a running VM",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
       },
       [](const World& w) { return std::vector<std::string>{"clone", w.vm(), w.other()}; }, true,
       // Its disks are on new layers, and the clone is not there.
       [](World& w) {
         w.must({"clone", w.vm(), w.other()});
         w.must({"delete", w.other()});
       }},
      {"revert of a running VM",
       [](World& w) {
         add_written(w, w.vm(), "1");
         add_snapshot(w, w.vm(), "s1", "2");
         start(w, w.vm());
       },
       [](const World& w) { return std::vector<std::string>{"revert", w.vm() + "@s1", "--wait", "none"}; }, true,
       [](World& w) { w.must({"revert", w.vm() + "@s1", "--no-start"}); }},
      {"stop",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
       },
       [](const World& w) { return std::vector<std::string>{"stop", w.vm(), "--force"}; }, true},
      {"delete of a running VM",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
       },
       [](const World& w) { return std::vector<std::string>{"delete", "--yes", w.vm()}; }, true},
  };
}

}  // namespace vmgraft

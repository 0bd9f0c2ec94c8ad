// SPDX-License-Identifier: Apache-2.0
#include "faults/scenarios.hpp"

#include <filesystem>
#include <fstream>
#include <stdexcept>

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

void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream out(file);
  out << text;
}

/// One of everything that gc takes: a VM beyond its time, with snapshots; what is left of one whose manifest was
/// deleted; a layer without a record; a write, a work folder and an operation of processes that died.
void add_garbage(FaultWorld& world) {
  namespace fs = std::filesystem;
  const fs::path store = world.store();
  world.must({"create", "idle", world.vm(), "--no-start", "--ttl", "1h"});
  add_snapshot(world, world.vm(), "s1", "2");
  std::string manifest = world.read_text(store / "vms" / world.vm() / "vm.json");
  const std::string key = "\"expires\": \"";
  manifest.replace(manifest.find(key) + key.size(), 4, "2001");
  write_text(store / "vms" / world.vm() / "vm.json", manifest);
  add_written(world, world.other(), "3");
  fs::remove(store / "vms" / world.other() / "vm.json");
  write_text(store / "layers" / (std::string(32, 'd') + ".qcow2"), "no layer");
  write_text(store / "layers/.x.json.4194304.0.tmp", "half");  // no process has that number
  fs::create_directories(store / "tmp" / std::string(32, 'e'));
  write_text(store / "tmp" / std::string(32, 'e') / "disk.qcow2", "half");
  const Traced killed = Tracer({store}).run(world.command({"create", "idle", world.vm() + "c", "--no-start"}),
                                            {Fault::Kind::kill_before, 45});
  if (!killed.hit || world.journals() != 1) throw std::runtime_error("no journal of a dead process: " + killed.err);
}

void start(FaultWorld& world, const std::string& name) { world.must({"start", name, "--wait", "none"}); }

}  // namespace

std::vector<FaultScenario> fault_scenarios() {
  using World = FaultWorld;
  const auto nothing = [](World&) {};
  return {
      {"create", nothing,
       [](const World& w) {
         return std::vector<std::string>{"create", "idle", w.vm(), "--no-start"};
       }},
      {"create two", nothing,
       [](const World& w) { return std::vector<std::string>{"create", "idle", w.vm(), "--count", "2", "--no-start"}; }},
      {"snapshot stopped", [](World& w) { add_uefi(w, w.vm()); },
       [](const World& w) {
         return std::vector<std::string>{"snapshot", "create", w.vm(), "s1"};
       }},
      {"snapshot delete",
       [](World& w) {
         add_written(w, w.vm(), "1");
         add_snapshot(w, w.vm(), "s1", "2");
         add_snapshot(w, w.vm(), "s2", "3");
       },
       [](const World& w) {
         return std::vector<std::string>{"snapshot", "delete", w.vm() + "@s1"};
       }},
      {"revert",
       [](World& w) {
         add_uefi(w, w.vm());
         add_snapshot(w, w.vm(), "s1", "2");
       },
       [](const World& w) {
         return std::vector<std::string>{"revert", w.vm() + "@s1"};
       }},
      {"revert, head unused",
       [](World& w) {
         add_written(w, w.vm(), "1");
         w.must({"snapshot", "create", w.vm(), "s1"});
       },
       [](const World& w) {
         return std::vector<std::string>{"revert", w.vm() + "@s1"};
       }},
      {"clone", [](World& w) { add_uefi(w, w.vm()); },
       [](const World& w) {
         return std::vector<std::string>{"clone", w.vm(), w.other()};
       }},
      {"clone of a snapshot",
       [](World& w) {
         add_written(w, w.vm(), "1");
         add_snapshot(w, w.vm(), "s1", "2");
       },
       [](const World& w) {
         return std::vector<std::string>{"clone", w.vm() + "@s1", w.other()};
       }},
      {"clone --full",
       [](World& w) { add_written(w, w.vm(), "1"); },
       [](const World& w) {
         return std::vector<std::string>{"clone", w.vm(), w.other(), "--full"};
       },
       false,
       {},
       true},
      {"delete",
       [](World& w) {
         add_written(w, w.vm(), "1");
         add_snapshot(w, w.vm(), "s1", "2");
       },
       [](const World& w) {
         return std::vector<std::string>{"delete", "--yes", w.vm()};
       }},
      {"delete, and merge a clone",
       [](World& w) {
         add_written(w, w.vm(), "1");
         w.must({"clone", w.vm(), w.other()});
         w.write_disk(w.other(), "root", "2");
       },
       [](const World& w) {
         return std::vector<std::string>{"delete", "--yes", w.vm()};
       },
       false,
       {},
       true},
      {"image import",
       nothing,
       [](const World& w) {
         return std::vector<std::string>{"image", "import", w.work() / "tiny.raw", "second"};
       },
       false,
       {},
       true},
      {"image delete",
       [](World& w) {
         w.must({"image", "import", w.work() / "tiny.raw", "second"});
       },
       [](const World&) {
         return std::vector<std::string>{"image", "delete", "second"};
       }},
      {"extend",
       [](World& w) {
         w.must({"create", "idle", w.vm(), "--no-start", "--ttl", "1h"});
       },
       [](const World& w) {
         return std::vector<std::string>{"extend", w.vm(), "never"};
       }},
      {"gc", add_garbage, [](const World&) { return std::vector<std::string>{"gc"}; }, false, {}, false, true},
      {"start", [](World& w) { add_written(w, w.vm(), "1"); },
       [](const World& w) {
         return std::vector<std::string>{"start", w.vm(), "--wait", "none"};
       },
       true},
      {"create and start", nothing,
       [](const World& w) {
         return std::vector<std::string>{"create", "idle", w.vm(), "--wait", "none"};
       },
       true,
       [](World& w) {
         w.must({"create", "idle", w.vm(), "--no-start"});
       }},
      {"snapshot live",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
       },
       [](const World& w) {
         return std::vector<std::string>{"snapshot", "create", w.vm(), "s1"};
       },
       true},
      {"snapshot with memory",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
       },
       [](const World& w) {
         return std::vector<std::string>{"snapshot", "create", w.vm(), "s1", "--memory"};
       },
       true},
      {"revert to a memory",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
         w.must({"snapshot", "create", w.vm(), "s1", "--memory"});
       },
       [](const World& w) {
         return std::vector<std::string>{"revert", w.vm() + "@s1", "--wait", "none"};
       },
       true,
       [](World& w) {
         w.must({"revert", w.vm() + "@s1", "--no-start"});
       }},
      {"clone of a running VM",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
       },
       [](const World& w) {
         return std::vector<std::string>{"clone", w.vm(), w.other()};
       },
       true,
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
       [](const World& w) {
         return std::vector<std::string>{"revert", w.vm() + "@s1", "--wait", "none"};
       },
       true,
       [](World& w) {
         w.must({"revert", w.vm() + "@s1", "--no-start"});
       }},
      {"stop",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
       },
       [](const World& w) {
         return std::vector<std::string>{"stop", w.vm(), "--force"};
       },
       true},
      {"delete of a running VM",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
       },
       [](const World& w) {
         return std::vector<std::string>{"delete", "--yes", w.vm()};
       },
       true},
      {"restart",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
       },
       [](const World& w) {
         return std::vector<std::string>{"restart", w.vm(), "--force", "--wait", "none"};
       },
       true,
       [](World& w) {
         w.must({"stop", w.vm(), "--force"});
       }},
      {"create with a seed", nothing,
       [](const World& w) {
         return std::vector<std::string>{"create", "idle-guest", w.vm(), "--no-start"};
       }},
      {"delete of a memory",
       [](World& w) {
         add_written(w, w.vm(), "1");
         start(w, w.vm());
         w.must({"snapshot", "create", w.vm(), "s1", "--memory"});
         w.must({"stop", w.vm(), "--force"});
       },
       [](const World& w) {
         return std::vector<std::string>{"snapshot", "delete", w.vm() + "@s1"};
       },
       false,
       {},
       true},
  };
}

}  // namespace vmgraft

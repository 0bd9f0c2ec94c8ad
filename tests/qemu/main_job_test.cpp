// SPDX-License-Identifier: Apache-2.0
#include "qemu/lab.hpp"

using namespace vmgraft;

TEST_CASE("a VM is created, snapshotted, broken, reverted, cloned while it runs, and deleted while its clone lives on",
          "[session]") {
  Lab lab;
  const std::string vm = lab.name("main");
  const std::string twin = lab.name("main-twin");
  lab.vmgraft({"create", "micro", vm});
  CHECK(lab.virsh({"domstate", vm}).starts_with("running"));
  lab.guest(vm, "echo precious > /root/file && sync");

  const nlohmann::json snapshot = lab.json({"snapshot", "create", vm, "good"}).at("snapshot");
  CHECK(snapshot.at("consistency") == "frozen");
  lab.guest(vm, "rm /root/file && sync");
  CHECK(lab.guest(vm, "ls /root/file 2>/dev/null || echo gone") == "gone\n");

  const nlohmann::json reverted = lab.json({"revert", vm + "@good"});
  CHECK(reverted.at("vm").at("state") == "running");
  CHECK(reverted.at("undo") == "before-revert-1");
  CHECK(lab.guest(vm, "cat /root/file") == "precious\n");

  const nlohmann::json cloned = lab.json({"clone", vm, twin, "--start"});
  CHECK(cloned.at("consistency") == "frozen");
  CHECK(lab.virsh({"domstate", vm}).starts_with("running"));
  CHECK(lab.guest(twin, "cat /root/file; hostname") == "precious\n" + twin + "\n");
  CHECK(cloned.at("vms").at(0).at("uuid") != reverted.at("vm").at("uuid"));

  lab.vmgraft({"delete", vm});
  CHECK(lab.run({"virsh", "-c", lab.uri(), "domstate", vm}).exit_code != 0);
  CHECK(lab.guest(twin, "cat /root/file") == "precious\n");
  lab.vmgraft({"stop", twin});
  lab.check_images(twin);
  lab.vmgraft({"start", twin});
  CHECK(lab.guest(twin, "cat /root/file") == "precious\n");
}

TEST_CASE("a revert can be undone by reverting to what it named", "[session][long]") {
  Lab lab;
  const std::string vm = lab.name("undo");
  CHECK(lab.vmgraft({"--quiet", "create", "micro", vm}).err.empty());
  lab.vmgraft({"snapshot", "create", vm, "empty"});
  lab.guest(vm, "echo work > /root/work && sync");
  lab.vmgraft({"stop", vm});
  const std::string undo = lab.json({"revert", vm + "@empty"}).at("undo");
  CHECK(lab.json({"show", vm}).at("vm").at("state") == "shut_off");
  lab.vmgraft({"start", vm});
  CHECK(lab.guest(vm, "ls /root/work 2>/dev/null || echo none") == "none\n");
  lab.vmgraft({"revert", vm + "@" + undo});
  CHECK(lab.guest(vm, "cat /root/work") == "work\n");
}

TEST_CASE("a clone of a stopped VM shares its layers, and neither sees what the other writes", "[session]") {
  Lab lab;
  const std::string vm = lab.name("base");
  lab.vmgraft({"create", "micro", vm});
  lab.guest(vm, "echo shared > /root/shared");
  lab.vmgraft({"stop", vm});
  const std::string clones = lab.name("copy");
  const nlohmann::json cloned = lab.json({"clone", vm, clones, "--count", "3"});
  REQUIRE(cloned.at("vms").size() == 3);
  CHECK(cloned.at("consistency") == "clean");
  for (const char* number : {"-1", "-2", "-3"}) static_cast<void>(lab.name("copy" + std::string(number)));
  const std::vector<std::string> base = lab.chain(vm);
  const std::vector<std::string> first = lab.chain(clones + "-1");
  const std::vector<std::string> third = lab.chain(clones + "-3");
  REQUIRE(base.size() == 3);  // head, what it was, the image
  CHECK(std::vector(base.begin() + 1, base.end()) == std::vector(first.begin() + 1, first.end()));
  CHECK(std::vector(first.begin() + 1, first.end()) == std::vector(third.begin() + 1, third.end()));
  CHECK(first.front() != third.front());
  lab.vmgraft({"start", clones + "-1"});
  lab.guest(clones + "-1", "echo mine >> /root/shared && sync");
  lab.vmgraft({"start", vm});
  CHECK(lab.guest(vm, "cat /root/shared") == "shared\n");
  CHECK(lab.guest(clones + "-1", "cat /root/shared") == "shared\nmine\n");
  // Each clone of an untouched VM stands on the same layer: the chain does not grow.
  lab.vmgraft({"stop", clones + "-3"});
  const std::size_t depth = lab.chain(clones + "-3").size();
  lab.vmgraft({"clone", clones + "-3", lab.name("again-1")});
  lab.vmgraft({"clone", clones + "-3", lab.name("again-2")});
  CHECK(lab.chain(clones + "-3").size() == depth);
}

TEST_CASE("a full clone stands on nothing of its source", "[session][long]") {
  Lab lab;
  const std::string vm = lab.name("full-source");
  const std::string copy = lab.name("full");
  lab.vmgraft({"create", "micro", vm});
  lab.guest(vm, "echo carried > /root/carried");
  lab.vmgraft({"stop", vm});
  lab.vmgraft({"clone", "--full", vm, copy});
  CHECK(lab.chain(copy).size() == 1);
  lab.vmgraft({"delete", vm});
  lab.check_images(copy);
  lab.vmgraft({"start", copy});
  CHECK(lab.guest(copy, "cat /root/carried") == "carried\n");
}

TEST_CASE("a clone is another machine inside: host name, machine-id and MAC are its own") {
  Lab lab;
  if (lab.is_session()) VMGRAFT_SKIP("a session has no NAT network to compare MACs on");
  const std::string vm = lab.name("one");
  const std::string other = lab.name("other");
  lab.vmgraft({"create", "networks", vm, "--no-start"});
  lab.vmgraft({"clone", vm, other});
  const std::string macs = lab.virsh({"domiflist", vm}) + lab.virsh({"domiflist", other});
  CHECK(lab.json({"show", vm}).at("vm").at("networks").at(0).at("mac") !=
        lab.json({"show", other}).at("vm").at("networks").at(0).at("mac"));
  CHECK(lab.virsh({"domuuid", vm}) != lab.virsh({"domuuid", other}));
}

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <fstream>
#include <iostream>

#include "qemu/lab.hpp"

using namespace vmgraft;

namespace {

std::size_t count_layers(const Lab& lab) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(lab.store() / "layers"))
    if (entry.path().extension() == ".qcow2") ++count;
  return count;
}

}  // namespace

TEST_CASE("several disks are taken at one instant, and a scratch disk is left out", "[session][long]") {
  Lab lab;
  const std::string vm = lab.name("disks");
  lab.vmgraft({"create", "two-disks", vm});
  lab.guest(vm, "echo before > /root/a && dd if=/dev/zero bs=1M count=1 2>/dev/null | tr '\\0' 'A' > /dev/vdb && sync");
  const nlohmann::json snapshot = lab.json({"snapshot", "create", vm, "both"}).at("snapshot");
  CHECK(snapshot.at("disks").size() == 2);
  CHECK(lab.chain(vm, "data").size() == 2);
  CHECK(lab.chain(vm, "scratch").size() == 1);
  lab.guest(vm, "echo after > /root/a && dd if=/dev/zero bs=1M count=1 2>/dev/null | tr '\\0' 'B' > /dev/vdb && "
                "echo kept > /dev/vdc && sync");
  lab.vmgraft({"revert", vm + "@both"});
  CHECK(lab.guest(vm, "cat /root/a; head -c 3 /dev/vdb; head -c 4 /dev/vdc") == "before\nAAAkept");
  const std::string clone = lab.name("disks-clone");
  lab.vmgraft({"clone", vm + "@both", clone, "--start"});
  CHECK(lab.guest(clone, "cat /root/a; head -c 3 /dev/vdb; head -c 4 /dev/vdc | tr '\\0' '-'") == "before\nAAA----");
}

TEST_CASE("a snapshot in the middle is merged while the VM runs, and at its next stop where that cannot be", "[session][long]") {
  Lab lab;
  const bool is_live = lab.can_merge_live();
  const std::string vm = lab.name("merge");
  const std::size_t before = count_layers(lab);
  lab.vmgraft({"create", "micro", vm});
  for (const char* name : {"s1", "s2", "s3"}) {
    lab.guest(vm, std::string("echo ") + name + " > /root/" + name + " && sync");
    lab.vmgraft({"snapshot", "create", vm, name});
  }
  CHECK(lab.chain(vm).size() == 5);
  // s3 stands right under the head: merged at once where QEMU can (from 8.2).
  const nlohmann::json live = lab.json({"snapshot", "delete", vm + "@s3"});
  CHECK(live.at("merged_layers").size() == (is_live ? 1 : 0));
  CHECK(live.at("note").is_null() == is_live);
  CHECK(lab.chain(vm).size() == (is_live ? 4 : 5));
  CHECK(lab.virsh({"domstate", vm}).starts_with("running"));
  CHECK(lab.guest(vm, "cat /root/s1 /root/s2 /root/s3") == "s1\ns2\ns3\n");
  // s1 stands under s2, which is frozen and in use: merged when the VM stops.
  const nlohmann::json deferred = lab.json({"snapshot", "delete", vm + "@s1"});
  CHECK(deferred.at("merged_layers").empty());
  CHECK(deferred.at("note").is_string());
  CHECK(lab.chain(vm).size() == (is_live ? 4 : 5));
  lab.vmgraft({"stop", vm});
  CHECK(lab.chain(vm).size() == 3);
  lab.check_images(vm);
  lab.vmgraft({"start", vm});
  CHECK(lab.guest(vm, "cat /root/s1 /root/s2 /root/s3") == "s1\ns2\ns3\n");
  lab.vmgraft({"revert", vm + "@s2"});
  CHECK(lab.guest(vm, "cat /root/s1 /root/s2; ls /root/s3 2>/dev/null || echo none") == "s1\ns2\nnone\n");
  lab.vmgraft({"delete", vm});
  CHECK(count_layers(lab) == before);
}

TEST_CASE("a layer that a clone stands on is never merged away", "[session][long]") {
  Lab lab;
  const std::string vm = lab.name("shared");
  const std::string clone = lab.name("shared-clone");
  lab.vmgraft({"create", "micro", vm});
  lab.guest(vm, "echo one > /root/one && sync");
  lab.vmgraft({"snapshot", "create", vm, "s1"});
  lab.guest(vm, "echo two > /root/two && sync");
  lab.vmgraft({"stop", vm});
  lab.vmgraft({"clone", vm + "@s1", clone});
  const std::vector<std::string> chain = lab.chain(clone);
  const nlohmann::json result = lab.json({"snapshot", "delete", vm + "@s1"});
  CHECK(result.at("merged_layers").empty());
  CHECK(result.at("removed_layers").empty());
  CHECK(lab.chain(clone) == chain);
  lab.vmgraft({"delete", vm});
  lab.check_images(clone);
  lab.vmgraft({"start", clone});
  CHECK(lab.guest(clone, "cat /root/one; ls /root/two 2>/dev/null || echo none") == "one\nnone\n");
}

TEST_CASE("NVRAM and TPM state belong to snapshot, revert and clone; a clone gets a new TPM unless asked", "[session]") {
  Lab lab;
  const std::string vm = lab.name("fw");
  lab.vmgraft({"create", "firmware", vm});
  const nlohmann::json shown = lab.json({"show", vm}).at("vm");
  CHECK(shown.at("firmware") == "uefi");
  CHECK(shown.at("tpm") == true);
  lab.vmgraft({"stop", vm, "--timeout", "0"});
  const std::filesystem::path folder = lab.store() / "vms" / vm;
  const std::string nvram = lab.read(folder / "nvram.fd");
  REQUIRE(nvram.size() > 1000);
  lab.vmgraft({"snapshot", "create", vm, "fresh"});
  CHECK(lab.read(folder / "snapshots/fresh/nvram.fd") == nvram);
  CHECK(std::filesystem::exists(folder / "snapshots/fresh/tpm"));

  {  // what firmware would do in its varstore
    std::fstream file(folder / "nvram.fd", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(200);
    file << "changed";
    REQUIRE(file.good());
  }
  CHECK(lab.read(folder / "nvram.fd") != nvram);
  const std::string undo = lab.json({"revert", vm + "@fresh"}).at("undo");
  CHECK(lab.read(folder / "nvram.fd") == nvram);
  CHECK(lab.read(folder / "snapshots" / undo / "nvram.fd") != nvram);

  const std::string clone = lab.name("fw-clone");
  const std::string keep = lab.name("fw-keep");
  lab.vmgraft({"clone", vm + "@fresh", clone});
  lab.vmgraft({"clone", vm + "@fresh", keep, "--keep-tpm"});
  CHECK(lab.read(lab.store() / "vms" / clone / "nvram.fd") == nvram);
  const std::string xml = lab.virsh({"dumpxml", clone});
  CHECK(xml.find((lab.store() / "vms" / clone / "nvram.fd").string()) != std::string::npos);
  CHECK(xml.find((lab.store() / "vms" / vm).string() + "/") == std::string::npos);
  const auto tpm_folder = [&](const std::string& name) {
    std::string uuid = lab.virsh({"domuuid", name});
    uuid.erase(uuid.find_last_not_of("\n") + 1);
    if (!lab.is_session()) return std::filesystem::path("/var/lib/libvirt/swtpm") / uuid;
    const char* config = std::getenv("XDG_CONFIG_HOME");
    const std::filesystem::path base = config != nullptr ? config : std::filesystem::path(std::getenv("HOME")) / ".config";
    return base / "libvirt/qemu/swtpm" / uuid;
  };
  CHECK_FALSE(std::filesystem::exists(tpm_folder(clone)));
  REQUIRE(std::filesystem::exists(tpm_folder(keep) / "tpm2"));
  for (const std::string& each : {clone, keep}) {
    lab.vmgraft({"start", each});
    CHECK(lab.virsh({"domstate", each}).starts_with("running"));
  }
  const std::filesystem::path gone = tpm_folder(keep);
  lab.vmgraft({"delete", keep});
  CHECK_FALSE(std::filesystem::exists(gone));
}

TEST_CASE("a guest without an agent is caught crash-consistent, and the result says so", "[session]") {
  Lab lab;
  const std::string vm = lab.name("noagent");
  lab.vmgraft({"create", "micro", vm});
  lab.guest(vm, "echo x > /root/x && sync");
  // The agent is frozen out: stopped by a signal, it still holds its channel but answers no more.
  lab.vmgraft({"exec", "--timeout", "60s", vm, "--", "killall", "-STOP", "qemu-ga"}, 7);
  const nlohmann::json result = lab.json({"snapshot", "create", vm, "rough"});
  CHECK(result.at("snapshot").at("consistency") == "crash");
  CHECK(result.at("note").is_string());
  CHECK(lab.virsh({"domstate", vm}).starts_with("running"));
  lab.vmgraft({"stop", vm, "--timeout", "0"});
  lab.check_images(vm);
}

TEST_CASE("a snapshot with memory wakes the VM where it was, with its processes and its RAM", "[session]") {
  Lab lab;
  const std::string vm = lab.name("warm");
  lab.vmgraft({"create", "micro", vm});
  lab.guest(vm, "echo kept > /dev/shm/x; (setsid sleep 3600 >/dev/null 2>&1 &); echo x > /root/x");
  const std::string boot = lab.guest(vm, "cat /proc/sys/kernel/random/boot_id");
  const nlohmann::json result = lab.json({"snapshot", "create", vm, "warm", "--memory"});
  CHECK(result.at("snapshot").at("memory") == true);
  CHECK(lab.virsh({"domstate", vm}).starts_with("running"));
  lab.guest(vm, "rm /dev/shm/x /root/x; killall sleep");
  lab.vmgraft({"revert", vm + "@warm", "--yes"});
  CHECK(lab.guest(vm, "cat /proc/sys/kernel/random/boot_id") == boot);
  CHECK(lab.guest(vm, "cat /dev/shm/x; cat /root/x; ps | grep -c '[s]leep 3600'") == "kept\nx\n1\n");
  lab.guest(vm, "sync");
  // The definition is the one of the new heads: it starts again after a stop, cold.
  lab.vmgraft({"stop", vm, "--timeout", "0"});
  CHECK(lab.error({"snapshot", "create", vm, "again", "--memory"}, 5).at("code") == "conflict");
  lab.vmgraft({"start", vm});
  CHECK(lab.guest(vm, "cat /root/x; ls /dev/shm") == "x\n");
  lab.vmgraft({"stop", vm, "--timeout", "0"});
  lab.check_images(vm);
}

TEST_CASE("the snapshots of a VM are a tree", "[session]") {
  Lab lab;
  const std::string vm = lab.name("tree");
  lab.vmgraft({"create", "micro", vm, "--no-start"});
  lab.vmgraft({"snapshot", "create", vm, "a"});
  lab.vmgraft({"snapshot", "create", vm, "b"});
  lab.vmgraft({"revert", vm + "@a"});
  lab.vmgraft({"snapshot", "create", vm, "c"});
  const nlohmann::json snapshots = lab.json({"snapshot", "list", vm}).at("snapshots");
  REQUIRE(snapshots.size() == 3);
  CHECK(snapshots.at(0).at("parent").is_null());
  CHECK(snapshots.at(1).at("parent") == "a");
  CHECK(snapshots.at(2).at("name") == "c");
  CHECK(snapshots.at(2).at("parent") == "a");
  CHECK(snapshots.at(2).at("current") == true);
  // libvirt keeps no record of any of it, so an undefine is never blocked.
  CHECK(lab.virsh({"snapshot-list", vm, "--name"}).find_first_not_of('\n') == std::string::npos);
}

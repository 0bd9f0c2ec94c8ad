// SPDX-License-Identifier: Apache-2.0
#include <sstream>

#include "vfio-lab/gpu_lab.hpp"

using namespace vmgraft;

namespace {

// The display's third BAR has the id of its interface (VBE_DISPI_ID5) at 0x500, the first one of the audio function
// what it can (four streams in, four out, 64-bit addresses): the device itself answers, by way of two IOMMUs. One
// script, without processes of its own where it can: each takes its time in here.
constexpr const char* kDisplay = "0x1234 0x1111 0x038000 0xB0C5";
constexpr const char* kAudio = "0x8086 0x293e 0x040300 0x4401";
constexpr const char* kVirtualFunction = "0x1b36 0x0010 0x010802";
constexpr const char* kLook = R"(
for d in /sys/bus/pci/devices/*; do
  read v <$d/vendor; read i <$d/device; read c <$d/class
  case $c in
    0x0380*) line=3 at=0x500 ;;
    0x0403*) line=1 at=0 ;;
    0x0108*) echo "$v $i $c ${d##*/}"; continue ;;
    *) continue ;;
  esac
  echo 1 >$d/enable
  set -- $(sed -n ${line}p $d/resource)
  echo "$v $i $c $(devmem $(($1 + at)) 16) ${d##*/}"
done)";

/// Address in the guest of each passed function, by vendor, device, class and what it answers.
std::map<std::string, std::string> passed_functions(GpuLab& lab, const std::string& vm) {
  std::istringstream lines(lab.guest(vm, kLook));
  std::map<std::string, std::string> found;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t address = line.rfind(' ') + 1;
    REQUIRE(found.emplace(line.substr(0, address - 1), line.substr(address)).second);
  }
  return found;
}

/// What it finds without saying where.
std::set<std::string> passed_kinds(GpuLab& lab, const std::string& vm) {
  std::set<std::string> kinds;
  for (const auto& [kind, address] : passed_functions(lab, vm)) kinds.insert(kind);
  return kinds;
}

}  // namespace

TEST_CASE("a guest gets a GPU, has it again after a memory snapshot and its revert, lets it go, and gets another") {
  GpuLab lab;
  const std::string vm = lab.name("guest");
  // A guest that died of the emulator is not waited for longer than four boots take.
  lab.vmgraft({"create", "micro", vm, "--gpus", kGpu, "--timeout", "180s"});
  CHECK(lab.gpus_of(vm) == std::vector<std::string>{kGpu});
  CHECK(lab.gpu(kGpu).at("state") == "in_vm");
  CHECK(lab.gpu(kGpu).at("vm") == vm);
  auto expected = host_drivers();
  expected[kGpu] = expected[kCompanion] = "vfio-pci";
  CHECK(drivers() == expected);
  CHECK(lab.hostdevs(vm) == std::set<std::string>{kGpu, kCompanion});
  CHECK(lab.hostdevs(vm, true).empty());
  // In one slot from the start on. What is plugged in later comes a function at a time, each on a port of its own.
  const auto functions = passed_functions(lab, vm);
  REQUIRE(functions.size() == 2);
  REQUIRE(functions.contains(kDisplay));
  REQUIRE(functions.contains(kAudio));
  const std::string slot = functions.at(kDisplay).substr(0, functions.at(kDisplay).size() - 1);
  CHECK(functions.at(kDisplay) == slot + "0");
  CHECK(functions.at(kAudio) == slot + "1");

  // The GPU never sees its host driver meanwhile.
  const std::size_t starts = lab.driver_starts();
  lab.guest(vm, "echo kept > /run/kept");
  lab.ask_guest(vm, {"snapshot", "create", vm, "warm", "--memory"});
  CHECK(lab.virsh({"domstate", vm}).starts_with("running"));
  CHECK(lab.gpus_of(vm) == std::vector<std::string>{kGpu});
  CHECK(lab.hostdevs(vm) == std::set<std::string>{kGpu, kCompanion});
  CHECK(drivers() == expected);
  CHECK(lab.driver_starts() == starts);
  CHECK(passed_kinds(lab, vm) == std::set<std::string>{kDisplay, kAudio});

  // What was in memory only is there again, and so is the GPU, which the snapshot has not got.
  lab.guest(vm, "echo lost > /run/kept");
  lab.vmgraft({"revert", vm + "@warm", "--yes"});
  CHECK(lab.guest(vm, "cat /run/kept") == "kept\n");
  CHECK(lab.gpus_of(vm) == std::vector<std::string>{kGpu});
  CHECK(lab.hostdevs(vm) == std::set<std::string>{kGpu, kCompanion});
  CHECK(lab.hostdevs(vm, true).empty());
  CHECK(drivers() == expected);
  CHECK(passed_kinds(lab, vm) == std::set<std::string>{kDisplay, kAudio});

  // It lets a function go when nobody waits any more, and has it again by the next command. What it lets go while the
  // snapshot is undone is plugged in by that.
  bool was_late = false;
  for (int round = 0; round < 5 && !was_late; ++round) {
    const nlohmann::json given_up = lab.error({"snapshot", "create", vm, "late", "--memory", "--timeout", "0s"}, 7);
    CHECK(given_up.at("context").dump().find("nothing has changed") != std::string::npos);
    const std::string lost =
        "for i in $(seq 100); do [ $(virsh -c \"$0\" dumpxml \"$1\" | grep -c '<hostdev ') = 1 ] && exit 0; "
        "sleep 0.1; done; exit 1";
    was_late = lab.run({"/bin/sh", "-c", lost, lab.uri(), vm}).exit_code == 0;
    CHECK(drivers() == expected);
    CHECK((lab.try_vmgraft({"list"}).err.find("it is plugged in again") != std::string::npos) == was_late);
    CHECK(lab.hostdevs(vm) == std::set<std::string>{kGpu, kCompanion});
  }
  REQUIRE(was_late);
  CHECK(drivers() == expected);
  CHECK(passed_kinds(lab, vm) == std::set<std::string>{kDisplay, kAudio});
  CHECK(lab.json({"snapshot", "list", vm}).dump().find("late") == std::string::npos);

  const nlohmann::json given_back =
      nlohmann::json::parse(lab.ask_guest(vm, {"--json", "gpu", "detach", vm, kGpu}).out).at("result").at("gpus").at(0);
  CHECK(given_back.at("state") == "host");
  CHECK(given_back.at("driver") == "bochs-drm");
  CHECK(given_back.at("reset").is_string());
  CHECK(drivers() == host_drivers());
  CHECK(passed_kinds(lab, vm).empty());
  CHECK(lab.hostdevs(vm).empty());

  const nlohmann::json plugged = lab.one_gpu({"gpu", "attach", vm, kFarGpu});
  CHECK(plugged.at("address") == kFarGpu);
  CHECK(plugged.at("state") == "in_vm");
  CHECK(lab.error({"gpu", "detach", vm, kGpu}, 5).at("message").get<std::string>().find("does not hold") !=
        std::string::npos);

  const GpuConfigured configured("/run/gpus.json", kNvmeIsGpu);
  const std::string part = lab.one_gpu({"gpu", "attach", vm, "kind=vf"}).at("address");
  CHECK(std::filesystem::canonical(pci_folder(kNvme) / "virtfn0").filename() == part);
  CHECK(lab.hostdevs(vm) == std::set<std::string>{kFarGpu, part});
  CHECK(passed_kinds(lab, vm) == std::set<std::string>{kDisplay, kVirtualFunction});

  // It powers itself off: nobody releases what it had until the next command does.
  lab.end_qemu(vm, [&] { lab.try_vmgraft({"exec", "--no-stdin", vm, "--", "poweroff"}); });
  CHECK(driver_of(kFarGpu) == "vfio-pci");
  CHECK(driver_of(part) == "vfio-pci");
  CHECK(lab.ledger().at(kFarGpu).at("vm") == vm);
  lab.vmgraft({"list"});
  CHECK(drivers() == host_drivers());
  CHECK_FALSE(std::filesystem::exists(pci_folder(part)));
  CHECK(lab.ledger().at(kFarGpu).at("vm") == "");
  CHECK(lab.ledger().at(kFarGpu).at("note").get<std::string>().find("reset by") != std::string::npos);
  lab.vmgraft({"delete", vm});
  CHECK(lab.journals().empty());
}

TEST_CASE("a guest that does not answer keeps its GPU, and nothing has changed") {
  GpuLab lab;
  const std::string vm = lab.name("deaf");
  lab.vmgraft({"create", "idle", vm, "--gpus", kGpu});
  const auto before = drivers();
  const auto ledger = lab.ledger();
  const std::string disks = lab.virsh({"domblklist", vm});
  REQUIRE(lab.hostdevs(vm) == std::set<std::string>{kGpu, kCompanion});
  for (const std::vector<std::string>& asking :
       {std::vector<std::string>{"gpu", "detach", vm, kGpu, "--timeout", "2s"},
        std::vector<std::string>{"snapshot", "create", vm, "warm", "--memory", "--timeout", "2s"}}) {
    const nlohmann::json error = lab.error(asking, 7);
    INFO(error.dump());
    CHECK(error.at("message").get<std::string>().find("did not let") != std::string::npos);
    CHECK(error.at("leftovers").empty());
    CHECK(drivers() == before);
    // Only a snapshot wants it back, should the guest let it go yet.
    const bool returns = asking[0] == "snapshot";
    auto now = lab.ledger();
    CHECK(now.at(kGpu).at("returns") == returns);
    CHECK((error.at("context").dump().find("nothing has changed") != std::string::npos) == returns);
    now.at(kGpu)["returns"] = false;
    CHECK(now == ledger);
    CHECK(lab.hostdevs(vm) == std::set<std::string>{kGpu, kCompanion});
    CHECK(lab.virsh({"domblklist", vm}) == disks);
    CHECK(lab.journals().empty());
  }
  CHECK(lab.json({"snapshot", "list", vm}).at("snapshots").empty());
  CHECK(lab.gpus_of(vm) == std::vector<std::string>{kGpu});
  lab.vmgraft({"stop", vm, "--timeout", "0s"});
  CHECK(drivers() == host_drivers());
}

TEST_CASE("disk snapshots, reverts and clones of a VM with a GPU carry the request, not the device") {
  GpuLab lab;
  const std::string vm = lab.name("source");
  const std::string twin = lab.name("twin");
  lab.vmgraft({"create", "idle", vm, "--gpus", kFarGpu});
  lab.vmgraft({"snapshot", "create", vm, "cold"});
  CHECK(lab.hostdevs(vm) == std::set<std::string>{kFarGpu});
  lab.vmgraft({"clone", vm + "@cold", twin});
  CHECK(lab.hostdevs(twin, true).empty());
  const nlohmann::json held = lab.error({"start", twin}, 5);
  CHECK(held.dump().find("held by VM '" + vm + "'") != std::string::npos);
  lab.vmgraft({"revert", vm + "@cold", "--yes"});
  CHECK(lab.gpus_of(vm) == std::vector<std::string>{kFarGpu});
  CHECK(lab.hostdevs(vm, true).empty());
  lab.vmgraft({"delete", vm, "--yes"});
  lab.vmgraft({"start", twin});
  CHECK(lab.gpus_of(twin) == std::vector<std::string>{kFarGpu});
  lab.vmgraft({"delete", twin, "--yes"});
  CHECK(drivers() == host_drivers());
}

TEST_CASE("after kill -9 of QEMU the next command resets the GPU and gives it back") {
  GpuLab lab;
  const std::string vm = lab.name("killed");
  lab.vmgraft({"create", "idle", vm, "--gpus", kGpu});
  lab.kill_qemu(vm);
  CHECK(driver_of(kGpu) == "vfio-pci");
  CHECK(lab.ledger().at(kGpu).at("vm") == vm);
  const nlohmann::json gpu = lab.gpu(kGpu);
  CHECK(gpu.at("state") == "host");
  CHECK(gpu.at("note").get<std::string>().find("reset by") != std::string::npos);
  CHECK(drivers() == host_drivers());
  CHECK(lab.ledger().at(kGpu).at("vm") == "");
  lab.vmgraft({"start", vm});
  CHECK(lab.hostdevs(vm) == std::set<std::string>{kGpu, kCompanion});
  lab.vmgraft({"delete", vm, "--yes"});
  CHECK(drivers() == host_drivers());
}

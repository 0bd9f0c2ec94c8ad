// SPDX-License-Identifier: Apache-2.0
#include "vfio-lab/gpu_lab.hpp"

using namespace vmgraft;

namespace {

/// "0x1234 0x1111 0x038000" by address, for the functions that are no part of the guest's board.
std::map<std::string, std::string> passed_functions(GpuLab& lab, const std::string& vm) {
  const std::string lines =
      lab.guest(vm,
                "for d in /sys/bus/pci/devices/*; do echo ${d##*/} $(cat $d/vendor $d/device $d/class); done | "
                "grep -E ' 0x03| 0x0403' || true");
  std::map<std::string, std::string> found;
  for (std::size_t at = 0; at < lines.size(); at = lines.find('\n', at) + 1) {
    const std::string line = lines.substr(at, lines.find('\n', at) - at);
    found[line.substr(0, line.find(' '))] = line.substr(line.find(' ') + 1);
  }
  return found;
}

/// Where a function of that kind stands in the guest; empty: nowhere.
std::string place_of(const std::map<std::string, std::string>& functions, const std::string& kind) {
  const auto found = std::find_if(functions.begin(), functions.end(), [&](const auto& each) { return each.second == kind; });
  return found == functions.end() ? std::string() : found->first;
}

/// The id register of the display, through its third BAR: the device itself answers, by way of two IOMMUs.
std::string read_display_id(GpuLab& lab, const std::string& vm, const std::string& address) {
  return lab.guest(vm, "d=/sys/bus/pci/devices/" + address +
                           "; echo 1 > $d/enable; set -- $(sed -n 3p $d/resource); devmem $(($1 + 0x500)) 16");
}

constexpr const char* kDisplay = "0x1234 0x1111 0x038000";
constexpr const char* kAudio = "0x8086 0x293e 0x040300";
constexpr const char* kDisplayId = "0xB0C5\n";

}  // namespace

TEST_CASE("a guest gets a GPU with its companion, lets it go for a memory snapshot and for good, and gets another") {
  GpuLab lab;
  const std::string vm = lab.name("guest");
  lab.vmgraft({"create", "micro", vm, "--gpus", kGpu});
  CHECK(lab.gpus_of(vm) == std::vector<std::string>{kGpu});
  CHECK(lab.gpu(kGpu).at("state") == "in_vm");
  CHECK(lab.gpu(kGpu).at("vm") == vm);
  auto expected = host_drivers();
  expected[kGpu] = expected[kCompanion] = "vfio-pci";
  CHECK(drivers() == expected);
  CHECK(lab.hostdevs(vm) == std::set<std::string>{kGpu, kCompanion});
  CHECK(lab.hostdevs(vm, true).empty());

  auto functions = passed_functions(lab, vm);
  REQUIRE(functions.size() == 2);
  const std::string display = functions.begin()->first;
  CHECK(functions[display] == kDisplay);
  CHECK(functions[display.substr(0, display.size() - 1) + "1"] == kAudio);
  CHECK(read_display_id(lab, vm, display) == kDisplayId);

  // What is in memory only is there after the revert, and the GPU never saw its host driver meanwhile.
  const std::size_t starts = lab.driver_starts();
  lab.guest(vm, "echo kept > /run/kept");
  lab.vmgraft({"snapshot", "create", vm, "warm", "--memory"});
  CHECK(lab.virsh({"domstate", vm}).starts_with("running"));
  CHECK(lab.gpus_of(vm) == std::vector<std::string>{kGpu});
  CHECK(lab.hostdevs(vm) == std::set<std::string>{kGpu, kCompanion});
  CHECK(drivers() == expected);
  CHECK(lab.driver_starts() == starts);
  functions = passed_functions(lab, vm);
  CHECK(functions.size() == 2);
  CHECK(read_display_id(lab, vm, place_of(functions, kDisplay)) == kDisplayId);

  const nlohmann::json given_back = lab.one_gpu({"gpu", "detach", vm, kGpu});
  CHECK(given_back.at("state") == "host");
  CHECK(given_back.at("driver") == "bochs-drm");
  CHECK(given_back.at("reset").is_string());
  CHECK(drivers() == host_drivers());
  CHECK(passed_functions(lab, vm).empty());
  CHECK(lab.hostdevs(vm).empty());

  const nlohmann::json plugged = lab.one_gpu({"gpu", "attach", vm, kFarGpu});
  CHECK(plugged.at("address") == kFarGpu);
  CHECK(plugged.at("state") == "in_vm");
  functions = passed_functions(lab, vm);
  REQUIRE(functions.size() == 1);
  CHECK(functions.begin()->second == kDisplay);
  CHECK(read_display_id(lab, vm, functions.begin()->first) == kDisplayId);
  CHECK(lab.error({"gpu", "detach", vm, kGpu}, 5).at("message").get<std::string>().find("does not hold") !=
        std::string::npos);

  lab.vmgraft({"stop", vm, "--timeout", "0s"});
  CHECK(drivers() == host_drivers());
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
    CHECK(lab.ledger() == ledger);
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

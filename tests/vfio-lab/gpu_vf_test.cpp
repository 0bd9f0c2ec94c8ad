// SPDX-License-Identifier: Apache-2.0
#include "vfio-lab/gpu_lab.hpp"

using namespace vmgraft;

TEST_CASE("a virtual function is made for a VM, passed to it, and removed with it", "[second]") {
  GpuLab lab;
  const GpuConfigured configured("/run/gpus.json", kNvmeIsGpu);
  const auto count = [&] { return lab.read(pci_folder(kNvme) / "sriov_numvfs"); };
  REQUIRE(count() == "0\n");
  CHECK(lab.gpu(kNvme).at("most_vfs") == 2);

  const auto check = [&](const std::string& address, int want_exit) {
    const CommandResult result = lab.vmgraft({"--json", "gpu", "check", address}, want_exit);
    return failed_checks(nlohmann::json::parse(result.out).at("result").at("checks")).at(address);
  };
  CHECK(check(kNvme, 0) == FailedChecks{});

  const std::string vm = lab.name("part");
  lab.vmgraft({"create", "idle", vm, "--gpus", "kind=vf"});
  CHECK(count() == "1\n");
  const std::vector<std::string> held = lab.gpus_of(vm);
  REQUIRE(held.size() == 1);
  CHECK(std::filesystem::canonical(pci_folder(kNvme) / "virtfn0").filename() == held[0]);
  CHECK(driver_of(held[0]) == "vfio-pci");
  CHECK(lab.hostdevs(vm) == std::set<std::string>{held[0]});
  CHECK(drivers() == host_drivers());  // the physical function stays with the host
  CHECK(lab.gpu(held[0]).at("physical_function") == kNvme);
  CHECK(lab.gpu(held[0]).at("state") == "in_vm");
  CHECK(check(kNvme, 6) == FailedChecks{"vfs-in-use"});
  CHECK(check(held[0], 6) == FailedChecks{"group-held"});

  // Given away in parts it is not given away whole.
  const std::string whole = lab.name("whole");
  const nlohmann::json error = lab.error({"create", "idle", whole, "--gpus", kNvme}, 5);
  CHECK(error.dump().find("vfs-in-use") != std::string::npos);

  lab.vmgraft({"delete", vm, "--yes"});
  CHECK(count() == "0\n");
  CHECK_FALSE(std::filesystem::exists(pci_folder(held[0])));
  CHECK(drivers() == host_drivers());
  CHECK(lab.read(pci_folder(kNvme) / "sriov_drivers_autoprobe") == "1\n");
}

TEST_CASE("a GPU with a reset of its own is handed over and back, and its driver has its disk again") {
  GpuLab lab;
  const GpuConfigured configured("/run/gpus.json", kNvmeIsGpu);
  const std::string vm = lab.name("nvme");
  lab.vmgraft({"create", "idle", vm, "--gpus", "model=1b36:0010"});
  CHECK(driver_of(kNvme) == "vfio-pci");
  lab.vmgraft({"delete", vm, "--yes"});
  CHECK(drivers() == host_drivers());
  CHECK(lab.gpu(kNvme).at("note").get<std::string>().find("reset by") != std::string::npos);
}

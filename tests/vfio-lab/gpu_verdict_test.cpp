// SPDX-License-Identifier: Apache-2.0
#include "vfio-lab/gpu_lab.hpp"

using namespace vmgraft;

TEST_CASE("gpu list tells what the kernel tells of each GPU") {
  GpuLab lab;
  const nlohmann::json gpus = lab.json({"gpu", "list"}).at("gpus");
  std::map<std::string, nlohmann::json> by_address;
  for (const nlohmann::json& gpu : gpus) by_address[gpu.at("address")] = gpu;
  REQUIRE(by_address.size() == gpus.size());
  CHECK(by_address.size() == 4);  // the nvme is none unless the host's configuration says so
  for (const char* address : {kConsole, kGpu, kFarGpu, kSharingGpu}) {
    INFO(address);
    const nlohmann::json& gpu = by_address.at(address);
    const std::filesystem::path folder = pci_folder(address);
    CHECK(gpu.at("id") == "1234:1111");
    CHECK(gpu.at("driver") == "bochs-drm");
    CHECK(gpu.at("state") == "host");
    CHECK(gpu.at("vm").is_null());
    CHECK(gpu.at("memory") == 16777216);
    CHECK(gpu.at("class_code").get<std::string>() + "\n" == lab.read(folder / "class"));
    CHECK(gpu.at("boot_vga") == (std::string(address) == kConsole));
    const std::string node = lab.read(folder / "numa_node");
    if (node == "-1\n")
      CHECK(gpu.at("numa_node").is_null());
    else
      CHECK(std::to_string(gpu.at("numa_node").get<int>()) + "\n" == node);
    CHECK(std::to_string(gpu.at("iommu_group").get<int>()) ==
          std::filesystem::read_symlink(folder / "iommu_group").filename().string());
  }
  const auto role = [&](const char* address, const char* neighbour) {
    for (const nlohmann::json& each : by_address.at(address).at("neighbours"))
      if (each.at("address") == neighbour) return each.at("role").get<std::string>();
    return std::string("none");
  };
  CHECK(role(kGpu, kCompanion) == "companion");
  CHECK(role(kSharingGpu, kStranger) == "stranger");
  CHECK(by_address.at(kFarGpu).at("neighbours").empty());
  CHECK(by_address.at(kGpu).at("numa_node") == 0);
  CHECK(by_address.at(kFarGpu).at("numa_node") == 1);
}

TEST_CASE("each GPU of the server gets its verdict, and asking for a bad one touches no driver") {
  GpuLab lab;
  const nlohmann::json record = nlohmann::json::parse(lab.vmgraft({"--json", "gpu", "check"}, 6).out);
  std::map<std::string, FailedChecks> failed = failed_checks(record.at("result").at("checks"));
  CHECK(failed.at("") == FailedChecks{});
  CHECK(failed.at(kGpu) == FailedChecks{});
  CHECK(failed.at(kFarGpu) == FailedChecks{});
  CHECK(failed.at(kSharingGpu) == FailedChecks{"group-not-viable"});
  CHECK(failed.at(kConsole).contains("boot-vga"));
  CHECK(failed.size() == 5);
  CHECK(failed_checks(lab.json({"gpu", "check", kGpu}).at("checks")).size() == 2);

  const std::string vm = lab.name("refused");
  const auto ledger = lab.ledger();
  for (const auto& [address, id] :
       std::map<std::string, std::string>{{kConsole, "boot-vga"}, {kSharingGpu, "group-not-viable"}}) {
    INFO(address);
    const nlohmann::json error = lab.error({"create", "idle", vm, "--gpus", address, "--wait", "none"}, 6);
    CHECK(error.dump().find(id) != std::string::npos);
    CHECK(lab.error({"gpu", "lend", address}, 6).at("message").get<std::string>().find(id) != std::string::npos);
    CHECK(drivers() == host_drivers());
  }
  CHECK(lab.ledger() == ledger);
  CHECK(lab.journals().empty());
  CHECK(lab.json({"list", "--all"}).at("vms").empty());
}

TEST_CASE("a VM that asks for a card by its address is not given another one that stands there") {
  GpuLab lab;
  const std::string vm = lab.name("moved");
  lab.vmgraft({"create", "idle", vm, "--gpus", kFarGpu, "--no-start"});
  const std::filesystem::path file = lab.store() / "vms" / vm / "vm.json";
  nlohmann::json manifest = nlohmann::json::parse(lab.read(file));
  CHECK(manifest.at("named_gpus").at(0).at("address") == kFarGpu);
  const std::string identity = manifest.at("named_gpus").at(0).at("identity");
  CHECK(lab.json({"show", vm}).at("vm").at("gpu_request") ==
        nlohmann::json::array({{{"request", kFarGpu}, {"identity", identity}}}));
  const auto ledger = lab.ledger();
  manifest["named_gpus"][0]["identity"] = "10de:2330 10de:16c1";  // as if the cards had moved since
  LinuxHost().write_file(file, manifest.dump(), 0600);
  const nlohmann::json error = lab.error({"start", vm, "--wait", "none"}, 6);
  CHECK(error.at("message") == "GPU " + std::string(kFarGpu) + ": is " + identity +
                                   ", but vmgraft knows 10de:2330 10de:16c1 at this address: cards have moved [bdf-moved]");
  CHECK(drivers() == host_drivers());
  CHECK(lab.ledger() == ledger);
  lab.vmgraft({"gpu", "request", vm, kFarGpu});
  lab.vmgraft({"start", vm, "--wait", "none"});
  CHECK(lab.gpus_of(vm) == std::vector<std::string>{kFarGpu});
  lab.vmgraft({"gpu", "request", vm, "0"});
  CHECK(lab.json({"show", vm}).at("vm").at("gpu_request").empty());
  lab.vmgraft({"stop", vm, "--timeout", "0s"});
  lab.vmgraft({"start", vm, "--wait", "none"});
  CHECK(lab.gpus_of(vm).empty());
  lab.vmgraft({"delete", vm, "--yes"});
  CHECK(drivers() == host_drivers());
}

TEST_CASE("GPUs of two nodes are told to be far from each other: by gpu check, and by a start that explains itself") {
  GpuLab lab;
  std::string seen;
  const nlohmann::json checks = lab.json({"gpu", "check", kGpu}).at("checks");
  for (const nlohmann::json& row : checks)
    if (row.at("id") == "peer-path") seen = row.at("seen");
  CHECK(seen == "it is on NUMA node 0, and " + std::string(kFarGpu) + " on node 1: no other GPU is nearer");
  const std::string vm = lab.name("far");
  const std::string err = lab.vmgraft({"create", "idle", vm, "--gpus", "2", "--explain"}).err;
  CHECK(lab.hostdevs(vm) == std::set<std::string>{kGpu, kCompanion, kFarGpu});
  CHECK(err.find("GPU " + std::string(kFarGpu) + ": it is on NUMA node 1, and " + kGpu + " on node 0: what they copy") !=
        std::string::npos);
  lab.vmgraft({"delete", vm, "--yes"});
  CHECK(drivers() == host_drivers());
}

TEST_CASE("a definition that cannot take its GPU is refused, and no driver is touched") {
  GpuLab lab;
  const std::string vm = lab.name("edited");
  lab.vmgraft({"create", "idle", vm, "--gpus", kFarGpu, "--no-start"});
  std::string xml = lab.virsh({"dumpxml", "--inactive", vm});
  xml.insert(xml.find("</devices>"),
             "<hostdev mode='subsystem' type='pci' managed='no'><source>"
             "<address domain='0' bus='0x81' slot='0' function='0'/></source></hostdev>");
  const std::filesystem::path file = lab.store() / "tmp/edited.xml";
  LinuxHost().write_file(file, xml, 0600);
  lab.virsh({"define", file});
  std::filesystem::remove(file);
  const auto ledger = lab.ledger();
  const std::size_t starts = lab.driver_starts();
  const nlohmann::json error = lab.error({"start", vm, "--wait", "none"}, 1);
  CHECK(error.at("message").get<std::string>().find("its definition names '0000:81:00.0' itself") != std::string::npos);
  CHECK(drivers() == host_drivers());
  CHECK(lab.driver_starts() == starts);
  CHECK(lab.ledger() == ledger);
  lab.vmgraft({"delete", vm, "--yes"});
}

// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <fstream>

#include "vfio-lab/gpu_lab.hpp"

using namespace vmgraft;

namespace {

/// The six base address registers, as the function holds them now.
std::string bars_of(const std::string& address) {
  std::ifstream config(pci_folder(address) / "config", std::ios::binary);
  config.seekg(0x10);
  std::string bars(24, '\0');
  config.read(bars.data(), 24);
  return bars;
}

}  // namespace

TEST_CASE("a hot reset is over when it is told, where the kernel's own at the last close was under way") {
  GpuLab lab;
  const std::string before = bars_of(kFarGpu);
  REQUIRE(before != std::string(24, '\0'));
  lab.vmgraft({"gpu", "lend", kFarGpu});  // alone on its bus: the kernel can reset it by itself
  for (int i = 0; i < 30; ++i) {
    LinuxHost().hot_reset({kFarGpu}, std::chrono::seconds(60));
    REQUIRE(bars_of(kFarGpu) == before);
  }
  lab.vmgraft({"gpu", "return", kFarGpu});
  CHECK(drivers() == host_drivers());
}

TEST_CASE("a GPU that a process has open is not lent, the process is named, and later it is lent and returned") {
  GpuLab lab;
  const auto card = [&] {
    for (const auto& entry : std::filesystem::directory_iterator(pci_folder(kGpu) / "drm"))
      if (entry.path().filename().string().starts_with("card")) return "/dev/dri/" + entry.path().filename().string();
    return std::string();
  }();
  REQUIRE(std::filesystem::exists(card));
  // Containers have nodes of their own for it.
  const std::string own_node = "/dev/shm/card";
  lab.run({"/bin/sh", "-c", "mknod " + own_node + " c $(stat -c '0x%t 0x%T' " + card + ")"});
  for (const std::string& node : {card, own_node}) {
    const std::string pid = lab.run({"/bin/sh", "-c",
                                     "tail -f /dev/null 2>/dev/null >/dev/null <" + node +
                                         " & until [ \"$(cat /proc/$!/comm)\" = tail ]; do :; done; echo $!"})
                                .out;
    const nlohmann::json busy = lab.error({"gpu", "lend", kGpu}, 5);
    INFO(node << ": " << busy.dump());
    const std::string message = busy.at("message");
    CHECK(message.find("pid " + pid.substr(0, pid.size() - 1) + " (tail") != std::string::npos);
    CHECK(message.find(card) != std::string::npos);
    CHECK(message.find("[device-busy]") != std::string::npos);
    CHECK(drivers() == host_drivers());
    REQUIRE(::kill(std::stoi(pid), SIGKILL) == 0);
  }

  const nlohmann::json lent = lab.one_gpu({"gpu", "lend", kGpu});
  CHECK(lent.at("state") == "lent");
  CHECK(lent.at("driver") == "vfio-pci");
  auto expected = host_drivers();
  expected[kGpu] = expected[kCompanion] = "vfio-pci";
  CHECK(drivers() == expected);
  CHECK_FALSE(std::filesystem::exists(card));

  // A VM takes it and leaves it lent.
  const std::string vm = lab.name("borrower");
  lab.vmgraft({"create", "idle", vm, "--gpus", kGpu});
  CHECK(lab.error({"gpu", "return", kGpu}, 5).at("message").get<std::string>().find(vm) != std::string::npos);
  lab.vmgraft({"delete", vm, "--yes"});
  CHECK(lab.gpu(kGpu).at("state") == "lent");
  CHECK(drivers() == expected);

  const nlohmann::json returned = lab.one_gpu({"gpu", "return", kGpu});
  CHECK(returned.at("state") == "host");
  CHECK(returned.at("driver") == "bochs-drm");
  CHECK(returned.at("reset").is_string());
  CHECK(drivers() == host_drivers());
  CHECK(std::filesystem::exists(card));
}

TEST_CASE("a GPU that was on vfio-pci before stays there, whatever a VM did with it", "[second]") {
  GpuLab lab;
  {
    INFO("a node without a processor is a worse one: with VMGRAFT_TEST_FILTER this wants VMGRAFT_LAB_CPUS=2");
    REQUIRE(lab.read("/sys/devices/system/node/node1/cpulist") != "\n");
  }
  const auto write = [](const std::filesystem::path& path, const std::string& text) {
    std::ofstream file(path);
    file << text << std::flush;
    REQUIRE(file.good());
  };
  const auto bind = [&](const std::string& driver) {
    write(pci_folder(kFarGpu) / "driver_override", driver + "\n");
    write(pci_folder(kFarGpu) / "driver/unbind", kFarGpu);
    write("/sys/bus/pci/drivers_probe", kFarGpu);
  };
  lab.run({"modprobe", "vfio-pci"});
  bind("vfio-pci");
  REQUIRE(driver_of(kFarGpu) == "vfio-pci");
  CHECK(lab.gpu(kFarGpu).at("state") == "vfio");
  lab.error({"gpu", "lend", kFarGpu}, 5);
  const std::string vm = lab.name("dedicated");
  lab.vmgraft({"create", "idle", vm, "--gpus", "1"});  // of two that are free this one needs no driver to change
  const std::vector<std::string> chosen = lab.gpus_of(vm);
  lab.vmgraft({"delete", vm, "--yes"});
  CHECK(chosen == std::vector<std::string>{kFarGpu});
  CHECK(driver_of(kFarGpu) == "vfio-pci");
  CHECK(lab.gpu(kFarGpu).at("state") == "vfio");
  bind("");
  CHECK(drivers() == host_drivers());
}

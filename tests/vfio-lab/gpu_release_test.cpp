// SPDX-License-Identifier: Apache-2.0
#include "vfio-lab/gpu_lab.hpp"

using namespace vmgraft;

namespace {

bool has(const nlohmann::json& text, const std::string& part) {
  return text.get<std::string>().find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a GPU that does not answer after its release is quarantined, given to no VM, and given back by force") {
  GpuLab lab;
  const std::string vm = lab.name("last");
  lab.vmgraft({"create", "idle", vm, "--gpus", kGpu});
  auto expected = host_drivers();
  expected[kGpu] = expected[kCompanion] = "vfio-pci";
  {
    const DeadGpu dead(kGpu);
    const std::string err = lab.vmgraft({"stop", vm, "--timeout", "0s"}).err;
    CHECK(err.find("vmgraft gpu return " + std::string(kGpu) + " --force") != std::string::npos);
  }
  const std::string reason = std::string(kGpu) + " does not answer: its config space reads ffff for the vendor 1234";
  CHECK(lab.ledger().at(kGpu).at("quarantine") == reason);
  CHECK(lab.gpu(kGpu).at("state") == "quarantined");
  CHECK(lab.gpu(kGpu).at("note") == reason);
  CHECK(drivers() == expected);

  // It answers again, which says nothing of how it works.
  const auto ledger = lab.ledger();
  const nlohmann::json refused = lab.error({"start", vm}, 6);
  CHECK(has(refused.at("message"), reason + " [quarantined]"));
  CHECK(has(lab.error({"gpu", "lend", kGpu}, 6).at("message"), "[quarantined]"));
  CHECK(has(lab.error({"gpu", "return", kGpu}, 5).at("message"), "is quarantined: " + reason));
  CHECK(drivers() == expected);
  CHECK(lab.ledger() == ledger);
  CHECK(lab.hostdevs(vm, true).empty());

  const nlohmann::json returned = lab.one_gpu({"gpu", "return", kGpu, "--force"});
  CHECK(returned.at("state") == "host");
  CHECK(drivers() == host_drivers());
  CHECK(lab.ledger().at(kGpu).at("quarantine") == "");
  lab.vmgraft({"gpu", "check", kGpu});
}

TEST_CASE("release says what becomes of a GPU: started by its host driver, or kept as it is") {
  GpuLab lab;
  const auto run_once = [&](const std::string& release) {
    const std::string vm = lab.name(release);
    lab.vmgraft({"create", "kept", vm, "--set", "release=" + release, "--gpus", kFarGpu});
    REQUIRE(lab.hostdevs(vm) == std::set<std::string>{kFarGpu});
    lab.vmgraft({"stop", vm, "--timeout", "0s"});
  };
  const std::size_t starts = lab.driver_starts();
  run_once("driver");
  CHECK(drivers() == host_drivers());
  CHECK(lab.driver_starts() == starts + 1);
  CHECK(has(lab.ledger().at(kFarGpu).at("note"), "started by its host driver"));

  run_once("keep");
  CHECK(driver_of(kFarGpu) == "vfio-pci");
  CHECK(lab.driver_starts() == starts + 1);
  CHECK(lab.gpu(kFarGpu).at("state") == "lent");
  CHECK(has(lab.ledger().at(kFarGpu).at("note"), "not reset"));
  lab.vmgraft({"gpu", "return", kFarGpu});
  CHECK(drivers() == host_drivers());
}

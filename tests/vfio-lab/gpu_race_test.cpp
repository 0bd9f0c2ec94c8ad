// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <future>

#include "vfio-lab/gpu_lab.hpp"

using namespace vmgraft;

namespace {

int rounds() {
  const char* wanted = std::getenv("VMGRAFT_LAB_ROUNDS");
  return wanted == nullptr ? 50 : std::stoi(wanted);
}

}  // namespace

TEST_CASE("of two starts that race for one GPU exactly one wins, each time", "[second]") {
  GpuLab lab;
  const std::vector<std::string> vms{lab.name("left"), lab.name("right")};
  for (const std::string& vm : vms) lab.vmgraft({"create", "idle", vm, "--no-start", "--gpus", kFarGpu});
  std::map<std::string, int> wins;
  for (int round = 0; round < rounds(); ++round) {
    std::vector<std::future<CommandResult>> starts;
    for (const std::string& vm : vms)
      starts.push_back(std::async(std::launch::async, [&lab, vm] { return lab.try_vmgraft({"start", vm}); }));
    const CommandResult left = starts[0].get();
    const CommandResult right = starts[1].get();
    INFO("round " << round << "\nleft:\n" << left.err << "right:\n" << right.err);
    REQUIRE((left.exit_code == 0) != (right.exit_code == 0));
    CHECK(left.exit_code + right.exit_code == 5);
    const std::string& winner = vms[left.exit_code == 0 ? 0 : 1];
    ++wins[winner];
    CHECK(driver_of(kFarGpu) == "vfio-pci");
    CHECK(lab.ledger().at(kFarGpu).at("vm") == winner);
    // Half of the rounds find the GPU as a dead VM left it, and the two race for its release too.
    if (round % 2 == 0) {
      lab.kill_qemu(winner);
    } else {
      lab.vmgraft({"stop", winner, "--timeout", "0s"});
      CHECK(drivers() == host_drivers());
    }
  }
  std::cout << "won: " << wins[vms[0]] << " and " << wins[vms[1]] << '\n';
  lab.vmgraft({"delete", "--yes", vms[0], vms[1]});
  CHECK(drivers() == host_drivers());
  CHECK(lab.journals().empty());
}

// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_gpu.hpp"

#include "run/gpu_reset.hpp"
#include "support/catch.hpp"
#include "support/gpu_world.hpp"

using namespace vmgraft;

namespace {

const std::string kGpu = "0000:41:00.0";
const std::string kAudio = "0000:41:00.1";
const std::string kPhysical = "0000:42:00.0";

GpuRecord record_of(GpuWorld& world, const std::string& address) {
  const std::optional<GpuRecord> record = world.ledger().find(address);
  REQUIRE(record);
  return *record;
}

}  // namespace

TEST_CASE("a lease puts the GPU and its companion on vfio-pci and remembers where they were") {
  GpuWorld world;
  world.run(world.lease("a"));
  CHECK(world.host.pci_driver(kGpu) == "vfio-pci");
  CHECK(world.host.pci_driver(kAudio) == "vfio-pci");
  const GpuRecord record = record_of(world, kGpu);
  CHECK(record.vm == "a");
  CHECK(record.origins == std::vector<GpuOrigin>{{kAudio, "snd_hda_intel", ""}, {kGpu, "nvidia", ""}});
}

TEST_CASE("a released GPU is back on its drivers, and says that its memory was not overwritten") {
  GpuWorld world;
  world.run(world.lease("a"));
  world.run(world.release());
  CHECK(world.host.pci_driver(kGpu) == "nvidia");
  CHECK(world.host.pci_driver(kAudio) == "snd_hda_intel");
  const GpuRecord record = record_of(world, kGpu);
  CHECK(record.vm_uuid.empty());
  CHECK(record.origins.empty());
  CHECK(record.note == "reset by hot; its memory was not overwritten");
}

TEST_CASE("a dedicated GPU is left on vfio-pci, as it was found") {
  GpuWorld world;
  world.dedicate();
  world.run(world.lease("a"));
  CHECK(record_of(world, kGpu).origins.empty());
  world.run(world.release());
  CHECK(world.host.pci_driver(kGpu) == "vfio-pci");
  CHECK(world.host.pci_driver(kAudio) == "vfio-pci");
}

TEST_CASE("a lent GPU stays on vfio-pci between VMs, and goes back when it is returned") {
  GpuWorld world;
  world.run(plan_lend(world.facts(), world.ledger(), kGpu));
  world.run(world.lease("a"));
  world.run(world.release());
  CHECK(world.host.pci_driver(kGpu) == "vfio-pci");
  CHECK(world.facts().find(kGpu)->state == GpuState::lent);
  world.run(plan_return(world.facts(), world.ledger(), kGpu, {"hot", {}}));
  CHECK(world.host.pci_driver(kGpu) == "nvidia");
  CHECK(world.host.pci_driver(kAudio) == "snd_hda_intel");
  CHECK(world.facts().find(kGpu)->state == GpuState::host);
}

TEST_CASE("with the policy 'keep' a GPU is neither reset nor moved, and that is said") {
  GpuWorld world;
  world.run(world.lease("a", GpuRelease::keep));
  world.run(plan_release(world.facts(), world.ledger(), kGpu, {}));
  CHECK(world.host.pci_driver(kGpu) == "vfio-pci");
  const GpuRecord record = record_of(world, kGpu);
  CHECK(record.lent);
  CHECK(record.note == "kept as the VM left it: not reset, its memory not cleared");
}

TEST_CASE("with the policy 'driver' a lent GPU is started by its host driver once") {
  GpuWorld world;
  world.run(plan_lend(world.facts(), world.ledger(), kGpu));
  world.run(world.lease("a", GpuRelease::driver));
  const Plan plan = world.release();
  std::vector<std::string> drivers;
  for (const Step& step : plan.steps)
    if (const auto* bind = std::get_if<BindDriver>(&step)) drivers.push_back(bind->driver);
  CHECK(drivers == std::vector<std::string>{"nvidia", "vfio-pci"});
  world.run(plan);
  CHECK(world.host.pci_driver(kGpu) == "vfio-pci");
  CHECK(record_of(world, kGpu).note == "reset by hot, then started by its host driver");
}

TEST_CASE("a GPU that is dead after its reset is quarantined with the reason, on vfio-pci") {
  GpuWorld world;
  world.run(world.lease("a"));
  world.host.break_at_reset(kGpu);
  const GpuFacts facts = world.facts();
  const ResetOutcome outcome = reset_gpu(world.host, facts, *facts.find(kGpu));
  CHECK(outcome.failure.find("0000:41:00.0 does not answer") != std::string::npos);
  world.run(plan_release(facts, world.ledger(), kGpu, outcome));
  CHECK(world.host.pci_driver(kGpu) == "vfio-pci");
  CHECK(world.facts().find(kGpu)->state == GpuState::quarantined);
  CHECK(record_of(world, kGpu).quarantine == outcome.failure);
  CHECK(record_of(world, kGpu).origins.size() == 2);
}

TEST_CASE("a GPU that answers is reset hot, with all its functions at once") {
  GpuWorld world;
  world.run(world.lease("a"));
  const GpuFacts facts = world.facts();
  world.host.reset();
  const ResetOutcome outcome = reset_gpu(world.host, facts, *facts.find(kGpu));
  CHECK(outcome.failure.empty());
  CHECK(outcome.method == "hot");
  CHECK(world.host.effects() == 1);
}

TEST_CASE("where no hot reset is possible the strongest listed method is used, and the list put back") {
  GpuWorld world;
  world.host.add_file(world.host.pci_folder(kPhysical) + "/reset_method", "pm flr\n");
  const GpuFacts facts = world.facts();
  const ResetOutcome outcome = reset_gpu(world.host, facts, *facts.find(kPhysical));
  CHECK(outcome.failure.empty());
  CHECK(outcome.method == "flr");
}

TEST_CASE("a virtual function is never reset by its bus, which is its physical function's") {
  GpuWorld world;
  world.run(plan_make_vfs(world.facts(), world.ledger(), kPhysical, 1));
  world.host.add_file(world.host.pci_folder("0000:42:00.1") + "/reset_method", "flr bus\n");
  const GpuFacts facts = world.facts();
  world.host.reset();
  CHECK(reset_gpu(world.host, facts, *facts.find("0000:42:00.1")).method == "flr");
  for (const std::string& call : world.host.calls()) CHECK(call.find("hot_reset") == std::string::npos);
}

TEST_CASE("a GPU without any way to be reset is not handed on") {
  GpuWorld world;
  world.host.erase(world.host.pci_folder(kPhysical) + "/reset_method");
  const GpuFacts facts = world.facts();
  const ResetOutcome outcome = reset_gpu(world.host, facts, *facts.find(kPhysical));
  CHECK(outcome.method.empty());
  CHECK(outcome.failure.find("has no way to be reset") != std::string::npos);
}

TEST_CASE("virtual functions are made without a host driver, and removed again") {
  GpuWorld world;
  world.run(plan_make_vfs(world.facts(), world.ledger(), kPhysical, 2));
  const PciFunction physical = *world.facts().devices.find(kPhysical);
  CHECK(physical.vfs == 2);
  CHECK(physical.virtual_functions == std::vector<std::string>{"0000:42:00.1", "0000:42:00.2"});
  CHECK(world.host.pci_driver("0000:42:00.1").empty());
  CHECK(record_of(world, kPhysical).made_vfs == 2);
  world.run(plan_remove_vfs(world.facts(), world.ledger(), kPhysical));
  CHECK(world.facts().devices.find(kPhysical)->vfs == 0);
  CHECK(*world.host.read_file(world.host.pci_folder(kPhysical) + "/sriov_drivers_autoprobe") == "1\n");
  CHECK(record_of(world, kPhysical).made_vfs == 0);
}

TEST_CASE("a driver that does not take a function back is an error that names both, and leaves the lease") {
  GpuWorld world;
  world.run(world.lease("a"));
  const Plan plan = world.release();
  world.host.hang_on("/sys/bus/pci/devices/" + kGpu + "/driver/unbind");
  CHECK_THROWS_AS(world.run(plan), Error);
  CHECK(record_of(world, kGpu).vm == "a");
}

TEST_CASE("a function that has left the bus cannot be bound") {
  GpuWorld world;
  const Plan plan = plan_lease(world.facts(), world.ledger(), {kPhysical}, {}, {"a", "u-a", "/store", GpuRelease::reset});
  world.host.erase("/sys/bus/pci/devices/" + kPhysical);
  const Error error = error_of([&] { world.run(plan); });
  CHECK(error.code() != Errc::other);
  CHECK(std::string(error.what()) == "PCI function 0000:42:00.0 is not there (any more)");
}

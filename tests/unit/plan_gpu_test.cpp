// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_gpu.hpp"

#include <algorithm>

#include "domain/placement.hpp"
#include "run/gpu_reset.hpp"
#include "run/journal.hpp"
#include "support/catch.hpp"
#include "support/gpu_world.hpp"
#include "template/gpu_request.hpp"

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

std::string attribute(GpuWorld& world, const std::string& address, const std::string& name) {
  std::string text = world.host.read_file(world.host.pci_folder(address) + "/" + name).value_or("");
  text.erase(text.find_last_not_of('\n') + 1);
  return text;
}

std::vector<std::string> power_of(GpuWorld& world, const std::string& address) {
  return {attribute(world, address, "d3cold_allowed"), attribute(world, address, "power/control")};
}

const std::vector<std::string> kMaySleep{"1", "auto"}, kAwake{"0", "on"};

/// VM "a" runs, with the device that \p gpu is on a root port of its own.
void run_with(GpuWorld& world, const PassedGpu& gpu, const std::string& alias) {
  if (world.host.list_folder("/store/vms").empty()) world.add_vm("a");
  world.hypervisor.set_running(world.uuid("a"), true);
  world.hypervisor.attach_device(world.uuid("a"), hostdev_xml(gpu, 0, alias, 3));
}

Plan detach_plan(GpuWorld& world, const std::string& device) {
  const std::optional<GpuPart> part = find_gpu_part(world.facts(), device);
  REQUIRE(part);
  Plan plan{"gpu detach a", {"a"}, {}};
  const std::string live = world.hypervisor.domain_xml(world.uuid("a"), false);
  for (DetachDevice& step : detach_steps("a", world.uuid("a"), live, 60, &part->devices))
    plan.steps.emplace_back(std::move(step));
  return plan;
}

}  // namespace

TEST_CASE("a GPU for a VM is kept awake on vfio-pci, and may sleep again as before when it is given back") {
  GpuWorld world;
  world.host.add_file(world.host.pci_folder(kAudio) + "/power/control", "on\n");
  const Plan plan = world.lease("a");
  const auto written = std::find_if(plan.steps.begin(), plan.steps.end(),
                                    [](const Step& step) { return std::holds_alternative<WriteAttribute>(step); });
  const auto bound = std::find_if(plan.steps.begin(), plan.steps.end(),
                                  [](const Step& step) { return std::holds_alternative<BindDriver>(step); });
  CHECK(written < bound);  // vfio-pci would let it sleep at once
  world.run(plan);
  CHECK(power_of(world, kGpu) == kAwake);
  CHECK(power_of(world, kAudio) == kAwake);
  world.run(world.release());
  CHECK(power_of(world, kGpu) == kMaySleep);
  CHECK(power_of(world, kAudio) == std::vector<std::string>{"1", "on"});
  CHECK(record_of(world, kGpu).power.empty());
}

TEST_CASE("a request by address means the card that stands there when it is made, or is seen first") {
  GpuWorld world;
  world.add_vm("a");
  const GpuFacts facts = world.facts();
  const std::string identity = identity_of(*facts.devices.find(kGpu));
  const std::vector<GpuSpec> request = parse_gpu_request({kGpu, "0000:99:00.0", "2"});
  const std::string digest = world.store.manifest("a").template_digest;
  world.run(plan_gpu_request(world.store, world.store.manifest("a"), request, facts.devices));
  const Manifest asked = world.store.manifest("a");
  CHECK(asked.named_gpus == std::vector<NamedGpu>{{kGpu, identity}});
  CHECK(asked.template_digest != digest);
  CHECK(asked.spec.find(kGpu) != std::string::npos);

  SECTION("what is known stays, and nothing new is no step") {
    HostDevices moved = facts.devices;
    for (PciFunction& function : moved.functions) function.device = 0x7777;
    CHECK(plan_remember_gpus(world.store, asked, request, moved).steps.empty());
  }
  SECTION("a card that was not there is remembered once it is") {
    HostDevices later = facts.devices;
    later.functions.push_back(*facts.devices.find(kGpu));
    later.functions.back().address = "0000:99:00.0";
    world.run(plan_remember_gpus(world.store, asked, request, later));
    CHECK(world.store.manifest("a").named_gpus == std::vector<NamedGpu>{{kGpu, identity}, {"0000:99:00.0", identity}});
  }
  SECTION("asked for again, it is the one that is there now") {
    HostDevices moved = facts.devices;
    for (PciFunction& function : moved.functions) function.device = 0x7777;
    world.run(plan_gpu_request(world.store, asked, request, moved));
    CHECK(world.store.manifest("a").named_gpus.front().identity != identity);
  }
  SECTION("no request, no card") {
    world.run(plan_gpu_request(world.store, asked, {}, facts.devices));
    CHECK(world.store.manifest("a").named_gpus.empty());
    CHECK(world.store.manifest("a").spec.find("gpus") == std::string::npos);
  }
}

TEST_CASE("a lent GPU stays awake between VMs, until it is returned") {
  GpuWorld world;
  world.run(plan_lend(world.facts(), world.ledger(), kGpu));
  CHECK(power_of(world, kGpu) == kAwake);
  world.run(world.lease("a"));
  world.run(world.release());
  CHECK(power_of(world, kGpu) == kAwake);
  world.run(plan_return(world.facts(), world.ledger(), kGpu, {"hot", {}}));
  CHECK(power_of(world, kGpu) == kMaySleep);
  CHECK(power_of(world, kAudio) == kMaySleep);
}

TEST_CASE("a dedicated GPU is kept awake for its VM only, and a quarantined one until it is returned") {
  GpuWorld world;
  world.dedicate();
  world.run(world.lease("a"));
  CHECK(power_of(world, kGpu) == kAwake);
  world.run(world.release());
  CHECK(power_of(world, kGpu) == kMaySleep);
  world.run(world.lease("a"));
  world.run(plan_release(world.facts(), world.ledger(), kGpu, {{}, "it is dead"}));
  CHECK(power_of(world, kGpu) == kAwake);
  world.run(plan_return(world.facts(), world.ledger(), kGpu, {{}, "it is dead"}));
  CHECK(power_of(world, kGpu) == kMaySleep);
}

TEST_CASE("a second mediated device for a running VM has a UUID of its own, and both are removed by us") {
  GpuWorld world;
  world.host.add_mdev_type(kGpu, "nvidia-11", 4);
  world.add_vm("a");
  world.run(mdev_lease_of(world.host, "a", world.uuid("a"), 1));
  world.run(mdev_lease_of(world.host, "a", world.uuid("a"), 1));
  const std::vector<std::string> there = world.host.list_folder("/sys/bus/mdev/devices");
  CHECK(there.size() == 2);
  CHECK(world.facts().devices.find(kGpu)->mdevs.size() == 2);
  CHECK(world.host.pci_driver(kGpu) == "nvidia");
  world.run(plan_remove_mdevs("a", world.uuid("a"), there, {mdev_uuid(world.uuid("a"), 1)}));
  CHECK(world.host.list_folder("/sys/bus/mdev/devices") == std::vector<std::string>{mdev_uuid(world.uuid("a"), 1)});
  CHECK(free_mdev_uuids(world.facts().devices, world.uuid("a"), 1).front() == mdev_uuid(world.uuid("a"), 0));
  CHECK(error_of([&] { static_cast<void>(free_mdev_uuids(world.facts().devices, world.uuid("a"), kMostMdevs)); })
            .code() == Errc::conflict);
}

TEST_CASE("a mediated device is detached by its UUID, or by the address of its GPU, and then removed") {
  GpuWorld world;
  world.host.add_mdev_type(kGpu, "nvidia-11", 4);
  world.add_vm("a");
  world.run(mdev_lease_of(world.host, "a", world.uuid("a"), 1));
  const std::string uuid = mdev_uuid(world.uuid("a"), 0);
  PassedGpu passed;
  passed.mdev = uuid;
  for (const std::string& device : {uuid, kGpu}) {
    INFO(device);
    run_with(world, passed, "ua-gpu0-0");
    const Plan plan = detach_plan(world, device);
    REQUIRE(plan.steps.size() == 1);
    CHECK(describe(plan.steps.front()) == "ask a to let " + uuid + " go");
    world.run(plan);
    CHECK(read_hostdevs(world.hypervisor.domain_xml(world.uuid("a"), false)).empty());
  }
  world.run(plan_remove_mdevs("a", world.uuid("a"), world.host.list_folder("/sys/bus/mdev/devices"), {}));
  CHECK(world.host.list_folder("/sys/bus/mdev/devices").empty());
  CHECK_FALSE(find_gpu_part(world.facts(), uuid));
}

TEST_CASE("a vGPU of NVIDIA's stays on its driver, leased and released") {
  GpuWorld world;
  world.host.write_attribute("/sys/bus/pci/devices/" + kPhysical + "/sriov_numvfs", "2", std::chrono::seconds(1));
  const std::string vf = "0000:42:00.1";
  REQUIRE(world.host.pci_driver(vf) == "nvidia");
  const GpuFacts facts = world.facts();
  world.run(plan_lease(facts, world.ledger(), {vf}, {}, {"a", "u-a", "/store", GpuRelease::reset}));
  CHECK(world.host.pci_driver(vf) == "nvidia");
  CHECK(record_of(world, vf).origins.empty());
  CHECK(record_of(world, vf).power.empty());
  world.run(plan_release(world.facts(), world.ledger(), vf, {"flr", {}}));
  CHECK(world.host.pci_driver(vf) == "nvidia");
  CHECK(world.host.pci_driver("0000:42:00.2") == "nvidia");
  CHECK(world.facts().find(vf)->state == GpuState::host);
}

TEST_CASE("VFs made for a start that failed or died are removed by who comes next, and those in use are not") {
  GpuWorld world;
  CHECK(idle_physical_functions(world.facts()).empty());
  world.run(plan_make_vfs(world.facts(), world.ledger(), kPhysical, 2));
  SECTION("nobody leased one: the start died before") {
    CHECK(idle_physical_functions(world.facts()) == std::vector<std::string>{kPhysical});
  }
  SECTION("one is leased to a VM that does not have it: it is to be reset first") {
    const Lease lease{"a", "u-a", "/store", GpuRelease::reset};
    world.run(plan_lease(world.facts(), world.ledger(), {"0000:42:00.1"}, {}, lease));
    CHECK(idle_physical_functions(world.facts()).empty());
    world.run(plan_release(world.facts(), world.ledger(), "0000:42:00.1", {"flr", {}}));
    CHECK(idle_physical_functions(world.facts()) == std::vector<std::string>{kPhysical});
  }
  SECTION("a running VM of somebody else has one") {
    GpuFacts facts = world.facts();
    facts.gpus = find_gpus(facts.devices, {{"other", "u-other", "", true, {"0000:42:00.2"}}}, facts.records);
    CHECK(idle_physical_functions(facts).empty());
  }
  SECTION("another card stands there now") {
    world.host.add_file(world.host.pci_folder(kPhysical) + "/device", "0x1234\n");
    CHECK(idle_physical_functions(world.facts()).empty());
  }
  for (const std::string& physical : idle_physical_functions(world.facts()))
    world.run(plan_remove_vfs(world.facts(), world.ledger(), physical));
}

TEST_CASE("VFs that the administrator made are never removed as idle") {
  GpuWorld world;
  world.host.write_attribute("/sys/bus/pci/devices/" + kPhysical + "/sriov_numvfs", "2", std::chrono::seconds(1));
  CHECK(idle_physical_functions(world.facts()).empty());
}

TEST_CASE("a guest that refuses to let a GPU go, and one that does not answer, are told apart by name") {
  GpuWorld world;
  world.run(world.lease("a"));
  PassedGpu passed;
  passed.functions.push_back({kGpu, true, 0});
  run_with(world, passed, "ua-gpu0-0");
  const Plan plan = detach_plan(world, kGpu);
  world.hypervisor.set_guest_lets_go(false, DetachOutcome::refused);
  const Error refused = error_of([&] { world.run(plan); });
  CHECK(refused.code() == Errc::conflict);
  CHECK(std::string(refused.what()) == "VM 'a': the guest refused to let 0000:41:00.0 go");
  CHECK(refused.hint().find("unload its driver") != std::string::npos);
  world.hypervisor.set_guest_lets_go(false, DetachOutcome::timed_out);
  const Error silent = error_of([&] { world.run(plan); });
  CHECK(silent.code() == Errc::unreachable);
  CHECK(std::string(silent.what()) == "VM 'a': the guest did not let 0000:41:00.0 go within 60 s");
  CHECK(world.host.pci_driver(kGpu) == "vfio-pci");
  CHECK(read_hostdevs(world.hypervisor.domain_xml(world.uuid("a"), false)).size() == 1);
}

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

// It was handed on: config space of a function whose link is down may still be the kernel's copy.
TEST_CASE("a GPU that lost its PCIe link in the reset is dead") {
  GpuWorld world;
  const std::string width = world.host.pci_folder(kGpu) + "/current_link_width";
  world.host.add_file(width, "16\n");
  const PciFunction before = *world.facts().devices.find(kGpu);
  CHECK(why_dead(world.host, before).empty());
  world.host.add_file(width, "0\n");
  CHECK(why_dead(world.host, before) == "0000:41:00.0 has lost its PCIe link, which was x16 before the reset");
}

TEST_CASE("a reset that fails leaves the list of reset methods as it was") {
  GpuWorld world;
  const std::string methods = world.host.pci_folder(kPhysical) + "/reset_method";
  const GpuFacts facts = world.facts();
  world.host.reset();
  world.host.fail_at(2);  // the first sets the method
  CHECK(reset_gpu(world.host, facts, *facts.find(kPhysical)).failure.starts_with("its reset by bus failed: "));
  REQUIRE(world.host.calls().size() >= 2);
  CHECK(world.host.calls()[1].ends_with("/reset 1"));
  CHECK(*world.host.read_file(methods) == "flr bus\n");
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

namespace {

/// A process with the GPU's DRM node open.
void open_gpu(GpuWorld& world) {
  world.host.add_folder(world.host.pci_folder(kGpu) + "/drm/card1");
  world.host.add_link("/proc/77/fd/3", "/dev/dri/card1");
  world.host.add_file("/proc/77/comm", "Xorg\n");
}

constexpr const char* kInUse = "0000:41:00.0 cannot leave nvidia: process 77 (Xorg) has /dev/dri/card1 open";

}  // namespace

// The driver was torn away, or its unbind waited for ever, and the GPU with it.
TEST_CASE("a GPU that a process opened since it was looked at does not leave its driver") {
  GpuWorld world;
  const Plan plan = plan_lend(world.facts(), world.ledger(), kGpu);
  open_gpu(world);
  CHECK_THROWS_WITH(world.run(plan), Catch::Contains(kInUse));
  CHECK(world.host.pci_driver(kGpu) == "nvidia");
  CHECK_FALSE(world.ledger().find(kGpu));
  world.host.erase("/proc/77/fd/3");
  world.run(plan);
  CHECK(world.host.pci_driver(kGpu) == "vfio-pci");
}

TEST_CASE("a GPU that was back on its driver when vmgraft died is not taken from who opened it, by the next command") {
  GpuWorld world;
  world.run(plan_lend(world.facts(), world.ledger(), kGpu));
  const Plan plan = plan_return(world.facts(), world.ledger(), kGpu, {"hot", {}});
  GpuWorld whole(world);
  whole.host.reset();
  whole.run(plan);
  std::size_t effect = 0;
  {
    // Both functions are back; their record has not been written.
    const std::vector<std::string>& calls = whole.host.calls();
    while (calls.at(effect).find("write_file /run/vmgraft/gpus/" + kGpu) != 0) ++effect;
  }
  world.host.reset();
  world.host.die_at(effect + 1, FakeHost::When::before);
  CHECK_THROWS_AS(world.run(plan), Death);
  world.host.revive();
  REQUIRE(world.host.pci_driver(kGpu) == "nvidia");
  open_gpu(world);
  const auto recover = [&] {
    const std::string file = world.store.journal_folder() / world.host.list_folder(world.store.journal_folder()).at(0);
    return Executor(world.world()).recover(journal_from_json(*world.host.read_file(file), file));
  };
  try {
    recover();
    FAIL("it was taken from its user");
  } catch (const Error& error) {
    REQUIRE_FALSE(error.leftovers().empty());
    CHECK(error.leftovers().front().find(kInUse) != std::string::npos);
  }
  CHECK(world.host.pci_driver(kGpu) == "nvidia");
  world.host.erase("/proc/77/fd/3");
  CHECK(recover().starts_with("undid 'return GPU"));
  CHECK(world.host.pci_driver(kGpu) == "vfio-pci");
}

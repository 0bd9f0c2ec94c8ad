// SPDX-License-Identifier: Apache-2.0
#include "model/size.hpp"
#include "plan/plan_gpu.hpp"
#include "support/catch.hpp"

using namespace vmgraft;

namespace {

const std::string kNear = "0000:41:00.0";
const std::string kFar = "0000:c1:00.0";

/// A GPU on each of two nodes of the host, and a guest with a cell on each, whose pxb-pcie has one free port (21, 22) beside
/// two of the root bus (7, 8).
struct PlugWorld {
  GpuFacts facts;
  GpuChoice choice;
  Placement placement;
  std::string hole;
  std::string ports = port(7, 0) + port(8, 0) + port(21, 11) + port(22, 12);
  std::string numatune =
      "<numatune><memory mode='strict' nodeset='0-1'/><memnode cellid='0' mode='strict' nodeset='0'/>"
      "<memnode cellid='1' mode='strict' nodeset='1'/></numatune>";
  std::string there;

  PlugWorld() {
    add(kNear, 0);
    add(kFar, 1);
  }

  static std::string port(unsigned index, unsigned bus) {
    return "<controller type='pci' index='" + std::to_string(index) +
           "' model='pcie-root-port'><address type='pci' domain='0x0000' bus='" + std::to_string(bus) + "' slot='" +
           std::to_string(index % 8) + "' function='0x0'/></controller>";
  }
  static std::string expander(unsigned index, unsigned cell) {
    return "<controller type='pci' index='" + std::to_string(index) + "' model='pcie-expander-bus'><target busNr='128'><node>" +
           std::to_string(cell) + "</node></target><address type='pci' bus='0x00' slot='0x1" + std::to_string(cell) +
           "' function='0x0'/></controller>";
  }

  void add(const std::string& address, int node) {
    PciFunction function;
    function.address = address;
    function.numa_node = node;
    function.bars = {{0, 0, 16 * kGiB, true, true, true}};
    facts.devices.functions.push_back(function);
  }
  void ask(const std::string& address) {
    choice.gpus.emplace_back().address = address;
    placement.gpus.emplace_back().functions.push_back({address, true, 0});
  }
  void set_bar(std::uint64_t size) {
    for (PciFunction& function : facts.devices.functions) function.bars.front().size = size;
  }
  [[nodiscard]] std::string xml() const {
    return "<domain><name>a</name>" + numatune + "<devices><controller type='pci' index='0' model='pcie-root'>" + hole +
           "</controller>" + expander(11, 0) + expander(12, 1) + ports + there + "</devices></domain>";
  }
  [[nodiscard]] PlugPlan plan() const { return plan_plug(facts, choice, placement, "a", "u-a", xml()); }
  /// The port of the n-th device that is plugged in.
  [[nodiscard]] unsigned port_of(std::size_t step) const {
    const std::string xml = std::get<AttachDevice>(plan().plan.steps.at(step)).xml;
    return read_hostdevs("<domain><devices>" + xml + "</devices></domain>").front().port;
  }
};

}  // namespace

TEST_CASE("a GPU that is plugged in stands on a port of its own node's pxb") {
  PlugWorld world;
  world.ask(kFar);
  world.ask(kNear);
  CHECK(world.port_of(0) == 22);
  CHECK(world.port_of(1) == 21);
  CHECK(world.plan().notes.empty());
}

TEST_CASE("without a free port of its node a GPU goes to the root bus, then anywhere, and that is said") {
  PlugWorld world;
  world.ask(kFar);
  SECTION("the root bus is of no cell") {
    world.ports = PlugWorld::port(21, 11) + PlugWorld::port(8, 0);
    CHECK(world.port_of(0) == 8);
    CHECK(world.plan().notes == std::vector<std::string>{"GPU 0000:c1:00.0 is on node 1, and VM 'a' has no free root port in "
                                                         "its NUMA cell there: its guest does not see which CPUs and memory "
                                                         "are near it"});
  }
  SECTION("another cell's") {
    world.ports = PlugWorld::port(21, 11);
    CHECK(world.port_of(0) == 21);
    CHECK(world.plan().notes.size() == 1);
  }
  SECTION("the guest has no cell on its node") {
    world.numatune = "<numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune>";
    CHECK(world.port_of(0) == 7);
    REQUIRE(world.plan().notes.size() == 1);
    CHECK(world.plan().notes.front().find("VM 'a' has no NUMA cell there") != std::string::npos);
  }
  SECTION("a guest without cells, or a host that does not tell: nothing to say") {
    world.numatune = world.ports = "";
    world.ports = PlugWorld::port(7, 0);
    CHECK(world.port_of(0) == 7);
    CHECK(world.plan().notes.empty());
  }
}

TEST_CASE("visible companions want ports too, and a VM without one left is refused") {
  PlugWorld world;
  world.ask(kNear);
  world.placement.gpus[0].functions.push_back({"0000:41:00.1", true, 1});
  world.placement.gpus[0].functions.push_back({"0000:41:00.2", false, 2});
  CHECK(world.port_of(0) == 21);
  CHECK(world.port_of(1) == 7);
  CHECK(world.plan().plan.steps.size() == 2);
  world.ports = PlugWorld::port(7, 0);
  const Error error = error_of([&] { static_cast<void>(world.plan()); });
  CHECK(error.code() == Errc::conflict);
  CHECK(std::string(error.what()) == "VM 'a' has no free PCIe root port left for a hot plug");
}

// It came back on the last free port, of whichever cell.
TEST_CASE("a companion that is to come back alone after a memory snapshot does so in the cell of its GPU") {
  PlugWorld world;
  world.ports += PlugWorld::port(23, 12);
  for (const std::string function : {"0", "1"})
    world.there += "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0xc1' slot='0' function='" + function +
                   "'/></source><alias name='ua-gpu0-" + function + "'/><address type='pci' bus='23' slot='0' function='" +
                   function + "'/></hostdev>";
  std::map<std::string, unsigned> ports;
  for (const DetachDevice& step : detach_steps("a", "u-a", world.xml(), 60, nullptr)) {
    const DomainHostdev back = read_hostdevs("<domain><devices>" + step.xml + "</devices></domain>").front();
    ports[back.address] = back.port;
  }
  CHECK(ports == std::map<std::string, unsigned>{{"0000:c1:00.0", 23}, {"0000:c1:00.1", 22}});
}

TEST_CASE("a GPU keeps its number free of those that the guest has") {
  PlugWorld world;
  world.ask(kNear);
  world.there =
      "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0xc1' slot='0' function='0'/></source>"
      "<alias name='ua-gpu0-0'/><address type='pci' bus='22' slot='0' function='0'/></hostdev>";
  CHECK(std::get<AttachDevice>(world.plan().plan.steps.front()).alias == "ua-gpu1-0");
}

TEST_CASE("GPUs that with those of the guest are larger than its window are told of") {
  PlugWorld world;
  world.ask(kNear);
  world.set_bar(32 * kGiB);
  CHECK(world.plan().notes.empty());
  world.there =
      "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0xc1' slot='0' function='0'/></source>"
      "<alias name='ua-gpu0-0'/><address type='pci' bus='22' slot='0' function='0'/></hostdev>";
  CHECK(world.plan().notes ==
        std::vector<std::string>{"VM 'a' was started with a window of 32 GiB for the memory of its devices, and with these GPUs "
                                 "it needs 64 GiB: unless its firmware left more room, its guest cannot map them; a start makes "
                                 "it large enough: vmgraft gpu request a SPEC, then vmgraft restart a"});
  world.there.clear();
  world.set_bar(64 * kGiB);
  CHECK(world.plan().notes.size() == 1);
  world.hole = "<pcihole64 unit='KiB'>134217728</pcihole64>";
  CHECK(world.plan().notes.empty());
  CHECK(world.plan().plan.steps.size() == 1);
}

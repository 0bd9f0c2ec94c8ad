// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "gpu/check.hpp"
#include "gpu/check_rows.hpp"
#include "model/size.hpp"
#include "support/catch.hpp"
#include "support/source_tree.hpp"

using namespace vmgraft;

namespace {

const std::string kGpu = "0000:41:00.0";
const std::string kAudio = "0000:41:00.1";
const std::string kPeer = "0000:41:01.0";

// A sound host with one GPU, 10de:2330, which has a companion and stands below a root port; each case breaks one thing.
struct World {
  GpuFacts facts;
  VmSpec spec;
  CheckFor wanted;

  World() {
    facts.devices.has_iommu = true;
    PciFunction gpu;
    gpu.address = kGpu;
    gpu.class_code = 0x030200;
    gpu.vendor = 0x10de;
    gpu.device = 0x2330;
    gpu.subsystem_vendor = 0x10de;
    gpu.subsystem_device = 0x16c1;
    gpu.driver = "nvidia";
    gpu.iommu_group = 7;
    gpu.numa_node = 0;
    gpu.bars = {{0, 0x1000000, 16 << 20, true, false, false}, {1, 0x6000000000, 128 * kGiB, true, true, true}};
    gpu.link = {"32.0 GT/s PCIe", "32.0 GT/s PCIe", 16, 16};
    gpu.reset_methods = {"flr", "bus"};
    gpu.path = {"0000:40:01.0"};
    gpu.power_state = "D0";
    PciFunction audio = gpu;
    audio.address = kAudio;
    audio.class_code = 0x040300;
    audio.driver = "snd_hda_intel";
    audio.bars.clear();
    add(gpu);
    add(audio);
    facts.devices.gpus = {kGpu};
    facts.devices.groups[7] = {7, {kGpu, kAudio}, "DMA-FQ", {{0xfee00000, 0xfeefffff, "msi"}}};
    facts.gpus.push_back({kGpu, {kAudio}, {}, GpuState::host, {}, {}, {}});
    HostSettings& host = facts.settings;
    host.has_vfio = true;
    host.has_vfio_node = true;
    host.vfio_node.emplace().mode = 0666;
    host.lockdown = "none";
    host.kernel = "6.1.0";
    host.physical_bits = 46;
    host.iommu_bits = 46;
    host.memory = 256 * kGiB;
    host.nodes = {{0, {0, 1, 2, 3}, {{0, 1}, {2, 3}}, 256 * kGiB, 200 * kGiB, {{kGiB, 64, 64}}}};
    spec.memory = 64 * kGiB;
  }

  void add(const PciFunction& function) {
    auto& all = facts.devices.functions;
    all.push_back(function);
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
  }
  PciFunction& function(const std::string& address) { return const_cast<PciFunction&>(*facts.devices.find(address)); }
  Gpu& gpu() { return facts.gpus.front(); }
  HostSettings& host() { return facts.settings; }
  /// Another device of the group, on \p driver.
  PciFunction& add_peer(const std::string& driver) {
    PciFunction peer;
    peer.address = kPeer;
    peer.class_code = 0x020000;
    peer.driver = driver;
    peer.iommu_group = 7;
    add(peer);
    facts.devices.groups.at(7).members.push_back(kPeer);
    gpu().strangers = {kPeer};
    return function(kPeer);
  }
  CheckFor& for_vm() {
    wanted.spec = &spec;
    return wanted;
  }
  [[nodiscard]] std::vector<GpuCheck> rows() { return check_gpu(facts, gpu(), wanted); }
};

const GpuCheck* find_row(const std::vector<GpuCheck>& rows, const std::string& id) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const GpuCheck& row) { return row.id == id; });
  return found == rows.end() ? nullptr : &*found;
}

GpuCheck row(const std::vector<GpuCheck>& rows, const std::string& id) {
  const GpuCheck* found = find_row(rows, id);
  INFO(id);
  REQUIRE(found != nullptr);
  CHECK((found->health == Health::ok) == found->remedy.empty());
  return *found;
}

GpuCheck gpu_row(World& world, const std::string& id) {
  return row(world.rows(), id);
}
GpuCheck host_row(World& world, const std::string& id) {
  return row(check_host(world.facts), id);
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void expect(const GpuCheck& found, Health health, const std::string& seen) {
  INFO(found.id << ": " << found.seen);
  CHECK(found.health == health);
  CHECK(has(found.seen, seen));
}

std::string checks_section() {
  std::string manual = read_text(source_path("man/vmgraft-gpu.7"));
  manual.erase(0, manual.find("\n.Sh CHECKS\n"));
  const std::size_t end = manual.find("\n.Sh ", 1);
  return end == std::string::npos ? manual : manual.substr(0, end);
}

std::vector<std::string> ids_of(const std::vector<GpuCheck>& rows) {
  std::vector<std::string> ids;
  for (const GpuCheck& each : rows) ids.push_back(each.id);
  return ids;
}

}  // namespace

TEST_CASE("every id of a check is in the manual, and the manual has no other") {
  const std::string manual = checks_section();
  std::size_t in_table = 0;
  for (const CheckName& each : kCheckNames) {
    INFO(each.name);
    CHECK(has(manual, "\n.It Cm " + std::string(each.name) + "\n"));
    ++in_table;
  }
  std::size_t listed = 0;
  for (std::size_t at = manual.find("\n.It Cm "); at != std::string::npos; at = manual.find("\n.It Cm ", at + 1))
    ++listed;
  CHECK(listed == in_table);
}

TEST_CASE("a sound host and GPU give rows that are all ok, each id once, in the order of the table") {
  World world;
  world.for_vm();
  world.function(kGpu).most_vfs = 4;
  world.function(kGpu).mdev_types = {{"nvidia-11", "GRID", 1}};
  world.facts.devices.config.partitions = {{"p0", {kGpu}}};
  PciFunction nvswitch;
  nvswitch.address = "0000:c1:00.0";
  nvswitch.class_code = 0x068000;
  nvswitch.vendor = 0x10de;
  nvswitch.driver = "nvidia-nvswitch";
  world.add(nvswitch);
  world.facts.use.has_fabric_manager = true;
  world.host().nodes.push_back(world.host().nodes.front());
  world.host().nodes.back().number = 1;
  world.facts.devices.groups.at(7).reserved.push_back({0xfd00000000, 0xffffffffff, "reserved"});
  world.function(kGpu).class_code = 0x030000;
  std::vector<GpuCheck> rows = check_host(world.facts);
  CHECK(rows.front().address.empty());
  for (GpuCheck& each : world.rows()) {
    CHECK(each.address == kGpu);
    if (each.id != "no-iommu") rows.push_back(std::move(each));
  }
  for (const GpuCheck& each : rows) {
    INFO(each.id << ": " << each.seen);
    CHECK(each.health == Health::ok);
    CHECK_FALSE(each.seen.empty());
    CHECK(each.remedy.empty());
  }
  std::vector<std::string> names;
  for (const CheckName& each : kCheckNames)
    // A VF's, amdgpu's, of two, of a request.
    if (each.name != "pf-in-use" && each.name != "amdgpu-rebind" && each.name != "peer-path" && each.name != "choice" &&
        each.name != "placement")
      names.emplace_back(each.name);
  CHECK(ids_of(rows) == names);
  CHECK_NOTHROW(refuse_failures(rows));
}

TEST_CASE("check_host: what the host as a whole lacks") {
  World world;
  SECTION("not-root") {
    world.host().is_root = false;
    expect(host_row(world, "not-root"), Health::fail, "not running as root");
  }
  SECTION("no-iommu") {
    world.facts.devices.has_iommu = false;
    const GpuCheck found = host_row(world, "no-iommu");
    expect(found, Health::fail, "no IOMMU groups");
    CHECK(has(found.remedy, "intel_iommu=on"));
  }
  SECTION("no-vfio") {
    world.host().has_vfio = false;
    expect(host_row(world, "no-vfio"), Health::fail, "kernel 6.1.0 has no module vfio-pci");
  }
  SECTION("noiommu") {
    world.host().noiommu = true;
    expect(host_row(world, "noiommu"), Health::fail, "no-IOMMU mode");
  }
  SECTION("unsafe-interrupts") {
    world.host().unsafe_interrupts = true;
    expect(host_row(world, "unsafe-interrupts"), Health::warn, "one tenant");
  }
  SECTION("acs-override") {
    world.host().acs_override = true;
    expect(host_row(world, "acs-override"), Health::warn, "one tenant");
  }
  SECTION("lockdown") {
    world.host().lockdown = "integrity";
    expect(host_row(world, "lockdown"), Health::warn, "locked down (integrity)");
    world.host().lockdown.clear();
    expect(host_row(world, "lockdown"), Health::ok, "not locked down");
  }
  SECTION("hooks-present") {
    world.host().hooks = {"/etc/libvirt/hooks/qemu", "/etc/libvirt/hooks/qemu.d/gpu"};
    expect(host_row(world, "hooks-present"), Health::warn, "/etc/libvirt/hooks/qemu, /etc/libvirt/hooks/qemu.d/gpu");
  }
}

TEST_CASE(
    "check_host: a host without /dev/vfio/vfio is a container, and where vfio is not loaded yet nothing is said") {
  World world;
  world.host().has_vfio_node = false;
  const GpuCheck found = host_row(world, "no-vfio-node");
  expect(found, Health::fail, "/dev/vfio/vfio is not there");
  CHECK(has(found.remedy, "container"));
  world.host().has_vfio_node.reset();
  CHECK(find_row(check_host(world.facts), "no-vfio-node") == nullptr);
}

TEST_CASE("check_host: QEMU's user has to be able to open the nodes of vfio") {
  World world;
  HostSettings& host = world.host();
  SECTION("as the kernel and libvirt make them, it is") {
    expect(host_row(world, "vfio-access"), Health::ok, "everybody may open /dev/vfio/vfio");
    host.qemu_user = "libvirt-qemu";
    expect(host_row(world, "vfio-access"), Health::ok, "everybody may open /dev/vfio/vfio");
  }
  SECTION("a shared node for root alone is a failure where QEMU is told to be another, and a warning where that is not told") {
    host.vfio_node->mode = 0600;
    expect(host_row(world, "vfio-access"), Health::warn, "/dev/vfio/vfio is of mode 0600, user 0 and group 0");
    host.qemu_user = "qemu";
    const GpuCheck found = host_row(world, "vfio-access");
    expect(found, Health::fail, "QEMU, which runs as 'qemu', cannot open it");
    CHECK(has(found.remedy, "chmod 666 /dev/vfio/vfio"));
    host.vfio_node->mode = 0660;
    expect(host_row(world, "vfio-access"), Health::warn, "may not be among those");
    for (const char* root : {"root", "+0", "0"}) {
      host.qemu_user = root;
      expect(host_row(world, "vfio-access"), Health::ok, "QEMU runs as root");
    }
  }
  SECTION("libvirt that changes no owner is warned of") {
    host.has_dynamic_ownership = false;
    const GpuCheck found = host_row(world, "vfio-access");
    expect(found, Health::warn, "dynamic_ownership = 0");
    CHECK(has(found.remedy, "udev rule"));
  }
  SECTION("before vfio is loaded nothing is said") {
    host.has_vfio_node.reset();
    host.vfio_node.reset();
    CHECK(find_row(check_host(world.facts), "vfio-access") == nullptr);
  }
}

TEST_CASE("check_host: a host that can sleep is warned of, and one whose sleep is masked is not") {
  World world;
  world.host().sleep_states = "freeze mem disk";
  const GpuCheck found = host_row(world, "host-sleep");
  expect(found, Health::warn, "can be put to sleep (freeze mem disk)");
  CHECK(has(found.remedy, "systemctl mask sleep.target"));
  world.host().is_sleep_masked = true;
  expect(host_row(world, "host-sleep"), Health::ok, "sleep.target is masked");
}

TEST_CASE("check_gpu: a NUMA node that is not told matters only where there are several") {
  World world;
  world.function(kGpu).numa_node = -1;
  CHECK(find_row(world.rows(), "numa-unknown") == nullptr);
  world.host().nodes.push_back(world.host().nodes.front());
  world.host().nodes.back().number = 1;
  const GpuCheck found = gpu_row(world, "numa-unknown");
  expect(found, Health::warn, "does not tell which one it is on");
  CHECK(has(found.remedy, "/sys/bus/pci/devices/0000:41:00.0/numa_node"));
  world.function(kGpu).numa_node = 1;
  expect(gpu_row(world, "numa-unknown"), Health::ok, "on NUMA node 1");
}

TEST_CASE("check_gpu: how far apart two GPUs of one VM are, and whether their switch lets copies through") {
  World world;
  PciFunction second = world.function(kGpu);
  second.address = "0000:42:00.0";
  world.function(kGpu).path = {"0000:40:01.0", "0000:45:00.0", "0000:46:00.0"};
  second.path = {"0000:40:01.0", "0000:45:00.0", "0000:46:01.0"};
  world.add(second);
  CHECK(find_row(world.rows(), "peer-path") == nullptr);  // no GPU of this host
  world.facts.devices.gpus.push_back(second.address);
  expect(gpu_row(world, "peer-path"), Health::ok, "below one switch with 0000:42:00.0");
  world.function(second.address).numa_node = 1;
  expect(gpu_row(world, "peer-path"), Health::ok, "0000:42:00.0 on node 1: no other GPU is nearer");
  world.function(second.address).numa_node = 0;
  world.function(second.address).physical_function = "0000:43:00.0";  // a part of another one
  CHECK(find_row(world.rows(), "peer-path") == nullptr);
  world.function(second.address).physical_function.clear();
  world.wanted.together = {kGpu, second.address};
  expect(gpu_row(world, "peer-path"), Health::ok, "below one switch with 0000:42:00.0");
  world.facts.use.redirecting = {"0000:46:01.0"};  // the other one's
  expect(gpu_row(world, "peer-path"), Health::ok, "below one switch");
  world.facts.use.redirecting = {"0000:46:00.0"};
  expect(gpu_row(world, "peer-path"), Health::warn, "whose port 0000:46:00.0 sends what they copy to each other up to the IOMMU");
  world.facts.use.with_ats = {kGpu};
  expect(gpu_row(world, "peer-path"), Health::ok, "below one switch");
  world.function(second.address).path = {"0000:80:01.0"};
  expect(gpu_row(world, "peer-path"), Health::ok, "stays on its NUMA node");
  world.function(second.address).numa_node = 1;
  expect(gpu_row(world, "peer-path"), Health::warn, "it is on NUMA node 0, and 0000:42:00.0 on node 1: what they copy");
  world.host().nodes.push_back(world.host().nodes.front());
  world.function(second.address).numa_node = -1;
  CHECK(find_row(world.rows(), "peer-path") == nullptr);  // not told where it is
  world.function(second.address).numa_node = 1;
  world.facts.devices.config.partitions = {{"p0", {kGpu, second.address}}};  // NVLink joins them
  CHECK(find_row(world.rows(), "peer-path") == nullptr);
}

TEST_CASE("check_gpu: NVSwitches that the host runs want its fabric manager") {
  World world;
  world.facts.devices.config.partitions = {{"p0", {kGpu}}};
  CHECK(find_row(world.rows(), "fabric-manager") == nullptr);
  PciFunction nvswitch;
  nvswitch.address = "0000:c1:00.0";
  nvswitch.class_code = 0x068000;
  nvswitch.vendor = 0x10de;
  nvswitch.driver = "nvidia-nvswitch";
  world.add(nvswitch);
  const GpuCheck found = gpu_row(world, "fabric-manager");
  expect(found, Health::warn, "no fabric manager runs");
  CHECK(has(found.remedy, "systemctl start nvidia-fabricmanager"));
  world.facts.use.has_fabric_manager = true;
  expect(gpu_row(world, "fabric-manager"), Health::ok, "nv-fabricmanager runs");
  world.facts.use.has_fabric_manager = false;
  world.function("0000:c1:00.0").driver = "vfio-pci";
  expect(gpu_row(world, "fabric-manager"), Health::ok, "the VM that has them runs it");
}

TEST_CASE("check_gpu: memory of the VM where the GPU's group keeps addresses for itself") {
  World world;
  auto& reserved = world.facts.devices.groups.at(7).reserved;
  world.for_vm();
  SECTION("the interrupts' window lies where no VM has memory") {
    expect(gpu_row(world, "reserved-memory"), Health::ok, "keeps no address");
  }
  SECTION("a hole between 2 and 4 GiB is free where the VM's memory goes on above it") {
    reserved.push_back({0x90000000, 0x9fffffff, "reserved"});
    expect(gpu_row(world, "reserved-memory"), Health::ok, "keeps no address");
    world.spec.memory = 0xa0000000;  // all of it below
    expect(gpu_row(world, "reserved-memory"), Health::fail, "keeps 0x90000000-0x9fffffff (reserved) for itself");
  }
  SECTION("below 2 GiB or above 4 GiB it is in the way") {
    reserved.push_back({0x140000000, 0x14fffffff, "msi"});
    const GpuCheck found = gpu_row(world, "reserved-memory");
    expect(found, Health::fail, "its IOMMU group keeps 0x140000000-0x14fffffff (msi) for itself");
    CHECK(has(found.seen, "VFIO_MAP_DMA"));
  }
  SECTION("what the kernel gives up is no hindrance, and what it never gives up has a row of its own") {
    reserved.push_back({0x1000000, 0x1ffffff, "direct-relaxable"});
    reserved.push_back({0x3000000, 0x3ffffff, "direct"});
    expect(gpu_row(world, "reserved-memory"), Health::ok, "keeps no address");
  }
}

TEST_CASE("check_gpu: AMD's hole below 1 TiB is warned of when the VM's memory reaches it") {
  World world;
  world.host().memory = 4096 * kGiB;
  world.facts.devices.groups.at(7).reserved.push_back({0xfd00000000, 0xffffffffff, "reserved"});
  world.for_vm();
  world.spec.memory = 1000 * kGiB;
  expect(gpu_row(world, "amd-hole"), Health::ok, "ends below");
  expect(gpu_row(world, "reserved-memory"), Health::ok, "keeps no address");
  world.spec.memory = 1011 * kGiB;
  const GpuCheck found = gpu_row(world, "amd-hole");
  expect(found, Health::warn, "Code 43");
  expect(gpu_row(world, "reserved-memory"), Health::ok, "keeps no address");
  CHECK(has(found.remedy, "1010 GiB"));
  world.facts.devices.groups.at(7).reserved.pop_back();
  CHECK(find_row(world.rows(), "amd-hole") == nullptr);
}

TEST_CASE("check_gpu: a GPU that is gone, dead, moved, in no group or quarantined") {
  World world;
  SECTION("absent is the only row") {
    world.gpu().address = "0000:99:00.0";
    const auto rows = world.rows();
    REQUIRE(rows.size() == 1);
    expect(row(rows, "absent"), Health::fail, "no such GPU");
    CHECK(rows.front().address == "0000:99:00.0");
  }
  SECTION("dead-device") {
    world.function(kGpu).answers = false;
    expect(gpu_row(world, "dead-device"), Health::fail, "0xffff");
  }
  SECTION("no-iommu, without the rows of a group") {
    world.function(kGpu).iommu_group.reset();
    expect(gpu_row(world, "no-iommu"), Health::fail, "in no IOMMU group");
    CHECK(find_row(world.rows(), "group-not-viable") == nullptr);
  }
  SECTION("bdf-moved") {
    world.facts.records = {{kGpu, "10de:2330 10de:16c1", {}, {}, false, {}, {}, {}, {}, {}, {}, 0}};
    expect(gpu_row(world, "bdf-moved"), Health::ok, "10de:2330 10de:16c1");
    world.facts.records.front().identity = "1002:74a1 1002:74a1";
    expect(gpu_row(world, "bdf-moved"), Health::fail, "is 10de:2330 10de:16c1, but vmgraft knows 1002:74a1 1002:74a1");
  }
  SECTION("bdf-moved, of a VM that asks for the card that was there") {
    world.for_vm();
    world.wanted.vm = "web";
    GpuSpec asked;
    asked.address = kGpu;
    for (const char* identity : {"", "10de:2330 10de:16c1"}) {
      asked.identity = identity;
      world.spec.gpus = {asked};
      expect(gpu_row(world, "bdf-moved"), Health::ok, "is 10de:2330 10de:16c1");
    }
    world.spec.gpus.front().identity = "1002:74a1 1002:74a1";
    const GpuCheck found = gpu_row(world, "bdf-moved");
    expect(found, Health::fail,
           "is 10de:2330 10de:16c1, but vmgraft knows 1002:74a1 1002:74a1 at this address: cards have moved");
    CHECK(found.remedy == "see with vmgraft gpu list which card is where, then say which the VM is to get: vmgraft gpu "
                          "request web ADDRESS");
    world.spec.gpus.front().address = "0000:42:00.0";
    expect(gpu_row(world, "bdf-moved"), Health::ok, "is 10de:2330 10de:16c1");
  }
  SECTION("quarantined") {
    world.gpu().state = GpuState::quarantined;
    world.gpu().note = "no answer after bus reset";
    const GpuCheck found = gpu_row(world, "quarantined");
    expect(found, Health::fail, "no answer after bus reset");
    CHECK(has(found.remedy, "vmgraft gpu return 0000:41:00.0 --force"));
  }
}

TEST_CASE("check_gpu: group-held names the VM or the process, and spares the VM that asks") {
  World world;
  SECTION("by the state of the GPU") {
    world.gpu().state = GpuState::in_vm;
    world.gpu().vm = "a";
    world.gpu().vm_uuid = "u-a";
    CHECK(gpu_row(world, "group-held").seen == "held by VM 'a'");
    world.wanted.vm_uuid = "u-a";
    CHECK(gpu_row(world, "group-held").seen == "held by this VM itself");
  }
  SECTION("by its companion in a domain that runs") {
    world.facts.domains = {{"b", "u-b", "", true, {kAudio}}};
    CHECK(gpu_row(world, "group-held").seen == "held by VM 'b'");
    world.facts.domains.front().is_running = false;
    CHECK(gpu_row(world, "group-held").seen == "nobody holds it");
  }
  SECTION("by another device of the group") {
    world.add_peer("vfio-pci");
    world.facts.domains = {{"b", "u-b", "", true, {kPeer}}};
    CHECK(gpu_row(world, "group-held").seen == "VM 'b' holds its IOMMU group by 0000:41:01.0");
  }
  SECTION("by another GPU of the group") {
    world.add_peer("vfio-pci");
    world.facts.gpus.push_back({kPeer, {}, {kGpu}, GpuState::in_vm, "c", "u-c", {}});
    CHECK(gpu_row(world, "group-held").seen == "VM 'c' holds its IOMMU group by 0000:41:01.0");
  }
  SECTION("by a process") {
    world.function(kGpu).driver = "vfio-pci";
    world.facts.use.users = {{kGpu, 812, "qemu-system-x86", 64055, "/dev/vfio/7"}};
    expect(gpu_row(world, "group-held"), Health::fail, "held by pid 812 (qemu-system-x86), which has /dev/vfio/7 open");
    CHECK(gpu_row(world, "device-busy").health == Health::ok);
    world.facts.domains = {{"me", "u-me", "", true, {kGpu}}};
    world.wanted.vm_uuid = "u-me";
    CHECK(gpu_row(world, "group-held").health == Health::ok);
  }
  SECTION("a name from outside is printable") {
    world.facts.domains = {{"a\033[2J", "u", "", true, {kGpu}}};
    CHECK(gpu_row(world, "group-held").seen == "held by VM 'a\\x1b[2J'");
  }
}

TEST_CASE("check_gpu: parts and whole exclude each other") {
  World world;
  PciFunction& function = world.function(kGpu);
  SECTION("vfs-in-use") {
    function.most_vfs = 8;
    expect(gpu_row(world, "vfs-in-use"), Health::ok, "none of its 8 VFs");
    function.vfs = 2;
    expect(gpu_row(world, "vfs-in-use"), Health::fail, "2 VFs are made of it");
    world.wanted.kind = GpuKind::vf;
    expect(gpu_row(world, "vfs-in-use"), Health::fail, "no more can be added");
  }
  SECTION("mdevs-present") {
    function.mdev_types = {{"nvidia-11", "GRID", 1}};
    function.mdevs = {"f0f0"};
    expect(gpu_row(world, "mdevs-present"), Health::fail, "f0f0");
    world.wanted.kind = GpuKind::mdev;
    CHECK(find_row(world.rows(), "mdevs-present") == nullptr);
  }
  SECTION("pf-in-use") {
    PciFunction parent = function;
    parent.address = "0000:42:00.0";
    parent.iommu_group = 9;
    world.add(parent);
    world.facts.gpus.push_back({parent.address, {}, {}, GpuState::host, {}, {}, {}});
    world.function(kGpu).physical_function = parent.address;
    expect(gpu_row(world, "pf-in-use"), Health::ok, "0000:42:00.0 stays with the host");
    world.facts.gpus.back().state = GpuState::in_vm;
    world.facts.gpus.back().vm = "a";
    expect(gpu_row(world, "pf-in-use"), Health::fail, "held whole by VM 'a'");
    world.facts.gpus.back().state = GpuState::lent;
    world.function("0000:42:00.0").driver = "vfio-pci";
    expect(gpu_row(world, "pf-in-use"), Health::fail, "is on vfio-pci");
  }
  SECTION("a GPU that stays on its driver has no rows of group and binding") {
    world.wanted.kind = GpuKind::mdev;
    function.boot_vga = true;
    for (const std::string id : {"boot-vga", "group-not-viable", "no-reset", "device-busy", "no-iommu", "rmrr"})
      CHECK(find_row(world.rows(), id) == nullptr);
    CHECK(find_row(world.rows(), "quarantined") != nullptr);
    world.wanted.kind = GpuKind::vf;
    CHECK(find_row(world.rows(), "device-busy") != nullptr);
  }
}

TEST_CASE("check_gpu: the host's console") {
  World world;
  PciFunction& function = world.function(kGpu);
  SECTION("boot-vga") {
    function.boot_vga = true;
    const GpuCheck found = gpu_row(world, "boot-vga");
    expect(found, Health::fail, "booted on it");
    CHECK(has(found.remedy, "--force-console"));
    world.wanted.force_console = true;
    expect(gpu_row(world, "boot-vga"), Health::warn, "booted on it");
    world.wanted.force_console = false;
    function.driver = "vfio-pci";
    expect(gpu_row(world, "boot-vga"), Health::warn, "booted on it");
  }
  SECTION("boot-vga in the group") {
    world.add_peer("").boot_vga = true;
    expect(gpu_row(world, "boot-vga"), Health::fail, "0000:41:01.0 of its IOMMU group has the host's console");
  }
  SECTION("console-active") {
    world.facts.use.consoles[kGpu] = "HDMI-A-1";
    expect(gpu_row(world, "console-active"), Health::fail, "HDMI-A-1");
    world.wanted.force_console = true;
    expect(gpu_row(world, "console-active"), Health::warn, "HDMI-A-1");
  }
  SECTION("framebuffer-on-bar, whatever is forced") {
    world.facts.use.framebuffers[kGpu] = "efifb";
    world.wanted.force_console = true;
    const GpuCheck found = gpu_row(world, "framebuffer-on-bar");
    expect(found, Health::fail, "framebuffer efifb lies in its memory");
    CHECK(has(found.remedy, "initcall_blacklist=sysfb_init"));
  }
  SECTION("rom") {
    CHECK(find_row(world.rows(), "rom") == nullptr);
    function.class_code = 0x030000;
    expect(gpu_row(world, "rom"), Health::ok, "kept from the VM");
    function.boot_vga = true;
    expect(gpu_row(world, "rom"), Health::warn, "reads back changed");
  }
}

TEST_CASE("check_gpu: the group") {
  World world;
  SECTION("companions go along") {
    expect(gpu_row(world, "group-not-viable"), Health::ok, "group 7: 0000:41:00.1 (snd_hda_intel) goes along");
    world.gpu().companions.clear();
    world.facts.devices.groups.at(7).members = {kGpu};
    expect(gpu_row(world, "group-not-viable"), Health::ok, "group 7 is its own");
  }
  SECTION("a stranger on a driver of the host") {
    world.add_peer("e1000");
    const GpuCheck found = gpu_row(world, "group-not-viable");
    expect(found, Health::fail, "0000:41:01.0 (e1000) shares IOMMU group 7");
    CHECK(has(found.remedy, "slot"));
  }
  SECTION("several strangers") {
    world.add_peer("e1000");
    PciFunction second = world.function(kPeer);
    second.address = "0000:41:02.0";
    second.driver = "xhci_hcd";
    world.add(second);
    world.facts.devices.groups.at(7).members.push_back(second.address);
    expect(gpu_row(world, "group-not-viable"), Health::fail, "0000:41:01.0 (e1000), 0000:41:02.0 (xhci_hcd) share");
  }
  SECTION("strangers that are idle, and bridges, do no harm") {
    for (const std::string driver : {"", "vfio-pci", "pci-stub", "mlx5_vfio_pci", "pcieport"}) {
      World each;
      each.add_peer(driver);
      INFO(driver);
      CHECK(gpu_row(each, "group-not-viable").health == Health::ok);
    }
  }
  SECTION("a vGPU's VF may stay on driver nvidia, a whole GPU not") {
    PciFunction& peer = world.add_peer("nvidia");
    expect(gpu_row(world, "group-not-viable"), Health::fail, "0000:41:01.0 (nvidia)");
    peer.physical_function = "0000:42:00.0";
    CHECK(gpu_row(world, "group-not-viable").health == Health::ok);
  }
  SECTION("another GPU of the group that the VM gets as well") {
    world.add_peer("nvidia");
    world.wanted.together = {kGpu, kPeer};
    CHECK(gpu_row(world, "group-not-viable").health == Health::ok);
  }
  SECTION("disk-mounted") {
    world.add_peer("nvme");
    world.facts.use.mounted[kPeer] = "/ (nvme0n1p2)";
    expect(gpu_row(world, "disk-mounted"), Health::fail,
           "0000:41:01.0 of its IOMMU group carries a disk of the host in use: / (nvme0n1p2)");
  }
  SECTION("default-route") {
    world.add_peer("e1000");
    world.facts.use.default_route[kPeer] = "eth0";
    expect(gpu_row(world, "default-route"), Health::fail, "carries the host's default route: eth0");
  }
  SECTION("rmrr") {
    auto& reserved = world.facts.devices.groups.at(7).reserved;
    reserved.push_back({0, 1, "direct-relaxable"});
    CHECK(gpu_row(world, "rmrr").health == Health::ok);
    reserved.push_back({0, 1, "direct"});
    expect(gpu_row(world, "rmrr"), Health::fail, "RMRR");
  }
}

TEST_CASE("check_gpu: device-busy names pid, command, user and node") {
  World world;
  world.facts.use.users = {{kGpu, 811, "Xorg", 0, "/dev/dri/card1"},
                           {kAudio, 990, "pipewire", 1000, "/dev/snd/controlC1"}};
  const GpuCheck found = gpu_row(world, "device-busy");
  CHECK(found.health == Health::fail);
  CHECK(found.seen ==
        "pid 811 (Xorg, uid 0) has /dev/dri/card1 open; pid 990 (pipewire, uid 1000) has /dev/snd/controlC1 open");
  world.facts.use.users = {{kGpu, 5, "nvidia-persiste", 0, "/dev/nvidia0"}};
  CHECK(has(gpu_row(world, "device-busy").remedy, "systemctl stop nvidia-persistenced"));
  world.facts.use.users.assign(6, {kGpu, 5, "python3", 1000, "/dev/nvidia0"});
  CHECK(has(gpu_row(world, "device-busy").seen, " and 2 more"));
  world.facts.use.users = {{"0000:81:00.0", 5, "python3", 1000, "/dev/nvidia1"}};
  CHECK(gpu_row(world, "device-busy").health == Health::ok);
}

TEST_CASE("check_gpu: the device") {
  World world;
  PciFunction& function = world.function(kGpu);
  SECTION("amdgpu-rebind") {
    function.driver = "amdgpu";
    const GpuCheck found = gpu_row(world, "amdgpu-rebind");
    expect(found, Health::fail, "unbound and bound again");
    CHECK(has(found.remedy, "vfio-pci.ids=10de:2330"));
    function.reset_methods = {"device_specific", "bus"};
    CHECK(gpu_row(world, "amdgpu-rebind").health == Health::ok);
    function.driver = "vfio-pci";
    CHECK(find_row(world.rows(), "amdgpu-rebind") == nullptr);
  }
  SECTION("no-reset: methods, or the bus when all on it goes along") {
    expect(gpu_row(world, "no-reset"), Health::ok, "flr, bus");
    function.reset_methods.clear();
    expect(gpu_row(world, "no-reset"), Health::ok, "with its bus");
    world.gpu().companions.clear();
    expect(gpu_row(world, "no-reset"), Health::fail, "no way to reset it");
  }
  SECTION("no-reset: nothing above it to reset its bus") {
    function.reset_methods.clear();
    function.path.clear();
    CHECK(gpu_row(world, "no-reset").health == Health::fail);
    world.for_vm();
    CHECK(gpu_row(world, "no-reset").health == Health::fail);
    world.spec.release = GpuRelease::keep;
    expect(gpu_row(world, "no-reset"), Health::warn, "no way to reset it");
  }
  SECTION("no-reset: a model that a reset loses") {
    function.vendor = 0x1002;
    function.device = 0x74a1;
    expect(gpu_row(world, "no-reset"), Health::warn, "not to come back from a reset");
    function.physical_function = "0000:42:00.0";
    CHECK(gpu_row(world, "no-reset").health == Health::ok);
  }
  SECTION("no-reset: a model whose FLR never returns, on a kernel that would make one") {
    for (const std::uint16_t device : std::initializer_list<std::uint16_t>{0x2b85, 0x2b87, 0x2b8c}) {
      function.device = device;
      function.reset_methods = {"flr", "bus"};
      expect(gpu_row(world, "no-reset"), Health::warn, "an FLR of a GPU of this model (GB202) is known never to return");
      CHECK(has(gpu_row(world, "no-reset").remedy, "echo bus > /sys/bus/pci/devices/0000:41:00.0/reset_method"));
      function.reset_methods = {"bus"};
      CHECK(gpu_row(world, "no-reset").health == Health::ok);
    }
  }
  SECTION("dirty") {
    world.gpu().state = GpuState::dirty;
    world.gpu().vm = "a";
    world.gpu().vm_uuid = "u-a";
    expect(gpu_row(world, "dirty"), Health::fail, "leased to VM 'a', which does not have it");
  }
  SECTION("d3cold") {
    function.power_state = "D3cold";
    const GpuCheck found = gpu_row(world, "d3cold");
    expect(found, Health::warn, "D3cold");
    CHECK(has(found.remedy, "/sys/bus/pci/devices/0000:41:00.0/d3cold_allowed"));
    function.power_state = "D3hot";
    CHECK(gpu_row(world, "d3cold").health == Health::ok);
  }
  SECTION("link-degraded counts lanes, not speed") {
    function.link.speed = "2.5 GT/s PCIe";
    CHECK(gpu_row(world, "link-degraded").health == Health::ok);
    function.link.width = 8;
    expect(gpu_row(world, "link-degraded"), Health::warn, "x8 of x16");
    function.link.most_width = 0;
    CHECK(find_row(world.rows(), "link-degraded") == nullptr);
  }
}

TEST_CASE("check_gpu: fabric-partition") {
  World world;
  CHECK(find_row(world.rows(), "fabric-partition") == nullptr);
  PciFunction nvswitch;
  nvswitch.address = "0000:05:00.0";
  nvswitch.class_code = 0x068000;
  nvswitch.vendor = 0x10de;
  world.add(nvswitch);
  PciFunction second = world.function(kGpu);
  second.address = "0000:61:00.0";
  second.iommu_group = 11;
  world.add(second);
  world.facts.gpus.push_back({second.address, {}, {}, GpuState::host, {}, {}, {}});
  expect(gpu_row(world, "fabric-partition"), Health::warn, "no partition is known");
  world.wanted.together = {kGpu, second.address};
  expect(gpu_row(world, "fabric-partition"), Health::fail, "0000:41:00.0, 0000:61:00.0 are no partition");
  world.facts.devices.config.partitions = {{"pair", {second.address, kGpu}}};
  expect(gpu_row(world, "fabric-partition"), Health::ok, "'pair' (2)");
  world.wanted.together = {kGpu};
  CHECK(gpu_row(world, "fabric-partition").health == Health::ok);
  world.facts.devices.config.partitions = {{"more", {kGpu, second.address, "0000:62:00.0"}}};
  world.wanted.together = {kGpu, second.address};
  expect(gpu_row(world, "fabric-partition"), Health::fail, "are no partition");
}

TEST_CASE("check_gpu: rows of a VM are left out without one") {
  World world;
  for (const std::string id : {"mmio-window", "iommu-width", "memlock", "huge-pages"}) {
    INFO(id);
    CHECK(find_row(world.rows(), id) == nullptr);
  }
  world.for_vm();
  for (const std::string id : {"mmio-window", "iommu-width", "memlock", "huge-pages"}) {
    INFO(id);
    CHECK(find_row(world.rows(), id) != nullptr);
  }
}

TEST_CASE("check_gpu: memory and BARs must fit the address bits of CPU and IOMMU") {
  World world;
  world.for_vm();
  expect(gpu_row(world, "mmio-window"), Health::ok,
         "64 GiB of memory and 256 GiB for the GPUs' BARs need 39 address bits, the CPU has 46");
  world.host().physical_bits = 39;
  CHECK(gpu_row(world, "mmio-window").health == Health::ok);
  world.host().physical_bits = 38;
  expect(gpu_row(world, "mmio-window"), Health::fail, "the CPU has 38: GPUs would be missing");
  world.host().physical_bits.reset();
  CHECK(find_row(world.rows(), "mmio-window") == nullptr);
  world.host().iommu_bits = 38;
  expect(gpu_row(world, "iommu-width"), Health::fail, "the IOMMU has 38");
  world.host().iommu_bits = 39;
  CHECK(gpu_row(world, "iommu-width").health == Health::ok);
}

TEST_CASE("check_gpu: the BARs of all GPUs of the VM and of their companions count together") {
  World world;
  PciFunction second = world.function(kGpu);
  second.address = "0000:61:00.0";
  world.add(second);
  world.for_vm();
  world.wanted.together = {kGpu, second.address};
  expect(gpu_row(world, "mmio-window"), Health::ok, "512 GiB for the GPUs' BARs");
  world.function(kAudio).bars = {{0, 0, 256 * kGiB, true, true, true}};
  expect(gpu_row(world, "mmio-window"), Health::ok, "1 TiB for the GPUs' BARs");
}

TEST_CASE("check_gpu: memlock") {
  World world;
  world.for_vm();
  expect(gpu_row(world, "memlock"), Health::ok, "64 GiB of 256 GiB");
  world.spec.memory = 256 * kGiB;
  expect(gpu_row(world, "memlock"), Health::fail, "256 GiB is not less than the host's 256 GiB");
}

TEST_CASE("check_gpu: huge-pages of the GPU's node") {
  World world;
  world.for_vm();
  expect(gpu_row(world, "huge-pages"), Health::ok, "node 0: 64 free of 1 GiB each");
  world.host().nodes.push_back({1, {4}, {{4}}, kGiB, kGiB, {{kGiB, 1000, 1000}}});
  world.host().nodes.front().huge_pages.front().free = 10;
  expect(gpu_row(world, "huge-pages"), Health::warn,
         "node 0: the VM wants 64 GiB in huge pages, 10 GiB is free in pages of 1 GiB");
  world.spec.tuning = Tuning::strict;
  CHECK(gpu_row(world, "huge-pages").health == Health::fail);
  world.spec.tuning = Tuning::none;
  CHECK(find_row(world.rows(), "huge-pages") == nullptr);
  world.spec.tuning = Tuning::strict;
  world.function(kGpu).numa_node = -1;
  expect(gpu_row(world, "huge-pages"), Health::ok, "nodes 0, 1: 1010 free");
  world.spec.memory = 3 * kGiB / 2;  // no whole number of pages
  expect(gpu_row(world, "huge-pages"), Health::fail, "none are free");
}

TEST_CASE("refuse_failures: the first failure is the message, its remedy the hint, the others the context") {
  World world;
  world.function(kGpu).answers = false;
  world.facts.domains = {{"a", "u", "", true, {kGpu}}};
  std::vector<GpuCheck> rows = world.rows();
  const Error error = error_of([&] { refuse_failures(rows); });
  CHECK(error.code() == Errc::host_unfit);
  CHECK(std::string(error.what()) == "GPU 0000:41:00.0: does not answer: its configuration reads 0xffff [dead-device]");
  CHECK(error.hint() == "power the host off and on; a reboot alone may not do");
  CHECK(error.context() == std::vector<std::string>{"GPU 0000:41:00.0: held by VM 'a' [group-held]"});
}

TEST_CASE("refuse_failures: another holder alone is a conflict, and a row of the host names the host") {
  World world;
  world.facts.domains = {{"a", "u", "", true, {kGpu}}};
  world.facts.use.users = {{kGpu, 811, "Xorg", 0, "/dev/dri/card1"}};
  CHECK(error_of([&] { refuse_failures(world.rows()); }).code() == Errc::conflict);
  world.host().is_root = false;
  const Error error = error_of([&] { refuse_failures(check_host(world.facts)); });
  CHECK(error.code() == Errc::host_unfit);
  CHECK(has(error.what(), "this host: not running as root"));
  CHECK(has(error.what(), "[not-root]"));
}

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "gpu/devices.hpp"
#include "gpu/gpu.hpp"
#include "model/size.hpp"
#include "support/catch.hpp"
#include "support/recorded_host.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;

namespace {

using Texts = std::vector<std::string>;

constexpr std::uint64_t kMiB = 1ULL << 20;

std::string joined(const Texts& texts) {
  return fmt::format("{}", fmt::join(texts, " "));
}

/// What `gpu list` would show, a line a GPU: address, state, driver, group, node, companions, strangers.
Texts rows(const HostDevices& devices, const std::vector<DomainUse>& domains = {},
           const std::vector<GpuRecord>& records = {}) {
  Texts lines;
  for (const Gpu& gpu : find_gpus(devices, domains, records)) {
    const PciFunction& function = *devices.find(gpu.address);
    lines.push_back(fmt::format("{} {} {} group {} node {} with [{}] beside [{}]", gpu.address, to_string(gpu.state),
                                function.driver.empty() ? "-" : function.driver,
                                function.iommu_group ? std::to_string(*function.iommu_group) : "-", function.numa_node,
                                joined(gpu.companions), joined(gpu.strangers)));
  }
  return lines;
}

Texts rows_of(const std::string& name) {
  FakeHost host = recorded_host(name);
  return rows(read_devices(host, {}));
}

/// A host with one GPU, whose attributes are \p attributes.
FakeHost one_gpu(const std::string& attributes) {
  return recorded_host_from(
      "/sys/bus/pci/devices/0000:41:00.0 -> ../../../devices/pci0000:40/0000:40:01.0/0000:41:00.0\n"
      "[/sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0]\nclass = 0x030200\nvendor = 0x10de\n" +
          attributes,
      "test");
}

PciFunction gpu_with(const std::string& attributes) {
  FakeHost host = one_gpu(attributes);
  const HostDevices devices = read_devices(host, {});
  REQUIRE(devices.gpus == Texts{"0000:41:00.0"});
  return *devices.find("0000:41:00.0");
}

HostUse use_of(FakeHost& host, const Texts& addresses) {
  return read_use(host, read_devices(host, {}), addresses);
}

}  // namespace

// --- recorded hosts

TEST_CASE("the lab's GPUs are found as they were recorded") {
  CHECK(rows_of("lab") == Texts{"0000:00:05.0 host bochs-drm group 3 node -1 with [] beside []",
                                "0000:41:00.0 host bochs-drm group 13 node 0 with [0000:41:00.1] beside []",
                                "0000:81:00.0 host bochs-drm group 9 node 1 with [] beside []",
                                "0000:83:01.0 host bochs-drm group 10 node 1 with [] beside [0000:83:02.0]"});
  FakeHost host = recorded_host("lab");
  const HostDevices devices = read_devices(host, {});
  CHECK(devices.has_iommu);
  CHECK(devices.find("0000:00:05.0")->boot_vga);
  const PciFunction& gpu = *devices.find("0000:41:00.0");
  CHECK_FALSE(gpu.boot_vga);
  CHECK(identity_of(gpu) == "1234:1111 1af4:1100");
  CHECK(gpu.class_code == 0x038000);
  CHECK(gpu.path == Texts{"0000:40:00.0"});
  CHECK(gpu.reset_methods == Texts{"bus"});
  CHECK(gpu.link.speed == "2.5 GT/s PCIe");
  CHECK(gpu.link.most_width == 1);
  CHECK(gpu.power_state == "D0");
  CHECK(gpu.driver_override.empty());
  CHECK(gpu.answers);
  CHECK(gpu.bars ==
        std::vector<PciBar>{{0, 0xfc000000, 16 * kMiB, true, false, true}, {2, 0xfe80c000, 4096, true, false, false}});
  CHECK(gpu.nodes == Texts{"/dev/dri/card3", "/dev/dri/controlD67", "/dev/fb3"});
  CHECK(devices.find("0000:41:00.1")->nodes == Texts{"/dev/snd/controlC0"});
  CHECK(devices.find("0000:83:01.0")->path == Texts{"0000:80:01.0", "0000:82:00.0"});
  // Beside a bridge's own hot-plug driver the group is not free: only pcieport leaves it to its owner.
  CHECK_FALSE(is_group_safe(*devices.find("0000:82:00.0")));
  CHECK(is_group_safe(*devices.find("0000:40:00.0")));
  const IommuGroup& group = devices.groups.at(10);
  CHECK(group.members == Texts{"0000:82:00.0", "0000:83:01.0", "0000:83:02.0"});
  CHECK(group.type == "identity");
  REQUIRE(group.reserved.size() == 1);
  CHECK(group.reserved[0].start == 0xfee00000);
  CHECK(group.reserved[0].end == 0xfeefffff);
  CHECK(group.reserved[0].type == "msi");
  CHECK(devices.find("0000:42:00.0") == nullptr);  // nothing to do with a GPU: not read
}

TEST_CASE("a device of another class counts as a GPU when the configuration names it") {
  FakeHost host = recorded_host("lab");
  const HostDevices devices = read_devices(host, {{"1b36:0010"}, {}});
  const PciFunction* nvme = devices.find("0000:42:00.0");
  REQUIRE(nvme != nullptr);
  CHECK(devices.gpus == Texts{"0000:00:05.0", "0000:41:00.0", "0000:42:00.0", "0000:81:00.0", "0000:83:01.0"});
  CHECK(nvme->most_vfs == 2);
  CHECK(nvme->vfs == 0);
  CHECK(nvme->reset_methods == Texts{"flr", "bus"});
  CHECK(nvme->nodes == Texts{"/dev/nvme0", "/dev/nvme0n1"});
  // Its VFs count as well, whatever their ids.
  host.add_link("/sys/devices/pci0000:40/0000:40:01.0/0000:42:00.0/virtfn0", "../0000:42:00.1");
  host.add_link("/sys/bus/pci/devices/0000:42:00.1", "../../../devices/pci0000:40/0000:40:01.0/0000:42:00.1");
  host.add_file("/sys/devices/pci0000:40/0000:40:01.0/0000:42:00.1/class", "0x010802\n");
  CHECK(read_devices(host, {{"1b36:0010"}, {}}).gpus.at(3) == "0000:42:00.1");
}

TEST_CASE("a laptop's sleeping GPU is listed with its group and is not woken") {
  CHECK(rows_of("laptop-1gpu") == Texts{"0000:00:02.0 host i915 group 0 node -1 with [] beside []",
                                        "0000:01:00.0 host nvidia group 2 node -1 with [0000:01:00.1] beside []"});
  FakeHost host = recorded_host("laptop-1gpu");
  const HostDevices devices = read_devices(host, {});
  const PciFunction& gpu = *devices.find("0000:01:00.0");
  CHECK(devices.find("0000:00:02.0")->boot_vga);
  CHECK(gpu.power_state == "D3cold");
  CHECK(gpu.answers);  // its config space would say ffff: it was not asked
  CHECK(gpu.nodes == Texts{"/dev/dri/card0", "/dev/dri/renderD128", "/dev/nvidia0"});
  CHECK(devices.find("0000:01:00.1")->nodes == Texts{"/dev/snd/controlC1", "/dev/snd/hwC1D0", "/dev/snd/pcmC1D3p"});
  CHECK(devices.groups.at(2).members == Texts{"0000:00:01.0", "0000:01:00.0", "0000:01:00.1"});
}

TEST_CASE("an SXM board's GPUs have their switches, nodes and BARs") {
  const Texts found = rows_of("sxm-8gpu");
  REQUIRE(found.size() == 9);
  CHECK(found[0] == "0000:02:00.0 host ast group 1 node 0 with [] beside []");
  CHECK(found[1] == "0000:18:00.0 vfio vfio-pci group 23 node 0 with [] beside []");
  CHECK(found[8] == "0000:c5:00.0 vfio vfio-pci group 55 node 1 with [] beside []");
  FakeHost host = recorded_host("sxm-8gpu");
  const HostDevices devices = read_devices(host, read_gpu_config(host, kGpuConfigFile));
  const PciFunction& gpu = *devices.find("0000:19:00.0");
  CHECK(gpu.path == Texts{"0000:15:01.0", "0000:16:00.0", "0000:17:01.0"});
  REQUIRE(gpu.bars.size() == 3);
  CHECK(gpu.bars[1].index == 2);
  CHECK(gpu.bars[1].size == 128 * kGiB);
  CHECK(gpu.bars[1].start % gpu.bars[1].size == 0);
  CHECK(gpu.bars[1].is_64bit);
  CHECK(gpu.bars[1].is_prefetchable);
  CHECK(devices.find("0000:17:01.0")->is_bridge());  // what is above a GPU is read as well
  CHECK(devices.find("0000:1a:00.0") == nullptr);    // a NIC of the switch is not
  CHECK(devices.config.partitions.size() == 15);
  CHECK(devices.config.partitions[0].gpus.size() == 8);
  for (const FabricPartition& partition : devices.config.partitions) {
    for (const std::string& address : partition.gpus) CHECK(devices.find(address) != nullptr);
  }
}

TEST_CASE("a NIC behind the same switch without ACS is a stranger in the GPU's group") {
  CHECK(rows_of("pcie-2socket") == Texts{"0000:17:00.0 host nvidia group 31 node 0 with [] beside []",
                                         "0000:31:00.0 host nvidia group 35 node 0 with [] beside []",
                                         "0000:b1:00.0 host nvidia group 51 node 1 with [] beside []",
                                         "0000:cb:00.0 host nvidia group 61 node 1 with [] beside [0000:cc:00.0]"});
  FakeHost host = recorded_host("pcie-2socket");
  const HostDevices devices = read_devices(host, {});
  CHECK(devices.find("0000:cb:00.0")->link.speed == "8.0 GT/s PCIe");
  CHECK(devices.find("0000:cb:00.0")->link.most_speed == "16.0 GT/s PCIe");
  CHECK(devices.find("0000:17:00.0")->most_vfs == 16);
}

TEST_CASE("a VF is a GPU of its own and alive though its ids read as ffff") {
  CHECK(rows_of("mxgpu-amd") == Texts{"0000:05:00.0 host gim group 21 node 0 with [] beside []",
                                      "0000:05:02.0 vfio vfio-pci group 22 node 0 with [] beside []",
                                      "0000:26:00.0 host gim group 31 node 0 with [] beside []",
                                      "0000:46:00.0 host amdgpu group 41 node 1 with [] beside []"});
  FakeHost host = recorded_host("mxgpu-amd");
  const HostDevices devices = read_devices(host, {});
  const PciFunction& vf = *devices.find("0000:05:02.0");
  CHECK(vf.physical_function == "0000:05:00.0");
  CHECK(vf.answers);
  const PciFunction& pf = *devices.find("0000:05:00.0");
  CHECK(pf.virtual_functions == Texts{"0000:05:02.0"});
  CHECK(pf.vfs == 1);
  CHECK(pf.most_vfs == 8);
}

TEST_CASE("a card's audio, USB and serial functions go with it") {
  const std::string with = "with [0000:0a:00.1 0000:0a:00.2 0000:0a:00.3] beside []";
  const Texts found = rows_of("acs-override");
  REQUIRE(found.size() == 2);
  CHECK(found[0] == "0000:0a:00.0 host nvidia group 21 node -1 " + with);
  CHECK(found[1] ==
        "0000:0b:00.0 vfio vfio-pci group 22 node -1 with [0000:0b:00.1 0000:0b:00.2 0000:0b:00.3] beside []");
}

TEST_CASE("without an IOMMU there are GPUs but no groups") {
  CHECK(rows_of("no-iommu") == Texts{"0000:01:00.0 host nouveau group - node -1 with [0000:01:00.1] beside []"});
  FakeHost host = recorded_host("no-iommu");
  const HostDevices devices = read_devices(host, {});
  CHECK_FALSE(devices.has_iommu);
  CHECK(devices.groups.empty());
}

TEST_CASE("of 500 functions only those that matter are read whole") {
  FakeHost host = recorded_host("big-16gpu-500");
  const HostDevices devices = read_devices(host, {});
  CHECK(devices.gpus.size() == 17);  // the console's among them
  CHECK(devices.functions.size() ==
        51);  // with 8 root ports, 8 switches, 16 ports of them, and the console's two bridges
}

TEST_CASE("a recorded host is the same when it is written out as files") {
  const TempFolder temp;
  expand_recorded_host("lab", temp.path());
  const auto gpu = temp / "sys/bus/pci/devices/0000:41:00.0";
  CHECK(std::filesystem::read_symlink(gpu) == "../../../devices/pci0000:40/0000:40:00.0/0000:41:00.0");
  CHECK(std::filesystem::exists(gpu / "drm/card3"));  // through the link
  CHECK(std::filesystem::file_size(gpu / "vendor") == 7);
}

// --- what may go wrong

TEST_CASE("a function that vanishes while it is read is left out") {
  FakeHost host = recorded_host("lab");
  host.erase("/sys/devices/pci0000:40/0000:40:00.0/0000:41:00.1");  // its link is still there
  const HostDevices devices = read_devices(host, {});
  CHECK(devices.find("0000:41:00.1") == nullptr);
  CHECK(devices.groups.at(13).members == Texts{"0000:41:00.0", "0000:41:00.1"});
  const std::vector<Gpu> gpus = find_gpus(devices, {}, {});
  REQUIRE(gpus.size() == 4);
  CHECK(gpus[1].companions.empty());
  host.erase("/sys/devices/pci0000:40/0000:40:00.0/0000:41:00.0");
  CHECK(read_devices(host, {}).gpus == Texts{"0000:00:05.0", "0000:81:00.0", "0000:83:01.0"});
}

TEST_CASE("what is no PCI address among the devices is passed over") {
  FakeHost host = one_gpu("");
  host.add_folder("/sys/bus/pci/devices/0000:41:00.x");
  CHECK(read_devices(host, {}).gpus == Texts{"0000:41:00.0"});
}

TEST_CASE("attributes that are absent or malformed are not told") {
  const PciFunction bare = gpu_with("");
  CHECK(bare.vendor == 0x10de);
  CHECK(bare.device == 0);
  CHECK(bare.driver.empty());
  CHECK_FALSE(bare.iommu_group);
  CHECK(bare.numa_node == -1);
  CHECK(bare.bars.empty());
  CHECK(bare.link.width == 0);
  CHECK(bare.answers);
  const PciFunction odd = gpu_with(
      "device = 0x12345\nnuma_node = one\nboot_vga = yes\ncurrent_link_speed = Unknown\ncurrent_link_width = -1\n"
      "max_link_width = 16 lanes\nsriov_totalvfs = 99999999999\nreset_method =\n"
      "resource = 0x1000 0x1fff\nresource = 0x2000 0x1fff 0x200\nresource = z 0x1fff 0x200\n"
      "resource = 0x3000 0x3fff 0x200\niommu_group -> ../../../../kernel/iommu_groups/\n");
  CHECK(odd.device == 0);
  CHECK(odd.numa_node == -1);
  CHECK_FALSE(odd.boot_vga);
  CHECK(odd.link.speed.empty());
  CHECK(odd.link.width == 0);
  CHECK(odd.link.most_width == 0);
  CHECK(odd.most_vfs == 0);
  CHECK(odd.reset_methods.empty());
  CHECK(odd.bars == std::vector<PciBar>{{3, 0x3000, 0x1000, true, false, false}});
  CHECK_FALSE(odd.iommu_group);
}

TEST_CASE("an override that is unset is no driver's name") {
  CHECK(gpu_with("driver_override = (null)\n").driver_override.empty());
  CHECK(gpu_with("driver_override = vfio-pci\n").driver_override == "vfio-pci");
}

TEST_CASE("a GPU whose config space is all ones does not answer") {
  CHECK_FALSE(gpu_with("power_state = D0\nconfig :hex ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff\n").answers);
  CHECK(gpu_with("power_state = D3cold\nconfig :hex ff ff ff ff\n").answers);
  CHECK_FALSE(
      gpu_with("physfn -> ../0000:41:00.1\nconfig :hex ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff\n").answers);
}

TEST_CASE("mediated devices and virtual functions are listed in their order") {
  const PciFunction gpu = gpu_with(
      "virtfn10 -> ../0000:41:01.3\nvirtfn2 -> ../0000:41:00.3\n"
      "mdev_supported_types/nvidia-11/name = GRID T4-1B\nmdev_supported_types/nvidia-11/available_instances = 16\n"
      "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001/\n83b8f4f2-509f-382f-3c1e-e6bfe0fa100x/\n");
  CHECK(gpu.virtual_functions == Texts{"0000:41:00.3", "0000:41:01.3"});
  CHECK(gpu.mdevs == Texts{"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"});
  REQUIRE(gpu.mdev_types.size() == 1);
  CHECK(gpu.mdev_types[0].id == "nvidia-11");
  CHECK(gpu.mdev_types[0].name == "GRID T4-1B");
  CHECK(gpu.mdev_types[0].available == 16);
}

// --- states

TEST_CASE("the state of a GPU comes from domains, records and its driver") {
  FakeHost host = recorded_host("acs-override");
  const HostDevices devices = read_devices(host, {});
  const std::string address = "0000:0b:00.0";
  const auto gpu = [&](const std::vector<DomainUse>& domains, const std::vector<GpuRecord>& records) {
    return find_gpus(devices, domains, records).at(1);
  };
  GpuRecord record;
  record.address = address;
  record.identity = identity_of(*devices.find(address));
  const DomainUse running{"a", "uuid-a", "/store", true, {address}};
  const DomainUse defined{"b", "uuid-b", "", false, {address}};

  CHECK(gpu({}, {}).state == GpuState::vfio);
  CHECK(gpu({defined}, {}).state == GpuState::vfio);  // a definition holds nothing
  CHECK(gpu({running}, {}).state == GpuState::in_vm);
  CHECK(gpu({running}, {}).vm == "a");

  record.lent = true;
  CHECK(gpu({}, {record}).state == GpuState::lent);
  record.note = "memory not cleared";
  CHECK(gpu({}, {record}).note == "memory not cleared");

  record.vm = "a";
  record.vm_uuid = "uuid-a";
  CHECK(gpu({}, {record}).state == GpuState::dirty);
  CHECK(gpu({}, {record}).vm == "a");
  // A VM that runs on without it has let it go.
  CHECK(gpu({{"a", "uuid-a", "/store", true, {"0000:99:00.0"}}}, {record}).state == GpuState::dirty);

  record.quarantine = "does not answer after its reset";
  CHECK(gpu({}, {record}).state == GpuState::quarantined);
  CHECK(gpu({}, {record}).note == "does not answer after its reset");
  CHECK(gpu({running}, {record}).state == GpuState::in_vm);

  record.identity = "10de:2330 10de:16c1";
  CHECK(gpu({}, {record}).state == GpuState::vfio);
  CHECK(gpu({}, {record}).note.empty());
  GpuFacts facts;
  facts.devices = devices;
  facts.records = {record};
  CHECK(facts.record(address) == nullptr);
  facts.records[0].identity = identity_of(*devices.find(address));
  CHECK(facts.record(address) == &facts.records[0]);
}

TEST_CASE("drivers that leave a group to its owner are known by name") {
  PciFunction function;
  for (const char* name : {"", "vfio-pci", "mlx5_vfio_pci", "nvgrace_gpu_vfio_pci", "pci-stub", "pcieport"}) {
    function.driver = name;
    CHECK(is_group_safe(function));
  }
  for (const char* name : {"nvidia", "shpchp", "snd_hda_intel", "vfio"}) {
    function.driver = name;
    CHECK_FALSE(is_group_safe(function));
  }
  CHECK(is_vfio_driver("xe-vfio-pci"));
  CHECK_FALSE(is_vfio_driver("pci-stub"));
}

TEST_CASE("a GPU's record for people holds names, neighbours and what sysfs told") {
  FakeHost host = recorded_host("pcie-2socket");
  host.add_file("/usr/share/misc/pci.ids",
                "# comment\n10dd  Other\n\t20b5  Wrong\n10de  NVIDIA Corporation\n\t20b5  GA100 [A100 PCIe 80GB]\n"
                "15b3  Mellanox Technologies\n\t101b  MT28908\nC 03  Display controller\n");
  GpuFacts facts;
  facts.devices = read_devices(host, {});
  facts.gpus = find_gpus(facts.devices, {}, {});
  const PciNames names(host);
  const GpuInfo info = gpu_info(facts, *facts.find("0000:cb:00.0"), names);
  CHECK(info.id == "10de:20b5");
  CHECK(info.subsystem == "10de:1533");
  CHECK(info.name == "NVIDIA Corporation GA100 [A100 PCIe 80GB]");
  CHECK(info.memory == 128 * kGiB);
  CHECK(info.numa_node == 1);
  CHECK(info.path == Texts{"0000:c8:02.0", "0000:c9:00.0", "0000:ca:08.0"});
  Texts neighbours;
  for (const GpuNeighbour& other : info.neighbours) {
    neighbours.push_back(
        fmt::format("{} {} {} '{}' {}", other.role, other.address, other.id, other.name, other.driver));
  }
  CHECK(neighbours == Texts{"bridge 0000:c9:00.0 10b5:8747 '' pcieport", "bridge 0000:ca:08.0 10b5:8747 '' pcieport",
                            "bridge 0000:ca:10.0 10b5:8747 '' pcieport",
                            "stranger 0000:cc:00.0 15b3:101d 'Mellanox Technologies 15b3:101d' mlx5_core"});
}

TEST_CASE("names come from whichever pci.ids there is, and are ids without one") {
  FakeHost host;
  CHECK(PciNames(host).name(0x10de, 0x2330) == "10de:2330");
  host.add_file("/usr/share/hwdata/pci.ids", "10de  NVIDIA Corporation\n\t2330  GH100\x1b[31m\n\t\t10de 16c1  Board\n");
  CHECK(PciNames(host).name(0x10de, 0x2330) == "NVIDIA Corporation GH100\\x1b[31m");
  CHECK(PciNames(host).name(0x10de, 0x16c1) == "NVIDIA Corporation 10de:16c1");
  CHECK(PciNames(host).name(0x1002, 0x2330) == "1002:2330");
}

// --- use

TEST_CASE("processes that have a GPU open or mapped are named") {
  FakeHost host = recorded_host("pcie-2socket");
  const HostUse use = use_of(host, {"0000:17:00.0", "0000:b1:00.0"});
  REQUIRE(use.users.size() == 2);
  CHECK(use.users[0].address == "0000:b1:00.0");
  CHECK(use.users[0].pid == 4242);
  CHECK(use.users[0].command == "python3");
  CHECK(use.users[0].uid == 1000);
  CHECK(use.users[0].node == "/dev/nvidia2");
  CHECK(use.users[1].pid == 4300);
  CHECK(use.users[1].command == "dcgm-exporter");
  CHECK(use_of(host, {"0000:17:00.0"}).users.empty());
}

TEST_CASE("users of a companion and of the group's node count for their function") {
  FakeHost host = recorded_host("laptop-1gpu");
  host.add_link("/proc/77/fd/9", "/dev/vfio/2");
  host.add_file("/proc/77/comm", "qemu-system-x86\n");
  const HostUse use = use_of(host, {"0000:00:01.0", "0000:01:00.1", "0000:01:00.0"});
  Texts users;
  for (const DeviceUser& user : use.users)
    users.push_back(fmt::format("{} {} {}", user.address, user.command, user.node));
  CHECK(users == Texts{"0000:01:00.0 qemu-system-x86 /dev/vfio/2", "0000:01:00.0 Xorg /dev/nvidia0",
                       "0000:01:00.1 pipewire /dev/snd/controlC1"});
}

// Such a process was not seen, and the driver was taken from under it.
TEST_CASE("who has a GPU open or mapped under another name is found by the device's number") {
  FakeHost host = recorded_host("pcie-2socket");
  host.add_device("/dev/nvidia0", 7);
  host.add_device("/srv/root/dev/gpu", 7);
  host.add_link("/proc/77/fd/9", "/srv/root/dev/gpu");
  host.add_device("/proc/78/map_files/7f0000000000-7f0000001000", 7);
  host.add_file("/proc/78/maps",
                "7e0000000000-7e0000001000 r-xp 00000000 08:01 900   /usr/bin/python3\n"
                "7f0000000000-7f0000001000 rw-s 00000000 00:31 612   /tmp/gpu (deleted)\n");
  Texts users;
  for (const DeviceUser& user : use_of(host, {"0000:17:00.0"}).users)
    users.push_back(fmt::format("{} {}", user.pid, user.node));
  CHECK(users == Texts{"77 /dev/nvidia0", "78 /dev/nvidia0"});
}

TEST_CASE("a disk that is mounted, a NIC with the default route and a screen are found") {
  FakeHost laptop = recorded_host("laptop-1gpu");
  const Texts all{"0000:00:02.0", "0000:00:06.0", "0000:00:14.3", "0000:01:00.0", "0000:02:00.0"};
  const HostUse use = use_of(laptop, all);
  CHECK(use.mounted == std::map<std::string, std::string>{{"0000:02:00.0", "/ (nvme0n1p2)"}});
  CHECK(use.default_route == std::map<std::string, std::string>{{"0000:00:14.3", "wlp0s20f3"}});
  CHECK(use.consoles == std::map<std::string, std::string>{{"0000:00:02.0", "eDP-1"}});
  CHECK(use.framebuffers == std::map<std::string, std::string>{{"0000:00:02.0", "BOOTFB"}});
  CHECK(use_of(laptop, {"0000:01:00.0"}).mounted.empty());

  FakeHost lab = recorded_host("lab");  // its Virtual-1 is connected and enabled, and shows nobody anything
  CHECK(use_of(lab, {"0000:00:05.0", "0000:41:00.0"}).consoles.empty());
}

TEST_CASE("use is found through LVM, a bridge, swap and a multipath disk") {
  FakeHost host = recorded_host("lab");
  host.add_file("/proc/mounts", "proc /proc proc rw 0 0\n/dev/mapper/vg-data /srv/my\\040data xfs rw 0 0\n");
  host.add_link("/dev/mapper/vg-data", "../dm-0");
  host.add_link("/sys/class/block/dm-0", "../../devices/virtual/block/dm-0");
  host.add_link("/sys/devices/virtual/block/dm-0/slaves/nvme0n1", "../../../nvme-subsystem/nvme-subsys0/nvme0n1");
  CHECK(use_of(host, {"0000:42:00.0"}).mounted ==
        std::map<std::string, std::string>{{"0000:42:00.0", "/srv/my data (dm-0)"}});
  host.add_file("/proc/mounts", "");
  host.add_file("/proc/swaps", "Filename Type Size Used Priority\n/dev/dm-0 partition 100 0 -2\n");
  CHECK(use_of(host, {"0000:42:00.0"}).mounted == std::map<std::string, std::string>{{"0000:42:00.0", "swap (dm-0)"}});

  host.add_link("/sys/class/net/br0", "../../devices/virtual/net/br0");
  host.add_link("/sys/devices/virtual/net/br0/lower_eth0", "../../../pci0000:80/eth0");
  host.add_file("/proc/net/ipv6_route",
                std::string(32, '0') + " 00 " + std::string(32, '0') + " 00 " +
                    "fe800000000000000000000000000001 00000400 00000001 00000000 00000003 br0\n");
  CHECK(use_of(host, {"0000:83:02.0"}).default_route == std::map<std::string, std::string>{{"0000:83:02.0", "br0"}});
}

// --- settings

TEST_CASE("the settings of the two-socket server are read") {
  FakeHost host = recorded_host("pcie-2socket");
  host.add_file("/etc/libvirt/hooks/qemu", "#!/bin/sh\n", 0755);
  host.add_file("/etc/libvirt/hooks/qemu.d/off", "#!/bin/sh\n", 0644);
  host.add_file("/etc/libvirt/hooks/qemu.d/on", "#!/bin/sh\n", 0755);
  const HostSettings settings = read_settings(host);
  CHECK(settings.is_root);
  CHECK(settings.kernel == "6.1.0-18-amd64");
  CHECK(settings.has_vfio);
  CHECK(settings.lockdown == "none");
  CHECK(settings.physical_bits == 46);
  CHECK(settings.iommu_bits == 48);
  CHECK(settings.memory == 512 * kGiB);
  CHECK(settings.hooks == Texts{"/etc/libvirt/hooks/qemu", "/etc/libvirt/hooks/qemu.d/on"});
  CHECK_FALSE(settings.acs_override);
  CHECK_FALSE(settings.unsafe_interrupts);
  CHECK_FALSE(settings.noiommu);
  REQUIRE(settings.nodes.size() == 2);
  const HostNode& node = settings.nodes[1];
  CHECK(node.number == 1);
  CHECK(format_cpu_list(node.cpus) == "24-47,72-95");
  REQUIRE(node.cores.size() == 24);
  CHECK(node.cores[0] == std::vector<unsigned>{24, 72});
  CHECK(node.memory == 256 * kGiB);
  CHECK(node.free_memory == 112 * kGiB);  // with what caches files
  REQUIRE(node.huge_pages.size() == 2);
  CHECK(node.huge_pages[0].page_size == kGiB);
  CHECK(node.huge_pages[0].free == 60);
  CHECK(node.huge_pages[0].total == 120);
}

TEST_CASE("an install line of modprobe.d that keeps vfio-pci from being loaded is seen, and a blacklist is not") {
  FakeHost host = recorded_host("laptop-1gpu");
  host.erase("/sys/bus/pci/drivers/vfio-pci");
  host.erase("/sys/module/vfio");
  const auto forbidden = [&] { return read_settings(host).vfio_forbidden; };
  host.add_file("/etc/modprobe.d/a.conf", "# install vfio-pci /bin/false\nblacklist vfio-pci\ninstall vfio-pci /sbin/modprobe x\n");
  host.add_file("/etc/modprobe.d/b.conf.dpkg-old", "install vfio-pci /bin/false\n");
  CHECK(forbidden().empty());
  host.add_file("/lib/modprobe.d/c.conf", "install vfio /bin/true\n");
  CHECK(forbidden() == "/lib/modprobe.d/c.conf:1: install vfio /bin/true");
  host.add_file("/sys/module/vfio/refcnt", "0\n");  // what is loaded already needs no loading
  CHECK(forbidden().empty());
  host.add_file("/run/modprobe.d/d.conf", "\ninstall vfio_pci /usr/bin/false\n");
  CHECK(forbidden() == "/run/modprobe.d/d.conf:2: install vfio_pci /usr/bin/false");
  host.add_file("/etc/modprobe.d/d.conf", "");  // hides it
  CHECK(forbidden().empty());
  host.add_file("/etc/modprobe.d/d.conf", "install vfio-pci /bin/false\n");
  CHECK(forbidden() == "/etc/modprobe.d/d.conf:1: install vfio-pci /bin/false");
  host.add_folder("/sys/bus/pci/drivers/vfio-pci");
  CHECK(forbidden().empty());
}

TEST_CASE("settings that weaken isolation are seen") {
  FakeHost host = recorded_host("acs-override");
  CHECK(read_settings(host).acs_override);
  host.add_file("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n");
  host.add_file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
  host.add_file("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
  host.add_file("/proc/self/status", "Uid:\t0\t1000\t0\t0\n");
  const HostSettings settings = read_settings(host);
  CHECK(settings.unsafe_interrupts);
  CHECK(settings.noiommu);
  CHECK(settings.lockdown == "integrity");
  CHECK_FALSE(settings.is_root);
}

TEST_CASE("a host without NUMA has one node, and vfio when its module is there") {
  FakeHost host = recorded_host("no-iommu");
  const HostSettings settings = read_settings(host);
  REQUIRE(settings.nodes.size() == 1);
  CHECK(settings.nodes[0].number == 0);
  CHECK(format_cpu_list(settings.nodes[0].cpus) == "0-11");
  CHECK(settings.nodes[0].memory == 16 * kGiB);
  CHECK(settings.nodes[0].huge_pages.size() == 2);
  CHECK_FALSE(settings.iommu_bits);
  CHECK(settings.has_vfio);
  host.erase("/lib/modules");
  CHECK_FALSE(read_settings(host).has_vfio);
  FakeHost nothing;
  CHECK(read_settings(nothing).nodes.size() == 1);
}

TEST_CASE("CPU lists are read and written, and what is malformed is left out") {
  CHECK(parse_cpu_list("0-3,8-11,2\n") == std::vector<unsigned>{0, 1, 2, 3, 8, 9, 10, 11});
  CHECK(parse_cpu_list("1,x,3-,5-4,-6,7") == std::vector<unsigned>{1, 7});
  CHECK(parse_cpu_list("0-4294967295").empty());
  CHECK(parse_cpu_list("70000-3,65535").size() == 1);
  CHECK(parse_cpu_list("").empty());
  CHECK(format_cpu_list({3, 1, 2, 2, 9}) == "1-3,9");
  CHECK(format_cpu_list({}).empty());
}

TEST_CASE("the fabric manager is found by its process, where there are NVSwitches") {
  FakeHost host = recorded_host("sxm-8gpu");
  CHECK_FALSE(use_of(host, {}).has_fabric_manager);
  host.add_file("/proc/4711/comm", "nv-fabricmanage\n");  // comm has 15 characters
  CHECK(use_of(host, {}).has_fabric_manager);
  FakeHost other = recorded_host("pcie-2socket");
  other.add_file("/proc/4711/comm", "nv-fabricmanage\n");
  CHECK_FALSE(use_of(other, {}).has_fabric_manager);
}

TEST_CASE("who may open vfio's shared node, and as whom QEMU runs, is read") {
  FakeHost host;
  host.add_folder("/sys/bus/pci/drivers/vfio-pci");
  host.add_file("/dev/null", "");
  CHECK_FALSE(read_settings(host).vfio_node);
  CHECK(read_settings(host).qemu_user.empty());
  CHECK(read_settings(host).has_dynamic_ownership);
  host.add_file("/dev/vfio/vfio", "", 0600);
  CHECK(read_settings(host).vfio_node.value().mode == 0600);
  host.add_file("/etc/libvirt/qemu.conf",
                "#user = \"a\"\n  user=\"qemu\"  # the second one\n#dynamic_ownership = 0\nusername = \"b\"\n");
  CHECK(read_settings(host).qemu_user == "qemu");
  CHECK(read_settings(host).has_dynamic_ownership);
  host.add_file("/etc/libvirt/qemu.conf", "user = '+0'\ndynamic_ownership = 0\n");
  CHECK(read_settings(host).qemu_user == "+0");
  CHECK_FALSE(read_settings(host).has_dynamic_ownership);
}

TEST_CASE("whether the host can sleep, and whether vfio has its node, is read") {
  FakeHost host;
  CHECK_FALSE(read_settings(host).has_vfio_node);
  host.add_folder("/sys/bus/pci/drivers/vfio-pci");
  CHECK_FALSE(read_settings(host).has_vfio_node);  // no /dev: a recorded host
  host.add_file("/dev/null", "");
  CHECK(read_settings(host).has_vfio_node == false);
  host.add_file("/dev/vfio/vfio", "");
  CHECK(read_settings(host).has_vfio_node == true);
  CHECK(read_settings(host).sleep_states.empty());
  host.add_file("/sys/power/state", "freeze mem disk\n");
  CHECK(read_settings(host).sleep_states == "freeze mem disk");
  CHECK_FALSE(read_settings(host).is_sleep_masked);
  host.add_link("/etc/systemd/system/sleep.target", "/dev/null");
  CHECK(read_settings(host).is_sleep_masked);
}

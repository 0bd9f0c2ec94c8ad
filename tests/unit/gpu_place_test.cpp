// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gpu/choose.hpp"
#include "gpu/mmio_window.hpp"
#include "gpu/place.hpp"
#include "model/size.hpp"
#include "support/catch.hpp"
#include "support/source_tree.hpp"

using namespace vmgraft;

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

PciBar bar(unsigned index, std::uint64_t size, bool is_wide = true) {
  PciBar made;
  made.index = index;
  made.size = size;
  made.is_64bit = made.is_prefetchable = is_wide;
  return made;
}

PciFunction gpu_at(const std::string& address, int node, std::uint64_t memory = 16 * kGiB) {
  PciFunction function;
  function.address = address;
  function.class_code = 0x030200;
  function.vendor = 0x10de;
  function.device = 0x2330;
  function.numa_node = node;
  function.bars = {bar(0, memory)};
  function.path = {"0000:" + address.substr(5, 2) + ":ff.0"};
  return function;
}

/// \param first  CPU of the node's first core; its sibling is \p apart further on.
HostNode node_of(unsigned number, unsigned first, unsigned cores, unsigned apart) {
  HostNode node;
  node.number = number;
  for (unsigned core = 0; core < cores; ++core) {
    node.cores.push_back({first + core, first + core + apart});
    node.cpus.push_back(first + core);
  }
  for (unsigned core = 0; core < cores; ++core) node.cpus.push_back(first + core + apart);
  node.memory = node.free_memory = 128 * kGiB;
  node.huge_pages = {{kGiB, 0, 0}, {2 * kMiB, 0, 0}};
  return node;
}

/// Two nodes of 8 cores with two threads each: CPUs 0-7 and 16-23, 8-15 and 24-31.
GpuFacts two_nodes(std::vector<PciFunction> functions) {
  GpuFacts facts;
  for (const PciFunction& function : functions) {
    if (function.class_code >> 16 != 0x03) continue;
    facts.devices.gpus.push_back(function.address);
    Gpu gpu;
    gpu.address = function.address;
    for (const PciFunction& other : functions) {
      if (other.slot() == function.slot() && other.address != function.address) gpu.companions.push_back(other.address);
    }
    facts.gpus.push_back(gpu);
  }
  facts.devices.functions = std::move(functions);
  facts.settings.nodes = {node_of(0, 0, 8, 16), node_of(1, 8, 8, 16)};
  facts.settings.physical_bits = 46;
  facts.settings.kernel = "6.8.0-31-generic";
  return facts;
}

VmSpec vm(unsigned cpus, std::uint64_t memory) {
  VmSpec spec;
  spec.cpus = cpus;
  spec.memory = memory;
  spec.firmware = Firmware::uefi;
  spec.disks = {{"root", "debian-12", {}, true}, {"scratch", "", {}, false}};
  return spec;
}

GpuChoice chosen(const std::vector<std::string>& addresses) {
  GpuChoice choice;
  for (const std::string& address : addresses) choice.gpus.push_back({address, GpuKind::gpu, {}, false});
  return choice;
}

PlaceFor kvm(unsigned version = 9'000'000) {
  return {true, version};
}

void set_huge_pages(HostNode& node, std::uint64_t large, std::uint64_t small) {
  node.huge_pages = {{kGiB, large, large}, {2 * kMiB, small, small}};
}

std::vector<unsigned> cpus_of(const std::vector<VcpuPin>& pins) {
  std::vector<unsigned> cpus;
  for (const VcpuPin& pin : pins) {
    REQUIRE(pin.host_cpus.size() == 1);
    cpus.push_back(pin.host_cpus.front());
  }
  return cpus;
}

bool holds(const std::vector<std::string>& lines, const std::string& wanted) {
  for (const std::string& line : lines) UNSCOPED_INFO(line);
  return std::find(lines.begin(), lines.end(), wanted) != lines.end();
}

using Numbers = std::vector<unsigned>;

}  // namespace

TEST_CASE("the window of 64-bit BARs is their sum as a power of two, doubled") {
  PciFunction h100 = gpu_at("0000:1b:00.0", 0, 128 * kGiB);
  const std::vector<const PciFunction*> eight(8, &h100);
  CHECK(mmio_window({&h100}) == 256 * kGiB);
  CHECK(mmio_window(eight) == 2048 * kGiB);

  // What an H100 has beside its memory makes the sum a little more, and the power of two the next.
  h100.bars = {bar(0, 16 * kMiB), bar(2, 128 * kGiB), bar(4, 32 * kMiB)};
  CHECK(mmio_window({&h100}) == 512 * kGiB);
  CHECK(mmio_window(eight) == 4096 * kGiB);

  PciFunction old = gpu_at("0000:1b:00.0", 0);
  old.bars = {bar(0, 256 * kMiB, false)};
  CHECK(mmio_window({&old}) == 0);
  old.bars = {bar(0, ~std::uint64_t{0})};
  CHECK(mmio_window({&old}) == std::uint64_t{1} << 63);
}

TEST_CASE("address bits count the hole below 4 GiB and the window above the memory") {
  CHECK(address_bits(2 * kGiB, 0) == 32);
  CHECK(address_bits(4 * kGiB, 0) == 33);
  CHECK(address_bits(62 * kGiB, 64 * kGiB) == 37);
  CHECK(address_bits(64 * kGiB, 64 * kGiB) == 38);
  CHECK(address_bits(1024 * kGiB, 4096 * kGiB) == 43);
}

TEST_CASE("a VM without GPUs is not placed") {
  const Placement placement = place(two_nodes({}), {}, vm(4, 8 * kGiB), kvm());
  CHECK(placement.is_kvm);
  CHECK(placement.gpus.empty());
  CHECK(placement.tuning.vcpus.empty());
  CHECK_FALSE(placement.tuning.locked);
  CHECK(placement.done.empty());
  CHECK(placement.not_done.empty());
}

TEST_CASE("a GPU and all that belongs to it stand in one slot with the numbers they have on the host") {
  PciFunction audio = gpu_at("0000:41:00.1", 1);
  audio.class_code = 0x040300;
  audio.bars = {};
  const GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1), audio});
  const Placement placement = place(facts, chosen({"0000:41:00.0"}), vm(4, 8 * kGiB), kvm());
  REQUIRE(placement.gpus.size() == 1);
  const PassedGpu& gpu = placement.gpus[0];
  REQUIRE(gpu.functions.size() == 2);
  CHECK(gpu.functions[0].address == "0000:41:00.0");
  CHECK(gpu.functions[0].guest_function == 0);
  CHECK(gpu.functions[1].address == "0000:41:00.1");
  CHECK(gpu.functions[1].guest_function == 1);
  CHECK(gpu.functions[1].is_visible);
  CHECK_FALSE(gpu.rom_bar);
  CHECK_FALSE(gpu.clique);
}

TEST_CASE("a virtual function is function 0 of its guest slot, alone") {
  PciFunction vf = gpu_at("0000:41:00.4", -1);
  vf.physical_function = "0000:41:00.0";
  GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1), vf});
  GpuChoice choice = chosen({"0000:41:00.4"});
  choice.gpus[0].kind = GpuKind::vf;
  const Placement placement = place(facts, choice, vm(4, 8 * kGiB), kvm());
  REQUIRE(placement.gpus[0].functions.size() == 1);
  CHECK(placement.gpus[0].functions[0].guest_function == 0);
  // The node is its physical function's.
  CHECK(placement.tuning.memory_nodes == Numbers{1});

  choice.gpus[0].make_vf = true;
  const Error error = error_of([&] { static_cast<void>(place(facts, choice, vm(4, 8 * kGiB), kvm())); });
  CHECK(std::string(error.what()) == "GPU 0000:41:00.4: its virtual function is not made yet");
}

TEST_CASE("a mediated device is placed by the GPU it is made on, and maps nothing of it") {
  GpuChoice choice = chosen({"0000:41:00.0"});
  choice.gpus[0].kind = GpuKind::mdev;
  const GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1, 128 * kGiB)});
  const Placement placement = place(facts, choice, vm(4, 8 * kGiB), kvm());
  CHECK(placement.gpus[0].functions.empty());
  CHECK(placement.gpus[0].guest_cell == 0u);
  CHECK(placement.pci_hole64 == 0);
}

TEST_CASE("a GPU that is gone is said") {
  const Error error =
      error_of([&] { static_cast<void>(place(two_nodes({}), chosen({"0000:41:00.0"}), vm(4, 8 * kGiB), kvm())); });
  CHECK(error.code() == Errc::other);
  CHECK(std::string(error.what()) == "GPU 0000:41:00.0 was chosen, and the host has it no more");
}

TEST_CASE("vCPUs get threads of whole cores on the GPU's node, and the emulator that node's first core") {
  GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1)});
  set_huge_pages(facts.settings.nodes[1], 64, 0);
  const Placement placement = place(facts, chosen({"0000:41:00.0"}), vm(4, 64 * kGiB), kvm());
  CHECK(cpus_of(placement.tuning.vcpus) == Numbers{9, 25, 10, 26});
  CHECK(placement.tuning.emulator_cpus == Numbers{8, 24});
  CHECK(placement.tuning.iothreads == 2);
  CHECK(placement.tuning.huge_page == kGiB);
  CHECK(placement.tuning.memory_nodes == Numbers{1});
  CHECK(placement.tuning.locked);
  CHECK(placement.tuning.prealloc_threads == 8);
  REQUIRE(placement.tuning.cells.size() == 1);
  CHECK(placement.tuning.cells[0].vcpus == Numbers{0, 1, 2, 3});
  CHECK(placement.tuning.cells[0].memory == 64 * kGiB);
  CHECK(placement.tuning.cells[0].host_node == 1);
  CHECK(placement.gpus[0].guest_cell == 0u);
  CHECK(placement.passthrough_physical_bits);
  CHECK(placement.done == std::vector<std::string>{"vCPUs 0-3 on CPUs 9-10,25-26 of node 1",
                                                   "emulator on CPUs 8,24",
                                                   "disks served by 2 threads beside the emulator",
                                                   "memory in huge pages of 1 GiB on node 1",
                                                   "guest NUMA cell of node 1",
                                                   "memory locked",
                                                   "memory zeroed by 8 threads before the start"});
  CHECK(placement.not_done.empty());
}

TEST_CASE("the CPUs that a running VM has for its own are left to it, with their cores") {
  GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1)});
  facts.domains.push_back({"other", "u", "", true, {}, {9, 26}});
  facts.domains.push_back({"stopped", "u", "", false, {}, {11}});
  const Placement placement = place(facts, chosen({"0000:41:00.0"}), vm(3, 8 * kGiB), kvm());
  CHECK(cpus_of(placement.tuning.vcpus) == Numbers{11, 27, 12});
}

TEST_CASE("vCPUs that do not fit run anywhere on the node, and that is said") {
  const GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1)});
  const Placement placement = place(facts, chosen({"0000:41:00.0"}), vm(15, 8 * kGiB), kvm());
  REQUIRE(placement.tuning.vcpus.size() == 15);
  CHECK(placement.tuning.vcpus[14].host_cpus == facts.settings.nodes[1].cpus);
  CHECK(placement.tuning.emulator_cpus == facts.settings.nodes[1].cpus);
  CHECK(holds(placement.done, "vCPUs 0-14 anywhere on node 1"));
  CHECK(holds(placement.not_done,
              "no CPU of its own for each of vCPUs 0-14: node 1 has 14 left, beside a core for the emulator and what "
              "other VMs have"));
  CHECK(cpus_of(place(facts, chosen({"0000:41:00.0"}), vm(14, 8 * kGiB), kvm()).tuning.vcpus).size() == 14);
}

TEST_CASE("GPUs on two nodes give the guest two cells, with vCPUs and memory split evenly") {
  GpuFacts facts = two_nodes({gpu_at("0000:1b:00.0", 0), gpu_at("0000:9b:00.0", 1), gpu_at("0000:9c:00.0", 1)});
  for (HostNode& node : facts.settings.nodes) set_huge_pages(node, 40, 0);
  const Placement placement =
      place(facts, chosen({"0000:9b:00.0", "0000:1b:00.0", "0000:9c:00.0"}), vm(7, 65 * kGiB), kvm());
  const HostTuning& tuning = placement.tuning;
  REQUIRE(tuning.cells.size() == 2);
  CHECK(tuning.cells[0].host_node == 0);
  CHECK(tuning.cells[0].vcpus == Numbers{0, 1, 2, 3});
  CHECK(tuning.cells[0].memory == 33 * kGiB);
  CHECK(tuning.cells[1].host_node == 1);
  CHECK(tuning.cells[1].vcpus == Numbers{4, 5, 6});
  CHECK(tuning.cells[1].memory == 32 * kGiB);
  CHECK(placement.gpus[0].guest_cell == 1u);
  CHECK(placement.gpus[1].guest_cell == 0u);
  CHECK(placement.gpus[2].guest_cell == 1u);
  CHECK(tuning.memory_nodes == Numbers{0, 1});
  CHECK(cpus_of(tuning.vcpus) == Numbers{1, 17, 2, 18, 9, 25, 10});
  CHECK(tuning.emulator_cpus == Numbers{0, 8, 16, 24});
  CHECK(tuning.huge_page == kGiB);
  CHECK(holds(placement.done, "memory in huge pages of 1 GiB on nodes 0 and 1"));
  CHECK(holds(placement.done, "guest NUMA cells of nodes 0 and 1"));
}

TEST_CASE("one vCPU cannot be on two nodes") {
  const GpuFacts facts = two_nodes({gpu_at("0000:1b:00.0", 0), gpu_at("0000:9b:00.0", 1)});
  const Placement placement = place(facts, chosen({"0000:1b:00.0", "0000:9b:00.0"}), vm(1, 8 * kGiB), kvm());
  CHECK(placement.tuning.cells.size() == 1);
  CHECK(placement.gpus[0].guest_cell == 0u);
  CHECK_FALSE(placement.gpus[1].guest_cell);
  CHECK(holds(placement.not_done,
              "the VM is not on all nodes of its GPUs: it has 1 vCPUs, and they are on nodes 0 and 1"));
}

TEST_CASE("a host with one node needs no guest cell, and its GPUs no node that the host tells") {
  GpuFacts facts = two_nodes({gpu_at("0000:1b:00.0", -1)});
  facts.settings.nodes.pop_back();
  const Placement placement = place(facts, chosen({"0000:1b:00.0"}), vm(2, 8 * kGiB), kvm());
  CHECK(placement.tuning.cells.empty());
  CHECK_FALSE(placement.gpus[0].guest_cell);
  CHECK(cpus_of(placement.tuning.vcpus) == Numbers{1, 17});
  CHECK(placement.tuning.memory_nodes == Numbers{0});
}

TEST_CASE("a GPU whose node the host does not tell is placed beside nothing") {
  const GpuFacts facts = two_nodes({gpu_at("0000:1b:00.0", -1)});
  const Placement placement = place(facts, chosen({"0000:1b:00.0"}), vm(2, 8 * kGiB), kvm());
  CHECK(placement.tuning.vcpus.empty());
  CHECK(placement.tuning.memory_nodes.empty());
  CHECK(placement.tuning.prealloc_threads == 0);
  CHECK(placement.not_done == std::vector<std::string>{
      "nothing is placed beside GPU 0000:1b:00.0: the host does not tell its NUMA node"});
}

TEST_CASE("huge pages are the largest of which the node has enough") {
  GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1)});
  HostNode& node = facts.settings.nodes[1];
  const auto placed = [&](std::uint64_t memory) {
    return place(facts, chosen({"0000:41:00.0"}), vm(4, memory), kvm());
  };
  set_huge_pages(node, 63, 64 * 512);
  CHECK(placed(64 * kGiB).tuning.huge_page == 2 * kMiB);
  set_huge_pages(node, 64, 64 * 512);
  CHECK(placed(64 * kGiB).tuning.huge_page == kGiB);
  CHECK(placed(1536 * kMiB).tuning.huge_page == 2 * kMiB);

  set_huge_pages(node, 12, 0);
  const Placement without = placed(64 * kGiB);
  CHECK(without.tuning.huge_page == 0);
  CHECK(without.not_done == std::vector<std::string>{"no huge pages: node 1 has 12 GiB free of 64 GiB"});
  CHECK(holds(without.done, "memory on node 1"));
  CHECK(placed(3 * kMiB).not_done == std::vector<std::string>{"no huge pages: 3145728 bytes are no multiple of 2 MiB"});
}

TEST_CASE("nodes with huge pages of different sizes have none in common") {
  GpuFacts facts = two_nodes({gpu_at("0000:1b:00.0", 0), gpu_at("0000:9b:00.0", 1)});
  set_huge_pages(facts.settings.nodes[0], 8, 0);
  set_huge_pages(facts.settings.nodes[1], 0, 8 * 512);
  const Placement placement = place(facts, chosen({"0000:1b:00.0", "0000:9b:00.0"}), vm(4, 8 * kGiB), kvm());
  CHECK(placement.not_done == std::vector<std::string>{"no huge pages: nodes 0 and 1 have enough, but not of one size"});
}

TEST_CASE("memory is not bound to a node that has not enough of it, and then there is no cell either") {
  GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1)});
  facts.settings.nodes[1].free_memory = 10 * kGiB;
  const Placement placement = place(facts, chosen({"0000:41:00.0"}), vm(4, 64 * kGiB), kvm());
  CHECK(placement.tuning.memory_nodes.empty());
  CHECK(placement.tuning.cells.empty());
  CHECK_FALSE(placement.gpus[0].guest_cell);
  CHECK(holds(placement.not_done, "memory is not kept on node 1: it has 10 GiB free, and 64 GiB are wanted"));
  // Huge pages are not part of what is free.
  set_huge_pages(facts.settings.nodes[1], 64, 0);
  CHECK(place(facts, chosen({"0000:41:00.0"}), vm(4, 64 * kGiB), kvm()).tuning.memory_nodes == Numbers{1});
}

TEST_CASE("tuning none places the devices and their window only") {
  VmSpec spec = vm(4, 64 * kGiB);
  spec.tuning = Tuning::none;
  const GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1, 128 * kGiB)});
  const Placement placement = place(facts, chosen({"0000:41:00.0"}), spec, kvm());
  CHECK(placement.gpus.size() == 1);
  CHECK(placement.pci_hole64 == 256 * kGiB);
  CHECK(placement.passthrough_physical_bits);
  CHECK(placement.tuning.vcpus.empty());
  CHECK(placement.tuning.memory_nodes.empty());
  CHECK(placement.tuning.iothreads == 0);
  CHECK_FALSE(placement.tuning.locked);
  CHECK(placement.not_done.empty());
}

TEST_CASE("tuning strict refuses and names each thing that cannot be had") {
  VmSpec spec = vm(15, 64 * kGiB);
  spec.tuning = Tuning::strict;
  GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1)});
  facts.settings.nodes[1].free_memory = kGiB;
  const auto placed = [&] { static_cast<void>(place(facts, chosen({"0000:41:00.0"}), spec, kvm())); };
  const Error error = error_of(placed);
  CHECK(error.code() == Errc::host_unfit);
  CHECK(std::string(error.what()) ==
        "tuning \"strict\" cannot be had: no CPU of its own for each of vCPUs 0-14: node 1 has 14 left, beside a core for "
        "the emulator and what other VMs have; no huge pages: node 1 has 0 B free of 64 GiB; memory is not kept on node "
        "1: it has 1 GiB free, and 64 GiB are wanted");
  CHECK(error.hint() == "set \"tuning\": \"auto\" to start with what the host has");

  spec.cpus = 14;
  set_huge_pages(facts.settings.nodes[1], 64, 0);
  CHECK_NOTHROW(placed());
}

TEST_CASE("tuning strict refuses a definition whose own elements take the place of the tuning") {
  VmSpec spec = vm(14, 64 * kGiB);
  spec.tuning = Tuning::strict;
  GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1)});
  set_huge_pages(facts.settings.nodes[1], 64, 0);
  const Placement placement = place(facts, chosen({"0000:41:00.0"}), spec, kvm());
  REQUIRE(placement.not_done.empty());
  std::string xml = read_text(source_path("tests/data/domain/gpu_train_inactive.xml"));
  std::string vcpu = "<vcpu placement='static'>16</vcpu>";
  xml.replace(xml.find(vcpu), vcpu.size(), "<vcpu placement='static'>14</vcpu>");
  vcpu = "<vcpu placement='static'>14</vcpu>";
  CHECK_NOTHROW(refuse_own_tuning(spec, xml, placement));

  // As virsh edit leaves it.
  xml.replace(xml.find(vcpu), vcpu.size(),
              vcpu + "<iothreads>1</iothreads><numatune><memory mode='preferred' nodeset='0'/></numatune>");
  const Error error = error_of([&] { refuse_own_tuning(spec, xml, placement); });
  CHECK(error.code() == Errc::conflict);
  CHECK(std::string(error.what()) ==
        "tuning \"strict\" cannot be had: memory on the GPUs' nodes: the definition has its own <numatune>, which is kept; "
        "iothreads: the definition has its own <iothreads>, which is kept");
  CHECK(error.hint() ==
        "take these elements out of the definition (virsh edit), or set \"tuning\": \"auto\" to keep them");
  spec.tuning = Tuning::automatic;
  CHECK_NOTHROW(refuse_own_tuning(spec, xml, placement));
}

TEST_CASE("software emulation is given devices and no tuning, and strict refuses it") {
  const GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1, 64 * kGiB)});
  VmSpec spec = vm(4, 8 * kGiB);
  const PlaceFor tcg{false, 9'000'000};
  const Placement placement = place(facts, chosen({"0000:41:00.0"}), spec, tcg);
  CHECK_FALSE(placement.is_kvm);
  CHECK_FALSE(placement.passthrough_physical_bits);
  CHECK(placement.tuning.vcpus.empty());
  CHECK_FALSE(placement.tuning.locked);
  CHECK(placement.pci_hole64 == 128 * kGiB);
  CHECK(placement.ovmf_window == 128 * 1024);
  CHECK(placement.not_done ==
        std::vector<std::string>{"no pinning, NUMA cells, huge pages or locked memory: software emulation"});

  spec.tuning = Tuning::strict;
  CHECK(error_of([&] { static_cast<void>(place(facts, chosen({"0000:41:00.0"}), spec, tcg)); }).code() ==
        Errc::host_unfit);
}

TEST_CASE("an emulated CPU reaches 40 bits, and what is above keeps the default window") {
  const GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1, 512 * kGiB)});
  const Placement placement = place(facts, chosen({"0000:41:00.0"}), vm(4, 8 * kGiB), {false, 9'000'000});
  CHECK(placement.pci_hole64 == 0);
  CHECK(holds(placement.not_done, "no window of 1 TiB for the GPUs' memory: an emulated CPU has 40 address bits"));
}

TEST_CASE("memory and window that the host cannot address are refused") {
  GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1, 128 * kGiB)});
  VmSpec spec = vm(4, 64 * kGiB);
  spec.tuning = Tuning::none;
  const auto placed = [&] { static_cast<void>(place(facts, chosen({"0000:41:00.0"}), spec, kvm())); };
  facts.settings.physical_bits = 39;
  CHECK_NOTHROW(placed());
  facts.settings.physical_bits = 38;
  const Error error = error_of(placed);
  CHECK(error.code() == Errc::host_unfit);
  CHECK(std::string(error.what()) ==
        "the GPUs' memory needs a window of 256 GiB above the VM's 64 GiB, which takes 39 address bits, and the host's "
        "CPUs have 38");
  CHECK(error.hint() == "give the VM fewer GPUs or less memory");

  facts.settings.physical_bits.reset();
  facts.settings.iommu_bits = 38;
  CHECK(std::string(error_of(placed).what()).ends_with("and the host's IOMMU has 38"));
  facts.settings.iommu_bits.reset();
  CHECK_NOTHROW(placed());
}

TEST_CASE("OVMF is told its window only where libvirt cannot pass the physical bits") {
  const GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1, 128 * kGiB)});
  VmSpec spec = vm(4, 8 * kGiB);
  const auto window = [&](unsigned version) {
    return place(facts, chosen({"0000:41:00.0"}), spec, kvm(version)).ovmf_window;
  };
  CHECK(window(8'007'000) == 0);
  CHECK(window(8'006'000) == 256 * 1024);
  spec.firmware = Firmware::bios;
  CHECK(window(8'006'000) == 0);
}

TEST_CASE("libvirt before 8.2 cannot zero memory by several threads") {
  const GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1)});
  const Placement placement = place(facts, chosen({"0000:41:00.0"}), vm(4, 8 * kGiB), kvm(8'001'000));
  CHECK(placement.tuning.prealloc_threads == 0);
  CHECK(holds(placement.not_done, "memory is zeroed by one thread: libvirt 8.2 can use more"));
}

TEST_CASE("NVIDIA GPUs on one switch get one clique, when it is asked for") {
  std::vector<PciFunction> gpus{gpu_at("0000:1b:00.0", 0), gpu_at("0000:1c:00.0", 0), gpu_at("0000:2b:00.0", 0),
                                gpu_at("0000:2c:00.0", 0), gpu_at("0000:3b:00.0", 0)};
  gpus[0].path = {"0000:19:00.0", "0000:1a:00.0", "0000:1a:01.0"};
  gpus[1].path = {"0000:19:00.0", "0000:1a:00.0", "0000:1a:02.0"};
  gpus[2].path = {"0000:29:00.0", "0000:2a:00.0", "0000:2a:01.0"};
  gpus[3].path = {"0000:29:00.0", "0000:2a:00.0", "0000:2a:02.0"};
  GpuFacts facts = two_nodes(gpus);
  const GpuChoice choice = chosen({"0000:1b:00.0", "0000:2b:00.0", "0000:1c:00.0", "0000:2c:00.0", "0000:3b:00.0"});
  PlaceFor host = kvm();
  VmSpec spec = vm(4, 8 * kGiB);
  CHECK_FALSE(place(facts, choice, spec, host).gpus[0].clique);

  spec.gpudirect = true;
  const Placement placement = place(facts, choice, spec, host);
  CHECK(placement.gpus[0].clique == 0u);
  CHECK(placement.gpus[1].clique == 1u);
  CHECK(placement.gpus[2].clique == 0u);
  CHECK(placement.gpus[3].clique == 1u);
  CHECK_FALSE(placement.gpus[4].clique);
  CHECK(holds(placement.done, "GPUDirect clique 1: 0000:2b:00.0, 0000:2c:00.0"));

  // Another vendor's would keep QEMU from starting.
  for (PciFunction& function : facts.devices.functions) function.vendor = 0x1002;
  const Placement others = place(facts, choice, spec, host);
  CHECK_FALSE(others.gpus[0].clique);
  CHECK(holds(others.not_done, "no GPUDirect clique: no two NVIDIA GPUs of the VM are on one switch"));

  host.libvirt_version = 8'001'000;
  CHECK(holds(place(facts, choice, spec, host).not_done, "no GPUDirect clique: it needs libvirt 8.2"));
}

TEST_CASE("the start takes what memory and BARs take") {
  GpuFacts facts = two_nodes({gpu_at("0000:41:00.0", 1, 128 * kGiB)});
  Placement placement;
  CHECK(start_estimate(placement, facts, vm(4, 64 * kGiB)) == 0);
  placement.gpus.push_back({{{"0000:41:00.0", true, 0}}, {}, {}, {}, false});
  CHECK(start_estimate(placement, facts, vm(4, 64 * kGiB)) == 20);  // 16 s of memory, 3.2 s of BAR
  placement.tuning.prealloc_threads = 16;
  CHECK(start_estimate(placement, facts, vm(4, 64 * kGiB)) == 6);
  facts.settings.kernel = "6.12.1";
  CHECK(start_estimate(placement, facts, vm(4, 64 * kGiB)) == 2);
  facts.settings.kernel = "7.0";
  CHECK(start_estimate(placement, facts, vm(4, 64 * kGiB)) == 2);
  facts.settings.kernel = "5.15.0-91-generic";
  CHECK(start_estimate(placement, facts, vm(4, 64 * kGiB)) == 227);
}

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>

#include "model/size.hpp"
#include "support/catch.hpp"
#include "support/choice_world.hpp"

using namespace vmgraft;

namespace {

using World = ChoiceWorld;
using Addresses = std::vector<std::string>;

std::string text_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& each : lines) text += each + "\n";
  return text;
}

bool has_line(const std::vector<std::string>& lines, const std::string& line) {
  const bool is_there = std::find(lines.begin(), lines.end(), line) != lines.end();
  if (!is_there) UNSCOPED_INFO("no line \"" << line << "\" in:\n" << text_of(lines));
  return is_there;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("link_distance counts from one board to across nodes") {
  World world = four_switches();
  PciFunction& first = world.function("0000:41:00.0");
  CHECK(link_distance(first, first) == 0);
  CHECK(link_distance(first, world.function("0000:42:00.0")) == 1);
  CHECK(link_distance(first, world.function("0000:51:00.0")) == 3);
  CHECK(link_distance(first, world.function("0000:81:00.0")) == 5);
  PciFunction deeper = first;
  deeper.address = "0000:4a:00.0";
  deeper.path = {first.path[0], first.path[1], "0000:4f:05.0", "0000:49:00.0", "0000:49:01.0"};
  CHECK(link_distance(first, deeper) == 2);
  PciFunction board = first;
  board.address = "0000:41:01.0";
  CHECK(link_distance(first, board) == 0);
  const World sockets = two_sockets();
  CHECK(link_distance(*sockets.facts.devices.find("0000:17:00.0"), *sockets.facts.devices.find("0000:31:00.0")) == 4);
  PciFunction integrated;
  integrated.address = "0000:00:02.0";
  CHECK(link_distance(integrated, first) == 3);  // on the bus that the other one's root port stands on
}

TEST_CASE("nothing asked for, nothing chosen") {
  World world = four_switches();
  world.want(0);
  CHECK(world.choose().gpus.empty());
  CHECK(world.choose().explanation.empty());
}

TEST_CASE("one GPU: ties go to the lower address") {
  const World world = four_switches();
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:41:00.0"});
  REQUIRE(choice.explanation.size() == 8);
  CHECK(has_line(choice.explanation, "0000:41:00.0: taken: on node 0 with 16 CPUs free, on nvidia"));
  CHECK(has_line(choice.explanation, "0000:81:00.0: not taken: free, and as good: the lower address is taken"));
}

TEST_CASE("one GPU: one on vfio-pci already is better") {
  World world = two_sockets();
  world.function("0000:b1:00.0").driver = "vfio-pci";
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:b1:00.0"});
  CHECK(has_line(choice.explanation, "0000:b1:00.0: taken: on node 1 with 16 CPUs free, on vfio-pci already"));
  CHECK(has_line(choice.explanation, "0000:17:00.0: not taken: free, but not on vfio-pci yet"));
}

TEST_CASE("one GPU: a switch that is broken up already is taken before a full one") {
  World world = four_switches();
  world.hold("0000:82:00.0", "a");
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:81:00.0"});
  CHECK(has_line(choice.explanation, "0000:82:00.0: not taken: held by VM 'a'"));
  CHECK(has_line(choice.explanation,
                 "0000:41:00.0: not taken: free, but it would break up a switch with more free ones"));
}

TEST_CASE("one GPU: less damage counts more than being on vfio-pci") {
  World world = four_switches();
  world.hold("0000:82:00.0", "a");
  world.function("0000:41:00.0").driver = "vfio-pci";
  CHECK(addresses(world.choose()) == Addresses{"0000:81:00.0"});
}

TEST_CASE("one GPU: of switches alike, the node that is fuller of free ones is spared") {
  World world = two_sockets();
  world.hold("0000:ca:00.0", "a");
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:b1:00.0"});
  CHECK(
      has_line(choice.explanation, "0000:17:00.0: not taken: free, but it would break up a node with more free ones"));
}

TEST_CASE("one GPU: a node with the VM's CPUs is better") {
  World world = two_sockets();
  world.spec.cpus = 12;
  world.facts.domains = {{"a", "u-a", "", true, {}, {0, 1, 2, 3, 4, 5}}};
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:b1:00.0"});
  CHECK(has_line(choice.explanation,
                 "0000:17:00.0: not taken: free, but its node lacks the CPUs or the free memory of the VM"));
  world.facts.domains.front().is_running = false;
  CHECK(addresses(world.choose()) == Addresses{"0000:17:00.0"});
  world.facts.domains.front().is_running = true;
  world.wanted.vm_uuid = "u-a";  // its own CPUs are free for it
  CHECK(addresses(world.choose()) == Addresses{"0000:17:00.0"});
}

TEST_CASE("one GPU: a node with the VM's memory is better, and huge pages are memory") {
  World world = two_sockets();
  world.facts.settings.nodes[0].free_memory = 10 * kGiB;
  CHECK(addresses(world.choose()) == Addresses{"0000:b1:00.0"});
  world.facts.settings.nodes[0].huge_pages = {{kGiB, 64, 64}};
  CHECK(addresses(world.choose()) == Addresses{"0000:17:00.0"});
}

TEST_CASE("two GPUs: of one switch") {
  World world = four_switches();
  world.want(2);
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:41:00.0", "0000:42:00.0"});
  CHECK(has_line(choice.explanation, "0000:41:00.0 + 0000:42:00.0: one PCIe switch, node 0 (best of 28 sets)"));
  CHECK(has_line(choice.explanation, "0000:51:00.0 + 0000:52:00.0: one PCIe switch, node 0 (number 2)"));
  CHECK(has_line(choice.explanation,
                 "0000:51:00.0: not taken: free, and its sets are as good: lower addresses are taken"));
}

TEST_CASE("two GPUs: a switch with one taken is passed over") {
  World world = four_switches();
  world.want(2).hold("0000:41:00.0", "a");
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:51:00.0", "0000:52:00.0"});
  CHECK(has_line(choice.explanation, "0000:42:00.0: not taken: free, but its sets are farther apart"));
}

TEST_CASE("two GPUs: without a whole switch, those of one node") {
  World world = four_switches();
  world.want(2);
  for (const std::string each : {"0000:41:00.0", "0000:51:00.0", "0000:81:00.0"}) world.hold(each, "a");
  world.hold("0000:91:00.0", "b");
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:42:00.0", "0000:52:00.0"});
  CHECK(has_line(choice.explanation, "0000:42:00.0 + 0000:52:00.0: one host bridge, node 0 (best of 6 sets)"));
}

TEST_CASE("two GPUs: preferred takes them from two nodes when it must") {
  World world = two_sockets();
  world.want(2);
  world.hold("0000:31:00.0", "a");
  world.hold("0000:ca:00.0", "b");
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:17:00.0", "0000:b1:00.0"});
  CHECK(has_line(choice.explanation, "0000:17:00.0 + 0000:b1:00.0: across NUMA nodes, nodes 0 and 1 (the only set)"));
}

TEST_CASE("two GPUs: required refuses two nodes") {
  World world = two_sockets();
  world.want(2, NumaPolicy::required);
  world.function("0000:31:00.0").answers = false;
  world.function("0000:ca:00.0").answers = false;
  const Error error = world.refusal();
  CHECK(error.code() == Errc::host_unfit);
  CHECK(
      std::string(error.what()) ==
      "2 GPUs wanted: 4 are there, 2 free, 2 not usable, but no set of them fits: numa=required wants all on one NUMA "
      "node that is known and holds the VM");
  CHECK(has_line(error.context(), "0000:17:00.0: free"));
  CHECK(has_line(error.context(), "0000:31:00.0: not taken: does not answer: its configuration reads 0xffff"));
}

TEST_CASE("two GPUs: required that others' GPUs would meet is a conflict") {
  World world = two_sockets();
  world.want(2, NumaPolicy::required);
  world.hold("0000:31:00.0", "a");
  world.function("0000:ca:00.0").answers = false;
  const Error error = world.refusal();
  CHECK(error.code() == Errc::conflict);
  CHECK(has(error.what(), "4 are there, 2 free, 1 held by others, 1 not usable"));
  CHECK(has(error.hint(), "vmgraft gpu list"));
}

TEST_CASE("required is never met by a node that the host does not tell") {
  World world;
  world.add("0000:01:00.0", -1, {"0000:00:01.0"});
  CHECK(addresses(world.choose()) == Addresses{"0000:01:00.0"});
  CHECK(has_line(world.choose().explanation, "0000:01:00.0: taken: on a node that the host does not tell, on nvidia"));
  world.want(1, NumaPolicy::required);
  CHECK(world.refusal().code() == Errc::host_unfit);
}

TEST_CASE("required wants the VM on that node as well") {
  World world = two_sockets();
  world.want(1, NumaPolicy::required);
  world.facts.settings.nodes[0].cpus.resize(4);
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:b1:00.0"});
  CHECK(has_line(choice.explanation, "0000:17:00.0: not taken: free, but in no set that fits"));
  world.spec.cpus = 17;
  CHECK(has(world.refusal().what(), "holds the VM"));
}

TEST_CASE("four GPUs: preferred holds a node together though switches would be nearer elsewhere") {
  World world = four_switches();
  world.want(4);
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:41:00.0", "0000:42:00.0", "0000:51:00.0", "0000:52:00.0"});
  CHECK(
      has_line(choice.explanation,
               "0000:41:00.0 + 0000:42:00.0 + 0000:51:00.0 + 0000:52:00.0: one host bridge, node 0 (best of 70 sets)"));
  world.hold("0000:41:00.0", "a");
  CHECK(addresses(world.choose()) == Addresses{"0000:81:00.0", "0000:82:00.0", "0000:91:00.0", "0000:92:00.0"});
}

TEST_CASE("with any, nodes do not count, and links do") {
  World world = two_sockets();
  // One bridge across both nodes, as firmware that tells nodes wrongly has it.
  world.function("0000:31:00.0").path = {"0000:aa:01.0"};
  world.function("0000:b1:00.0").path = {"0000:aa:02.0"};
  world.want(2);
  CHECK(addresses(world.choose()) == Addresses{"0000:17:00.0", "0000:31:00.0"});
  world.want(2, NumaPolicy::any);
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:31:00.0", "0000:b1:00.0"});
  CHECK(has_line(choice.explanation, "0000:31:00.0 + 0000:b1:00.0: one host bridge, nodes 0 and 1 (best of 6 sets)"));
}

TEST_CASE("eight of sixteen GPUs are chosen exhaustively, and quickly") {
  World world;
  for (int number = 0; number < 16; ++number) {
    const std::string digit(1, "0123456789abcdef"[number]);
    world.add("0000:" + digit + "1:00.0", number % 2, {"0000:" + digit + "0:01.0"});
  }
  world.want(8);
  const auto begin = std::chrono::steady_clock::now();
  const GpuChoice choice = world.choose();
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
  CHECK(addresses(choice) == Addresses{"0000:01:00.0", "0000:21:00.0", "0000:41:00.0", "0000:61:00.0", "0000:81:00.0",
                                       "0000:a1:00.0", "0000:c1:00.0", "0000:e1:00.0"});
  CHECK(has(text_of(choice.explanation), "one NUMA node, node 0 (best of 12870 sets)"));
}

TEST_CASE("too many sets to look at each: those of a node, and around each GPU") {
  World world;
  for (unsigned number = 0; number < 48; ++number) {
    const std::string bus(1, "0123456789ab"[number / 4]);
    world.add("0000:" + bus + std::to_string(number % 4 + 1) + ":00.0", number < 24 ? 0 : 1,
              {"0000:" + bus + "0:01.0", "0000:" + bus + "8:00.0",
               "0000:" + bus + "9:0" + std::to_string(number % 4) + ".0"});
  }
  world.want(4);
  world.hold("0000:01:00.0", "a");
  GpuChoice choice = world.choose();  // 178365 sets: all
  CHECK(addresses(choice) == Addresses{"0000:11:00.0", "0000:12:00.0", "0000:13:00.0", "0000:14:00.0"});
  CHECK(has(text_of(choice.explanation), "one PCIe switch, node 0 (best of 178365 sets)"));
  world.want(8);  // hundreds of millions
  choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:11:00.0", "0000:12:00.0", "0000:13:00.0", "0000:14:00.0", "0000:21:00.0",
                                       "0000:22:00.0", "0000:23:00.0", "0000:24:00.0"});
  CHECK(addresses(world.choose()) == addresses(choice));
}

TEST_CASE("a model is part of the name, whatever its case, or an id") {
  World world = two_sockets();
  world.facts.names["0000:ca:00.0"] = "NVIDIA Corporation AD102GL [L40S]";
  world.function("0000:ca:00.0").device = 0x26b9;
  world.first().model = "l40s";
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:ca:00.0"});
  CHECK(has_line(choice.explanation, "0000:17:00.0: not taken: not what was asked for"));
  world.first().model = "10DE:26B9";
  CHECK(addresses(world.choose()) == Addresses{"0000:ca:00.0"});
  world.first().model = "10de:2330";
  CHECK(addresses(world.choose()) == Addresses{"0000:17:00.0"});
}

TEST_CASE("a model that is not there is not found, and the message says what is") {
  World world = two_sockets();
  world.first().model = "H200";
  const Error error = world.refusal();
  CHECK(error.code() == Errc::not_found);
  CHECK(std::string(error.what()) == "no GPU of model 'H200' on this host");
  CHECK(error.hint() == "there are: NVIDIA Corporation GH100 [H100 SXM5 80GB]");
}

TEST_CASE("an address is that GPU, however its letters are written") {
  World world = two_sockets();
  world.first().address = "0000:CA:00.0";
  CHECK(addresses(world.choose()) == Addresses{"0000:ca:00.0"});
  world.first().address = "0000:cb:00.0";
  const Error error = world.refusal();
  CHECK(error.code() == Errc::not_found);
  CHECK(std::string(error.what()) == "no GPU 0000:cb:00.0 on this host");
}

TEST_CASE("an address whose GPU is unfit or held is refused with its row") {
  World world = two_sockets();
  world.first().address = "0000:17:00.0";
  world.function("0000:17:00.0").boot_vga = true;
  const Error unfit = world.refusal();
  CHECK(unfit.code() == Errc::host_unfit);
  CHECK(has(unfit.what(), "GPU 0000:17:00.0: this host booted on it"));
  CHECK(has(unfit.what(), "[boot-vga]"));
  world.wanted.force_console = true;
  CHECK(addresses(world.choose()) == Addresses{"0000:17:00.0"});
  world.hold("0000:17:00.0", "a");
  const Error held = world.refusal();
  CHECK(held.code() == Errc::conflict);
  CHECK(std::string(held.what()) == "GPU 0000:17:00.0: held by VM 'a' [group-held]");
}

TEST_CASE("too few GPUs: host_unfit when there never were enough, conflict when others hold them") {
  World world = two_sockets();
  world.want(5);
  CHECK(world.refusal().code() == Errc::host_unfit);
  CHECK(std::string(world.refusal().what()) == "5 GPUs wanted: 4 are there, 4 free");
  world.want(4).hold("0000:17:00.0", "a");
  const Error held = world.refusal();
  CHECK(held.code() == Errc::conflict);
  CHECK(std::string(held.what()) == "4 GPUs wanted: 4 are there, 3 free, 1 held by others");
  CHECK(has_line(held.context(), "0000:17:00.0: not taken: held by VM 'a'"));
  CHECK(World().refusal().code() == Errc::host_unfit);
  CHECK(std::string(World().refusal().what()) == "1 GPU wanted: there is none");
}

TEST_CASE("a GPU that is unfit and held is not counted as held") {
  World world = two_sockets();
  world.want(4).hold("0000:17:00.0", "a");
  world.function("0000:17:00.0").answers = false;
  CHECK(world.refusal().code() == Errc::host_unfit);
  CHECK(has(world.refusal().what(), "3 free, 1 not usable"));
}

TEST_CASE("quarantined GPUs are left out, and those that are leased but not in a VM") {
  World world = two_sockets();
  world.gpu("0000:17:00.0").state = GpuState::quarantined;
  world.gpu("0000:17:00.0").note = "no answer after flr";
  world.gpu("0000:31:00.0").state = GpuState::dirty;
  world.gpu("0000:31:00.0").vm = "a";
  world.gpu("0000:31:00.0").vm_uuid = "u-a";
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) != Addresses{"0000:31:00.0"});
  CHECK(has_line(choice.explanation, "0000:31:00.0: not taken: leased to VM 'a', which does not have it (yet, or any more)"));
  CHECK(has_line(choice.explanation,
                 "0000:17:00.0: not taken: kept from VMs since its last release failed: no answer after flr"));
}

TEST_CASE("GPUs in use on the host are left out, with who uses them") {
  World world = two_sockets();
  world.facts.use.users = {{"0000:17:00.0", 811, "python3", 1000, "/dev/nvidia0"}};
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:31:00.0"});
  CHECK(has_line(choice.explanation, "0000:17:00.0: not taken: pid 811 (python3, uid 1000) has /dev/nvidia0 open"));
}

TEST_CASE("the VM that asks: its lease is no hindrance, what runs in it is not given again") {
  World world = two_sockets();
  world.hold("0000:17:00.0", "a");
  world.wanted.vm_uuid = "u-a";
  const GpuChoice attached = world.choose();
  CHECK(addresses(attached) == Addresses{"0000:31:00.0"});
  CHECK(has_line(attached.explanation, "0000:17:00.0: not taken: this VM has it already"));
  world.facts.domains.clear();
  CHECK(addresses(world.choose()) == Addresses{"0000:17:00.0"});
}

TEST_CASE("two GPUs of one IOMMU group go together or not at all") {
  World world;
  for (const std::string address : {"0000:41:00.0", "0000:41:01.0"}) {
    world.add(address, 0, {"0000:40:01.0"});
    world.function(address).iommu_group = 3;
  }
  world.facts.devices.groups[3] = {3, {"0000:41:00.0", "0000:41:01.0"}, "DMA-FQ", {}};
  world.gpu("0000:41:00.0").strangers = {"0000:41:01.0"};
  world.gpu("0000:41:01.0").strangers = {"0000:41:00.0"};
  const Error alone = world.refusal();
  CHECK(alone.code() == Errc::host_unfit);
  CHECK(has(alone.what(), "shares IOMMU group 3"));
  CHECK(has(alone.what(), "[group-not-viable]"));
  world.want(2);
  const GpuChoice both = world.choose();
  CHECK(addresses(both) == Addresses{"0000:41:00.0", "0000:41:01.0"});
  CHECK(has_line(both.explanation, "0000:41:00.0 + 0000:41:01.0: one board, node 0 (the only set)"));
  world.want(1);
  world.function("0000:41:01.0").driver = "vfio-pci";
  CHECK(addresses(world.choose()) == Addresses{"0000:41:00.0"});
}

TEST_CASE("two GPUs whose BARs do not fit together are refused, one is not") {
  World world = two_sockets();
  world.facts.settings.physical_bits = 38;
  world.spec.memory = 16 * kGiB;
  CHECK(addresses(world.choose()) == Addresses{"0000:17:00.0"});
  world.want(3);
  const Error error = world.refusal();
  CHECK(error.code() == Errc::host_unfit);
  CHECK(has(error.what(), "no set of them fits: 16 GiB of memory and 256 GiB for the GPUs' BARs need 39 address bits"));
  CHECK(error.hint() == "give the VM less memory or fewer GPUs");
}

TEST_CASE("strict tuning passes over a node without the huge pages") {
  World world = two_sockets();
  world.spec.tuning = Tuning::strict;
  world.facts.settings.nodes[0].huge_pages = {{kGiB, 8, 8}};
  world.facts.settings.nodes[1].huge_pages = {{kGiB, 64, 64}};
  CHECK(addresses(world.choose()) == Addresses{"0000:b1:00.0"});
  world.spec.tuning = Tuning::automatic;
  CHECK(addresses(world.choose()) == Addresses{"0000:17:00.0"});
}

TEST_CASE("on NVSwitches several GPUs come from one partition of that size only") {
  World world = nvswitch_board();
  world.want(2);
  const GpuChoice pair = world.choose();
  CHECK(addresses(pair) == Addresses{"0000:41:00.0", "0000:51:00.0"});
  CHECK(has_line(pair.explanation, "0000:41:00.0 + 0000:51:00.0: one host bridge, node 0 (best of 4 sets)"));
  world.want(4);
  CHECK(addresses(world.choose()) == Addresses{"0000:41:00.0", "0000:42:00.0", "0000:51:00.0", "0000:52:00.0"});
  world.want(8);
  CHECK(addresses(world.choose()).size() == 8);
  world.want(3);
  const Error error = world.refusal();
  CHECK(error.code() == Errc::host_unfit);
  CHECK(has(error.what(), "8 are there, 8 free, but no set of them fits"));
  CHECK(has(error.what(), "[fabric-partition]"));
}

TEST_CASE("on NVSwitches a partition that is broken up already is broken up further") {
  World world = nvswitch_board();
  world.hold("0000:81:00.0", "a");
  const GpuChoice one = world.choose();
  // 91 is what is left of pair c; 82 and 92 would break up pair d, 41 and its like a pair and a quad.
  CHECK(addresses(one) == Addresses{"0000:91:00.0"});
  CHECK(
      has_line(one.explanation, "0000:82:00.0: not taken: free, but it would break up a larger free fabric partition"));
  world.want(2);
  CHECK(addresses(world.choose()) == Addresses{"0000:82:00.0", "0000:92:00.0"});
}

TEST_CASE("on NVSwitches free GPUs may be no partition: that others hold it is a conflict") {
  World world = nvswitch_board();
  world.want(4);
  world.hold("0000:41:00.0", "a");
  world.hold("0000:92:00.0", "b");
  const Error error = world.refusal();
  CHECK(error.code() == Errc::conflict);
  CHECK(has(error.what(), "8 are there, 6 free, 2 held by others, but no set of them fits"));
}

TEST_CASE("on NVSwitches without partitions GPUs are given one at a time") {
  World world = nvswitch_board();
  world.facts.devices.config.partitions.clear();
  CHECK(addresses(world.choose()) == Addresses{"0000:41:00.0"});
  world.want(2);
  const Error error = world.refusal();
  CHECK(error.code() == Errc::host_unfit);
  CHECK(has(error.hint(), "/etc/vmgraft/gpus.json"));
}

TEST_CASE("a partition is found though the sets are too many to look at each") {
  World world;
  Addresses partition;
  for (unsigned number = 0; number < 32; ++number) {
    const std::string bus = {"0123456789abcdef"[number / 2], "12"[number % 2]};
    world.add("0000:" + bus + ":00.0", number < 16 ? 0 : 1,
              {"0000:" + bus.substr(0, 1) + "0:0" + bus.substr(1) + ".0"});
    if (number % 4 == 3) partition.push_back("0000:" + bus + ":00.0");
  }
  world.facts.devices.config.partitions = {{"all", world.facts.devices.gpus}, {"odd", partition}};
  world.want(8);
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == partition);
  CHECK(has(text_of(choice.explanation), "(the only set)"));
}

TEST_CASE("several entries are met together, by different GPUs, in the order of the request") {
  World world = two_sockets();
  world.facts.names["0000:17:00.0"] = world.facts.names["0000:ca:00.0"] = "NVIDIA Corporation AD102GL [L40S]";
  world.spec.gpus = {GpuSpec{1, "H100", {}, NumaPolicy::preferred, GpuKind::gpu},
                     GpuSpec{1, "L40S", {}, NumaPolicy::preferred, GpuKind::gpu}};
  CHECK(addresses(world.choose()) == Addresses{"0000:31:00.0", "0000:17:00.0"});
  world.hold("0000:17:00.0", "a");
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:b1:00.0", "0000:ca:00.0"});
  CHECK(has_line(choice.explanation, "0000:b1:00.0 + 0000:ca:00.0: one NUMA node, node 1 (best of 2 sets)"));
}

TEST_CASE("several entries: a wide one leaves a narrow one what it needs") {
  World world = two_sockets();
  world.spec.gpus = {GpuSpec{}, GpuSpec{}};
  world.spec.gpus[1].address = "0000:17:00.0";
  CHECK(addresses(world.choose()) == Addresses{"0000:31:00.0", "0000:17:00.0"});
  world.spec.gpus[0].address = "0000:17:00.0";  // one GPU, twice
  CHECK(world.refusal().code() == Errc::host_unfit);
}

TEST_CASE("several entries: the same pair the other way round is one set") {
  World world = two_sockets();
  world.spec.gpus = {GpuSpec{}, GpuSpec{}};
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:17:00.0", "0000:31:00.0"});
  CHECK(has_line(choice.explanation, "0000:17:00.0 + 0000:31:00.0: one NUMA node, node 0 (best of 6 sets)"));
  CHECK(choice.explanation.size() == 8);
  CHECK(has(choice.explanation[5], "0000:b1:00.0 + 0000:ca:00.0"));
}

namespace {

// One GPU split into two VFs, one idle that can be split into four, one that cannot.
World split_gpus() {
  World world;
  PciFunction& split = world.add("0000:41:00.0", 0, {"0000:40:01.0"});
  split.most_vfs = split.vfs = 2;
  split.virtual_functions = {"0000:41:02.0", "0000:41:02.1"};
  for (const std::string address : {"0000:41:02.0", "0000:41:02.1"})
    world.add(address, 0, {"0000:40:01.0"}).physical_function = "0000:41:00.0";
  world.add("0000:51:00.0", 0, {"0000:50:01.0"}).most_vfs = 4;
  world.add("0000:81:00.0", 1, {"0000:80:01.0"});
  world.first().kind = GpuKind::vf;
  return world;
}

}  // namespace

TEST_CASE("VFs: one that is made comes before one that is to be made") {
  World world = split_gpus();
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:41:02.0"});
  CHECK(choice.gpus.front().kind == GpuKind::vf);
  CHECK_FALSE(choice.gpus.front().make_vf);
  CHECK(has_line(choice.explanation, "0000:51:00.0: not taken: free, but an idle GPU would have to be split into VFs"));
}

TEST_CASE("VFs: an idle GPU is split when none is free, as often as it can") {
  World world = split_gpus();
  world.hold("0000:41:02.0", "a");
  world.want(2);
  GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:51:00.0", "0000:51:00.0"});
  CHECK(choice.gpus.front().make_vf);
  CHECK(has_line(choice.explanation, "0000:51:00.0: taken: on node 0 with 16 CPUs free, 2 VF to be made on it"));
  world.want(5);
  choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:41:02.1", "0000:51:00.0", "0000:51:00.0", "0000:51:00.0", "0000:51:00.0"});
  world.want(6);
  CHECK(world.refusal().code() == Errc::conflict);
  world.want(7);
  const Error error = world.refusal();
  CHECK(error.code() == Errc::host_unfit);
  CHECK(std::string(error.what()) == "7 VFs wanted: 6 are there, 5 free, 1 held by others");
}

TEST_CASE("VFs: a GPU that is on vfio-pci, busy or held whole is not split") {
  World world = split_gpus();
  world.first().address = "0000:51:00.0";
  CHECK(world.choose().gpus.front().make_vf);
  world.facts.use.users = {{"0000:51:00.0", 7, "python3", 0, "/dev/dri/card1"}};
  CHECK(has(world.refusal().what(), "[device-busy]"));
  world.facts.use.users.clear();
  world.function("0000:51:00.0").driver = "vfio-pci";
  CHECK(has_line(world.refusal().context(),
                 "0000:51:00.0: not taken: on vfio-pci: only its host driver makes VFs of it"));
  world.hold("0000:51:00.0", "a");
  CHECK(world.refusal().code() != Errc::not_found);
}

TEST_CASE("VFs and their GPU exclude each other") {
  World world = split_gpus();
  world.first().kind = GpuKind::gpu;
  const GpuChoice choice = world.choose();
  CHECK(addresses(choice) == Addresses{"0000:51:00.0"});
  CHECK(has_line(choice.explanation, "0000:41:00.0: not taken: 2 VFs are made of it: it is given away in parts"));
  // The only whole GPU is that which would have to be split.
  world.hold("0000:81:00.0", "a");
  world.hold("0000:41:02.0", "b");
  world.hold("0000:41:02.1", "c");
  world.spec.gpus = {GpuSpec{}, GpuSpec{}};
  world.spec.gpus[1].kind = GpuKind::vf;
  CHECK(world.refusal().code() == Errc::conflict);
}

TEST_CASE("the kind must be what the address is") {
  World world = split_gpus();
  world.first() = GpuSpec{};
  world.first().address = "0000:41:02.0";
  CHECK(std::string(world.refusal().what()) == "0000:41:02.0 is a VF, not a whole GPU");
  CHECK(world.refusal().hint() == "ask for it with kind=vf");
  world.first().kind = GpuKind::vf;
  CHECK(addresses(world.choose()) == Addresses{"0000:41:02.0"});
  world.first().address = "0000:81:00.0";
  CHECK(std::string(world.refusal().what()) == "GPU 0000:81:00.0 makes no VFs");
  world.first().address = "0000:41:00.0";
  CHECK(std::string(world.refusal().what()) == "GPU 0000:41:00.0 is split into VFs already");
}

namespace {

World mediated() {
  World world;
  world.add("0000:41:00.0", 0, {"0000:40:01.0"}).mdev_types = {{"nvidia-11", "GRID A100-10C", 1},
                                                               {"nvidia-110", "GRID A100-20C", 2}};
  world.add("0000:81:00.0", 1, {"0000:80:01.0"}).mdev_types = {{"nvidia-11", "GRID A100-10C", 4}};
  world.first().kind = GpuKind::mdev;
  return world;
}

}  // namespace

TEST_CASE("mediated devices: the type is named by its id or part of its name") {
  World world = mediated();
  world.first().model = "nvidia-110";
  GpuChoice choice = world.choose();
  REQUIRE(choice.gpus.size() == 1);
  CHECK(choice.gpus.front().address == "0000:41:00.0");
  CHECK(choice.gpus.front().mdev_type == "nvidia-110");
  CHECK(has_line(choice.explanation,
                 "0000:41:00.0 nvidia-110: taken: on node 0 with 16 CPUs free, 1 nvidia-110 to be made on it"));
  CHECK(has_line(choice.explanation, "0000:41:00.0 nvidia-11: not taken: not what was asked for"));
  world.first().model = "a100-10c";
  choice = world.choose();
  CHECK(choice.gpus.front().mdev_type == "nvidia-11");
  CHECK(choice.gpus.front().address == "0000:41:00.0");  // one left there, four on the other
  world.first().model = "nvidia-1";
  CHECK(world.refusal().code() == Errc::not_found);
  CHECK(world.refusal().hint() == "there are: nvidia-11; nvidia-110");
}

TEST_CASE("mediated devices: no more than are available, one type a GPU, beside the use of the host") {
  World world = mediated();
  world.first().model = "nvidia-11";
  world.want(4);
  CHECK(addresses(world.choose()) == Addresses(4, "0000:81:00.0"));
  world.want(5);
  CHECK(addresses(world.choose()).front() == "0000:41:00.0");
  world.facts.use.users = {{"0000:81:00.0", 7, "nvidia-vgpu-mgr", 0, "/dev/nvidia0"}};
  world.want(4);
  CHECK(addresses(world.choose()).size() == 4);
  world.function("0000:41:00.0").mdev_types[0].available = 0;
  world.want(5);
  const Error error = world.refusal();
  CHECK(error.code() == Errc::conflict);
  CHECK(has_line(error.context(), "0000:41:00.0 nvidia-11: not taken: no more of nvidia-11 can be made on it"));
  world = mediated();
  world.hold("0000:81:00.0", "a");
  world.spec.gpus = {GpuSpec{1, "nvidia-11", {}, NumaPolicy::any, GpuKind::mdev},
                     GpuSpec{1, "nvidia-110", {}, NumaPolicy::any, GpuKind::mdev}};
  CHECK(world.refusal().code() == Errc::conflict);
}

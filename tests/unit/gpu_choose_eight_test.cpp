// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>

#include "model/size.hpp"
#include "support/catch.hpp"
#include "support/choice_world.hpp"

using namespace vmgraft;

namespace {

using World = ChoiceWorld;
using Texts = std::vector<std::string>;
using Change = std::function<void(World&)>;

/// A request on a host with eight GPUs, and what it gets. A GPU is named by its bus: of "0000:41:00.0" only "41" tells
/// it from the others.
struct Choice {
  std::string name;
  World (*host)();
  Change change;  ///< to the host, and what is asked for
  Texts taken;    ///< in the order of the request
  Texts said;     ///< lines of the explanation
};

/// One that cannot be met.
struct Refusal {
  std::string name;
  World (*host)();
  Change change;
  Errc code;
  std::string what, hint;
  Texts said;  ///< of the lines for each GPU
};

World sxm_8gpu() {
  return recorded_world("sxm-8gpu");
}

std::string at(const std::string& bus) {
  return "0000:" + bus + ":00.0";
}

std::string by_bus(std::string text) {
  for (std::size_t from = text.find("0000:"); from != std::string::npos; from = text.find("0000:", from + 2))
    if (text.compare(from + 7, 5, ":00.0") == 0)
      text = text.substr(0, from) + text.substr(from + 5, 2) + text.substr(from + 12);
  return text;
}

Texts by_bus(Texts texts) {
  for (std::string& each : texts) each = by_bus(each);
  return texts;
}

void hold(World& host, const Texts& buses) {
  for (const std::string& each : buses) host.hold(at(each), "a");
}

void quarantine(World& host, const std::string& bus) {
  host.gpu(at(bus)).state = GpuState::quarantined;
  host.gpu(at(bus)).note = "no answer after flr";
}

void split(World& host, const std::string& bus) {
  PciFunction& gpu = host.function(at(bus));
  gpu.most_vfs = gpu.vfs = 2;
  gpu.virtual_functions = {"0000:" + bus + ":02.0", "0000:" + bus + ":02.1"};
}

void mix_models(World& host, const Texts& others) {
  for (const std::string& each : others) {
    host.function(at(each)).device = 0x26b9;
    host.facts.names[at(each)] = "NVIDIA Corporation AD102GL [L40S]";
  }
}

GpuSpec spec_of(unsigned count, const std::string& model, NumaPolicy numa = NumaPolicy::preferred) {
  return {count, model, {}, numa, GpuKind::gpu};
}

GpuSpec spec_at(const std::string& bus) {
  return {1, {}, at(bus), NumaPolicy::preferred, GpuKind::gpu};
}

Change want(unsigned count, NumaPolicy numa = NumaPolicy::preferred) {
  return [=](World& host) { host.want(count, numa); };
}

Change want_beside(unsigned count, const Texts& held, NumaPolicy numa = NumaPolicy::preferred) {
  return [=](World& host) { hold(host.want(count, numa), held); };
}

const std::string kNotOneNode = "numa=required wants all on one NUMA node that is known and holds the VM";
const std::string kNoPartition =
    "several GPUs of a board with NVSwitches are given only as one of its fabric partitions [fabric-partition]";
const std::string kAskCheck = "vmgraft gpu check says what hinders each and what to do";
const std::string kAskLater =
    "wait until the holders let go, or ask for fewer or others: vmgraft gpu list shows who has which";
const std::string kNamePartitions =
    "name the partitions in /etc/vmgraft/gpus.json, or ask for as many GPUs as a free one has";

const std::vector<Choice>& choices() {
  static const std::vector<Choice> all = {
      // Each row would be broken into a dozen lines.
      // clang-format off
      {"one of eight that are alike: the lowest address", four_switches,
       want(1),
       {"41"},
       {"41: taken: on node 0 with 16 CPUs free, on nvidia",
        "42: not taken: free, and as good: the lower address is taken"}},
      {"one: from the switch that is broken up already", four_switches,
       want_beside(1, {"82"}),
       {"81"},
       {"41: not taken: free, but it would break up a switch with more free ones",
        "81: taken: on node 1 with 16 CPUs free, on nvidia",
        "82: not taken: held by VM 'a'"}},
      {"one: from the node that has fewer free ones", four_switches,
       want_beside(1, {"41", "42"}),
       {"51"},
       {"41: not taken: held by VM 'a'",
        "51: taken: on node 0 with 16 CPUs free, on nvidia",
        "52: not taken: free, and as good: the lower address is taken",
        "81: not taken: free, but it would break up a node with more free ones"}},
      {"one: from the node with the CPUs", four_switches,
       [](World& host) { host.facts.domains = {{"a", "u-a", "", true, {}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}}; },
       {"81"},
       {"41: not taken: free, but its node lacks the CPUs or the free memory of the VM",
        "81: taken: on node 1 with 16 CPUs free, on nvidia",
        "82: not taken: free, and as good: the lower address is taken"}},
      {"one: from the node with the memory", four_switches,
       [](World& host) { host.facts.settings.nodes[0].free_memory = 32 * kGiB; },
       {"81"},
       {"41: not taken: free, but its node lacks the CPUs or the free memory of the VM",
        "81: taken: on node 1 with 16 CPUs free, on nvidia",
        "82: not taken: free, and as good: the lower address is taken"}},
      {"one: what a process of the host has open is left out", four_switches,
       [](World& host) { host.facts.use.users = {{at("41"), 811, "python3", 1000, "/dev/nvidia0"}}; },
       {"42"},
       {"41: not taken: pid 811 (python3, uid 1000) has /dev/nvidia0 open",
        "42: taken: on node 0 with 16 CPUs free, on nvidia",
        "51: not taken: free, but it would break up a switch with more free ones"}},
      {"one: a lent one, which needs no driver to change", four_switches,
       [](World& host) { host.gpu(at("91")).state = GpuState::lent; host.function(at("91")).driver = "vfio-pci"; },
       {"91"},
       {"41: not taken: free, but not on vfio-pci yet",
        "91: taken: on node 1 with 16 CPUs free, on vfio-pci already"}},
      {"two: of one switch", four_switches,
       want(2),
       {"41", "42"},
       {"51: not taken: free, and its sets are as good: lower addresses are taken",
        "41 + 42: one PCIe switch, node 0 (best of 28 sets)",
        "51 + 52: one PCIe switch, node 0 (number 2)"}},
      {"two: a switch with one held is passed over, for the other one of that node", four_switches,
       want_beside(2, {"41"}),
       {"51", "52"},
       {"41: not taken: held by VM 'a'",
        "42: not taken: free, but its sets are farther apart",
        "81: not taken: free, but it would break up a node with more free ones",
        "51 + 52: one PCIe switch, node 0 (best of 21 sets)",
        "81 + 82: one PCIe switch, node 1 (number 2)"}},
      {"two: of one node where no switch is whole", four_switches,
       want_beside(2, {"41", "51", "81", "91"}),
       {"42", "52"},
       {"41: not taken: held by VM 'a'",
        "82: not taken: free, and its sets are as good: lower addresses are taken",
        "42 + 52: one host bridge, node 0 (best of 6 sets)",
        "82 + 92: one host bridge, node 1 (number 2)"}},
      {"two: of one switch, not the lowest addresses", four_switches,
       want_beside(2, {"41", "51", "52", "81", "82"}),
       {"91", "92"},
       {"41: not taken: held by VM 'a'",
        "42: not taken: free, but its sets span more NUMA nodes",
        "91 + 92: one PCIe switch, node 1 (best of 3 sets)",
        "42 + 91: across NUMA nodes, nodes 0 and 1 (number 2)"}},
      {"two: one switch is nearer than one node", four_switches,
       want_beside(2, {"41", "51", "81", "82"}),
       {"91", "92"},
       {"41: not taken: held by VM 'a'",
        "42: not taken: free, but its sets are farther apart",
        "91 + 92: one PCIe switch, node 1 (best of 6 sets)",
        "42 + 52: one host bridge, node 0 (number 2)"}},
      {"two: across nodes when nothing nearer is left", four_switches,
       want_beside(2, {"41", "51", "52", "81", "91", "92"}),
       {"42", "82"},
       {"41: not taken: held by VM 'a'",
        "42 + 82: across NUMA nodes, nodes 0 and 1 (the only set)"}},
      {"two: one switch counts more than the memory of its node", four_switches,
       [](World& host) {
         host.want(2);
         hold(host, {"81", "91"});
         host.facts.settings.nodes[0].free_memory = 32 * kGiB;
       },
       {"41", "42"},
       {"51: not taken: free, and its sets are as good: lower addresses are taken",
        "81: not taken: held by VM 'a'",
        "82: not taken: free, but its sets are farther apart",
        "41 + 42: one PCIe switch, node 0 (best of 15 sets)",
        "51 + 52: one PCIe switch, node 0 (number 2)"}},
      {"two: one switch counts more than being on vfio-pci", four_switches,
       [](World& host) {
         host.want(2);
         for (const char* bus : {"81", "92"}) host.function(at(bus)).driver = "vfio-pci";
       },
       {"81", "82"},
       {"41: not taken: free, but not on vfio-pci yet",
        "81: taken: on node 1 with 16 CPUs free, on vfio-pci already",
        "91: not taken: free, and its sets are as good: lower addresses are taken",
        "81 + 82: one PCIe switch, node 1 (best of 28 sets)",
        "91 + 92: one PCIe switch, node 1 (number 2)"}},
      {"two: quarantined ones are left out", four_switches,
       [](World& host) { host.want(2); quarantine(host, "41"); quarantine(host, "52"); },
       {"81", "82"},
       {"41: not taken: kept from VMs since its last release failed: no answer after flr",
        "42: not taken: free, but its sets are farther apart",
        "91: not taken: free, and its sets are as good: lower addresses are taken",
        "81 + 82: one PCIe switch, node 1 (best of 15 sets)",
        "91 + 92: one PCIe switch, node 1 (number 2)"}},
      {"two: what is leased and not given back is left out", four_switches,
       [](World& host) {
         host.want(2);
         Gpu& gpu = host.gpu(at("42"));
         gpu.state = GpuState::dirty;
         gpu.vm = "a";
         gpu.vm_uuid = "u-a";
       },
       {"51", "52"},
       {"41: not taken: free, but its sets are farther apart",
        "42: not taken: leased to VM 'a', which does not have it (yet, or any more)",
        "81: not taken: free, but it would break up a node with more free ones",
        "51 + 52: one PCIe switch, node 0 (best of 21 sets)",
        "81 + 82: one PCIe switch, node 1 (number 2)"}},
      {"two: what is split into VFs is left out", four_switches,
       [](World& host) { host.want(2); split(host, "41"); },
       {"51", "52"},
       {"41: not taken: 2 VFs are made of it: it is given away in parts",
        "42: not taken: free, but its sets are farther apart",
        "81: not taken: free, but it would break up a node with more free ones",
        "51 + 52: one PCIe switch, node 0 (best of 21 sets)",
        "81 + 82: one PCIe switch, node 1 (number 2)"}},
      {"two with numa=any: the nearest all the same", four_switches,
       want_beside(2, {"41", "51", "81", "91"}, NumaPolicy::any),
       {"42", "52"},
       {"41: not taken: held by VM 'a'",
        "82: not taken: free, and its sets are as good: lower addresses are taken",
        "42 + 52: one host bridge, node 0 (best of 6 sets)",
        "82 + 92: one host bridge, node 1 (number 2)"}},
      {"three: of one node, a switch and one more", four_switches,
       want(3),
       {"41", "42", "51"},
       {"52: not taken: free, and its sets are as good: lower addresses are taken",
        "41 + 42 + 51: one host bridge, node 0 (best of 56 sets)",
        "41 + 42 + 52: one host bridge, node 0 (number 2)"}},
      {"three: from the node whose switch is broken up already", four_switches,
       want_beside(3, {"41"}),
       {"42", "51", "52"},
       {"41: not taken: held by VM 'a'",
        "81: not taken: free, but it would break up a switch with more free ones",
        "42 + 51 + 52: one host bridge, node 0 (best of 35 sets)",
        "81 + 82 + 91: one host bridge, node 1 (number 2)"}},
      {"four: a node", four_switches,
       want(4),
       {"41", "42", "51", "52"},
       {"81: not taken: free, and its sets are as good: lower addresses are taken",
        "41 + 42 + 51 + 52: one host bridge, node 0 (best of 70 sets)"}},
      {"four: the node with the memory", four_switches,
       [](World& host) { host.want(4); host.facts.settings.nodes[0].free_memory = 32 * kGiB; },
       {"81", "82", "91", "92"},
       {"41: not taken: free, but its node lacks the CPUs or the free memory of the VM",
        "81 + 82 + 91 + 92: one host bridge, node 1 (best of 70 sets)"}},
      {"four with numa=required: the node that has four", four_switches,
       want_beside(4, {"41"}, NumaPolicy::required),
       {"81", "82", "91", "92"},
       {"41: not taken: held by VM 'a'",
        "42: not taken: free, but in no set that fits",
        "81 + 82 + 91 + 92: one host bridge, node 1 (the only set)"}},
      {"four with numa=required: the node that is large enough", four_switches,
       [](World& host) { host.want(4, NumaPolicy::required); host.facts.settings.nodes[0].memory = 32 * kGiB; },
       {"81", "82", "91", "92"},
       {"41: not taken: free, but in no set that fits",
        "81 + 82 + 91 + 92: one host bridge, node 1 (the only set)"}},
      {"four with numa=preferred: of both nodes when none has four", four_switches,
       want_beside(4, {"41", "81"}),
       {"42", "51", "52", "82"},
       {"41: not taken: held by VM 'a'",
        "91: not taken: free, and its sets are as good: lower addresses are taken",
        "42 + 51 + 52 + 82: across NUMA nodes, nodes 0 and 1 (best of 15 sets)"}},
      {"five: a node and one more", four_switches,
       want(5),
       {"41", "42", "51", "52", "81"},
       {"82: not taken: free, and its sets are as good: lower addresses are taken",
        "41 + 42 + 51 + 52 + 81: across NUMA nodes, nodes 0 and 1 (best of 56 sets)"}},
      {"seven: all but the highest address", four_switches,
       want(7),
       {"41", "42", "51", "52", "81", "82", "91"},
       {"92: not taken: free, and its sets are as good: lower addresses are taken",
        "41 + 42 + 51 + 52 + 81 + 82 + 91: across NUMA nodes, nodes 0 and 1 (best of 8 sets)"}},
      {"eight: all", four_switches,
       want(8),
       {"41", "42", "51", "52", "81", "82", "91", "92"},
       {"41 + 42 + 51 + 52 + 81 + 82 + 91 + 92: across NUMA nodes, nodes 0 and 1 (the only set)"}},
      {"by address", four_switches,
       [](World& host) { host.spec.gpus = {spec_at("92")}; },
       {"92"},
       {"41: not taken: not what was asked for",
        "92: taken: on node 1 with 16 CPUs free, on nvidia"}},
      {"by two addresses, in the order of the request", four_switches,
       [](World& host) { host.spec.gpus = {spec_at("91"), spec_at("41")}; },
       {"91", "41"},
       {"42: not taken: not what was asked for",
        "91 + 41: across NUMA nodes, nodes 0 and 1 (the only set)"}},
      {"by address, and one more: beside it", four_switches,
       [](World& host) { host.spec.gpus = {spec_at("91"), spec_of(1, "")}; },
       {"91", "92"},
       {"41: not taken: free, but its sets span more NUMA nodes",
        "81: not taken: free, but its sets are farther apart",
        "91 + 92: one PCIe switch, node 1 (best of 7 sets)",
        "91 + 81: one host bridge, node 1 (number 2)"}},
      {"two of a model: of one switch", four_switches,
       [](World& host) { mix_models(host, {"51", "52", "91", "92"}); host.spec.gpus = {spec_of(2, "L40S")}; },
       {"51", "52"},
       {"41: not taken: not what was asked for",
        "91: not taken: free, and its sets are as good: lower addresses are taken",
        "51 + 52: one PCIe switch, node 0 (best of 6 sets)",
        "91 + 92: one PCIe switch, node 1 (number 2)"}},
      {"three of a model that has two a node", four_switches,
       [](World& host) { mix_models(host, {"51", "52", "91", "92"}); host.spec.gpus = {spec_of(3, "H100")}; },
       {"41", "42", "81"},
       {"51: not taken: not what was asked for",
        "82: not taken: free, and its sets are as good: lower addresses are taken",
        "41 + 42 + 81: across NUMA nodes, nodes 0 and 1 (best of 4 sets)",
        "41 + 42 + 82: across NUMA nodes, nodes 0 and 1 (number 2)"}},
      {"one each of two models: of one node, in the order of the request", four_switches,
       [](World& host) {
         mix_models(host, {"51", "52", "91", "92"});
         host.spec.gpus = {spec_of(1, "L40S"), spec_of(1, "H100")};
       },
       {"51", "41"},
       {"42: not taken: free, and its sets are as good: lower addresses are taken",
        "51 + 41: one host bridge, node 0 (best of 16 sets)",
        "51 + 42: one host bridge, node 0 (number 2)"}},
      {"two of a model: the switch that has only those", four_switches,
       [](World& host) { mix_models(host, {"42", "52", "82"}); host.spec.gpus = {spec_of(2, "H100")}; },
       {"91", "92"},
       {"41: not taken: free, but its sets are farther apart",
        "42: not taken: not what was asked for",
        "91 + 92: one PCIe switch, node 1 (best of 10 sets)",
        "41 + 51: one host bridge, node 0 (number 2)"}},
      {"NVSwitches, eight: the partition of all", nvswitch_board,
       want(8),
       {"41", "42", "51", "52", "81", "82", "91", "92"},
       {"41 + 42 + 51 + 52 + 81 + 82 + 91 + 92: across NUMA nodes, nodes 0 and 1 (the only set)"}},
      {"NVSwitches, four: the lower half", nvswitch_board,
       want(4),
       {"41", "42", "51", "52"},
       {"81: not taken: free, and its sets are as good: lower addresses are taken",
        "41 + 42 + 51 + 52: one host bridge, node 0 (best of 2 sets)"}},
      {"NVSwitches, two: a pair, not neighbours on a switch", nvswitch_board,
       want(2),
       {"41", "51"},
       {"42: not taken: free, and its sets are as good: lower addresses are taken",
        "41 + 51: one host bridge, node 0 (best of 4 sets)",
        "42 + 52: one host bridge, node 0 (number 2)"}},
      {"NVSwitches, one: the lowest address", nvswitch_board,
       want(1),
       {"41"},
       {"41: taken: on node 0 with 16 CPUs free, on nvidia",
        "42: not taken: free, and as good: the lower address is taken"}},
      {"NVSwitches, one: from the pair that is broken up already", nvswitch_board,
       want_beside(1, {"52"}),
       {"42"},
       {"41: not taken: free, but it would break up a larger free fabric partition",
        "42: taken: on node 0 with 16 CPUs free, on nvidia",
        "52: not taken: held by VM 'a'"}},
      {"NVSwitches, four: the half that is free", nvswitch_board,
       want_beside(4, {"41"}),
       {"81", "82", "91", "92"},
       {"41: not taken: held by VM 'a'",
        "42: not taken: free, but in no set that fits",
        "81 + 82 + 91 + 92: one host bridge, node 1 (the only set)"}},
      {"NVSwitches, two: the pair whose half is broken up already", nvswitch_board,
       want_beside(2, {"41"}),
       {"42", "52"},
       {"41: not taken: held by VM 'a'",
        "51: not taken: free, but in no set that fits",
        "81: not taken: free, but it would break up a larger free fabric partition",
        "42 + 52: one host bridge, node 0 (best of 3 sets)",
        "81 + 91: one host bridge, node 1 (number 2)"}},
      {"NVSwitches, two: free ones of different pairs are none", nvswitch_board,
       want_beside(2, {"41", "42"}),
       {"81", "91"},
       {"41: not taken: held by VM 'a'",
        "51: not taken: free, but in no set that fits",
        "82: not taken: free, and its sets are as good: lower addresses are taken",
        "81 + 91: one host bridge, node 1 (best of 2 sets)",
        "82 + 92: one host bridge, node 1 (number 2)"}},
      {"NVSwitches, by two addresses that are a pair", nvswitch_board,
       [](World& host) { host.spec.gpus = {spec_at("91"), spec_at("81")}; },
       {"91", "81"},
       {"41: not taken: not what was asked for",
        "91 + 81: one host bridge, node 1 (the only set)"}},
      {"NVSwitches without partitions, one", nvswitch_board,
       [](World& host) { host.facts.devices.config.partitions.clear(); },
       {"41"},
       {"41: taken: on node 0 with 16 CPUs free, on nvidia",
        "42: not taken: free, and as good: the lower address is taken"}},
      {"recorded: one, but never the console's", sxm_8gpu,
       want(1),
       {"18"},
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: taken: on node 0 with 64 CPUs free, on vfio-pci already",
        "19: not taken: free, and as good: the lower address is taken"}},
      {"recorded, two: the first pair", sxm_8gpu,
       want(2),
       {"18", "19"},
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: taken: on node 0 with 64 CPUs free, on vfio-pci already",
        "44: not taken: free, and its sets are as good: lower addresses are taken",
        "18 + 19: one PCIe switch, node 0 (best of 4 sets)",
        "44 + 45: one PCIe switch, node 0 (number 2)"}},
      {"recorded, four: the first half", sxm_8gpu,
       want(4),
       {"18", "19", "44", "45"},
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: taken: on node 0 with 64 CPUs free, on vfio-pci already",
        "9a: not taken: free, and its sets are as good: lower addresses are taken",
        "18 + 19 + 44 + 45: one NUMA node, node 0 (best of 2 sets)"}},
      {"recorded, eight", sxm_8gpu,
       want(8),
       {"18", "19", "44", "45", "9a", "9b", "c4", "c5"},
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: taken: on node 0 with 64 CPUs free, on vfio-pci already",
        "9a: taken: on node 1 with 64 CPUs free, on vfio-pci already",
        "18 + 19 + 44 + 45 + 9a + 9b + c4 + c5: across NUMA nodes, nodes 0 and 1 (the only set)"}},
      {"recorded, two beside a VM with one", sxm_8gpu,
       want_beside(2, {"19"}),
       {"44", "45"},
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: not taken: free, but in no set that fits",
        "19: not taken: held by VM 'a'",
        "44: taken: on node 0 with 64 CPUs free, on vfio-pci already",
        "9a: not taken: free, but it would break up a larger free fabric partition",
        "44 + 45: one PCIe switch, node 0 (best of 3 sets)",
        "9a + 9b: one PCIe switch, node 1 (number 2)"}},
      {"recorded, four beside a VM with one", sxm_8gpu,
       want_beside(4, {"19"}),
       {"9a", "9b", "c4", "c5"},
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: not taken: free, but in no set that fits",
        "19: not taken: held by VM 'a'",
        "9a: taken: on node 1 with 64 CPUs free, on vfio-pci already",
        "9a + 9b + c4 + c5: one NUMA node, node 1 (the only set)"}},
      {"recorded, one: what is left of a pair", sxm_8gpu,
       want_beside(1, {"19", "44", "45"}),
       {"18"},
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: taken: on node 0 with 64 CPUs free, on vfio-pci already",
        "19: not taken: held by VM 'a'",
        "9a: not taken: free, but it would break up a larger free fabric partition"}},
      {"recorded, two: huge pages that are gone are no memory", sxm_8gpu,
       [](World& host) {
         host.want(2);
         host.facts.settings.nodes[0].huge_pages.clear();
         host.spec.memory = 200 * kGiB;
       },
       {"9a", "9b"},
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: not taken: free, but its node lacks the CPUs or the free memory of the VM",
        "9a: taken: on node 1 with 64 CPUs free, on vfio-pci already",
        "c4: not taken: free, and its sets are as good: lower addresses are taken",
        "9a + 9b: one PCIe switch, node 1 (best of 4 sets)",
        "c4 + c5: one PCIe switch, node 1 (number 2)"}},
      {"recorded, four with numa=required: the node that is large enough", sxm_8gpu,
       [](World& host) {
         host.want(4, NumaPolicy::required);
         host.facts.settings.nodes[0].memory = 500 * kGiB;
         host.spec.memory = 600 * kGiB;
       },
       {"9a", "9b", "c4", "c5"},
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: not taken: free, but in no set that fits",
        "9a: taken: on node 1 with 64 CPUs free, on vfio-pci already",
        "9a + 9b + c4 + c5: one NUMA node, node 1 (the only set)"}},
      // clang-format on
  };
  return all;
}

const std::vector<Refusal>& refusals() {
  static const std::vector<Refusal> all = {
      // Each row would be broken into a dozen lines.
      // clang-format off
      {"nine of eight", four_switches,
       want(9),
       Errc::host_unfit,
       "9 GPUs wanted: 8 are there, 8 free",
       kAskCheck,
       {"41: free"}},
      {"eight with numa=required", four_switches,
       want(8, NumaPolicy::required),
       Errc::host_unfit,
       std::string("8 GPUs wanted: 8 are there, 8 free, but no set of them fits: ") + kNotOneNode,
       kAskCheck,
       {"41: free"}},
      {"two with numa=required, one free a node", four_switches,
       want_beside(2, {"41", "51", "52", "81", "91", "92"}, NumaPolicy::required),
       Errc::conflict,
       std::string("2 GPUs wanted: 8 are there, 2 free, 6 held by others, but no set of them fits: ")
           + kNotOneNode,
       kAskLater,
       {"41: not taken: held by VM 'a'",
        "42: free"}},
      {"four with numa=required, three free a node", four_switches,
       want_beside(4, {"41", "81"}, NumaPolicy::required),
       Errc::conflict,
       std::string("4 GPUs wanted: 8 are there, 6 free, 2 held by others, but no set of them fits: ")
           + kNotOneNode,
       kAskLater,
       {"41: not taken: held by VM 'a'",
        "42: free"}},
      {"four with numa=required, three that answer a node", four_switches,
       [](World& host) {
         host.want(4, NumaPolicy::required);
         for (const char* bus : {"42", "92"}) host.function(at(bus)).answers = false;
       },
       Errc::host_unfit,
       std::string("4 GPUs wanted: 8 are there, 6 free, 2 not usable, but no set of them fits: ") + kNotOneNode,
       kAskCheck,
       {"41: free",
        "42: not taken: does not answer: its configuration reads 0xffff"}},
      {"one with numa=required for a VM larger than a node", four_switches,
       [](World& host) { host.want(1, NumaPolicy::required).spec.cpus = 17; },
       Errc::host_unfit,
       std::string("1 GPU wanted: 8 are there, 8 free, but no set of them fits: ") + kNotOneNode,
       kAskCheck,
       {"41: free"}},
      {"an address that is held", four_switches,
       [](World& host) { host.spec.gpus = {spec_at("92")}; hold(host, {"92"}); },
       Errc::conflict,
       "GPU 92: held by VM 'a' [group-held]",
       "stop that VM, detach the GPU from it, or ask for another GPU",
       {}},
      {"an address that is not there", four_switches,
       [](World& host) { host.spec.gpus = {spec_at("93")}; },
       Errc::not_found,
       "no GPU 93 on this host",
       "did you mean '0000:91:00.0'?",
       {}},
      {"two addresses of two nodes with numa=required", four_switches,
       [](World& host) {
         host.spec.gpus = {spec_at("91"), spec_at("41")};
         for (GpuSpec& each : host.spec.gpus) each.numa = NumaPolicy::required;
       },
       Errc::host_unfit,
       std::string("1 GPU at 91 wanted: 1 is there, 1 free; "
           "1 GPU at 41 wanted: 1 is there, 1 free, but no set of them fits: ") + kNotOneNode,
       kAskCheck,
       {"41: free",
        "42: not taken: not what was asked for"}},
      {"five of a model that has four", four_switches,
       [](World& host) { mix_models(host, {"51", "52", "91", "92"}); host.spec.gpus = {spec_of(5, "H100")}; },
       Errc::host_unfit,
       "5 GPUs of model 'H100' wanted: 4 are there, 4 free",
       kAskCheck,
       {"41: free",
        "51: not taken: not what was asked for"}},
      {"three of a model that has two a node, with numa=required", four_switches,
       [](World& host) {
         mix_models(host, {"51", "52", "91", "92"});
         host.spec.gpus = {spec_of(3, "H100", NumaPolicy::required)};
       },
       Errc::host_unfit,
       std::string("3 GPUs of model 'H100' wanted: 4 are there, 4 free, but no set of them fits: ")
           + kNotOneNode,
       kAskCheck,
       {"41: free",
        "51: not taken: not what was asked for"}},
      {"a model that is not there", four_switches,
       [](World& host) { mix_models(host, {"51", "52", "91", "92"}); host.spec.gpus = {spec_of(1, "H200")}; },
       Errc::not_found,
       "no GPU of model 'H200' on this host",
       "there are: NVIDIA Corporation AD102GL [L40S]; NVIDIA Corporation GH100 [H100 SXM5 80GB]",
       {}},
      {"eight, one of them split into VFs", four_switches,
       [](World& host) { host.want(8); split(host, "41"); },
       Errc::conflict,
       "8 GPUs wanted: 8 are there, 7 free, 1 held by others",
       kAskLater,
       {"41: not taken: 2 VFs are made of it: it is given away in parts",
        "42: free"}},
      {"NVSwitches, three: no partition has three", nvswitch_board,
       want(3),
       Errc::host_unfit,
       std::string("3 GPUs wanted: 8 are there, 8 free, but no set of them fits: ") + kNoPartition,
       kNamePartitions,
       {"41: free"}},
      {"NVSwitches, eight with one held", nvswitch_board,
       want_beside(8, {"41"}),
       Errc::conflict,
       "8 GPUs wanted: 8 are there, 7 free, 1 held by others",
       kAskLater,
       {"41: not taken: held by VM 'a'",
        "42: free"}},
      {"NVSwitches, four with one of each half held", nvswitch_board,
       want_beside(4, {"41", "92"}),
       Errc::conflict,
       std::string("4 GPUs wanted: 8 are there, 6 free, 2 held by others, but no set of them fits: ")
           + kNoPartition,
       kAskLater,
       {"41: not taken: held by VM 'a'",
        "42: free"}},
      {"NVSwitches, two with one of each pair held", nvswitch_board,
       want_beside(2, {"41", "42", "82", "81"}),
       Errc::conflict,
       std::string("2 GPUs wanted: 8 are there, 4 free, 4 held by others, but no set of them fits: ")
           + kNoPartition,
       kAskLater,
       {"41: not taken: held by VM 'a'",
        "51: free"}},
      {"NVSwitches, eight with numa=required", nvswitch_board,
       want(8, NumaPolicy::required),
       Errc::host_unfit,
       std::string("8 GPUs wanted: 8 are there, 8 free, but no set of them fits: ") + kNotOneNode,
       kAskCheck,
       {"41: free"}},
      {"NVSwitches, by two addresses that are no pair", nvswitch_board,
       [](World& host) { host.spec.gpus = {spec_at("41"), spec_at("42")}; },
       Errc::host_unfit,
       std::string("1 GPU at 41 wanted: 1 is there, 1 free; "
           "1 GPU at 42 wanted: 1 is there, 1 free, but no set of them fits: ") + kNoPartition,
       kNamePartitions,
       {"41: free",
        "51: not taken: not what was asked for"}},
      {"NVSwitches without partitions, two", nvswitch_board,
       [](World& host) { host.want(2); host.facts.devices.config.partitions.clear(); },
       Errc::host_unfit,
       std::string("2 GPUs wanted: 8 are there, 8 free, but no set of them fits: ") + kNoPartition,
       kNamePartitions,
       {"41: free"}},
      {"recorded, three", sxm_8gpu,
       want(3),
       Errc::host_unfit,
       std::string("3 GPUs wanted: 9 are there, 8 free, 1 not usable, but no set of them fits: ") + kNoPartition,
       kNamePartitions,
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: free"}},
      {"recorded, four with one of each half held", sxm_8gpu,
       want_beside(4, {"19", "c4"}),
       Errc::conflict,
       std::string("4 GPUs wanted: 9 are there, 6 free, 2 held by others, 1 not usable, but no set of them fits: ")
           + kNoPartition,
       kAskLater,
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: free",
        "19: not taken: held by VM 'a'"}},
      {"recorded without its configuration, two", sxm_8gpu,
       [](World& host) { host.want(2); host.facts.devices.config.partitions.clear(); },
       Errc::host_unfit,
       std::string("2 GPUs wanted: 9 are there, 8 free, 1 not usable, but no set of them fits: ") + kNoPartition,
       kNamePartitions,
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: free"}},
      {"recorded, four with numa=required for a VM larger than a node", sxm_8gpu,
       [](World& host) { host.want(4, NumaPolicy::required).spec.cpus = 65; },
       Errc::host_unfit,
       std::string("4 GPUs wanted: 9 are there, 8 free, 1 not usable, but no set of them fits: ") + kNotOneNode,
       kAskCheck,
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: free"}},
      {"recorded, the console's by address", sxm_8gpu,
       [](World& host) { host.spec.gpus = {spec_at("02")}; },
       Errc::host_unfit,
       "GPU 02: this host booted on it and has its console there (boot_vga) [boot-vga]",
       "show the host's console on another display, or none; --force-console gives it up",
       {}},
      {"recorded, eight with one quarantined", sxm_8gpu,
       [](World& host) { host.want(8); quarantine(host, "c5"); },
       Errc::host_unfit,
       "8 GPUs wanted: 9 are there, 7 free, 2 not usable",
       kAskCheck,
       {"02: not taken: this host booted on it and has its console there (boot_vga)",
        "18: free",
        "c5: not taken: kept from VMs since its last release failed: no answer after flr"}},
      // clang-format on
  };
  return all;
}

void check_said(const Texts& lines, const Texts& wanted) {
  std::string text;
  for (const std::string& each : lines) text += each + "\n";
  INFO(text);
  CHECK(wanted.empty() == lines.empty());
  for (const std::string& each : wanted) {
    INFO("no line: " << each);
    CHECK(std::find(lines.begin(), lines.end(), each) != lines.end());
  }
}

/// Buses of the GPUs whose line says that they are taken.
Texts said_taken(const Texts& lines) {
  Texts found;
  for (const std::string& each : lines)
    if (each.find(": taken: ") != std::string::npos) found.push_back(each.substr(0, each.find(':')));
  return found;
}

}  // namespace

TEST_CASE("on eight GPUs each request gets the best set, and is told why") {
  for (const Choice& each : choices()) {
    INFO(each.name);
    World host = each.host();
    each.change(host);
    const GpuChoice choice = host.choose();
    CHECK(by_bus(addresses(choice)) == each.taken);
    const Texts lines = by_bus(choice.explanation);
    Texts sorted = each.taken;
    std::sort(sorted.begin(), sorted.end());
    CHECK(said_taken(lines) == sorted);
    CHECK(lines.size() >= host.facts.gpus.size());  // one for each, whatever becomes of it
    check_said(lines, each.said);
  }
}

TEST_CASE("on eight GPUs what cannot be met is refused, and is told why") {
  for (const Refusal& each : refusals()) {
    INFO(each.name);
    World host = each.host();
    each.change(host);
    const Error error = host.refusal();
    CHECK(error.code() == each.code);
    CHECK(by_bus(error.what()) == each.what);
    CHECK(error.hint() == each.hint);
    check_said(by_bus(error.context()), each.said);
  }
}

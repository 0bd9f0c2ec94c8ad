// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "gpu/check_rows.hpp"
#include "gpu/choose.hpp"
#include "gpu/mmio_window.hpp"
#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft {
namespace {

bool in_partition(const FabricPartition& partition, const std::string& address) {
  return std::find(partition.gpus.begin(), partition.gpus.end(), address) != partition.gpus.end();
}

std::vector<std::string> on_fabric_of(const HostDevices& devices, const std::vector<std::string>& addresses) {
  std::vector<std::string> found;
  for (const std::string& each : addresses)
    if (is_on_fabric(devices, each)) found.push_back(each);
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> together_with(const CheckCase& each) {
  return each.wanted.together.empty() ? std::vector<std::string>{each.gpu.address} : each.wanted.together;
}

void check_fabric(CheckRows& rows, const CheckCase& each) {
  const HostDevices& devices = each.facts.devices;
  if (!is_on_fabric(devices, each.gpu.address)) return;
  const std::string remedy = "name the partitions of the fabric manager (fmpm -l) in " + std::string(kGpuConfigFile) +
                             ", then ask for one's GPUs";
  const auto joined = on_fabric_of(devices, together_with(each));
  if (!fabric_joins(devices, joined))
    return rows.fail(CheckId::fabric_partition,
                     some_of(joined) + " are no partition of the board's NVSwitch fabric: CUDA would not start on them",
                     remedy);
  std::vector<std::string> names;
  for (const FabricPartition& partition : devices.config.partitions)
    if (in_partition(partition, each.gpu.address))
      names.push_back("'" + printable(partition.name) + "' (" + std::to_string(partition.gpus.size()) + ")");
  if (names.empty())
    return rows.warn(CheckId::fabric_partition,
                     "hangs on NVSwitches, and no partition is known: it is given alone only", remedy);
  rows.ok(CheckId::fabric_partition, "in fabric partitions " + some_of(names));
}

// Without it CUDA starts on none of the board's GPUs: error 802, "system not yet initialized".
void check_fabric_manager(CheckRows& rows, const CheckCase& each) {
  if (!is_on_fabric(each.facts.devices, each.gpu.address)) return;
  bool has_switches = false, has_own = false;
  for (const PciFunction& function : each.facts.devices.functions) {
    if (!function.is_nvswitch()) continue;
    has_switches = true;
    has_own = has_own || !is_group_safe(function);
  }
  if (!has_switches) return;
  if (!has_own)
    return rows.ok(CheckId::fabric_manager, "the board's NVSwitches are not the host's: the VM that has them runs it");
  if (each.facts.use.has_fabric_manager) return rows.ok(CheckId::fabric_manager, "nv-fabricmanager runs");
  rows.warn(CheckId::fabric_manager,
            "the host has the board's NVSwitches, and no fabric manager runs: CUDA does not start in the VM (802)",
            "systemctl start nvidia-fabricmanager, and activate the partition before the VM starts (fmpm -a)");
}

// The port of the GPU's own side, below what both hang on, that does not let their copies through; "" when none is
// known.
std::string redirecting_port(const CheckCase& each, const PciFunction& peer) {
  const auto& path = each.function.path;
  const auto parted = std::mismatch(path.begin(), path.end(), peer.path.begin(), peer.path.end());
  for (auto port = parted.first; port != path.end(); ++port)
    if (each.facts.use.redirecting.contains(*port)) return *port;
  return {};
}

// Of the GPUs that the VM gets besides the farthest one; of one that is asked about alone, the nearest on the host.
const PciFunction* find_peer(const CheckCase& each) {
  const bool has_mates = each.wanted.together.size() > 1;
  const PciFunction* found = nullptr;
  for (const std::string& address : has_mates ? each.wanted.together : each.facts.devices.gpus) {
    const PciFunction* peer = each.facts.devices.find(address);
    if (peer == nullptr || address == each.gpu.address) continue;
    if (!has_mates && (!peer->physical_function.empty() || peer->boot_vga)) continue;
    const auto distance = [&](const PciFunction& to) { return link_distance(each.function, to); };
    if (found == nullptr || (has_mates ? distance(*peer) > distance(*found) : distance(*peer) < distance(*found)))
      found = peer;
  }
  return found;
}

// How fast what GPUs of one VM copy to each other can be.
void check_peer_path(CheckRows& rows, const CheckCase& each) {
  if (!each.function.physical_function.empty() || is_on_fabric(each.facts.devices, each.gpu.address)) return;
  const PciFunction* peer = find_peer(each);
  if (peer == nullptr) return;
  const std::string other = printable(peer->address);
  const bool is_known = each.function.numa_node >= 0 && peer->numa_node >= 0;
  if (!is_known && each.facts.settings.nodes.size() > 1) return;  // numa-unknown says that
  if (is_known && each.function.numa_node != peer->numa_node) {
    const std::string nodes =
        fmt::format("it is on NUMA node {}, and {} on node {}", each.function.numa_node, other, peer->numa_node);
    if (each.wanted.together.size() < 2) return rows.ok(CheckId::peer_path, nodes + ": no other GPU is nearer");
    return rows.warn(CheckId::peer_path,
                     nodes + ": what they copy to each other goes from one processor to the other, slower",
                     "ask for numa=required, or by address: vmgraft gpu list --tree shows what is near");
  }
  if (!have_switch_between(each.function, *peer))
    return rows.ok(CheckId::peer_path, "what it copies to " + other + " stays on its NUMA node");
  const std::string port = redirecting_port(each, *peer);
  if (port.empty() || each.facts.use.with_ats.contains(each.gpu.address))
    return rows.ok(CheckId::peer_path, "below one switch with " + other);
  rows.warn(
      CheckId::peer_path,
      fmt::format("below one switch with {}, whose port {} sends what they copy to each other up to the IOMMU (ACS), "
                  "and it has no ATS: slower than the switch",
                  other, printable(port)),
      "turn ATS on in the GPU's firmware where it has that; without ACS both would be one IOMMU group");
}

struct AddressSpace {
  std::uint64_t window = 0;
  unsigned bits = 0;  ///< that RAM and window need
};

AddressSpace address_space(const CheckCase& each) {
  std::vector<const PciFunction*> functions;
  for (const std::string& address : functions_of(each.facts, together_with(each)))
    if (const PciFunction* function = each.facts.devices.find(address)) functions.push_back(function);
  const std::uint64_t window = mmio_window(functions);
  return {window, address_bits(each.wanted.spec->memory, window)};
}

std::string need_text(const CheckCase& each, const AddressSpace& space) {
  return format_size(each.wanted.spec->memory) + " of memory and " + format_size(space.window) +
         " for the GPUs' BARs need " + std::to_string(space.bits) + " address bits";
}

void check_address_space(CheckRows& rows, const CheckCase& each) {
  const AddressSpace space = address_space(each);
  const HostSettings& host = each.facts.settings;
  if (host.physical_bits) {
    const std::string has = "the CPU has " + std::to_string(*host.physical_bits);
    if (space.bits <= *host.physical_bits)
      rows.ok(CheckId::mmio_window, need_text(each, space) + ", " + has);
    else
      rows.fail(CheckId::mmio_window, need_text(each, space) + ", " + has + ": GPUs would be missing in the VM",
                "give the VM less memory or fewer GPUs");
  }
  if (!host.iommu_bits) return;
  const std::string has = "the IOMMU has " + std::to_string(*host.iommu_bits);
  if (space.bits <= *host.iommu_bits)
    rows.ok(CheckId::iommu_width, need_text(each, space) + ", " + has);
  else
    rows.fail(CheckId::iommu_width, need_text(each, space) + ", " + has + ": the VM would not start (VFIO_MAP_DMA)",
              "give the VM less memory or fewer GPUs");
}

using Reserved = IommuGroup::Reserved;

// What AMD's IOMMUs keep for HyperTransport. Source: the kernel's HT_RANGE_START.
constexpr std::uint64_t kAmdHole = 0xfd00000000;

std::string hex(std::uint64_t value) {
  return fmt::format("{:#x}", value);
}

// Where the VM's memory lies: q35 has it below 4 GiB, and what is more than fits there goes on above.
bool is_in_memory(const Reserved& region, std::uint64_t memory) {
  if (region.start < below_4g(memory)) return true;
  return memory_top(memory) > kFourGiB && region.end >= kFourGiB && region.start < memory_top(memory);
}

void check_addresses(CheckRows& rows, const CheckCase& each) {
  if (!each.function.iommu_group) return;
  const auto group = each.facts.devices.groups.find(*each.function.iommu_group);
  if (group == each.facts.devices.groups.end()) return;
  const std::uint64_t memory = each.wanted.spec->memory;
  const Reserved* in_the_way = nullptr;
  bool has_hole = false;
  for (const Reserved& region : group->second.reserved) {
    if (region.type.starts_with("direct")) continue;  // those are rmrr's
    if (region.start == kAmdHole)
      has_hole = true;
    else if (is_in_memory(region, memory))
      in_the_way = &region;
  }
  if (in_the_way == nullptr)
    rows.ok(CheckId::reserved_memory, "its IOMMU group keeps no address for itself where the VM has memory");
  else
    rows.fail(CheckId::reserved_memory,
              "its IOMMU group keeps " + hex(in_the_way->start) + "-" + hex(in_the_way->end) + " (" +
                  printable(in_the_way->type) +
                  ") for itself, where the VM would have memory: it would not start (VFIO_MAP_DMA)",
              "give the VM less memory, or put the GPU into another slot");
  if (!has_hole) return;
  const std::uint64_t most = kAmdHole - (kFourGiB - below_4g(memory));
  if (memory_top(memory) <= kAmdHole)
    return rows.ok(CheckId::amd_hole, "the VM's memory ends below what AMD keeps below 1 TiB");
  rows.warn(CheckId::amd_hole,
            "the VM's memory reaches what AMD keeps below 1 TiB, so QEMU moves it above: drivers for Windows are known "
            "to fail there (Code 43)",
            "give the VM at most " + format_size(most) + ", or see that its driver works there");
}

void check_memlock(CheckRows& rows, const CheckCase& each) {
  const std::uint64_t wanted = each.wanted.spec->memory;
  const std::uint64_t there = each.facts.settings.memory;
  if (there == 0) return;
  if (wanted < there)
    return rows.ok(CheckId::memlock,
                   "all memory of the VM is locked: " + format_size(wanted) + " of " + format_size(there));
  rows.fail(CheckId::memlock,
            "all memory of a VM with a GPU is locked, and " + format_size(wanted) + " is not less than the host's " +
                format_size(there),
            "give the VM less memory");
}

// The nodes of the GPUs; all where that is not told.
std::vector<const HostNode*> nodes_of(const CheckCase& each) {
  std::set<int> numbers;
  for (const std::string& address : together_with(each))
    if (const PciFunction* function = each.facts.devices.find(address)) numbers.insert(function->numa_node);
  std::vector<const HostNode*> nodes;
  for (const HostNode& node : each.facts.settings.nodes)
    if (numbers.contains(-1) || numbers.contains(static_cast<int>(node.number))) nodes.push_back(&node);
  return nodes;
}

std::string nodes_text(const std::vector<const HostNode*>& nodes) {
  std::string text = nodes.size() == 1 ? "node " : "nodes ";
  for (const HostNode* node : nodes) text += (node == nodes.front() ? "" : ", ") + std::to_string(node->number);
  return text;
}

void check_huge_pages(CheckRows& rows, const CheckCase& each) {
  if (each.wanted.spec->tuning == Tuning::none) return;
  const auto nodes = nodes_of(each);
  if (nodes.empty()) return;
  std::map<std::uint64_t, std::uint64_t, std::greater<>> free;  // by page size, the largest first
  for (const HostNode* node : nodes)
    for (const HugePages& pages : node->huge_pages) free[pages.page_size] += pages.free;
  const std::uint64_t wanted = each.wanted.spec->memory;
  std::string most = "none are free";
  std::uint64_t most_bytes = 0;
  for (const auto& [size, count] : free) {
    if (size == 0 || wanted % size != 0) continue;
    if (count >= wanted / size)
      return rows.ok(CheckId::huge_pages,
                     nodes_text(nodes) + ": " + std::to_string(count) + " free of " + format_size(size) + " each");
    if (count * size <= most_bytes) continue;
    most_bytes = count * size;
    most = format_size(most_bytes) + " is free in pages of " + format_size(size);
  }
  const std::string seen = nodes_text(nodes) + ": the VM wants " + format_size(wanted) + " in huge pages, " + most;
  const std::string remedy = "reserve them at boot (hugepagesz=1G hugepages=N), or give the VM less memory";
  if (each.wanted.spec->tuning == Tuning::strict)
    rows.fail(CheckId::huge_pages, seen, remedy);
  else
    rows.warn(CheckId::huge_pages, seen + ": it starts without, slower", remedy);
}

}  // namespace

bool is_on_fabric(const HostDevices& devices, const std::string& address) {
  const auto& partitions = devices.config.partitions;
  if (std::any_of(partitions.begin(), partitions.end(), [&](const auto& each) { return in_partition(each, address); }))
    return true;
  const PciFunction* function = devices.find(address);
  return function != nullptr && function->vendor == kNvidia && (function->class_code >> 8) == 0x0302 &&
         function->physical_function.empty() &&
         std::any_of(devices.functions.begin(), devices.functions.end(),
                     [](const PciFunction& each) { return each.is_nvswitch(); });
}

bool fabric_joins(const HostDevices& devices, const std::vector<std::string>& addresses) {
  const auto joined = on_fabric_of(devices, addresses);
  if (joined.size() < 2) return true;
  return std::any_of(devices.config.partitions.begin(), devices.config.partitions.end(),
                     [&](const FabricPartition& each) {
                       std::vector<std::string> members = each.gpus;
                       std::sort(members.begin(), members.end());
                       return members == joined;
                     });
}

void check_together(CheckRows& rows, const CheckCase& each) {
  if (!each.is_parent()) {
    check_fabric(rows, each);
    check_fabric_manager(rows, each);
    check_peer_path(rows, each);
  }
  if (each.wanted.spec == nullptr) return;
  if (!each.is_parent()) {
    check_address_space(rows, each);
    check_addresses(rows, each);
  }
  check_memlock(rows, each);
  check_huge_pages(rows, each);
}

}  // namespace vmgraft

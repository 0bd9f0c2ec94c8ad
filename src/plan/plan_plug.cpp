// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "gpu/mmio_window.hpp"
#include "model/size.hpp"
#include "plan/plan_gpu.hpp"

namespace vmgraft {
namespace {

/// Plans the plugging of GPUs into one running VM.
class Plugging {
 public:
  Plugging(const GpuFacts& facts, const std::string& vm, const std::string& vm_uuid, const std::string& xml)
      : facts_(facts), vm_(vm), vm_uuid_(vm_uuid), there_(read_hostdevs(xml)), room_(read_guest_room(xml)) {
    result_.plan = {fmt::format("gpu attach {}", vm), {vm}, {}};
  }

  [[nodiscard]] PlugPlan run(const GpuChoice& choice, const Placement& placement) {
    check_window(placement);
    unsigned index = 0;
    for (std::size_t i = 0; i < placement.gpus.size(); ++i) {
      while (is_taken(fmt::format("ua-gpu{}-", index))) ++index;
      plug(placement.gpus[i], choice.gpus.at(i).address, index++);
    }
    return std::move(result_);
  }

 private:
  /// What a start would have asked for. Firmware may have left more room than that (newer OVMF and SeaBIOS give the ports of
  /// a guest with many address bits large windows), which nobody outside can see: so it is told, and not refused.
  void check_window(const Placement& placement) {
    std::vector<const PciFunction*> functions;
    for (const DomainHostdev& each : there_) add(functions, each.address);
    for (const PassedGpu& gpu : placement.gpus)
      for (const PassedFunction& each : gpu.functions) add(functions, each.address);
    const std::uint64_t window = room_.window.value_or(kDefaultWindow);
    const std::uint64_t wanted = mmio_window(functions) / 2;  // without what a start adds for the ports' windows
    if (wanted <= window) return;
    result_.notes.push_back(
        fmt::format("VM '{0}' was started with a window of {1} for the memory of its devices, and with these GPUs it needs "
                    "{2}: unless its firmware left more room, its guest cannot map them; a start makes it large enough: "
                    "vmgraft gpu request {0} SPEC, then vmgraft restart {0}", vm_, format_size(window), format_size(wanted)));
  }

  void add(std::vector<const PciFunction*>& functions, const std::string& address) const {
    if (const PciFunction* function = facts_.devices.find(address)) functions.push_back(function);
  }

  [[nodiscard]] bool is_taken(const std::string& alias) const {
    return std::any_of(there_.begin(), there_.end(),
                       [&](const DomainHostdev& each) { return each.alias.starts_with(alias); });
  }

  void plug(const PassedGpu& gpu, const std::string& host_address, unsigned index) {
    const std::optional<unsigned> cell = cell_for(host_address);
    const std::size_t devices = gpu.mdev.empty() ? gpu.functions.size() : 1;
    for (std::size_t i = 0; i < devices; ++i) {
      if (gpu.mdev.empty() && !gpu.functions[i].is_visible) continue;
      const unsigned port = take_port(cell);
      const std::string alias = fmt::format("ua-gpu{}-{}", index, i);
      result_.plan.steps.emplace_back(AttachDevice{vm_, vm_uuid_, alias, hostdev_xml(gpu, i, alias, port)});
      if (i == 0) tell_far(host_address, cell, port);
    }
  }

  /// Nothing: the host does not tell where the GPU is, or the guest has no cell there.
  [[nodiscard]] std::optional<unsigned> cell_for(const std::string& host_address) const {
    const PciFunction* function = facts_.devices.find(host_address);
    if (function == nullptr || function->numa_node < 0) return std::nullopt;
    const auto cell = room_.cells.find(static_cast<unsigned>(function->numa_node));
    return cell == room_.cells.end() ? std::nullopt : std::optional(cell->second);
  }

  [[nodiscard]] unsigned take_port(const std::optional<unsigned>& cell) {
    if (const std::optional<unsigned> port = room_.take_port(cell)) return *port;
    throw Error(Errc::conflict, fmt::format("VM '{}' has no free PCIe root port left for a hot plug", vm_),
                "every VM starts with four spare ones; restart it with the GPUs it needs");
  }

  /// A guest with cells of its own sees from the port which of them the GPU is near.
  void tell_far(const std::string& host_address, const std::optional<unsigned>& cell, unsigned port) {
    const PciFunction* function = facts_.devices.find(host_address);
    if (room_.cells.empty() || function == nullptr || function->numa_node < 0 || (cell && room_.cell_of(port) == cell)) return;
    result_.notes.push_back(
        fmt::format("GPU {} is on node {}, and VM '{}' has no {} there: its guest does not see which CPUs and memory are "
                    "near it", host_address, function->numa_node, vm_,
                    cell ? "free root port in its NUMA cell" : "NUMA cell"));
  }

  const GpuFacts& facts_;
  const std::string& vm_;
  const std::string& vm_uuid_;
  std::vector<DomainHostdev> there_;
  GuestRoom room_;
  PlugPlan result_;
};

}  // namespace

PlugPlan plan_plug(const GpuFacts& facts, const GpuChoice& choice, const Placement& placement, const std::string& vm,
                   const std::string& vm_uuid, const std::string& xml) {
  return Plugging(facts, vm, vm_uuid, xml).run(choice, placement);
}

}  // namespace vmgraft

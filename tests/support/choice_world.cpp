// SPDX-License-Identifier: Apache-2.0
#include "support/choice_world.hpp"

#include <algorithm>

#include "model/size.hpp"
#include "support/recorded_host.hpp"

namespace vmgraft {

ChoiceWorld::ChoiceWorld() {
  facts.devices.has_iommu = true;
  facts.settings.has_vfio = true;
  facts.settings.memory = 1024 * kGiB;
  for (unsigned node = 0; node < 2; ++node) {
    std::vector<unsigned> cpus;
    for (unsigned cpu = 0; cpu < 16; ++cpu) cpus.push_back(node * 16 + cpu);
    facts.settings.nodes.push_back({node, cpus, {}, 512 * kGiB, 400 * kGiB, {}});
  }
  spec.cpus = 8;
  spec.memory = 64 * kGiB;
  spec.gpus = {GpuSpec{}};
}

PciFunction& ChoiceWorld::add(const std::string& address, int node, std::vector<std::string> path) {
  PciFunction gpu;
  gpu.address = address;
  gpu.class_code = 0x030200;
  gpu.vendor = 0x10de;
  gpu.device = 0x2330;
  gpu.driver = "nvidia";
  gpu.iommu_group = static_cast<unsigned>(facts.gpus.size()) + 1;
  gpu.numa_node = node;
  gpu.reset_methods = {"flr"};
  gpu.path = std::move(path);
  gpu.bars = {{0, 0, 32 * kGiB, true, true, true}};
  facts.devices.groups[*gpu.iommu_group] = {*gpu.iommu_group, {address}, "DMA-FQ", {}};
  facts.devices.gpus.push_back(address);
  facts.names[address] = "NVIDIA Corporation GH100 [H100 SXM5 80GB]";
  facts.gpus.push_back({address, {}, {}, GpuState::host, {}, {}, {}});
  auto& all = facts.devices.functions;
  all.push_back(std::move(gpu));
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
  std::sort(facts.gpus.begin(), facts.gpus.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
  return function(address);
}

PciFunction& ChoiceWorld::function(const std::string& address) {
  return const_cast<PciFunction&>(*facts.devices.find(address));
}

Gpu& ChoiceWorld::gpu(const std::string& address) {
  return const_cast<Gpu&>(*facts.find(address));
}

void ChoiceWorld::hold(const std::string& address, const std::string& vm) {
  Gpu& held = gpu(address);
  held.state = GpuState::in_vm;
  held.vm = vm;
  held.vm_uuid = "u-" + vm;
  function(address).driver = "vfio-pci";
  facts.domains.push_back({vm, "u-" + vm, "", true, {address}});
}

ChoiceWorld& ChoiceWorld::want(unsigned count, NumaPolicy numa) {
  spec.gpus.front().count = count;
  spec.gpus.front().numa = numa;
  return *this;
}

ChoiceWorld four_switches() {
  ChoiceWorld world;
  for (const int node : {0, 1})
    for (const int part : {0, 1})
      for (const int port : {0, 1}) {
        const std::string bus = std::to_string(node == 0 ? 4 + part : 8 + part);
        const std::string up = "0000:" + bus + "0:00.0";
        world.add("0000:" + bus + std::to_string(port + 1) + ":00.0", node,
                  {(node == 0 ? "0000:00:0" : "0000:7f:0") + std::to_string(part + 1) + ".0", up,
                   "0000:" + bus + "f:0" + std::to_string(port) + ".0"});
      }
  return world;
}

ChoiceWorld two_sockets() {
  ChoiceWorld world;
  world.add("0000:17:00.0", 0, {"0000:16:01.0"});
  world.add("0000:31:00.0", 0, {"0000:30:01.0"});
  world.add("0000:b1:00.0", 1, {"0000:b0:01.0"});
  world.add("0000:ca:00.0", 1, {"0000:c9:01.0"});
  return world;
}

ChoiceWorld nvswitch_board() {
  ChoiceWorld world = four_switches();
  PciFunction nvswitch;
  nvswitch.address = "0000:05:00.0";
  nvswitch.class_code = 0x068000;
  nvswitch.vendor = 0x10de;
  world.facts.devices.functions.insert(world.facts.devices.functions.begin(), nvswitch);
  const std::vector<std::string> all = world.facts.devices.gpus;
  const auto part = [&](std::size_t from, std::size_t to) {
    const auto at = [&](std::size_t index) { return all.begin() + static_cast<std::ptrdiff_t>(index); };
    return std::vector<std::string>(at(from), at(to));
  };
  // Pairs across switches, as module ids have it, not neighbours on the bus.
  world.facts.devices.config.partitions = {{"all", all},
                                           {"left", part(0, 4)},
                                           {"right", part(4, 8)},
                                           {"a", {all[0], all[2]}},
                                           {"b", {all[1], all[3]}},
                                           {"c", {all[4], all[6]}},
                                           {"d", {all[5], all[7]}}};
  return world;
}

ChoiceWorld recorded_world(const std::string& name) {
  FakeHost host = recorded_host(name);
  const PciNames names(host);
  ChoiceWorld world;
  world.facts = {};
  world.facts.devices = read_devices(host, read_gpu_config(host, kGpuConfigFile));
  world.facts.settings = read_settings(host);
  world.facts.use = read_use(host, world.facts.devices, world.facts.devices.gpus);
  world.facts.gpus = find_gpus(world.facts.devices, {}, {});
  for (const std::string& address : world.facts.devices.gpus) {
    const PciFunction& function = world.function(address);
    world.facts.names[address] = names.name(function.vendor, function.device);
  }
  return world;
}

std::vector<std::string> addresses(const GpuChoice& choice) {
  std::vector<std::string> found;
  for (const GpuChoice::One& each : choice.gpus) found.push_back(each.address);
  return found;
}

}  // namespace vmgraft

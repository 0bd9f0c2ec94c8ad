// SPDX-License-Identifier: Apache-2.0
#include "gpu/gpu.hpp"

#include <algorithm>

namespace vmgraft {
namespace {

/// What is part of no endpoint and needs no owner: bridges, and the host bridges that some boards put into groups.
bool is_bridge_of_group(const PciFunction& function) {
  return function.is_bridge() || function.class_code >> 8 == 0x0600;
}

/// "companion", "bridge" or "stranger" of a GPU, or empty: none of its business.
std::string role_of(const PciFunction& function, const PciFunction& gpu) {
  if (function.address == gpu.address) return {};
  const bool shares_group = gpu.iommu_group && function.iommu_group == gpu.iommu_group;
  const bool shares_slot = function.slot() == gpu.slot();
  if (!shares_group && !shares_slot) return {};
  if (is_bridge_of_group(function)) return "bridge";
  // A VF is a device of its own, though it may stand in its physical function's slot.
  const bool is_companion = shares_slot && function.iommu_group == gpu.iommu_group &&
                            function.physical_function.empty() && gpu.physical_function.empty();
  if (is_companion) return "companion";
  return shares_group ? "stranger" : std::string();
}

bool is_record_of(const GpuRecord& record, const PciFunction& function) {
  return record.address == function.address && record.identity == identity_of(function);
}

/// The running domain that has the function. A lease alone is no hold: what a VM let go is to be released, though it
/// runs on.
const DomainUse* holder_of(const std::string& address, const std::vector<DomainUse>& domains) {
  for (const DomainUse& domain : domains) {
    if (!domain.is_running) continue;
    const std::vector<std::string>& held = domain.functions;
    if (std::find(held.begin(), held.end(), address) != held.end()) return &domain;
  }
  return nullptr;
}

void judge(Gpu& gpu, const PciFunction& function, const GpuRecord* record, const DomainUse* holder) {
  if (record != nullptr) gpu.note = record->quarantine.empty() ? record->note : record->quarantine;
  if (holder != nullptr) {
    gpu.state = GpuState::in_vm;
    gpu.vm = holder->name;
    gpu.vm_uuid = holder->uuid;
  } else if (record != nullptr && !record->quarantine.empty()) {
    gpu.state = GpuState::quarantined;
  } else if (record != nullptr && !record->vm_uuid.empty()) {
    gpu.state = GpuState::dirty;
    gpu.vm = record->vm;
    gpu.vm_uuid = record->vm_uuid;
  } else if (is_vfio_driver(function.driver)) {
    gpu.state = record != nullptr && record->lent ? GpuState::lent : GpuState::vfio;
  }
}

std::string name_or_nothing(const PciNames& names, const PciFunction& function) {
  std::string name = names.name(function.vendor, function.device);
  return name == pci_id(function.vendor, function.device) ? std::string() : name;
}

std::uint64_t largest_bar(const PciFunction& function) {
  std::uint64_t largest = 0;
  for (const PciBar& bar : function.bars) {
    if (bar.is_memory) largest = std::max(largest, bar.size);
  }
  return largest;
}

std::vector<GpuNeighbour> neighbours_of(const HostDevices& devices, const PciFunction& gpu, const PciNames& names) {
  std::vector<GpuNeighbour> neighbours;
  for (const PciFunction& function : devices.functions) {
    std::string role = role_of(function, gpu);
    // In its slot but not in its group: shown, though nothing comes of it.
    if (role.empty() && function.address != gpu.address && function.slot() == gpu.slot()) role = "stranger";
    if (role.empty()) continue;
    neighbours.push_back({function.address, pci_id(function.vendor, function.device), name_or_nothing(names, function),
                          function.driver, std::move(role)});
  }
  return neighbours;
}

}  // namespace

const Gpu* GpuFacts::find(const std::string& address) const {
  const auto found = std::find_if(gpus.begin(), gpus.end(), [&](const Gpu& gpu) { return gpu.address == address; });
  return found == gpus.end() ? nullptr : &*found;
}

const GpuRecord* GpuFacts::record(const std::string& address) const {
  const PciFunction* function = devices.find(address);
  if (function == nullptr) return nullptr;
  const auto found = std::find_if(records.begin(), records.end(),
                                  [&](const GpuRecord& record) { return is_record_of(record, *function); });
  return found == records.end() ? nullptr : &*found;
}

std::vector<Gpu> find_gpus(const HostDevices& devices, const std::vector<DomainUse>& domains,
                           const std::vector<GpuRecord>& records) {
  std::vector<Gpu> gpus;
  for (const std::string& address : devices.gpus) {
    const PciFunction* function = devices.find(address);
    if (function == nullptr) continue;
    Gpu gpu;
    gpu.address = address;
    for (const PciFunction& other : devices.functions) {
      const std::string role = role_of(other, *function);
      if (role == "companion") gpu.companions.push_back(other.address);
      if (role == "stranger") gpu.strangers.push_back(other.address);
    }
    const auto record = std::find_if(records.begin(), records.end(),
                                     [&](const GpuRecord& candidate) { return is_record_of(candidate, *function); });
    const GpuRecord* own = record == records.end() ? nullptr : &*record;
    judge(gpu, *function, own, holder_of(address, domains));
    gpus.push_back(std::move(gpu));
  }
  return gpus;
}

std::string identity_of(const PciFunction& function) {
  return pci_id(function.vendor, function.device) + " " + pci_id(function.subsystem_vendor, function.subsystem_device);
}

bool is_vfio_driver(const std::string& driver) {
  // "vfio-pci" itself; of its variants, the file system shows the module's name: "mlx5_vfio_pci", "hisi-acc-vfio-pci".
  return driver.ends_with("vfio-pci") || driver.ends_with("vfio_pci");
}

bool is_group_safe(const PciFunction& function) {
  const std::string& driver = function.driver;
  return driver.empty() || is_vfio_driver(driver) || driver == "pci-stub" || driver == "pcieport";
}

GpuInfo gpu_info(const GpuFacts& facts, const Gpu& gpu, const PciNames& names) {
  GpuInfo info;
  info.address = gpu.address;
  info.state = gpu.state;
  info.vm = gpu.vm;
  info.note = gpu.note;
  const PciFunction* function = facts.devices.find(gpu.address);
  if (function == nullptr) return info;
  info.id = pci_id(function->vendor, function->device);
  info.subsystem = pci_id(function->subsystem_vendor, function->subsystem_device);
  info.name = names.name(function->vendor, function->device);
  info.class_code = function->class_code;
  info.memory = largest_bar(*function);
  if (function->numa_node >= 0) info.numa_node = static_cast<unsigned>(function->numa_node);
  info.iommu_group = function->iommu_group;
  info.neighbours = neighbours_of(facts.devices, *function, names);
  info.driver = function->driver;
  info.link = function->link;
  info.reset_methods = function->reset_methods;
  info.boot_vga = function->boot_vga;
  info.vfs = function->vfs;
  info.most_vfs = function->most_vfs;
  info.physical_function = function->physical_function;
  info.mdev_types = function->mdev_types;
  info.path = function->path;
  return info;
}

}  // namespace vmgraft

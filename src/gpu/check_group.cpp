// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gpu/check_rows.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

constexpr std::string_view kVfioNode = "/dev/vfio/";

bool contains(const std::vector<std::string>& all, const std::string& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

bool is_asking(const CheckCase& each, const std::string& uuid) {
  return !each.wanted.vm_uuid.empty() && uuid == each.wanted.vm_uuid;
}

std::string quoted(const std::string& name) {
  return "'" + printable(name) + "'";
}

// A VM other than the one that asks which runs with a function of the group, or has the lease of a GPU in it.
std::string holding_vm(const CheckCase& each) {
  if (each.gpu.state == GpuState::in_vm && !is_asking(each, each.gpu.vm_uuid))
    return "held by VM " + quoted(each.gpu.vm);
  const std::vector<std::string>& watched = each.is_parent() ? each.own : each.group;
  for (const DomainUse& domain : each.facts.domains) {
    if (!domain.is_running || is_asking(each, domain.uuid)) continue;
    for (const std::string& function : domain.functions) {
      if (contains(each.own, function)) return "held by VM " + quoted(domain.name);
      if (contains(watched, function))
        return "VM " + quoted(domain.name) + " holds its IOMMU group by " + printable(function);
    }
  }
  for (const Gpu& other : each.facts.gpus)
    if (other.address != each.gpu.address && other.state == GpuState::in_vm && contains(watched, other.address) &&
        !is_asking(each, other.vm_uuid))
      return "VM " + quoted(other.vm) + " holds its IOMMU group by " + printable(other.address);
  return {};
}

// The VM that asks has a function of the group already: who has the group's node open is its own QEMU.
bool is_held_by_asking(const CheckCase& each) {
  return std::any_of(each.facts.domains.begin(), each.facts.domains.end(), [&](const DomainUse& domain) {
    return domain.is_running && is_asking(each, domain.uuid) &&
           std::any_of(domain.functions.begin(), domain.functions.end(),
                       [&](const std::string& function) { return contains(each.group, function); });
  });
}

std::vector<std::string> holding_processes(const CheckCase& each) {
  std::vector<std::string> found;
  if (!each.function.iommu_group || is_held_by_asking(each)) return found;
  const std::string node = std::string(kVfioNode) + std::to_string(*each.function.iommu_group);
  for (const DeviceUser& user : each.facts.use.users)
    if (user.node == node || (user.node.starts_with(kVfioNode) && contains(each.group, user.address)))
      found.push_back("pid " + std::to_string(user.pid) + " (" + printable(user.command) + ")");
  return found;
}

void check_held(CheckRows& rows, const CheckCase& each) {
  const std::string group = each.function.iommu_group ? std::to_string(*each.function.iommu_group) : "";
  if (const std::string vm = holding_vm(each); !vm.empty())
    return rows.fail(CheckId::group_held, vm, "stop that VM, detach the GPU from it, or ask for another GPU");
  if (const auto processes = holding_processes(each); !processes.empty() && !each.is_parent())
    return rows.fail(CheckId::group_held,
                     "held by " + some_of(processes) + ", which has " + std::string(kVfioNode) + group +
                         " open: one at a time can have a group",
                     "end it, or ask for another GPU");
  const bool is_own =
      (each.gpu.state == GpuState::in_vm && is_asking(each, each.gpu.vm_uuid)) || is_held_by_asking(each);
  rows.ok(CheckId::group_held, is_own ? "held by this VM itself" : "nobody holds it");
}

void check_physical_function(CheckRows& rows, const CheckCase& each) {
  if (each.function.physical_function.empty()) return;
  const std::string name = printable(each.function.physical_function);
  const Gpu* parent = each.facts.find(each.function.physical_function);
  const PciFunction* function = each.facts.devices.find(each.function.physical_function);
  if (parent != nullptr && parent->state == GpuState::in_vm)
    rows.fail(CheckId::pf_in_use, "its physical function " + name + " is held whole by VM " + quoted(parent->vm),
              "stop that VM: a GPU is given away whole or in parts, not both");
  else if (function != nullptr && is_vfio_driver(function->driver))
    rows.fail(CheckId::pf_in_use,
              "its physical function " + name + " is on " + printable(function->driver) +
                  ": whole for VMs, and a part of it cannot be opened then",
              "give it back to the host first: vmgraft gpu return " + name);
  else
    rows.ok(CheckId::pf_in_use, "its physical function " + name + " stays with the host");
}

void check_virtual_functions(CheckRows& rows, const CheckCase& each) {
  const PciFunction& function = each.function;
  if (function.most_vfs == 0 && function.vfs == 0) return;
  if (function.vfs == 0)
    return rows.ok(CheckId::vfs_in_use, "none of its " + std::to_string(function.most_vfs) + " VFs is made");
  if (each.wanted.kind == GpuKind::vf)
    return rows.fail(CheckId::vfs_in_use,
                     "its " + std::to_string(function.vfs) + " VFs are made, and no more can be added",
                     "ask for one of them that is free");
  rows.fail(CheckId::vfs_in_use, std::to_string(function.vfs) + " VFs are made of it: it is given away in parts",
            "ask for a VF (kind=vf), or remove them once nobody uses them: echo 0 > /sys/bus/pci/devices/" +
                printable(function.address) + "/sriov_numvfs");
}

void check_mdevs(CheckRows& rows, const CheckCase& each) {
  if (each.wanted.kind == GpuKind::mdev || (each.function.mdev_types.empty() && each.function.mdevs.empty())) return;
  if (each.function.mdevs.empty()) return rows.ok(CheckId::mdevs_present, "no mediated devices are made of it");
  std::vector<std::string> uuids;
  for (const std::string& uuid : each.function.mdevs) uuids.push_back(printable(uuid));
  rows.fail(CheckId::mdevs_present, "mediated devices are made of it: " + some_of(uuids),
            "ask for another one of its mediated devices (kind=mdev), or remove them once nobody uses them");
}

// Section 7 of the field's rules: a vGPU of NVIDIA's is a VF that its VM opens while it is on the host's driver.
bool is_vgpu_function(const PciFunction& function) {
  return !function.physical_function.empty() && function.driver == "nvidia";
}

std::vector<std::string> blockers(const CheckCase& each) {
  std::vector<std::string> found;
  const std::vector<std::string> together = functions_of(each.facts, each.wanted.together);
  for (const std::string& address : each.group) {
    if (contains(each.own, address) || contains(together, address)) continue;
    const PciFunction* other = each.facts.devices.find(address);
    if (other != nullptr && !is_group_safe(*other) && !is_vgpu_function(*other)) found.push_back(with_driver(*other));
  }
  return found;
}

void check_viable(CheckRows& rows, const CheckCase& each) {
  const std::string number = std::to_string(*each.function.iommu_group);
  if (const auto found = blockers(each); !found.empty())
    return rows.fail(CheckId::group_not_viable,
                     some_of(found) + (found.size() == 1 ? " shares" : " share") + " IOMMU group " + number +
                         ", is no part of the GPU and is used by the host",
                     "put the GPU into a slot with a group of its own, or take the other device from its driver");
  std::vector<std::string> along;
  for (const std::string& companion : each.gpu.companions)
    if (const PciFunction* function = each.facts.devices.find(companion)) along.push_back(with_driver(*function));
  rows.ok(CheckId::group_not_viable,
          "IOMMU group " + number + (along.empty() ? " is its own" : ": " + some_of(along) + " goes along"));
}

// The host's disk or network would be gone with the group.
void check_loss(CheckRows& rows, const CheckCase& each, CheckId id, const std::map<std::string, std::string>& carried,
                const std::string& carries, const std::string& good) {
  for (const std::string& address : each.group) {
    const auto found = carried.find(address);
    if (found == carried.end()) continue;
    return rows.fail(id, printable(address) + " of its IOMMU group carries " + carries + printable(found->second),
                     "put the GPU or that device into another slot");
  }
  rows.ok(id, good);
}

void check_rmrr(CheckRows& rows, const CheckCase& each) {
  const auto group = each.facts.devices.groups.find(*each.function.iommu_group);
  if (group == each.facts.devices.groups.end()) return;
  // "direct-relaxable" is what the kernel lets go of: those of graphics and USB.
  const auto& regions = group->second.reserved;
  const auto direct =
      std::find_if(regions.begin(), regions.end(), [](const auto& one) { return one.type == "direct"; });
  if (direct == regions.end()) return rows.ok(CheckId::rmrr, "the firmware keeps no memory for itself in its group");
  rows.fail(CheckId::rmrr,
            "the firmware keeps memory for itself in its IOMMU group (RMRR), so the kernel refuses it to VMs",
            "switch off RMRR or shared memory for this slot in the firmware setup, or use another slot");
}

}  // namespace

void check_holders(CheckRows& rows, const CheckCase& each) {
  check_held(rows, each);
  check_physical_function(rows, each);
  if (each.wanted.kind != GpuKind::mdev) check_virtual_functions(rows, each);
  check_mdevs(rows, each);
}

void check_device_users(CheckRows& rows, const CheckCase& each) {
  std::vector<std::string> users;
  bool is_persistenced = false;
  for (const DeviceUser& user : each.facts.use.users) {
    if (!contains(each.own, user.address) || user.node.starts_with(kVfioNode)) continue;
    users.push_back("pid " + std::to_string(user.pid) + " (" + printable(user.command) + ", uid " +
                    std::to_string(user.uid) + ") has " + printable(user.node) + " open");
    is_persistenced = is_persistenced || user.command.starts_with("nvidia-persiste");  // comm has 15 characters
  }
  if (users.empty()) return rows.ok(CheckId::device_busy, "no process of the host has it open");
  rows.fail(CheckId::device_busy, some_of(users, "; "),
            is_persistenced ? "systemctl stop nvidia-persistenced, and end what else has it open"
                            : "end these processes; one that a service restarts is stopped by its service");
}

void check_group(CheckRows& rows, const CheckCase& each) {
  check_loss(rows, each, CheckId::disk_mounted, each.facts.use.mounted,
             "a disk of the host in use: ", "no disk in use in its group");
  check_loss(rows, each, CheckId::default_route, each.facts.use.default_route,
             "the host's default route: ", "the default route is not in its group");
  if (!each.function.iommu_group) return;
  check_viable(rows, each);
}

void check_reserved(CheckRows& rows, const CheckCase& each) {
  if (each.function.iommu_group) check_rmrr(rows, each);
}

}  // namespace vmgraft

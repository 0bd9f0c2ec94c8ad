// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "gpu/devices.hpp"
#include "store/gpu_ledger.hpp"

namespace vmgraft {

/// A domain that names PCI functions of the host. Source: libvirt's domain XML.
struct DomainUse {
  std::string name;
  std::string uuid;
  std::string store;                    ///< of our metadata; empty: not our domain
  bool is_running = false;              ///< false: only its definition names them, which holds nothing
  std::vector<std::string> functions;   ///< addresses
  std::vector<unsigned> host_cpus = {}; ///< that its vCPUs have for their own, each pinned to one
};

/// A GPU with what it takes along, and where it is.
struct Gpu {
  std::string address;
  std::vector<std::string> companions;  ///< the other functions of its slot in its group: bound and passed along
  std::vector<std::string> strangers;   ///< of its group, neither companion nor bridge
  GpuState state = GpuState::host;
  std::string vm;                       ///< in_vm, dirty: whose
  std::string vm_uuid;
  std::string note;
};

/// Everything known of the host's GPUs, read once under the lock of the GPUs.
struct GpuFacts {
  HostDevices devices;
  std::vector<DomainUse> domains;
  std::vector<GpuRecord> records;
  HostUse use;
  HostSettings settings;
  std::vector<Gpu> gpus;                ///< by address
  std::map<std::string, std::string> names;  ///< address of a GPU -> its name by PciNames; for a choice by model
  [[nodiscard]] const Gpu* find(const std::string& address) const;
  [[nodiscard]] const GpuRecord* record(const std::string& address) const;
};

/// The GPUs among the devices. A record whose identity is another device's is ignored.
[[nodiscard]] std::vector<Gpu> find_gpus(const HostDevices& devices, const std::vector<DomainUse>& domains,
                                         const std::vector<GpuRecord>& records);

/// "10de:2330 10de:16c1", as in GpuRecord.
[[nodiscard]] std::string identity_of(const PciFunction& function);

/// Drivers that leave a function to the group's owner: none, vfio-pci and its variants, pci-stub, pcieport.
/// Source: the kernel's driver_managed_dma.
[[nodiscard]] bool is_group_safe(const PciFunction& function);
/// vfio-pci or a variant of it: "mlx5_vfio_pci", "nvgrace_gpu_vfio_pci".
[[nodiscard]] bool is_vfio_driver(const std::string& driver);

[[nodiscard]] GpuInfo gpu_info(const GpuFacts& facts, const Gpu& gpu, const PciNames& names);

}  // namespace vmgraft

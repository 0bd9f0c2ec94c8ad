// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <vmgraft/doctor.hpp>

namespace vmgraft {

/// Where a GPU is now.
enum class GpuState {
  host,         ///< on its host driver, or on none
  vfio,         ///< on vfio-pci since before vmgraft came: dedicated to VMs
  lent,         ///< on vfio-pci by `gpu lend`: free for VMs until `gpu return`
  in_vm,        ///< a running VM has it
  dirty,        ///< leased to a VM that does not have it (any more): not reset yet, which the next command does
  quarantined,  ///< its last release failed: no VM gets it before `gpu return --force`
};

[[nodiscard]] std::string to_string(GpuState state);

/// A PCI function that shares a GPU's slot or IOMMU group.
struct GpuNeighbour {
  std::string address;   ///< "0000:41:00.1"
  std::string id;        ///< "10de:22ba", vendor:device
  std::string name;      ///< of pci.ids; empty: not in it
  std::string driver;    ///< empty: none
  /// companion: another function of the GPU's slot. bridge: exempt from the group's ownership. stranger: everything else.
  std::string role;
};

struct GpuLink {
  std::string speed;         ///< "16.0 GT/s PCIe"; empty: conventional PCI, or not told
  std::string most_speed;
  unsigned width = 0;        ///< lanes; 0: not told
  unsigned most_width = 0;
};

/// A kind of mediated device that a GPU offers. Source: mdev_supported_types.
struct GpuMdevType {
  std::string id;            ///< "nvidia-11"
  std::string name;
  unsigned available = 0;    ///< instances that can still be made
};

/// One GPU of the host: a PCI function of display or accelerator class, or one that the host's configuration names.
struct GpuInfo {
  std::string address;                  ///< "0000:41:00.0"
  std::string id;                       ///< "10de:2330"
  std::string subsystem;                ///< "10de:16c1"
  std::string name;                     ///< "NVIDIA Corporation GH100 [H100 SXM5 80GB]"; the ids when pci.ids has none
  std::uint32_t class_code = 0;         ///< 0x030200
  std::uint64_t memory = 0;             ///< bytes of its largest BAR: VRAM where all of that is mapped
  std::optional<unsigned> numa_node;    ///< absent: the host does not tell
  std::optional<unsigned> iommu_group;  ///< absent: no IOMMU
  std::vector<GpuNeighbour> neighbours; ///< of its group and its slot
  std::string driver;                   ///< now; empty: none
  GpuLink link;
  std::vector<std::string> reset_methods;  ///< as the kernel lists them
  bool boot_vga = false;
  unsigned vfs = 0, most_vfs = 0;       ///< SR-IOV: made and possible
  std::string physical_function;        ///< of a VF; else empty
  std::vector<GpuMdevType> mdev_types;
  std::vector<std::string> path;        ///< bridges above it, the root port first
  GpuState state = GpuState::host;
  std::string vm;                       ///< in_vm, dirty: whose
  std::string note;                     ///< quarantined: why; else what the last release did not do, "memory not cleared"
};

/// One row of the pre-flight report of a GPU. `id` is stable; scripts may match on it: vmgraft-gpu(7) lists them.
struct GpuCheck {
  std::string address;   ///< the GPU's; empty: of the host as a whole
  std::string id;        ///< "group-not-viable"
  Health health = Health::ok;
  std::string seen;      ///< what was found
  std::string remedy;    ///< empty when ok
};

struct GpuCheckRequest {
  std::string address;        ///< empty: every GPU
  /// What a start of a VM of this template would do: the row `choice`, rows of GPUs of the kinds that it asks for, and of
  /// those that it would take also rows that depend on the VM. With an address: of that GPU for such a VM. Empty: no VM.
  std::string template_name;
};

/// What `gpu lend`, `gpu return` and the release after a VM did to one GPU.
struct GpuChange {
  std::string address;
  GpuState state = GpuState::host;
  std::string driver;                    ///< now
  std::string reset;                     ///< method that was used: "bus", "flr", "hot"; empty: none
  std::string note;                      ///< quarantined: why; what was not scrubbed
};

struct GpuRequest {
  std::string vm;
  std::vector<std::string> gpus;             ///< as CreateRequest's; "0" alone: none
};

struct GpuAttachRequest {
  std::string vm;
  std::string gpus;                          ///< "1", "model=H100,numa=required" or an address
  bool explain = false;
};

struct GpuDetachRequest {
  std::string vm;
  std::string address;                       ///< of the GPU, or the UUID of one of the VM's mediated devices
  std::chrono::seconds timeout{60};          ///< of the guest's answer
};

}  // namespace vmgraft

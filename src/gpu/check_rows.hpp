// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <vmgraft/gpu.hpp>

#include "gpu/check.hpp"
#include "gpu/gpu.hpp"

namespace vmgraft {

/// The rows of the report, the most fundamental first: check_host() has those up to host_sleep, check_start() also the
/// last two, and check_gpu() those between.
enum class CheckId {
  not_root,
  no_iommu,
  no_vfio,
  no_vfio_node,
  vfio_access,
  noiommu,
  unsafe_interrupts,
  acs_override,
  lockdown,
  hooks_present,
  host_sleep,
  absent,
  dead_device,
  bdf_moved,
  quarantined,
  group_held,
  pf_in_use,
  vfs_in_use,
  mdevs_present,
  boot_vga,
  console_active,
  framebuffer_on_bar,
  disk_mounted,
  default_route,
  group_not_viable,
  device_busy,
  amdgpu_rebind,
  rmrr,
  no_reset,
  dirty,
  d3cold,
  link_degraded,
  numa_unknown,
  rom,
  fabric_partition,
  fabric_manager,
  peer_path,
  mmio_window,
  iommu_width,
  reserved_memory,
  amd_hole,
  memlock,
  huge_pages,
  choice,
  placement,
};

struct CheckName {
  CheckId id;
  std::string_view name;   ///< stable: vmgraft-gpu(7) lists it
  bool is_holder = false;  ///< a failure means that somebody else has the GPU, and nothing is wrong with it
};

/// Every id that a row can have, and the only place where they are spelt.
inline constexpr std::array kCheckNames{
    CheckName{CheckId::not_root, "not-root"},
    CheckName{CheckId::no_iommu, "no-iommu"},
    CheckName{CheckId::no_vfio, "no-vfio"},
    CheckName{CheckId::no_vfio_node, "no-vfio-node"},
    CheckName{CheckId::vfio_access, "vfio-access"},
    CheckName{CheckId::noiommu, "noiommu"},
    CheckName{CheckId::unsafe_interrupts, "unsafe-interrupts"},
    CheckName{CheckId::acs_override, "acs-override"},
    CheckName{CheckId::lockdown, "lockdown"},
    CheckName{CheckId::hooks_present, "hooks-present"},
    CheckName{CheckId::host_sleep, "host-sleep"},
    CheckName{CheckId::absent, "absent"},
    CheckName{CheckId::dead_device, "dead-device"},
    CheckName{CheckId::bdf_moved, "bdf-moved"},
    CheckName{CheckId::quarantined, "quarantined"},
    CheckName{CheckId::group_held, "group-held", true},
    CheckName{CheckId::pf_in_use, "pf-in-use", true},
    CheckName{CheckId::vfs_in_use, "vfs-in-use", true},
    CheckName{CheckId::mdevs_present, "mdevs-present", true},
    CheckName{CheckId::boot_vga, "boot-vga"},
    CheckName{CheckId::console_active, "console-active"},
    CheckName{CheckId::framebuffer_on_bar, "framebuffer-on-bar"},
    CheckName{CheckId::disk_mounted, "disk-mounted"},
    CheckName{CheckId::default_route, "default-route"},
    CheckName{CheckId::group_not_viable, "group-not-viable"},
    CheckName{CheckId::device_busy, "device-busy", true},
    CheckName{CheckId::amdgpu_rebind, "amdgpu-rebind"},
    CheckName{CheckId::rmrr, "rmrr"},
    CheckName{CheckId::no_reset, "no-reset"},
    CheckName{CheckId::dirty, "dirty", true},
    CheckName{CheckId::d3cold, "d3cold"},
    CheckName{CheckId::link_degraded, "link-degraded"},
    CheckName{CheckId::numa_unknown, "numa-unknown"},
    CheckName{CheckId::rom, "rom"},
    CheckName{CheckId::fabric_partition, "fabric-partition"},
    CheckName{CheckId::fabric_manager, "fabric-manager"},
    CheckName{CheckId::peer_path, "peer-path"},
    CheckName{CheckId::mmio_window, "mmio-window"},
    CheckName{CheckId::iommu_width, "iommu-width"},
    CheckName{CheckId::reserved_memory, "reserved-memory"},
    CheckName{CheckId::amd_hole, "amd-hole"},
    CheckName{CheckId::memlock, "memlock"},
    CheckName{CheckId::huge_pages, "huge-pages"},
    CheckName{CheckId::choice, "choice"},
    CheckName{CheckId::placement, "placement"},
};
static_assert(kCheckNames.size() == static_cast<std::size_t>(CheckId::placement) + 1);
static_assert([] {
  for (std::size_t each = 0; each < kCheckNames.size(); ++each)
    if (static_cast<std::size_t>(kCheckNames[each].id) != each) return false;
  return true;
}());

/// Rows being collected, all of one GPU or all of the host.
class CheckRows {
 public:
  explicit CheckRows(std::string address) : address_(std::move(address)) {}
  void ok(CheckId id, std::string seen) { add(id, Health::ok, std::move(seen), {}); }
  void warn(CheckId id, std::string seen, std::string remedy) {
    add(id, Health::warn, std::move(seen), std::move(remedy));
  }
  void fail(CheckId id, std::string seen, std::string remedy) {
    add(id, Health::fail, std::move(seen), std::move(remedy));
  }
  [[nodiscard]] std::vector<GpuCheck> take() { return std::move(rows_); }

 private:
  void add(CheckId id, Health health, std::string seen, std::string remedy) {
    const std::string_view name = kCheckNames[static_cast<std::size_t>(id)].name;
    rows_.push_back({address_, std::string(name), health, std::move(seen), std::move(remedy)});
  }
  std::string address_;
  std::vector<GpuCheck> rows_;
};

/// One GPU under examination: what each group of rows looks at.
struct CheckCase {
  const GpuFacts& facts;
  const Gpu& gpu;
  const PciFunction& function;
  const CheckFor& wanted;
  /// The GPU with its companions, and what shares its group: what is lost to the host when a VM has it.
  std::vector<std::string> own, group;
  /// The part of the GPU that the VM gets is made by its host driver: the GPU itself is not taken.
  [[nodiscard]] bool is_parent() const { return wanted.kind != GpuKind::gpu && function.physical_function.empty(); }
};

[[nodiscard]] CheckCase check_case(const GpuFacts& facts, const Gpu& gpu, const PciFunction& function,
                                   const CheckFor& wanted);

// Who has it, and what else is in its group.
void check_holders(CheckRows& rows, const CheckCase& each);
void check_device_users(CheckRows& rows, const CheckCase& each);
void check_group(CheckRows& rows, const CheckCase& each);
void check_reserved(CheckRows& rows, const CheckCase& each);
// What the host shows on it.
void check_console(CheckRows& rows, const CheckCase& each);
// The device itself.
void check_identity(CheckRows& rows, const CheckCase& each);
void check_function(CheckRows& rows, const CheckCase& each);
// Rows that depend on the VM and on the GPUs that it gets together; a choice makes them of a whole set.
void check_together(CheckRows& rows, const CheckCase& each);
/// Those alone.
[[nodiscard]] std::vector<GpuCheck> check_gpu_together(const GpuFacts& facts, const Gpu& gpu, const CheckFor& wanted);
/// All others: rows that do not depend on which GPUs the VM gets besides.
[[nodiscard]] std::vector<GpuCheck> check_gpu_alone(const GpuFacts& facts, const Gpu& gpu, const CheckFor& wanted);

/// A failing row of \p id says that somebody has the GPU, not that it is unfit.
[[nodiscard]] bool is_holder_check(std::string_view id);

/// "0000:41:00.1 (snd_hda_intel)".
[[nodiscard]] std::string with_driver(const PciFunction& function);
/// A few of \p words, and how many more there are: "a, b and 3 more".
[[nodiscard]] std::string some_of(const std::vector<std::string>& words, std::string_view separator = ", ");
/// The functions that a VM with the GPUs at \p addresses gets, companions included.
[[nodiscard]] std::vector<std::string> functions_of(const GpuFacts& facts, const std::vector<std::string>& addresses);

/// The GPU hangs on an NVSwitch fabric: a partition names it, or it is NVIDIA's and the board has NVSwitches.
[[nodiscard]] bool is_on_fabric(const HostDevices& devices, const std::string& address);
/// Whether the fabric joins the GPUs at \p addresses: at most one of them is on it, or they are exactly one partition.
[[nodiscard]] bool fabric_joins(const HostDevices& devices, const std::vector<std::string>& addresses);

}  // namespace vmgraft

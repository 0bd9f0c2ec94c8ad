// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vmgraft {

/// A PCI function of the host, handed to a VM.
struct PassedFunction {
  std::string address;             ///< on the host
  bool is_visible = true;          ///< false: taken along for its group, kept from the guest (<address type='unassigned'/>)
  unsigned guest_function = 0;     ///< in the guest's slot; companions stand beside the GPU
};

/// One GPU in the guest: a root port of its own with its functions on it, or a mediated device.
struct PassedGpu {
  std::vector<PassedFunction> functions;   ///< the GPU first; empty: a mediated device
  std::string mdev;                        ///< UUID of the mediated device; empty: functions are passed
  std::optional<unsigned> guest_cell;      ///< its root port stands on a pxb-pcie of this guest NUMA cell
  std::optional<unsigned> clique;          ///< GPUDirect clique number; NVIDIA only, and only when asked for
  bool rom_bar = false;
};

struct VcpuPin {
  unsigned vcpu = 0;
  std::vector<unsigned> host_cpus;
};

/// A NUMA cell of the guest.
struct GuestCell {
  std::vector<unsigned> vcpus;
  std::uint64_t memory = 0;                ///< bytes
  unsigned host_node = 0;
};

/// What is done for speed, on this host. Everything empty: nothing.
struct HostTuning {
  std::vector<VcpuPin> vcpus;
  std::vector<unsigned> emulator_cpus;     ///< emulator and iothreads
  unsigned iothreads = 0;
  std::uint64_t huge_page = 0;             ///< bytes; 0: none
  std::vector<unsigned> memory_nodes;      ///< numatune strict nodeset; empty: none
  bool locked = false;
  unsigned prealloc_threads = 0;           ///< 0: no immediate allocation
  std::vector<GuestCell> cells;            ///< guest NUMA; empty: none
};

/// What the domain XML of a VM gets for its GPUs, for one start.
struct Placement {
  std::vector<PassedGpu> gpus;
  HostTuning tuning;
  bool passthrough_physical_bits = false;  ///< <maxphysaddr mode='passthrough'/>; kvm only, libvirt 8.7
  std::uint64_t pci_hole64 = 0;            ///< bytes of 64-bit MMIO window; 0: the default
  std::uint64_t ovmf_window = 0;           ///< MiB for OVMF's X-PciMmio64Mb by -fw_cfg, only where physical bits do not do; 0: none
  bool is_kvm = false;
  std::vector<std::string> done;           ///< in words, for `show`: "vCPUs 0-15 on cores 0-15 of node 1"
  std::vector<std::string> not_done;       ///< "no huge pages: node 1 has 12 GiB free of 64 GiB"
};

/// The domain with its GPUs and tuning: what is started. Devices keep the addresses they have.
/// What the user wrote into the definition wins where the VM works with either: a CPU model, <maxphysaddr>, each of
/// <vcpupin>, <emulatorpin>, <iothreads>, <numatune> and the children of <memoryBacking>; what was left undone for it is
/// told with not_done. Our notes go into our metadata element: read_placement_notes().
/// \param xml  the inactive definition, as libvirt tells it.
/// \throws Error other: the XML cannot be read; is not of a q35 machine; is of another size than was placed; a device has
///               no address or UUID yet; or the definition has NUMA cells, a smaller <pcihole64>, or one of the devices
///               itself.
[[nodiscard]] std::string with_placement(const std::string& xml, const Placement& placement);

/// done and not_done of the placement that a running domain was started with. \param xml  its live XML.
[[nodiscard]] std::pair<std::vector<std::string>, std::vector<std::string>> read_placement_notes(
    const std::string& xml);

/// Host CPUs that a vCPU of the domain has for its own: those of a <vcpupin> to just one. Sorted.
[[nodiscard]] std::vector<unsigned> read_pinned_cpus(const std::string& xml);

/// One <hostdev> for a hot plug: a function alone on its root port, as function 0. libvirt hot-plugs no other ("Only PCI
/// device addresses with function=0 are supported"), so a visible companion wants a port of its own.
/// \param function  index in gpu.functions; 0 for a mediated device.
/// \param alias  "ua-gpu<index of the GPU in the VM>-<function>", as with_placement() gives.
/// \param port  PCI controller index of the free root port it goes on.
/// \throws Error other: the function has no address, or the mediated device no UUID.
[[nodiscard]] std::string hostdev_xml(const PassedGpu& gpu, std::size_t function, const std::string& alias, unsigned port);

/// A <hostdev> of a domain.
struct DomainHostdev {
  std::string alias;           ///< "ua-gpu0-0"; empty: libvirt gave none
  std::string address;         ///< of a PCI function of the host; empty: another kind
  std::string mdev;            ///< UUID of a mediated device; empty: another kind
  unsigned port = 0;            ///< index of the controller it stands on
  unsigned guest_function = 0;  ///< of its slot there
};

/// Every <hostdev>, and every <interface type='hostdev'>, which is one too.
[[nodiscard]] std::vector<DomainHostdev> read_hostdevs(const std::string& xml);

/// What there is in a running guest for devices that are plugged in.
struct GuestRoom {
  std::vector<unsigned> ports;               ///< indices of the pcie-root-ports on which nothing stands
  std::map<unsigned, unsigned> port_cells;   ///< each port on a pxb-pcie, free or not -> the guest NUMA cell of that
  std::map<unsigned, unsigned> cells;     ///< node of the host -> the guest NUMA cell that has its memory there
  std::optional<std::uint64_t> window;    ///< bytes of 64-bit MMIO window, <pcihole64>; absent: the machine's own

  /// Nothing: it stands on the root bus.
  [[nodiscard]] std::optional<unsigned> cell_of(unsigned port) const;
  /// A free port in \p cell, else one of no cell, else any. Nothing: none is free.
  [[nodiscard]] std::optional<unsigned> take_port(const std::optional<unsigned>& cell);
};

/// \param xml  of the running domain. \throws Error other: the XML cannot be read.
[[nodiscard]] GuestRoom read_guest_room(const std::string& xml);

}  // namespace vmgraft

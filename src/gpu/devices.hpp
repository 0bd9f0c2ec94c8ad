// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <vmgraft/gpu.hpp>

#include "host/host.hpp"
#include "store/gpu_config.hpp"

namespace vmgraft {

/// NVIDIA, as a PCI vendor.
inline constexpr std::uint16_t kNvidia = 0x10de;

struct PciBar {
  unsigned index = 0;          ///< 0-5
  std::uint64_t start = 0;
  std::uint64_t size = 0;      ///< bytes
  bool is_memory = true;
  bool is_64bit = false;
  bool is_prefetchable = false;
  friend bool operator==(const PciBar&, const PciBar&) = default;
};

/// One PCI function, as sysfs tells it. What sysfs does not tell is absent, empty or -1.
struct PciFunction {
  std::string address;                    ///< "0000:41:00.0"
  std::uint32_t class_code = 0;           ///< 0x030200
  std::uint16_t vendor = 0, device = 0, subsystem_vendor = 0, subsystem_device = 0;
  std::string driver;                     ///< empty: none
  std::string driver_override;            ///< empty: unset ("(null)")
  std::optional<unsigned> iommu_group;
  int numa_node = -1;
  bool boot_vga = false;
  std::vector<PciBar> bars;               ///< those with a size
  GpuLink link;
  std::vector<std::string> reset_methods;
  unsigned most_vfs = 0, vfs = 0;
  std::string physical_function;
  std::vector<std::string> virtual_functions;
  std::vector<GpuMdevType> mdev_types;
  std::vector<std::string> mdevs;         ///< UUIDs made on it
  std::vector<std::string> path;          ///< bridges above, the root port first
  std::string power_state;                ///< "D0", "D3hot" ...
  std::string d3cold_allowed;             ///< "0", "1"
  std::string power_control;              ///< "auto": it may be suspended when idle; "on"
  bool answers = true;                    ///< config space holds a vendor other than 0xffff
  std::vector<std::string> nodes;         ///< device nodes of its driver: "/dev/dri/card1", "/dev/nvidia0", "/dev/snd/..."
  [[nodiscard]] bool is_bridge() const { return (class_code >> 16) == 0x06 && ((class_code >> 8) & 0xff) == 0x04; }
  /// Joins the GPUs of an SXM board.
  [[nodiscard]] bool is_nvswitch() const { return vendor == kNvidia && (class_code >> 8) == 0x0680; }
  /// "0000:41:00", the slot that its functions share.
  [[nodiscard]] std::string slot() const { return address.substr(0, address.size() - 2); }
};

struct IommuGroup {
  unsigned number = 0;
  std::vector<std::string> members;       ///< addresses, sorted
  std::string type;                       ///< "DMA-FQ", "identity"
  struct Reserved {
    std::uint64_t start = 0, end = 0;     ///< inclusive
    std::string type;                     ///< "msi", "direct", "direct-relaxable", "reserved"
  };
  std::vector<Reserved> reserved;
};

/// The PCI side of the host: its GPUs, everything in their slots and groups, and the bridges above them.
struct HostDevices {
  std::vector<PciFunction> functions;     ///< by address
  std::vector<std::string> gpus;          ///< addresses of those that count as GPUs, VFs of them included
  std::map<unsigned, IommuGroup> groups;
  bool has_iommu = false;
  GpuConfig config;
  [[nodiscard]] const PciFunction* find(const std::string& address) const;
};

/// "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", as mediated devices are named.
[[nodiscard]] bool is_mdev_uuid(std::string_view name);

/// A function that vanishes while it is read is left out. Reads the class of every function, more only of those that matter.
[[nodiscard]] HostDevices read_devices(Host& host, GpuConfig config);

/// Nothing when there is no such function (any more).
[[nodiscard]] std::optional<PciFunction> read_function(Host& host, const std::string& address);

/// A process that has a device open.
struct DeviceUser {
  std::string address;        ///< the function whose node it is
  int pid = 0;
  std::string command;        ///< /proc/PID/comm
  unsigned uid = 0;
  std::string node;           ///< "/dev/dri/card1", "/dev/vfio/7"
};

/// Who has the function's own nodes open or mapped; those of its IOMMU group are not asked about.
[[nodiscard]] std::vector<DeviceUser> read_users(Host& host, const PciFunction& function);

/// Who uses the functions on the host, beside libvirt's domains.
struct HostUse {
  std::vector<DeviceUser> users;                       ///< /proc/*/fd and /proc/*/maps
  std::map<std::string, std::string> mounted;          ///< function -> "/ (nvme0n1p2)", a file system or swap on it
  std::map<std::string, std::string> default_route;    ///< function -> NIC that carries the default route
  std::map<std::string, std::string> framebuffers;     ///< function -> "efifb", whose memory lies in its BARs (/proc/iomem)
  bool has_fabric_manager = false;                     ///< nv-fabricmanager runs; asked only where there are NVSwitches
  std::set<std::string> redirecting;  ///< ports of switches that send up to the IOMMU what GPUs below copy (ACS)
  std::set<std::string> with_ats;     ///< GPUs whose copies such a port lets through
  std::map<std::string, std::string> consoles;         ///< function -> connector that is connected and enabled: "HDMI-A-1"
};

/// \param addresses  the functions asked about: GPUs and all of their groups.
[[nodiscard]] HostUse read_use(Host& host, const HostDevices& devices, const std::vector<std::string>& addresses);

struct HugePages {
  std::uint64_t page_size = 0;   ///< bytes
  std::uint64_t free = 0;        ///< pages
  std::uint64_t total = 0;
};

/// A NUMA node of the host.
struct HostNode {
  unsigned number = 0;
  std::vector<unsigned> cpus;                     ///< online, sorted
  std::vector<std::vector<unsigned>> cores;       ///< the same, hyper-threads of one core together
  std::uint64_t memory = 0, free_memory = 0;      ///< bytes
  std::vector<HugePages> huge_pages;              ///< largest page first
};

/// What of the host matters to passthrough beside the devices.
struct HostSettings {
  bool is_root = true;
  std::string command_line;            ///< /proc/cmdline
  bool acs_override = false;           ///< pcie_acs_override= on it: groups that no hardware separates
  bool unsafe_interrupts = false;      ///< vfio_iommu_type1 allow_unsafe_interrupts=Y
  bool noiommu = false;                ///< vfio enable_unsafe_noiommu_mode=Y
  bool has_vfio = false;               ///< vfio-pci is loaded or built in, or its module is there for this kernel
  std::string vfio_forbidden;          ///< "FILE:LINE: install vfio-pci /bin/false" that keeps it from being loaded; else empty
  std::optional<bool> has_vfio_node;   ///< /dev/vfio/vfio, once vfio-pci is loaded and where there is a /dev at all
  std::optional<FileInfo> vfio_node;   ///< of /dev/vfio/vfio, when it is there and asked for: who may open it
  std::string qemu_user;               ///< `user` in /etc/libvirt/qemu.conf; empty: libvirt's default, or not told
  bool has_dynamic_ownership = true;   ///< libvirt gives QEMU's user the nodes of devices; dynamic_ownership there
  std::string sleep_states;            ///< /sys/power/state: "freeze mem disk"; empty: it cannot sleep
  bool is_sleep_masked = false;        ///< systemd's sleep.target leads to /dev/null
  std::string lockdown;                ///< "none", "integrity", "confidentiality"; empty: not told
  std::optional<unsigned> physical_bits;  ///< /proc/cpuinfo "address sizes"
  std::optional<unsigned> iommu_bits;     ///< of the narrowest IOMMU, where sysfs tells (intel-iommu cap: MGAW)
  std::string kernel;                  ///< "6.1.0-18-amd64"
  std::vector<std::string> hooks;      ///< files below /etc/libvirt/hooks that run for qemu
  std::uint64_t memory = 0;            ///< bytes of RAM
  std::vector<HostNode> nodes;         ///< at least one
};

[[nodiscard]] HostSettings read_settings(Host& host);

/// Names of vendors and devices. Source: pci.ids (hwdata), searched and not loaded: it has 1.4 MB.
/// Not for several threads at once: it remembers what it found, as the GPUs of a host are mostly of one kind.
class PciNames {
 public:
  explicit PciNames(Host& host);
  /// "NVIDIA Corporation GH100 [H100 SXM5 80GB]"; the vendor and "vvvv:dddd" when only that is known; "vvvv:dddd" else.
  [[nodiscard]] std::string name(std::uint16_t vendor, std::uint16_t device) const;

 private:
  [[nodiscard]] std::string look_up(std::uint16_t vendor, std::uint16_t device) const;

  std::string text_;
  mutable std::map<std::pair<std::uint16_t, std::uint16_t>, std::string> known_;
};

/// "10de:2330".
[[nodiscard]] std::string pci_id(std::uint16_t vendor, std::uint16_t device);

/// "0-3,8-11" to numbers, sorted; what is malformed is left out.
[[nodiscard]] std::vector<unsigned> parse_cpu_list(const std::string& text);
/// The other way round.
[[nodiscard]] std::string format_cpu_list(const std::vector<unsigned>& cpus);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <sstream>

#include "gpu/check_rows.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

void check_vfio(CheckRows& rows, const GpuFacts& facts) {
  const HostSettings& host = facts.settings;
  if (facts.devices.has_iommu)
    rows.ok(CheckId::no_iommu, std::to_string(facts.devices.groups.size()) + " IOMMU groups");
  else
    rows.fail(CheckId::no_iommu, "the kernel has no IOMMU groups, so no device can be given to a VM",
              "switch on VT-d or AMD-Vi (IOMMU) in the firmware setup; on Intel boot with intel_iommu=on");
  if (host.has_vfio && !host.vfio_forbidden.empty())
    rows.fail(CheckId::no_vfio, "vfio-pci is not loaded, and cannot be: " + printable(host.vfio_forbidden),
              "take that line out");
  else if (host.has_vfio)
    rows.ok(CheckId::no_vfio, "vfio-pci is there for kernel " + printable(host.kernel));
  else
    rows.fail(CheckId::no_vfio, "kernel " + printable(host.kernel) + " has no module vfio-pci",
              "install the modules of this kernel");
  if (!host.has_vfio_node) return;
  if (*host.has_vfio_node)
    rows.ok(CheckId::no_vfio_node, "/dev/vfio/vfio is there");
  else
    rows.fail(CheckId::no_vfio_node, "vfio-pci is loaded, but /dev/vfio/vfio is not there: no VM could open a device",
              "in a container, give it /dev/vfio (and leave its devices and locked memory unlimited); else mount "
              "devtmpfs on /dev");
}

// libvirt's system daemon gives QEMU's user the node of a group, /dev/vfio/7, and lets its cgroup pass both. The node that
// all groups share it leaves as it is: the kernel makes it for everybody. Source: virSecurityDACSetHostdevLabel.
void check_access(CheckRows& rows, const HostSettings& host) {
  if (!host.vfio_node) return;
  const std::string& user = host.qemu_user;
  if (user == "root" || user == "0" || user == "+0")
    return rows.ok(CheckId::vfio_access, "QEMU runs as root: it may open what it is given");
  constexpr unsigned kEverybody = 0006, kOwnerOnly = 0066;
  const unsigned mode = host.vfio_node->mode & 0777;
  if ((mode & kEverybody) != kEverybody) {
    std::ostringstream seen;
    seen << "/dev/vfio/vfio is of mode 0" << std::oct << mode << std::dec << ", user " << host.vfio_node->uid
         << " and group " << host.vfio_node->gid << ": ";
    const std::string remedy =
        "chmod 666 /dev/vfio/vfio, as the kernel makes it; a udev rule or the container has made it otherwise";
    if (!user.empty() && host.vfio_node->uid == 0 && (mode & kOwnerOnly) == 0)
      return rows.fail(CheckId::vfio_access, seen.str() + "QEMU, which runs as '" + printable(user) + "', cannot open it",
                       remedy);
    return rows.warn(CheckId::vfio_access, seen.str() + "QEMU's user may not be among those that can open it", remedy);
  }
  if (host.has_dynamic_ownership)
    return rows.ok(CheckId::vfio_access, "everybody may open /dev/vfio/vfio, and libvirt gives QEMU's user the group's node");
  rows.warn(CheckId::vfio_access,
            "dynamic_ownership = 0 in /etc/libvirt/qemu.conf: libvirt does not give QEMU's user the node of a group",
            "take that line out, or give that user the nodes by a udev rule: SUBSYSTEM==\"vfio\", OWNER=\"USER\"");
}

// What makes the wall between the VM and the rest of the host thinner than it looks.
void check_isolation(CheckRows& rows, const HostSettings& host) {
  if (host.noiommu)
    rows.fail(CheckId::noiommu, "vfio runs in its no-IOMMU mode: a VM with a device could read and write all memory",
              "load vfio without enable_unsafe_noiommu_mode=Y");
  else
    rows.ok(CheckId::noiommu, "vfio's no-IOMMU mode is off");
  if (host.unsafe_interrupts)
    rows.warn(
        CheckId::unsafe_interrupts,
        "allow_unsafe_interrupts=Y: a VM with a device can raise interrupts of the host; bearable when all VMs are "
        "one tenant's",
        "switch on interrupt remapping (x2APIC, VT-d) in the firmware setup and take the parameter away");
  else
    rows.ok(CheckId::unsafe_interrupts, "interrupts of devices are remapped");
  if (host.acs_override)
    rows.warn(CheckId::acs_override,
              "pcie_acs_override on the kernel's command line splits IOMMU groups that no hardware separates; bearable "
              "when all VMs are one tenant's",
              "boot without it, and put the GPU into a slot that has a group of its own");
  else
    rows.ok(CheckId::acs_override, "IOMMU groups are as the hardware separates them");
}

void check_hooks(CheckRows& rows, const HostSettings& host) {
  if (host.hooks.empty()) return rows.ok(CheckId::hooks_present, "libvirt runs no hooks of its own for VMs");
  std::vector<std::string> files;
  for (const std::string& each : host.hooks) files.push_back(printable(each));
  rows.warn(CheckId::hooks_present,
            "libvirt runs hooks at each start of a VM: " + some_of(files) +
                "; one that calls virsh or binds drivers deadlocks or undoes what vmgraft does",
            "see that they leave vmgraft's VMs alone, or move them away");
}

// libvirt keeps no host awake, and a GPU that a VM has is put to sleep without that VM's driver.
void check_sleep(CheckRows& rows, const HostSettings& host) {
  if (host.sleep_states.empty()) return rows.ok(CheckId::host_sleep, "the kernel knows no way to sleep");
  if (host.is_sleep_masked) return rows.ok(CheckId::host_sleep, "sleep.target is masked");
  rows.warn(CheckId::host_sleep,
            "the host can be put to sleep (" + printable(host.sleep_states) + "): a VM that has a GPU then hangs",
            "systemctl mask sleep.target suspend.target hibernate.target hybrid-sleep.target");
}

void check_surroundings(CheckRows& rows, const HostSettings& host) {
  if (host.lockdown.empty() || host.lockdown == "none")
    rows.ok(CheckId::lockdown, "the kernel is not locked down");
  else
    rows.warn(CheckId::lockdown,
              "the kernel is locked down (" + printable(host.lockdown) +
                  "): passthrough works, unsigned modules such as vendor-reset do not",
              "for a GPU that needs such a module, sign it or switch off Secure Boot");
  check_hooks(rows, host);
  check_sleep(rows, host);
}

}  // namespace

std::vector<GpuCheck> check_host(const GpuFacts& facts) {
  CheckRows rows({});
  if (facts.settings.is_root)
    rows.ok(CheckId::not_root, "running as root");
  else
    rows.fail(CheckId::not_root, "not running as root: drivers cannot be bound, and users of a GPU cannot be seen",
              "run vmgraft as root, with libvirt's system daemon: sudo vmgraft");
  check_vfio(rows, facts);
  check_access(rows, facts.settings);
  check_isolation(rows, facts.settings);
  check_surroundings(rows, facts.settings);
  return rows.take();
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gpu/check_rows.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

constexpr std::uint16_t kAmd = 0x1002;

std::string words(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& each : all) text += (text.empty() ? "" : ", ") + printable(each);
  return text;
}

std::string return_force(const CheckCase& each) {
  return "vmgraft gpu return " + printable(each.gpu.address) + " --force";
}

void check_quarantine(CheckRows& rows, const CheckCase& each) {
  if (each.gpu.state != GpuState::quarantined) return rows.ok(CheckId::quarantined, "its last release did not fail");
  rows.fail(CheckId::quarantined, "kept from VMs since its last release failed: " + printable(each.gpu.note),
            "see that it is well (dmesg, the vendor's tool), then: " + return_force(each));
}

// What vmgraft knows of the address: since the boot by its record, and for a VM that asks for it by that VM's manifest.
void check_moved(CheckRows& rows, const CheckCase& each) {
  const std::string identity = identity_of(each.function);
  bool has_moved = false;
  const auto expect = [&](const std::string& known, const std::string& remedy) {
    if (known.empty() || known == identity) return;
    has_moved = true;
    rows.fail(CheckId::bdf_moved,
              "is " + identity + ", but vmgraft knows " + printable(known) + " at this address: cards have moved",
              "see with vmgraft gpu list which card is where, then" + remedy);
  };
  if (each.wanted.spec != nullptr)
    for (const GpuSpec& asked : each.wanted.spec->gpus)
      if (asked.address == each.gpu.address)
        expect(asked.identity, " say which the VM is to get: vmgraft gpu request " +
                                   (each.wanted.vm.empty() ? "VM" : printable(each.wanted.vm)) + " ADDRESS");
  for (const GpuRecord& record : each.facts.records)
    if (record.address == each.gpu.address) expect(record.identity, ": " + return_force(each));
  if (!has_moved) rows.ok(CheckId::bdf_moved, "is " + identity);
}

// The kernel's "bus" method wants the bus for one function. vfio's hot reset does not, when all on the bus are ours.
bool can_hot_reset(const CheckCase& each) {
  if (each.function.path.empty() || !each.function.physical_function.empty()) return false;
  const std::string bus = each.function.address.substr(0, 8);  // "0000:41:"
  return std::all_of(each.facts.devices.functions.begin(), each.facts.devices.functions.end(), [&](const auto& other) {
    return !other.address.starts_with(bus) ||
           std::find(each.own.begin(), each.own.end(), other.address) != each.own.end();
  });
}

// amd/MxGPU-Virtualization#25: after the reset of the physical function it reads 0xff until the host boots.
bool is_lost_by_reset(const PciFunction& function) {
  return function.vendor == kAmd && function.physical_function.empty() &&
         (function.device == 0x74a1 || function.device == 0x75a3);  // MI300X, MI355X
}

// tinygrad#18199: a function-level reset of a GB202 never returns. Kernels that know leave it out: quirk_no_flr.
bool hangs_in_flr(const PciFunction& function) {
  const auto& methods = function.reset_methods;
  return function.vendor == kNvidia &&
         (function.device == 0x2b85 || function.device == 0x2b87 || function.device == 0x2b8c) &&
         std::find(methods.begin(), methods.end(), "flr") != methods.end();
}

void check_reset(CheckRows& rows, const CheckCase& each) {
  if (is_lost_by_reset(each.function))
    return rows.warn(CheckId::no_reset,
                     "a GPU of this model is known not to come back from a reset before the host boots",
                     "ask for a VF of it (kind=vf), which is reset by itself");
  if (hangs_in_flr(each.function))
    return rows.warn(CheckId::no_reset,
                     "an FLR of a GPU of this model (GB202) is known never to return, and this kernel would make one",
                     "leave it out: echo bus > /sys/bus/pci/devices/" + printable(each.gpu.address) +
                         "/reset_method; or boot a kernel that does (quirk_no_flr)");
  if (!each.function.reset_methods.empty())
    return rows.ok(CheckId::no_reset, "can be reset: " + words(each.function.reset_methods));
  if (can_hot_reset(each)) return rows.ok(CheckId::no_reset, "can be reset with its bus: all on it goes along");
  const std::string seen = "the kernel knows no way to reset it: what one VM leaves in its memory, the next one finds";
  if (each.wanted.spec != nullptr && each.wanted.spec->release != GpuRelease::reset)
    return rows.warn(CheckId::no_reset, seen, "give it to VMs of one tenant only");
  rows.fail(CheckId::no_reset, seen, "for VMs of one tenant only: \"release\": \"keep\" in the template");
}

void check_link(CheckRows& rows, const GpuLink& link) {
  if (link.width == 0 || link.most_width == 0) return;
  const std::string width = "x" + std::to_string(link.width);
  if (link.width >= link.most_width) return rows.ok(CheckId::link_degraded, "its link has all its lanes: " + width);
  rows.warn(CheckId::link_degraded, "its link has " + width + " of x" + std::to_string(link.most_width) + " lanes",
            "look at riser, slot and bifurcation; it works, but slower");
}

// What is placed beside a GPU needs to know where that is.
void check_node(CheckRows& rows, const CheckCase& each) {
  if (each.facts.settings.nodes.size() < 2) return;
  if (each.function.numa_node >= 0)
    return rows.ok(CheckId::numa_unknown, "on NUMA node " + std::to_string(each.function.numa_node));
  rows.warn(CheckId::numa_unknown,
            "the host has several NUMA nodes, and the firmware does not tell which one it is on: nothing is placed "
            "beside it, and numa=required never takes it",
            "update the firmware, or tell the kernel: echo NODE > /sys/bus/pci/devices/" +
                printable(each.function.address) + "/numa_node");
}

void check_power(CheckRows& rows, const CheckCase& each) {
  const std::string& state = each.function.power_state;
  if (state.empty()) return;
  if (state != "D3cold") return rows.ok(CheckId::d3cold, "power state " + printable(state));
  const std::string folder = "/sys/bus/pci/devices/" + printable(each.function.address);
  rows.warn(CheckId::d3cold, "its power is off (D3cold), and some GPUs do not wake up from that",
            "keep it awake: echo 0 > " + folder + "/d3cold_allowed; echo on > " + folder + "/power/control");
}

void check_rom(CheckRows& rows, const PciFunction& function) {
  if ((function.class_code >> 8) != 0x0300) return;
  if (!function.boot_vga) return rows.ok(CheckId::rom, "its option ROM is kept from the VM");
  rows.warn(
      CheckId::rom,
      "this host booted on it, so its option ROM reads back changed: it is kept from the VM, whose firmware shows "
      "nothing on it",
      "nothing for computing; a VM is watched with vmgraft console");
}

void check_amdgpu(CheckRows& rows, const PciFunction& function) {
  if (function.driver != "amdgpu") return;
  const auto& methods = function.reset_methods;
  if (std::find(methods.begin(), methods.end(), "device_specific") != methods.end())
    return rows.ok(CheckId::amdgpu_rebind, "on amdgpu, with a reset of its own");
  rows.fail(CheckId::amdgpu_rebind,
            "on amdgpu, which often crashes the kernel or leaves the GPU dead when it is unbound and bound again",
            "give it to VMs for good: boot with vfio-pci.ids=" + pci_id(function.vendor, function.device));
}

}  // namespace

void check_identity(CheckRows& rows, const CheckCase& each) {
  if (each.function.answers)
    rows.ok(CheckId::dead_device, "answers");
  else
    rows.fail(CheckId::dead_device, "does not answer: its configuration reads 0xffff",
              "power the host off and on; a reboot alone may not do");
  if (!each.is_parent()) {
    if (each.function.iommu_group)
      rows.ok(CheckId::no_iommu, "in IOMMU group " + std::to_string(*each.function.iommu_group));
    else
      rows.fail(CheckId::no_iommu, "is in no IOMMU group, so it cannot be given to a VM",
                "switch on VT-d or AMD-Vi (IOMMU) in the firmware setup; on Intel boot with intel_iommu=on");
  }
  check_moved(rows, each);
  check_quarantine(rows, each);
}

void check_console(CheckRows& rows, const CheckCase& each) {
  const bool is_forced = each.wanted.force_console;
  const std::string remedy = "show the host's console on another display, or none; --force-console gives it up";
  const auto boot = std::find_if(each.group.begin(), each.group.end(), [&](const std::string& address) {
    const PciFunction* function = each.facts.devices.find(address);
    return function != nullptr && function->boot_vga;
  });
  if (boot == each.group.end()) {
    rows.ok(CheckId::boot_vga, "this host did not boot on it");
  } else {
    const std::string seen = *boot == each.gpu.address
                                 ? "this host booted on it and has its console there (boot_vga)"
                                 : printable(*boot) + " of its IOMMU group has the host's console";
    // On vfio-pci since before: the console is gone already.
    if (is_forced || is_vfio_driver(each.facts.devices.find(*boot)->driver))
      rows.warn(CheckId::boot_vga, seen, "nothing: the console goes dark, or is so already");
    else
      rows.fail(CheckId::boot_vga, seen, remedy);
  }
  const auto connector = each.facts.use.consoles.find(each.gpu.address);
  if (connector == each.facts.use.consoles.end())
    rows.ok(CheckId::console_active, "shows nothing on a display");
  else if (is_forced)
    rows.warn(CheckId::console_active, "a display is on at its " + printable(connector->second),
              "nothing: it goes dark");
  else
    rows.fail(CheckId::console_active, "a display is on at its " + printable(connector->second), remedy);
  const auto framebuffer = each.facts.use.framebuffers.find(each.gpu.address);
  if (framebuffer == each.facts.use.framebuffers.end())
    return rows.ok(CheckId::framebuffer_on_bar, "no framebuffer of the host lies in its memory");
  rows.fail(CheckId::framebuffer_on_bar,
            "the host's framebuffer " + printable(framebuffer->second) +
                " lies in its memory: the VM would start, and its driver fail",
            "boot the host with initcall_blacklist=sysfb_init, or unbind the framebuffer: echo 0 > "
            "/sys/class/vtconsole/vtcon1/bind, then its device from /sys/bus/platform/drivers");
}

void check_function(CheckRows& rows, const CheckCase& each) {
  if (!each.is_parent()) {
    check_amdgpu(rows, each.function);
    check_reserved(rows, each);
    check_reset(rows, each);
  }
  // Leased, but in no running VM: that VM is being started this moment, or it has gone and its GPU was not reset yet.
  if (each.gpu.state == GpuState::dirty && each.gpu.vm_uuid != each.wanted.vm_uuid)
    rows.fail(CheckId::dirty, "leased to VM '" + printable(each.gpu.vm) + "', which does not have it (yet, or any more)",
              "a command is at work on that VM: wait for it; what a dead one left, the next vmgraft command releases");
  else
    rows.ok(CheckId::dirty, "no VM has left anything on it that is still to be reset");
  check_power(rows, each);
  check_link(rows, each.function.link);
  check_node(rows, each);
  if (!each.is_parent()) check_rom(rows, each.function);
}

}  // namespace vmgraft

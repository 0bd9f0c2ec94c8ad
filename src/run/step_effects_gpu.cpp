// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "domain/placement.hpp"
#include "gpu/devices.hpp"
#include "gpu/gpu.hpp"
#include "gpu/sysfs.hpp"
#include "model/names.hpp"
#include "run/step_effects.hpp"

namespace vmgraft {
namespace {

using std::chrono::seconds;

// The kernel's own limit is none: an unbind waits for the last user. What is not done by then is wedged.
constexpr seconds kBindDeadline{60};
constexpr seconds kAttributeDeadline{30};

std::string driver_of(Host& host, const std::string& address) {
  const std::optional<std::string> link = host.read_link(sysfs::device(address) + "/driver");
  return link ? std::filesystem::path(*link).filename().string() : std::string{};
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

std::string override_of(Host& host, const std::string& address) {
  const std::string text = trimmed(host.read_file(sysfs::device(address) + "/driver_override").value_or(""));
  return text == "(null)" ? std::string{} : text;
}

void require_there(Host& host, const std::string& address) {
  if (!host.stat(sysfs::device(address)))
    throw Error(Errc::host_unfit, fmt::format("PCI function {} is not there (any more)", address),
                "was the card taken out, or its virtual functions removed? lspci -D tells what there is");
}

/// What has been looked at when the verb began may be open by now, by a service that its driver's return woke up say;
/// and a driver lets a function go when its last user has ended, or tears it away.
void require_unused(Host& host, const std::string& address) {
  const std::optional<PciFunction> function = read_function(host, address);
  if (!function) return;
  const std::vector<DeviceUser> users = read_users(host, *function);
  if (users.empty()) return;
  const DeviceUser& first = users.front();
  throw Error(Errc::conflict,
              fmt::format("{} cannot leave {}: process {} ({}) has {} open", address, function->driver, first.pid,
                          printable(first.command), first.node),
              "end it, or stop the service that it belongs to");
}

/// Every write of these may succeed and do nothing: the only proof is the link afterwards.
void bind(Host& host, const std::string& address, const std::string& driver, const std::string& driver_override) {
  require_there(host, address);
  if (override_of(host, address) != driver_override)
    host.write_attribute(sysfs::device(address) + "/driver_override", driver_override + "\n", kAttributeDeadline);
  const std::string now = driver_of(host, address);
  if (now == driver) return;
  if (!now.empty() && !is_vfio_driver(now)) require_unused(host, address);
  if (!now.empty()) host.write_attribute(sysfs::device(address) + "/driver/unbind", address, kBindDeadline);
  if (!driver.empty()) host.write_attribute("/sys/bus/pci/drivers_probe", address, kBindDeadline);
  const std::string reached = driver_of(host, address);
  if (reached == driver) return;
  throw Error(Errc::host_unfit,
              fmt::format("{} should be on {}, but it is on {}", address, driver.empty() ? "no driver" : driver,
                          reached.empty() ? "no driver" : reached),
              driver.empty() ? "look at dmesg" : fmt::format("is the module of {} loaded? dmesg tells why it did not take it", driver));
}

/// An attribute of a PCI function, all that plans write: of one that is gone, that is said, and not which file is missing.
void write(Host& host, const std::string& path, const std::string& value) {
  require_there(host, path.substr(sysfs::device("").size(), std::string_view("0000:41:00.0").size()));
  if (trimmed(host.read_file(path).value_or("")) != value) host.write_attribute(path, value, kAttributeDeadline);
}

/// What the running domain has under that alias, by the host's name for it; empty: nothing.
std::string find_device(World& world, const std::string& uuid, const std::string& alias) {
  for (const DomainHostdev& device : read_hostdevs(world.hypervisor().domain_xml(uuid, false)))
    if (device.alias == alias) return device.address.empty() ? device.mdev : device.address;
  return {};
}

void plug_in(World& world, const std::string& uuid, const std::string& alias, const std::string& xml) {
  if (is_active(world.hypervisor().find_by_uuid(uuid)) && find_device(world, uuid, alias).empty()) world.hypervisor().attach_device(uuid, xml);
}

void take_out(World& world, const std::string& name, const std::string& uuid, const std::string& alias, seconds timeout) {
  if (!is_active(world.hypervisor().find_by_uuid(uuid))) return;
  const std::string device = find_device(world, uuid, alias);
  if (device.empty()) return;
  switch (world.hypervisor().detach_device(uuid, alias, timeout, world.interrupted)) {
    case DetachOutcome::removed:
    case DetachOutcome::vm_gone:
      return;
    case DetachOutcome::refused:
      throw Error(Errc::conflict, fmt::format("VM '{}': the guest refused to let {} go", name, device),
                  "something in the guest uses the GPU: stop it there, unload its driver, and try again");
    case DetachOutcome::interrupted:
      throw Error(Errc::interrupted, fmt::format("interrupted while VM '{}' was asked to let {} go; it may still do so", name, device));
    case DetachOutcome::timed_out:
      break;
  }
  throw Error(Errc::unreachable,
              fmt::format("VM '{}': the guest did not let {} go within {} s", name, device, timeout.count()),
              "is its system up, and does its kernel know PCI hot-plug? Stop what uses the GPU in it, or give it longer with --timeout");
}

}  // namespace

void apply_step(World& world, const BindDriver& step) { bind(world.host, step.address, step.driver, step.driver_override); }
void undo_step(World& world, const BindDriver& step) {
  bind(world.host, step.address, step.from_driver, step.from_override);
}

void apply_step(World& world, const WriteAttribute& step) { write(world.host, step.path, step.value); }
void undo_step(World& world, const WriteAttribute& step) { write(world.host, step.path, step.previous); }

void apply_step(World& world, const MakeMdev& step) {
  if (world.host.stat("/sys/bus/mdev/devices/" + step.uuid)) return;
  world.host.write_attribute(fmt::format("{}/mdev_supported_types/{}/create", sysfs::device(step.parent), step.type),
                             step.uuid, kAttributeDeadline);
}
void undo_step(World& world, const MakeMdev& step) { apply_step(world, RemoveMdev{step.uuid}); }

void apply_step(World& world, const RemoveMdev& step) {
  const std::string folder = "/sys/bus/mdev/devices/" + step.uuid;
  if (world.host.stat(folder)) world.host.write_attribute(folder + "/remove", "1", kAttributeDeadline);
}

void apply_step(World& world, const DetachDevice& step) {
  take_out(world, step.name, step.uuid, step.alias, seconds(step.timeout));
}
void undo_step(World& world, const DetachDevice& step) { plug_in(world, step.uuid, step.alias, step.xml); }

void apply_step(World& world, const AttachDevice& step) { plug_in(world, step.uuid, step.alias, step.xml); }
void undo_step(World& world, const AttachDevice& step) {
  take_out(world, step.name, step.uuid, step.alias, kBindDeadline);
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "domain/device_xml.hpp"

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "model/names.hpp"

namespace vmgraft {
namespace {

// virtio-blk carries 20 bytes of serial; QEMU cuts the rest without a word.
constexpr std::size_t kSerialLength = 20;

// On q35 a device is hot-plugged into a root port, and root ports are not hot-plugged: what is wanted later must be
// there from the start.
constexpr std::size_t kSparePorts = 4;

void add_controllers(xmlNode* devices, const DomainConfig& config) {
  // Nothing of ours is on USB; without a controller the guest does not look for any.
  xml::add(devices, "controller", {{"type", "usb"}, {"model", "none"}});
  xml::add(devices, "controller", {{"type", "pci"}, {"model", "pcie-root"}});
  // libvirt fills these first and only then adds its own, so count a port for each device to keep four spare: the
  // disks, NICs, what the template adds, and the agent's virtio-serial controller, the balloon and the random source.
  const std::size_t taken = config.disks.size() + config.nics.size() + config.extra_devices.size() + 3;
  for (std::size_t i = 0; i < taken + kSparePorts; ++i) {
    xml::add(devices, "controller", {{"type", "pci"}, {"model", "pcie-root-port"}});
  }
}

void add_disk(xmlNode* devices, const DomainConfig& config, const DomainDisk& disk, bool is_boot_disk) {
  xmlNode* element = xml::add(devices, "disk", {{"type", "file"}, {"device", "disk"}});
  // writeback is what QEMU does by itself: the guest's flushes are honoured, the host's page cache is shared by the
  // clones of one base, and no O_DIRECT is needed, which tmpfs and some others lack (cache='none').
  // Blocks that the guest trims or fills with zeros take no room in the layer.
  xml::add(element, "driver",
           {{"name", "qemu"},
            {"type", disk.format},
            {"cache", "writeback"},
            {"discard", "unmap"},
            {"detect_zeroes", "unmap"}});
  xmlNode* source = xml::add(element, "source", {{"file", disk.path}});
  if (config.own_labels) xml::add(source, "seclabel", {{"model", "dac"}, {"relabel", "no"}});
  xml::add(element, "target", {{"dev", disk.target}, {"bus", "virtio"}});
  if (!disk.serial.empty()) xml::add_text(element, "serial", disk.serial.substr(0, kSerialLength));
  // Per device and not <boot dev='hd'/>: the two cannot be mixed, and an extra device may want an order.
  if (is_boot_disk) xml::add(element, "boot", {{"order", "1"}});
}

void add_nic(xmlNode* devices, const DomainNic& nic) {
  const char* type = nullptr;
  switch (nic.kind) {
    case NetworkKind::nat:
    case NetworkKind::isolated:
      type = "network";
      break;
    case NetworkKind::bridge:
      type = "bridge";
      break;
    case NetworkKind::user:
      type = "user";  // plain SLIRP: Debian 12's libvirt refuses <backend type='passt'/>
      break;
    case NetworkKind::none:
      return;
  }
  xmlNode* element = xml::add(devices, "interface", {{"type", type}});
  if (!nic.mac.empty()) xml::add(element, "mac", {{"address", nic.mac}});
  if (nic.kind != NetworkKind::user) xml::add(element, "source", {{type, nic.source}});
  xml::add(element, "model", {{"type", "virtio"}});
  // We offer no network boot, so the firmware need not run the NIC's boot ROM.
  xml::add(element, "rom", {{"enabled", "no"}});
}

void add_serial(xmlNode* devices, const DomainConfig& config) {
  xmlNode* serial = xml::add(devices, "serial", {{"type", "pty"}});
  if (!config.console_log.empty()) xml::add(serial, "log", {{"file", config.console_log}, {"append", "on"}});
  xmlNode* target = xml::add(serial, "target", {{"type", "isa-serial"}, {"port", "0"}});
  xml::add(target, "model", {{"name", "isa-serial"}});
  // The same device again, by the name that virDomainOpenConsole looks for.
  xmlNode* console = xml::add(devices, "console", {{"type", "pty"}});
  xml::add(console, "target", {{"type", "serial"}, {"port", "0"}});
}

void add_small_devices(xmlNode* devices, const DomainConfig& config) {
  add_serial(devices, config);
  // Without a path libvirt makes one and gives the VM access to it.
  xmlNode* agent = xml::add(devices, "channel", {{"type", "unix"}});
  xml::add(agent, "target", {{"type", "virtio"}, {"name", "org.qemu.guest_agent.0"}});
  if (config.tpm) {
    xmlNode* tpm = xml::add(devices, "tpm", {{"model", "tpm-crb"}});
    xml::add(tpm, "backend", {{"type", "emulator"}, {"version", "2.0"}});
  }
  xml::add(xml::add(devices, "video"), "model", {{"type", "none"}});  // said, so that no default can add one
  xml::add(devices, "memballoon", {{"model", "virtio"}, {"freePageReporting", "off"}});
  xmlNode* rng = xml::add(devices, "rng", {{"model", "virtio"}});
  xml::set_attribute(xml::add_text(rng, "backend", "/dev/urandom"), "model", "random");
}

bool has_namespace(const xmlNode* element) {
  if (element->ns != nullptr || element->nsDef != nullptr) return true;
  for (const xmlAttr* attribute = element->properties; attribute != nullptr; attribute = attribute->next) {
    if (attribute->ns != nullptr) return true;
  }
  for (const xmlNode* node = element->children; node != nullptr; node = node->next) {
    if (node->type == XML_ELEMENT_NODE && has_namespace(node)) return true;
  }
  return false;
}

/// That of a VNC or SPICE console.
bool has_password(const xmlNode* element) {
  if (xml::attribute(element, "passwd")) return true;
  for (const xmlNode* node = element->children; node != nullptr; node = node->next)
    if (node->type == XML_ELEMENT_NODE && has_password(node)) return true;
  return false;
}

void add_extra_device(xmlNode* devices, const std::string& text, std::size_t index) {
  const auto refuse = [&](const std::string& why) {
    return Error(Errc::invalid_template,
                 fmt::format("/vm/xml/{}: '{}' is not a device element: {}", index, printable(text), why),
                 "write exactly one element of <devices>, such as <watchdog model='itco' action='reset'/>");
  };
  const xml::Parsed parsed = xml::parse(text);
  if (parsed.document == nullptr) throw refuse(parsed.why);
  if (has_namespace(xml::root_of(parsed.document))) throw refuse("it has an XML namespace");
  // The template goes into records and journals; and this message must not show it either.
  if (has_password(xml::root_of(parsed.document)))
    throw Error(Errc::invalid_template,
                fmt::format("/vm/xml/{}: <{}> has a password, which the VM's records would hold in clear text", index,
                            printable(xml::name_of(xml::root_of(parsed.document)))),
                "leave passwd out, and set it on the VM with virsh edit: vmgraft keeps that one and writes it nowhere");
  xml::add_copy(devices, xml::root_of(parsed.document));
}

}  // namespace

void add_seed(xmlNode* devices, const std::string& target, const std::string& path) {
  xmlNode* element = xml::add(devices, "disk", {{"type", "file"}, {"device", "cdrom"}});
  xml::add(element, "driver", {{"name", "qemu"}, {"type", "raw"}});
  // The seed may hold secrets and is one VM's alone: libvirt gives it to QEMU while the VM runs (no seclabel).
  xml::add(element, "source", {{"file", path}});
  xml::add(element, "target", {{"dev", target}, {"bus", "sata"}});
  xml::add(element, "readonly");
  xml::add_text(element, "serial", kSeedSerial);
}

void add_devices(xmlNode* domain, const DomainConfig& config) {
  xmlNode* devices = xml::add(domain, "devices");
  if (!config.emulator.empty()) xml::add_text(devices, "emulator", config.emulator);
  const bool boots_disk = config.firmware != Firmware::direct;
  for (const DomainDisk& disk : config.disks) {
    add_disk(devices, config, disk, boots_disk && &disk == &config.disks.front());
  }
  if (!config.seed.empty()) add_seed(devices, "sda", config.seed);
  add_controllers(devices, config);
  for (const DomainNic& nic : config.nics) add_nic(devices, nic);
  add_small_devices(devices, config);
  for (std::size_t i = 0; i < config.extra_devices.size(); ++i) add_extra_device(devices, config.extra_devices[i], i);
}

}  // namespace vmgraft

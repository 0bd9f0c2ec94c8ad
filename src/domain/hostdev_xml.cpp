// SPDX-License-Identifier: Apache-2.0
#include "domain/hostdev_xml.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/guest_pci.hpp"
#include "model/names.hpp"
#include "model/pci_address.hpp"

namespace vmgraft {
namespace {

/// Above any guest's addresses; what is more is no size of a window.
constexpr std::uint64_t kMostWindow = std::uint64_t{1} << 62;

void add_host_address(xmlNode* source, const std::string& text) {
  const std::optional<std::string> address = parse_pci_address(text);
  if (!address) {
    throw Error(Errc::other,
                fmt::format("'{}' is not the address of a PCI function (want 0000:41:00.0)", printable(text)));
  }
  xml::add(source, "address",
           {{"domain", "0x" + address->substr(0, 4)},
            {"bus", "0x" + address->substr(5, 2)},
            {"slot", "0x" + address->substr(8, 2)},
            {"function", "0x" + address->substr(11)}});
}

std::string read_host_address(const xmlNode* address) {
  std::array<unsigned, 4> numbers{};
  const std::array<const char*, 4> keys{"domain", "bus", "slot", "function"};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::string text = xml::attribute_or_empty(address, keys[i]);
    if (text.empty()) continue;  // libvirt takes 0 for what is left out
    const std::optional<unsigned> number = parse_pci_number(text);
    if (!number) return {};
    numbers[i] = *number;
  }
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", numbers[0], numbers[1], numbers[2], numbers[3]);
}

void fill_mediated(xmlNode* hostdev, const PassedGpu& gpu, const std::string& alias, unsigned port) {
  if (gpu.mdev.empty()) throw Error(Errc::other, "a mediated device of the VM has no UUID: it was not made yet");
  for (const auto& [key, value] : {std::pair{"mode", "subsystem"}, {"type", "mdev"}, {"model", "vfio-pci"}}) {
    xml::set_attribute(hostdev, key, value);
  }
  xml::add(xml::add(hostdev, "source"), "address", {{"uuid", gpu.mdev}});
  xml::add(hostdev, "alias", {{"name", alias}});
  add_guest_address(hostdev, {port, 0, 0}, false);
}

}  // namespace

std::string gpu_alias(std::size_t gpu, std::size_t function) {
  return fmt::format("ua-gpu{}-{}", gpu, function);
}

void fill_hostdev(xmlNode* hostdev, const PassedGpu& gpu, std::size_t function, const std::string& alias,
                  unsigned port) {
  if (gpu.functions.empty()) return fill_mediated(hostdev, gpu, alias, port);
  const PassedFunction& passed = gpu.functions.at(function);
  // managed='yes' would unbind inside libvirt, under its locks, and give the GPU back to the host at every stop.
  for (const auto& [key, value] : {std::pair{"mode", "subsystem"}, {"type", "pci"}, {"managed", "no"}}) {
    xml::set_attribute(hostdev, key, value);
  }
  xml::add(hostdev, "driver", {{"name", "vfio"}});
  add_host_address(xml::add(hostdev, "source"), passed.address);
  xml::add(hostdev, "alias", {{"name", alias}});
  if (!gpu.rom_bar) xml::add(hostdev, "rom", {{"bar", "off"}});
  if (!passed.is_visible) {
    xml::add(hostdev, "address", {{"type", "unassigned"}});
    return;
  }
  const auto visible = std::count_if(gpu.functions.begin(), gpu.functions.end(),
                                     [](const PassedFunction& other) { return other.is_visible; });
  // The guest looks for further functions only where function 0 says that there are.
  add_guest_address(hostdev, {port, 0, passed.guest_function}, passed.guest_function == 0 && visible > 1);
}

DomainHostdev read_hostdev(const xmlNode* device) {
  const xmlNode* address = xml::child(xml::child(device, "source"), "address");
  const bool is_nic = xml::name_of(device) == "interface";
  const std::string type = is_nic ? "pci" : xml::attribute_or_empty(device, "type");
  DomainHostdev hostdev;
  hostdev.alias = xml::attribute_or_empty(xml::child(device, "alias"), "name");
  const xmlNode* place = xml::child(device, "address");
  hostdev.port = parse_pci_number(xml::attribute_or_empty(place, "bus")).value_or(0);
  hostdev.guest_function = parse_pci_number(xml::attribute_or_empty(place, "function")).value_or(0);
  if (address == nullptr) return hostdev;
  if (type == "pci") hostdev.address = read_host_address(address);
  if (type == "mdev") hostdev.mdev = xml::attribute_or_empty(address, "uuid");
  return hostdev;
}

std::string hostdev_xml(const PassedGpu& gpu, std::size_t function, const std::string& alias, unsigned port) {
  const xml::Document document = xml::new_document("hostdev");
  PassedGpu alone = gpu;
  if (!gpu.functions.empty()) alone.functions = {{gpu.functions.at(function).address, true, 0}};
  fill_hostdev(xml::root_of(document), alone, 0, alias, port);
  return xml::to_text(document, true);
}

std::string host_device_of(const std::string& hostdev_xml) {
  const xml::Document document = xml::parse_or_throw(hostdev_xml, "hostdev", "a device to plug in");
  const DomainHostdev device = read_hostdev(xml::root_of(document));
  return device.address.empty() ? device.mdev : device.address;
}

std::vector<DomainHostdev> read_hostdevs(const std::string& xml) {
  const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
  const xmlNode* devices = xml::child(xml::root_of(document), "devices");
  std::vector<DomainHostdev> found;
  for (const xmlNode* device : xml::children(devices)) {
    const bool is_nic = xml::name_of(device) == "interface" && xml::attribute_or_empty(device, "type") == "hostdev";
    if (is_nic || xml::name_of(device) == "hostdev") found.push_back(read_hostdev(device));
  }
  return found;
}

GuestRoom read_guest_room(const std::string& xml) {
  const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
  const xmlNode* domain = xml::root_of(document);
  const xmlNode* devices = xml::child(domain, "devices");
  GuestRoom room;
  const GuestPci pci(devices);
  room.ports = pci.free_ports();
  room.port_cells = pci.port_cells();
  for (const xmlNode* node : xml::children(xml::child(domain, "numatune"), "memnode")) {
    // A set of several nodes is near none of them.
    const auto host_node = parse_pci_number(xml::attribute_or_empty(node, "nodeset"));
    const auto cell = parse_pci_number(xml::attribute_or_empty(node, "cellid"));
    if (host_node && cell) room.cells.emplace(*host_node, *cell);
  }
  for (const xmlNode* controller : xml::children(devices, "controller")) {
    const xmlNode* hole = xml::child(controller, "pcihole64");
    if (hole == nullptr || xml::attribute_or_empty(controller, "model") != "pcie-root") continue;
    const std::string text = xml::text_of(hole);  // libvirt tells KiB, in whatever unit it was given
    std::uint64_t size = 0;
    const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), size);
    if (failure == std::errc{} && stop == text.data() + text.size() && size < kMostWindow / 1024) room.window = size * 1024;
  }
  return room;
}

std::optional<unsigned> GuestRoom::cell_of(unsigned port) const {
  const auto found = port_cells.find(port);
  return found == port_cells.end() ? std::nullopt : std::optional(found->second);
}

std::optional<unsigned> GuestRoom::take_port(const std::optional<unsigned>& cell) {
  const auto find = [&](const std::optional<unsigned>& wanted) {
    return std::find_if(ports.begin(), ports.end(), [&](unsigned port) { return cell_of(port) == wanted; });
  };
  auto found = find(cell);
  if (found == ports.end()) found = find(std::nullopt);  // of no cell: better than of another one
  if (found == ports.end()) found = ports.begin();
  if (found == ports.end()) return std::nullopt;
  const unsigned port = *found;
  ports.erase(found);
  return port;
}

}  // namespace vmgraft

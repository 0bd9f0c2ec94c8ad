// SPDX-License-Identifier: Apache-2.0
#include "domain/guest_pci.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "model/names.hpp"

namespace vmgraft {
namespace {

// On q35 slot 0 is the host bridge and 0x1f the chipset, also where the XML does not say so.
constexpr unsigned kFirstSlot = 0x01;
constexpr unsigned kLastSlot = 0x1e;
constexpr unsigned kFunctions = 8;

unsigned number_of(const xmlNode* element, const char* key) {
  const std::string text = xml::attribute_or_empty(element, key);
  const std::optional<unsigned> number = parse_pci_number(text);
  if (number) return *number;
  throw Error(Errc::other, fmt::format("domain XML: {} of <{}> is '{}', which is no such number", key,
                                       xml::name_of(element), printable(text)));
}

}  // namespace

std::optional<unsigned> parse_pci_number(const std::string& text) {
  const bool is_hex = text.starts_with("0x") || text.starts_with("0X");
  const char* begin = text.data() + (is_hex ? 2 : 0);
  const char* end = text.data() + text.size();
  unsigned number = 0;
  const auto [stop, failure] = std::from_chars(begin, end, number, is_hex ? 16 : 10);
  if (failure != std::errc{} || stop != end) return std::nullopt;
  return number;
}

GuestPci::GuestPci(const xmlNode* devices) {
  for (const xmlNode* device : xml::children(devices)) {
    const bool is_controller = xml::name_of(device) == "controller" && xml::attribute_or_empty(device, "type") == "pci";
    if (is_controller) {
      const unsigned index = number_of(device, "index");
      next_index_ = std::max(next_index_, index + 1);
      const std::string model = xml::attribute_or_empty(device, "model");
      if (model == "pcie-root-port") ports_[index] = 0;
      const xmlNode* node = xml::child(xml::child(device, "target"), "node");
      if (model == "pcie-expander-bus" && node != nullptr)
        if (const auto cell = parse_pci_number(xml::text_of(node))) expanders_[index] = *cell;
    }
    // Only the device's own: <source> of a hostdev holds the host's address.
    for (const xmlNode* address : xml::children(device, "address")) {
      if (xml::attribute_or_empty(address, "type") != "pci") continue;
      const unsigned bus = number_of(address, "bus");
      taken_.insert({bus, number_of(address, "slot")});
      if (!is_controller) continue;
      if (const auto port = ports_.find(number_of(device, "index")); port != ports_.end()) port->second = bus;
    }
  }
}

unsigned GuestPci::take_slot() {
  for (unsigned slot = kFirstSlot; slot <= kLastSlot; ++slot) {
    if (taken_.insert({0, slot}).second) return slot;
  }
  throw Error(Errc::other, "the VM's PCI root bus has no free slot for another root port",
              "take devices out of its definition");
}

GuestAddress GuestPci::take_port_place() {
  if (port_place_.slot == 0 || port_place_.function + 1 == kFunctions) {
    port_place_ = {0, take_slot(), 0};
  } else {
    ++port_place_.function;
  }
  return port_place_;
}

std::vector<unsigned> GuestPci::free_ports() const {
  std::vector<unsigned> free;
  for (const auto& [port, bus] : ports_) {
    const auto first = taken_.lower_bound({port, 0});
    if (first == taken_.end() || first->first != port) free.push_back(port);
  }
  return free;
}

std::map<unsigned, unsigned> GuestPci::port_cells() const {
  std::map<unsigned, unsigned> cells;
  for (const auto& [port, bus] : ports_)
    if (const auto expander = expanders_.find(bus); expander != expanders_.end()) cells.emplace(port, expander->second);
  return cells;
}

void add_guest_address(xmlNode* device, const GuestAddress& place, bool is_multifunction) {
  xmlNode* address = xml::add(device, "address",
                              {{"type", "pci"},
                               {"domain", "0x0000"},
                               {"bus", fmt::format("{:#04x}", place.bus)},
                               {"slot", fmt::format("{:#04x}", place.slot)},
                               {"function", fmt::format("{:#x}", place.function)}});
  if (is_multifunction) xml::set_attribute(address, "multifunction", "on");
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include <fmt/format.h>

#include "gpu/devices.hpp"
#include "gpu/sysfs.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

/// Behind the first line of \p text that starts with \p start: the rest of that line, and all that comes after it.
struct Found {
  std::string_view name;
  std::string_view after;
};

std::optional<Found> find_line(std::string_view text, const std::string& start) {
  const std::string key = "\n" + start;
  // glibc's memmem beats string_view::find, which stops at every line of a megabyte.
  const void* hit = ::memmem(text.data(), text.size(), key.data(), key.size());
  if (hit == nullptr) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(static_cast<const char*>(hit) - text.data()) + key.size());
  const std::size_t end = std::min(text.find('\n'), text.size());
  return Found{text.substr(0, end), text.substr(end)};
}

/// A vendor's devices: the lines up to the next that starts with neither a tab nor a '#'.
std::string_view block_of(std::string_view after) {
  for (std::size_t at = after.find('\n'); at != std::string_view::npos; at = after.find('\n', at + 1)) {
    if (at + 1 >= after.size()) break;
    const char first = after[at + 1];
    if (first != '\t' && first != '#' && first != '\n') return after.substr(0, at);
  }
  return after;
}

}  // namespace

PciNames::PciNames(Host& host) {
  for (const char* file : {"/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids"}) {
    if (auto text = sysfs::text(host, file)) {
      text_ = std::move(*text);
      if (text_.starts_with('#')) return;
      text_.insert(0, "\n");  // an entry is looked for behind the end of a line
      return;
    }
  }
}

std::string PciNames::name(std::uint16_t vendor, std::uint16_t device) const {
  const auto [known, is_new] = known_.try_emplace({vendor, device});
  if (is_new) known->second = look_up(vendor, device);
  return known->second;
}

std::string PciNames::look_up(std::uint16_t vendor, std::uint16_t device) const {
  std::string id = pci_id(vendor, device);
  const std::optional<Found> maker = find_line(text_, id.substr(0, 4) + "  ");
  if (!maker) return id;
  const std::optional<Found> product = find_line(block_of(maker->after), "\t" + id.substr(5) + "  ");
  return printable(maker->name) + " " + (product ? printable(product->name) : id);
}

std::string pci_id(std::uint16_t vendor, std::uint16_t device) {
  return fmt::format("{:04x}:{:04x}", vendor, device);
}

}  // namespace vmgraft

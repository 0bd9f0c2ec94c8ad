// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vmgraft {

/// An extended capability in a function's config space.
struct PciCapability {
  std::size_t at;
  unsigned id;
  unsigned word;     ///< behind its header
  std::size_t next;  ///< 0: the last
};

/// Config space that reads as 0 but for these.
inline std::string pci_config(const std::vector<PciCapability>& capabilities, std::size_t size = 4096) {
  std::string bytes(size, '\0');
  const auto put = [&](std::size_t at, std::uint32_t word) {
    for (std::size_t i = 0; i < 4; ++i) bytes.at(at + i) = static_cast<char>(word >> (8 * i) & 0xff);
  };
  for (const PciCapability& each : capabilities) {
    put(each.at, static_cast<std::uint32_t>(each.next << 20 | 1U << 16 | each.id));
    put(each.at + 4, each.word);
  }
  return bytes;
}

}  // namespace vmgraft

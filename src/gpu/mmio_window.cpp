// SPDX-License-Identifier: Apache-2.0
#include "gpu/mmio_window.hpp"

#include <algorithm>
#include <bit>
#include <functional>

namespace vmgraft {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
// Far above any bus; so that doubling does not overflow.
constexpr std::uint64_t kMostWindow = std::uint64_t{1} << 62;

}  // namespace

std::uint64_t mmio_window(const std::vector<const PciFunction*>& functions) {
  std::vector<std::uint64_t> sizes;
  for (const PciFunction* function : functions) {
    for (const PciBar& bar : function->bars) {
      if (bar.is_memory && bar.is_64bit && bar.is_prefetchable) sizes.push_back(std::min(bar.size, kMostWindow));
    }
  }
  if (sizes.empty()) return 0;
  // The largest first: then each is aligned where the one before it ends, as firmware places them.
  std::sort(sizes.begin(), sizes.end(), std::greater<>());
  std::uint64_t end = 0;
  for (const std::uint64_t size : sizes) {
    const std::uint64_t alignment = std::bit_ceil(size);
    end = std::min((end + alignment - 1) / alignment * alignment + size, kMostWindow);
  }
  return 2 * std::bit_ceil(end);
}

unsigned address_bits(std::uint64_t memory, std::uint64_t window) {
  // q35 keeps 2 GiB below 4 GiB free for 32-bit BARs when there is more memory than fits (hw/i386/pc_q35.c).
  constexpr std::uint64_t kMostBelow = 0xb0000000;
  const std::uint64_t top = memory >= kMostBelow ? memory + 2 * kGiB : 4 * kGiB;
  return static_cast<unsigned>(std::bit_width(top + window - 1));
}

}  // namespace vmgraft

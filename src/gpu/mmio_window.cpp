// SPDX-License-Identifier: Apache-2.0
#include "gpu/mmio_window.hpp"

#include <algorithm>
#include <bit>
#include <functional>

#include "model/size.hpp"

namespace vmgraft {
namespace {

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

std::uint64_t below_4g(std::uint64_t memory) {
  constexpr std::uint64_t kMostBelow = 0xb0000000;
  return memory >= kMostBelow ? 2 * kGiB : memory;
}

std::uint64_t memory_top(std::uint64_t memory) {
  return kFourGiB + memory - below_4g(memory);
}

unsigned address_bits(std::uint64_t memory, std::uint64_t window) {
  return static_cast<unsigned>(std::bit_width(memory_top(memory) + window - 1));
}

}  // namespace vmgraft

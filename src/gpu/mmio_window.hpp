// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/devices.hpp"

namespace vmgraft {

/// Bytes of 64-bit window that the functions need: their 64-bit prefetchable BARs, each aligned to its own size, rounded
/// up to a power of two and doubled, since each root port's window is a power of two as well. 0: none has such a BAR.
[[nodiscard]] std::uint64_t mmio_window(const std::vector<const PciFunction*>& functions);

/// What q35 and OVMF have without being asked.
inline constexpr std::uint64_t kDefaultWindow = std::uint64_t{32} << 30;

inline constexpr std::uint64_t kFourGiB = std::uint64_t{4} << 30;
/// Bytes of a q35 guest's memory that lie below 4 GiB: all, or 2 GiB of more than fits, so that 32-bit BARs have room
/// (hw/i386/pc_q35.c). The rest goes on at 4 GiB.
[[nodiscard]] std::uint64_t below_4g(std::uint64_t memory);
/// The first address above its memory, 4 GiB at least.
[[nodiscard]] std::uint64_t memory_top(std::uint64_t memory);
/// Address bits of a q35 guest with that much memory and the window above it.
[[nodiscard]] unsigned address_bits(std::uint64_t memory, std::uint64_t window);

}  // namespace vmgraft

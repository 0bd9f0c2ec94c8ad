// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace vmgraft {

/// How many bytes of a disk's start are looked at.
inline constexpr std::size_t kDiskProbeSize = 1u << 20;

/// What the start of a disk says about how it is laid out and how it can boot.
struct DiskStart {
  std::string layout;  ///< "gpt", "mbr", or a file system's name without partitions: "ext4", "xfs", "btrfs", "iso9660",
                       ///< "vfat"; empty: none known
  bool boot_code = false;  ///< there is something for a BIOS to jump into
  bool efi_partition = false;
};

/// \param start  the first bytes; what lies behind its end counts as not there.
/// Source: UEFI 2.10, 5.3 (GPT); the magics as blkid has them.
[[nodiscard]] DiskStart probe_disk(std::string_view start);

/// What a file of another kind is, by its first bytes: "a VMDK image", "compressed (gzip)"; empty: not known.
struct ForeignFile {
  std::string what;
  std::string qemu_format;  ///< qemu-img's name, when it could convert it
};
[[nodiscard]] ForeignFile recognise_foreign(std::string_view start);

}  // namespace vmgraft

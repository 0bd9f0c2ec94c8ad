// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "image/archive_io.hpp"
#include "image/image_maker.hpp"

namespace vmgraft {

/// Label of the FAT partition that firmware boots from. The guest finds it by this name after a kernel upgrade.
inline constexpr const char* kBootLabel = "VMGRAFTBOOT";

/// A whole disk that starts by BIOS (syslinux) and by UEFI (shim and GRUB, signed: Secure Boot too), made without root
/// or loop mounts.
struct BootDisk {
  std::filesystem::path tree;     ///< the root file system's files
  std::vector<OwnedFile> owners;  ///< what the files' owners and modes must become
  std::uint64_t root_size = 0;    ///< bytes, whole MiB
  std::filesystem::path kernel, initrd;
  std::filesystem::path shim, grub;     ///< signed EFI programs
  std::filesystem::path gpt_boot_code;  ///< syslinux's gptmbr.bin
  std::string command_line;             ///< of the kernel
};

/// Write it raw. \returns its size in bytes.
/// \throws Error host_unfit: a program is missing; other: one failed.
std::uint64_t write_boot_disk(ImageWork& work, const BootDisk& disk, const std::filesystem::path& image);

}  // namespace vmgraft

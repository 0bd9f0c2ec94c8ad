// SPDX-License-Identifier: Apache-2.0
#include "image/disk_probe.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace vmgraft {

namespace {

using namespace std::string_view_literals;

// C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it stands on disk.
constexpr auto kEfiPartition = "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b"sv;
constexpr unsigned char kMbrEfiType = 0xef;
constexpr std::size_t kBootCodeSize = 440;

std::uint64_t little_endian(std::string_view bytes, std::size_t offset, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) {
    const auto byte = offset + i < bytes.size() ? static_cast<unsigned char>(bytes[offset + i]) : 0U;
    value = value << 8 | byte;
  }
  return value;
}

bool stands_at(std::string_view bytes, std::size_t offset, std::string_view magic) {
  return offset < bytes.size() && bytes.substr(offset, magic.size()) == magic;
}

/// The GPT of a disk with sectors of \p sector bytes.
bool has_gpt(std::string_view start, std::size_t sector) {
  return stands_at(start, sector, "EFI PART"sv);
}

bool gpt_has_efi(std::string_view start, std::size_t sector) {
  const auto table = little_endian(start, sector + 72, 8);
  const auto entries = std::min<std::uint64_t>(little_endian(start, sector + 80, 4), 512);
  const auto entry_size = little_endian(start, sector + 84, 4);
  if (entry_size < 128 || entry_size > 4096 || table > start.size() / sector) return false;
  for (std::uint64_t i = 0; i < entries; ++i) {
    if (stands_at(start, static_cast<std::size_t>(table * sector + i * entry_size), kEfiPartition)) return true;
  }
  return false;
}

std::string file_system(std::string_view start) {
  if (stands_at(start, 1024 + 56, "\x53\xef"sv)) return "ext4";
  if (stands_at(start, 0, "XFSB"sv)) return "xfs";
  if (stands_at(start, 65536 + 64, "_BHRfS_M"sv)) return "btrfs";
  if (stands_at(start, 32768 + 1, "CD001"sv)) return "iso9660";
  if (stands_at(start, 54, "FAT"sv) || stands_at(start, 82, "FAT32"sv)) return "vfat";
  return {};
}

}  // namespace

DiskStart probe_disk(std::string_view start) {
  DiskStart disk;
  const bool signature = stands_at(start, 510, "\x55\xaa"sv);
  disk.boot_code = signature && start.substr(0, kBootCodeSize).find_first_not_of('\0') != std::string_view::npos;
  for (const std::size_t sector : {512U, 4096U}) {
    if (!has_gpt(start, sector)) continue;
    disk.layout = "gpt";
    disk.efi_partition = gpt_has_efi(start, sector);
    return disk;
  }
  // A file system may carry the same two bytes as an MBR, so it is asked first.
  disk.layout = file_system(start);
  if (!disk.layout.empty() || !signature) return disk;
  bool has_partition = false;
  for (std::size_t i = 0; i < 4; ++i) {
    const auto entry = 446 + 16 * i;
    const auto status = little_endian(start, entry, 1);
    const auto type = little_endian(start, entry + 4, 1);
    if ((status != 0 && status != 0x80) || type == 0) continue;
    has_partition = true;
    if (type == kMbrEfiType) disk.efi_partition = true;
  }
  if (has_partition || disk.boot_code) disk.layout = "mbr";
  return disk;
}

ForeignFile recognise_foreign(std::string_view start) {
  struct Magic {
    std::size_t offset;
    std::string_view bytes;
    const char* what;
    const char* format;
  };
  static constexpr std::array<Magic, 13> kMagics = {{{0, "KDMV"sv, "a VMDK image", "vmdk"},
                                                     {0, "COWD"sv, "a VMDK image", "vmdk"},
                                                     {0, "# Disk DescriptorFile"sv, "a VMDK descriptor", "vmdk"},
                                                     {0, "vhdxfile"sv, "a VHDX image", "vhdx"},
                                                     {0, "conectix"sv, "a VHD image", "vpc"},
                                                     {0x40, "\x7f\x10\xda\xbe"sv, "a VDI image", "vdi"},
                                                     {0, "QED\0"sv, "a QED image", "qed"},
                                                     {0, "\x1f\x8b"sv, "compressed by gzip", ""},
                                                     {0,
                                                      "\xfd"
                                                      "7zXZ\0"sv,
                                                      "compressed by xz", ""},
                                                     {0, "\x28\xb5\x2f\xfd"sv, "compressed by zstd", ""},
                                                     {0, "BZh"sv, "compressed by bzip2", ""},
                                                     {0, "PK\x03\x04"sv, "a zip archive", ""},
                                                     {257, "ustar"sv, "a tar archive", ""}}};
  for (const auto& magic : kMagics) {
    if (stands_at(start, magic.offset, magic.bytes)) return {magic.what, magic.format};
  }
  return {};
}

}  // namespace vmgraft

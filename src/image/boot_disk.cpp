// SPDX-License-Identifier: Apache-2.0
#include "image/boot_disk.hpp"

#include <fmt/format.h>

#include "image/guest_tree.hpp"
#include "image/programs.hpp"

namespace vmgraft {

namespace {

constexpr std::uint64_t kMiB = 1u << 20;
constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kBootStart = 1 * kMiB;
constexpr std::uint64_t kBootSize = 128 * kMiB;  // two kernels while one replaces the other, with room
constexpr std::uint64_t kRootStart = kBootStart + kBootSize;
constexpr std::uint64_t kTail = 1 * kMiB;  // the second copy of the partition table

void partition(ImageWork& work, const std::filesystem::path& image, std::uint64_t root_size) {
  ToolRun run;
  run.what = "partition the disk";
  run.argv = {need_program(work.host, "sfdisk", "fdisk").string(), "-q", image.string()};
  run.input = fmt::format(
      "label: gpt\nstart={}, size={}, type=U, name=boot, attrs=LegacyBIOSBootable\nstart={}, size={}, type=L, "
      "name=root\n",
      kBootStart / kSector, kBootSize / kSector, kRootStart / kSector, root_size / kSector);
  run_tool(work, run);
}

/// Files into the FAT partition by mtools, which needs no mount.
class FatWriter {
 public:
  FatWriter(ImageWork& work, const std::filesystem::path& image)
      : work_(work), drive_(fmt::format("{}@@{}", image.string(), kBootStart)) {}

  void make_folder(const std::string& path) {
    run({need_program(work_.host, "mmd", "mtools").string(), "-i", drive_, "::" + path});
  }

  void copy(const std::filesystem::path& from, const std::string& path) {
    run({need_program(work_.host, "mcopy", "mtools").string(), "-i", drive_, from.string(), "::" + path});
  }

  void write(const std::string& text, const std::string& path) {
    const auto file = work_.folder / "fat.text";
    work_.host.write_file(file, text, 0644);
    copy(file, path);
    work_.host.remove(file);
  }

 private:
  void run(std::vector<std::string> argv) {
    ToolRun tool;
    tool.what = "fill the boot partition";
    tool.argv = std::move(argv);
    tool.environment = {"MTOOLS_SKIP_CHECK=1"};
    run_tool(work_, tool);
  }

  ImageWork& work_;
  std::string drive_;
};

void write_boot_partition(ImageWork& work, const BootDisk& disk, const std::filesystem::path& image) {
  ToolRun format;
  format.what = "make the boot partition";
  // 1 KiB clusters: by the size of the whole file mkfs.fat would choose ones so large that they are too few for FAT32.
  format.argv = {need_program(work.host, "mkfs.fat", "dosfstools").string(),
                 "-F",
                 "32",
                 "-s",
                 "2",
                 "-n",
                 kBootLabel,
                 "-h",
                 std::to_string(kBootStart / kSector),
                 "--offset",
                 std::to_string(kBootStart / kSector),
                 image.string(),
                 std::to_string(kBootSize / 1024)};
  run_tool(work, format);

  FatWriter fat(work, image);
  fat.copy(disk.kernel, "/vmlinuz");
  fat.copy(disk.initrd, "/initrd.img");
  for (const auto* folder : {"/EFI", "/EFI/BOOT", "/EFI/debian"}) fat.make_folder(folder);
  fat.copy(disk.shim, "/EFI/BOOT/BOOTX64.EFI");
  fat.copy(disk.grub, "/EFI/BOOT/grubx64.efi");
  // Debian's signed GRUB has this folder built in.
  fat.write(fmt::format("set timeout=0\nlinux /vmlinuz {}\ninitrd /initrd.img\nboot\n", disk.command_line),
            "/EFI/debian/grub.cfg");
  fat.write(
      fmt::format(
          "DEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n  KERNEL /vmlinuz\n  INITRD /initrd.img\n  APPEND {}\n",
          disk.command_line),
      "/syslinux.cfg");

  ToolRun loader;
  loader.what = "install the BIOS boot loader";
  loader.argv = {need_program(work.host, "syslinux", "syslinux").string(), "--install", "--offset",
                 std::to_string(kBootStart), image.string()};
  run_tool(work, loader);
  ToolRun code;
  code.what = "write the BIOS boot code";
  code.argv = {need_program(work.host, "dd", "coreutils").string(),
               "if=" + disk.gpt_boot_code.string(),
               "of=" + image.string(),
               "bs=440",
               "count=1",
               "conv=notrunc",
               "status=none"};
  run_tool(work, code);
}

void write_root_partition(ImageWork& work, const BootDisk& disk, const std::filesystem::path& image) {
  ToolRun format;
  format.what = "make the root file system";
  // As for the micro image: nothing is left for the guest to initialise lazily. The file is new, there is nothing to
  // discard.
  format.argv = {need_program(work.host, "mke2fs", "e2fsprogs").string(),
                 "-q",
                 "-t",
                 "ext4",
                 "-F",
                 "-b",
                 "4096",
                 "-L",
                 "root",
                 "-d",
                 disk.tree.string(),
                 "-E",
                 fmt::format("offset={},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard", kRootStart),
                 image.string(),
                 fmt::format("{}k", disk.root_size / 1024)};
  run_tool(work, format);
  std::string script;
  for (const auto& file : disk.owners) {
    const auto name = debugfs_quoted(file.path);
    script += fmt::format("sif {} uid {}\nsif {} gid {}\nsif {} mode 0{:o}\n", name, file.uid, name, file.gid, name,
                          file.mode);
  }
  run_debugfs(work, fmt::format("{}?offset={}", image.string(), kRootStart), script);
}

}  // namespace

std::uint64_t write_boot_disk(ImageWork& work, const BootDisk& disk, const std::filesystem::path& image) {
  const auto size = kRootStart + disk.root_size + kTail;
  work.host.create_sparse(image, size, {}, 0644);
  partition(work, image, disk.root_size);
  write_boot_partition(work, disk, image);
  write_root_partition(work, disk, image);
  return size;
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <vmgraft/error.hpp>

#include "image/checksum.hpp"
#include "image/disk_probe.hpp"
#include "image/import_file.hpp"
#include "image/programs.hpp"
#include "model/names.hpp"
#include "model/size.hpp"
#include "store/qcow2.hpp"

namespace vmgraft {

namespace {

constexpr std::size_t kHeaderSize = 128u << 10;
constexpr std::uint64_t kDiskSector = 512;

bool has_qcow2_magic(std::string_view start) {
  return start.substr(0, 4) == std::string_view("QFI\xfb", 4);
}

std::string refusal(const ImportSource& source, const std::string& why) {
  return fmt::format("'{}' cannot be an image: {}", printable(source.shown), why);
}

std::string decide_format(const ImportSource& source, std::string_view start) {
  const bool is_qcow2 = has_qcow2_magic(start);
  if (!source.format.empty() && source.format != "qcow2" && source.format != "raw") {
    throw Error(Errc::usage,
                fmt::format("'{}' is not a format that can be imported (want qcow2 or raw)", printable(source.format)));
  }
  if (source.format == "qcow2" && !is_qcow2)
    throw Error(Errc::usage, refusal(source, "it does not begin with qcow2's magic"));
  if (source.format == "raw" && is_qcow2) {
    throw Error(Errc::usage, refusal(source, "it was called raw, and is qcow2"),
                "leave the format away, or say --format qcow2");
  }
  if (is_qcow2) return "qcow2";
  if (const auto foreign = recognise_foreign(start); !foreign.what.empty() && probe_disk(start).layout.empty()) {
    throw Error(
        Errc::usage, refusal(source, fmt::format("it is {}; qcow2 and raw can be imported", foreign.what)),
        foreign.qemu_format.empty()
            ? "unpack it first"
            : fmt::format("convert it first: qemu-img convert -f {} -O qcow2 FILE NEW.qcow2", foreign.qemu_format));
  }
  const auto extension = std::filesystem::path(source.shown).extension().string();
  if (source.format == "raw" || extension == ".raw" || extension == ".img") return "raw";
  throw Error(Errc::usage, refusal(source, "it is not qcow2, and its name does not end in .raw or .img"),
              "say --format raw when it is a raw disk");
}

/// Whatever would make QEMU open another file, or need a key, is refused before QEMU sees the image.
Qcow2Header require_plain_qcow2(const ImportSource& source, std::string_view start) {
  std::optional<Qcow2Header> header;
  try {
    header = read_qcow2(start);
  } catch (const Error& error) {
    throw Error(Errc::usage, refusal(source, error.what()));
  }
  if (!header) throw Error(Errc::usage, refusal(source, "it is not qcow2"));
  if (header->encrypted) {
    throw Error(Errc::usage, refusal(source, "it is encrypted"), "decrypt it first, with qemu-img convert and its key");
  }
  if (!header->data_file.empty()) {
    throw Error(Errc::usage,
                refusal(source, fmt::format("its data are in another file, '{}'", printable(header->data_file))),
                "make one file of it first: qemu-img convert -O qcow2 FILE NEW.qcow2");
  }
  if (!header->backing_file.empty()) {
    throw Error(Errc::usage,
                refusal(source, fmt::format("it stands on a backing file, '{}'", printable(header->backing_file))),
                "make one file of it first: qemu-img convert -O qcow2 FILE NEW.qcow2");
  }
  if (header->corrupt) {
    throw Error(Errc::usage, refusal(source, "it is marked as corrupt"),
                "repair a copy of it: qemu-img check -r all COPY");
  }
  if (header->virtual_size == 0) throw Error(Errc::usage, refusal(source, "its virtual size is 0"));
  return *header;
}

/// qemu-img check, and its end against the file's: reading past the end of a truncated file would give zeros silently.
void require_whole_qcow2(ImageWork& work, const ImportSource& source, const Qcow2Header& header) {
  ToolRun run;
  run.what = fmt::format("check '{}'", source.shown);
  run.argv = {need_program(work.host, "qemu-img", "qemu-utils").string(),
              "check",
              "-f",
              "qcow2",
              "--output=json",
              source.file.string()};
  run.may_fail = true;
  const auto result = run_tool(work, run);
  const std::string remedy = "fetch it again, or repair a copy of it: qemu-img check -r all COPY";
  const auto report = nlohmann::json::parse(result.out, nullptr, false);
  constexpr int kCorrupt = 2, kLeaks = 3;  // exit codes of qemu-img check; leaked clusters harm nobody
  if (report.is_discarded() || !report.is_object()) {
    if (result.err.find("lock") != std::string::npos) {
      throw Error(Errc::conflict, fmt::format("'{}' is in use: {}", source.shown, printable(result.err)),
                  "stop the VM that writes to it, or import a copy");
    }
    throw Error(Errc::usage, refusal(source, "qemu-img cannot read it: " + printable(result.err)), remedy);
  }
  if (result.exit_code == kCorrupt || report.value("corruptions", 0) != 0) {
    throw Error(Errc::usage, refusal(source, "its tables are damaged"), remedy);
  }
  if (result.exit_code != 0 && result.exit_code != kLeaks) {
    throw Error(Errc::usage, refusal(source, "it cannot be checked: " + printable(result.err)), remedy);
  }
  const auto cluster = std::uint64_t{1} << header.cluster_bits;
  const auto size = work.host.stat(source.file).value_or(FileInfo{}).size;
  const auto end = report.value("image-end-offset", std::uint64_t{0});
  if (end > (size + cluster - 1) / cluster * cluster) {
    throw Error(Errc::usage,
                refusal(source, fmt::format("it is truncated: {} of at least {}", format_size(size), format_size(end))),
                remedy);
  }
}

void require_disk(const ImportSource& source, std::string_view start) {
  if (start.size() < kDiskSector)
    throw Error(Errc::usage, refusal(source, fmt::format("it has only {} bytes", start.size())));
  if (probe_disk(start).layout.empty()) {
    throw Error(Errc::usage, refusal(source, "there is no partition table and no known file system in it"),
                "a raw disk begins with an MBR or GPT, or is one ext4, xfs, btrfs, vfat or ISO 9660 file system");
  }
}

/// The start of the finished disk, as the guest will see it.
std::string read_disk_start(ImageWork& work, const std::filesystem::path& disk) {
  const auto start = work.folder / "start.raw";
  ToolRun run;
  run.what = "read the start of the disk";
  run.argv = {need_program(work.host, "qemu-img", "qemu-utils").string(),
              "dd",
              "-f",
              "qcow2",
              "-O",
              "raw",
              fmt::format("bs={}", kDiskProbeSize),
              "count=1",
              "if=" + disk.string(),
              "of=" + start.string()};
  run_tool(work, run);
  auto bytes = work.host.read_range(start, 0, kDiskProbeSize);
  work.host.remove(start);
  return bytes;
}

std::filesystem::path require_file(const std::filesystem::path& given) {
  std::error_code failure;
  const auto file = std::filesystem::canonical(given, failure);
  if (failure == std::errc::no_such_file_or_directory) {
    throw Error(Errc::not_found, fmt::format("there is no file '{}'", given.string()));
  }
  if (failure) throw Error(Errc::usage, fmt::format("cannot open '{}': {}", given.string(), failure.message()));
  if (!std::filesystem::is_regular_file(file, failure)) {
    throw Error(Errc::usage, fmt::format("'{}' is not a regular file", given.string()));
  }
  return file;
}

}  // namespace

MadeImage convert_image(ImageWork& work, const ImportSource& source) {
  const auto info = work.host.stat(source.file).value_or(FileInfo{});
  if (info.size == 0) throw Error(Errc::usage, refusal(source, "it is empty"));
  const auto start = work.host.read_range(source.file, 0, kDiskProbeSize);
  const auto format = decide_format(source, start);
  std::uint64_t virtual_size = (info.size + kDiskSector - 1) / kDiskSector * kDiskSector;
  if (format == "qcow2") {
    const auto header = require_plain_qcow2(source, std::string_view(start).substr(0, kHeaderSize));
    require_whole_qcow2(work, source, header);
    virtual_size = header.virtual_size;
  } else {
    require_disk(source, start);
  }
  const auto space = work.host.free_space(work.folder);
  if (info.allocated > space.available) {
    throw tool_error(fmt::format("import '{}' ({}, {} free)", source.shown, format_size(info.allocated),
                                 format_size(space.available)),
                     "No space left on device", work.folder);
  }

  MadeImage image;
  image.disk = work.folder / "disk.qcow2";
  convert_to_qcow2(work, source.file, format, image.disk,
                   fmt::format("importing {}", std::filesystem::path(source.shown).filename().string()));
  const auto disk = probe_disk(read_disk_start(work, image.disk));
  image.layer.virtual_size = virtual_size;
  image.layer.boot_uefi = disk.efi_partition;
  // With no ESP a BIOS is the only firmware that could start it, boot code or not.
  image.layer.boot_bios = disk.boot_code || !disk.efi_partition;
  return image;
}

MadeImage import_image(ImageWork& work, const ImageImportRequest& request) {
  const auto file = require_file(request.file);
  auto image = convert_image(work, {file, request.file.string(), request.format});
  image.sha256 = checksum_file(work, file, Checksum::Algorithm::sha256, "hashing " + file.filename().string()).hex;
  image.origin = "import " + file.string();
  image.layer.agent = request.agent;
  image.layer.cloud_init = request.cloud_init;
  image.layer.default_user = request.default_user;
  return image;
}

}  // namespace vmgraft

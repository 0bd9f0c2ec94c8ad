// SPDX-License-Identifier: Apache-2.0
#include "host/sha256.hpp"
#include "image/disk_probe.hpp"
#include "image/image_maker.hpp"
#include "support/image_files.hpp"

using namespace vmgraft;

namespace {

constexpr std::size_t kMiB = 1u << 20;

MadeImage import(ImageBench& bench, const std::filesystem::path& file, const std::string& format = {}) {
  ImageImportRequest request;
  request.file = file;
  request.format = format;
  return import_image(bench.work, request);
}

Error refusal(ImageBench& bench, const std::filesystem::path& file, const std::string& format = {}) {
  auto error = error_of([&] { (void)import(bench, file, format); });
  CHECK_FALSE(std::filesystem::exists(bench.work.folder / "disk.qcow2"));
  return error;
}

/// "'FILE' cannot be an image: WHY"
void check_refused(ImageBench& bench, const std::filesystem::path& file, const std::string& why,
                   const std::string& format = {}) {
  const auto error = refusal(bench, file, format);
  CHECK(error.what() == "'" + file.string() + "' cannot be an image: " + why);
  CHECK(error.code() == Errc::usage);
}

std::filesystem::path make_qcow2(ImageBench& bench, const std::string& content = mbr_disk(4 * kMiB)) {
  const auto raw = bench.write("source.raw", content);
  const auto file = bench.temp / "a.qcow2";
  bench.qemu_img({"convert", "-f", "raw", "-O", "qcow2", raw.string(), file.string()});
  return file;
}

}  // namespace

TEST_CASE("A qcow2 is imported with its content, its size and its hash, and is not touched") {
  ImageBench bench;
  const auto file = make_qcow2(bench);
  const auto before = sha256_file(file);
  const auto image = import(bench, file);
  bench.qemu_img({"compare", "-f", "raw", "-F", "qcow2", (bench.temp / "source.raw").string(), image.disk.string()});
  CHECK(image.layer.virtual_size == 4 * kMiB);
  CHECK(image.layer.boot_bios);
  CHECK_FALSE(image.layer.boot_uefi);
  CHECK_FALSE(image.layer.boot_direct);
  CHECK(image.sha256 == before);
  CHECK(sha256_file(file) == before);
  CHECK(image.origin == "import " + file.string());
}

TEST_CASE("A raw disk is imported, also through a symbolic link and of a size that is no whole sector") {
  ImageBench bench;
  const auto file = bench.write("disk.img", mbr_disk(kMiB + 100));
  std::filesystem::create_symlink(file, bench.temp / "link.img");
  const auto image = import(bench, bench.temp / "link.img");
  CHECK(image.layer.virtual_size == kMiB + 512);
  CHECK(bench.qemu_img({"info", image.disk.string()}).find("file format: qcow2") != std::string::npos);
}

TEST_CASE("A raw disk with another extension is taken only when it is called raw") {
  ImageBench bench;
  const auto file = bench.write("disk.bin", mbr_disk(kMiB));
  const auto error = refusal(bench, file);
  CHECK(error.what() ==
        "'" + file.string() + "' cannot be an image: it is not qcow2, and its name does not end in .raw or .img");
  CHECK(error.hint() == "say --format raw when it is a raw disk");
  CHECK(import(bench, file, "raw").layer.virtual_size == kMiB);
}

TEST_CASE("A text file is no image, whatever it is called") {
  ImageBench bench;
  check_refused(bench, bench.write("notes.img", std::string(4096, 'x')),
                "there is no partition table and no known file system in it");
  check_refused(bench, bench.write("notes.txt", "hello\n"),
                "it is not qcow2, and its name does not end in .raw or .img");
  check_refused(bench, bench.write("notes.qcow2", "hello\n"), "it does not begin with qcow2's magic", "qcow2");
  check_refused(bench, bench.write("short.raw", "hello\n"), "it has only 6 bytes");
}

TEST_CASE("An empty file is no image") {
  ImageBench bench;
  check_refused(bench, bench.write("empty.qcow2", ""), "it is empty");
}

TEST_CASE("A qcow2 that stands on a backing file is refused, and the backing file is not opened") {
  ImageBench bench;
  const auto file = bench.temp / "overlay.qcow2";
  bench.qemu_img({"create", "-q", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", file.string(), "1M"});
  check_refused(bench, file, "it stands on a backing file, '/etc/shadow'");
}

TEST_CASE("A qcow2 whose data are in another file is refused") {
  ImageBench bench;
  const auto file = bench.temp / "a.qcow2";
  bench.qemu_img(
      {"create", "-q", "-f", "qcow2", "-o", "data_file=" + (bench.temp / "data").string(), file.string(), "1M"});
  CHECK(std::string(refusal(bench, file).what()).find("its data are in another file") != std::string::npos);
}

TEST_CASE("An encrypted qcow2 is refused") {
  ImageBench bench;
  const auto file = bench.temp / "a.qcow2";
  bench.qemu_img({"create", "-q", "-f", "qcow2", "--object", "secret,id=k,data=x", "-o",
                  "encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10", file.string(), "1M"});
  check_refused(bench, file, "it is encrypted");
}

TEST_CASE("A qcow2 marked corrupt is refused") {
  ImageBench bench;
  const auto file = make_qcow2(bench);
  auto bytes = ImageBench::read(file);
  bytes[79] = static_cast<char>(bytes[79] | 2);  // incompatible feature bit 1
  bench.write("a.qcow2", bytes);
  check_refused(bench, file, "it is marked as corrupt");
}

TEST_CASE("A truncated qcow2 is refused before anything is converted") {
  ImageBench bench;
  const auto file = make_qcow2(bench);
  const auto size = std::filesystem::file_size(file);
  for (const auto part : {size - 200'000, size / 2, std::uintmax_t{100'000}, std::uintmax_t{80}}) {
    INFO(part);
    std::filesystem::resize_file(file, part);
    const auto error = refusal(bench, file);
    CHECK(error.code() == Errc::usage);
    CHECK(std::string(error.what()).rfind("'" + file.string() + "' cannot be an image: ", 0) == 0);
  }
}

TEST_CASE("An image of another format is named, with the way to convert it") {
  ImageBench bench;
  const auto file = bench.temp / "a.vmdk";
  bench.qemu_img({"create", "-q", "-f", "vmdk", file.string(), "1M"});
  const auto error = refusal(bench, file);
  CHECK(error.what() ==
        "'" + file.string() + "' cannot be an image: it is a VMDK image; qcow2 and raw can be imported");
  CHECK(error.hint() == "convert it first: qemu-img convert -f vmdk -O qcow2 FILE NEW.qcow2");
  check_refused(bench, bench.write("a.img", "\x1f\x8b" + std::string(600, 'x')),
                "it is compressed by gzip; qcow2 and raw can be imported");
}

TEST_CASE("A file that is not there, a folder and an unknown format are refused") {
  ImageBench bench;
  CHECK(refusal(bench, bench.temp / "none.raw").code() == Errc::not_found);
  CHECK(refusal(bench, bench.temp.path()).what() == "'" + bench.temp.path().string() + "' is not a regular file");
  CHECK(refusal(bench, bench.write("a.raw", mbr_disk(kMiB)), "vmdk").what() ==
        std::string("'vmdk' is not a format that can be imported (want qcow2 or raw)"));
}

TEST_CASE("An import that is interrupted stops") {
  ImageBench bench;
  const auto file = make_qcow2(bench);
  const std::atomic<bool> interrupted = true;
  bench.work.interrupted = &interrupted;
  CHECK(refusal(bench, file).code() == Errc::interrupted);
}

TEST_CASE("The start of a disk tells its layout and how it can boot") {
  using namespace std::string_view_literals;
  CHECK(probe_disk(std::string(kMiB, '\0')).layout.empty());
  const auto mbr = probe_disk(mbr_disk(kMiB));
  CHECK(mbr.layout == "mbr");
  CHECK(mbr.boot_code);

  std::string gpt(kMiB, '\0');
  gpt.replace(512, 8, "EFI PART");
  gpt[512 + 72] = 2;
  gpt[512 + 80] = '\x80';
  gpt[512 + 84] = '\x80';
  CHECK(probe_disk(gpt).layout == "gpt");
  CHECK_FALSE(probe_disk(gpt).efi_partition);
  gpt.replace(1024 + 128, 16, "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b"sv);
  CHECK(probe_disk(gpt).efi_partition);
  CHECK_FALSE(probe_disk(gpt).boot_code);
  gpt[512 + 79] = '\x7f';  // a table far behind the end
  CHECK_FALSE(probe_disk(gpt).efi_partition);

  std::string ext4(kMiB, '\0');
  ext4.replace(1080, 2, "\x53\xef");
  CHECK(probe_disk(ext4).layout == "ext4");
}

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "image/archive_io.hpp"
#include "image/boot_disk.hpp"
#include "image/debian_guest.hpp"
#include "image/elf.hpp"
#include "image/guest_tree.hpp"
#include "image/libraries.hpp"
#include "image/micro_guest.hpp"
#include "image/packages.hpp"
#include "image/programs.hpp"
#include "support/image_files.hpp"

using namespace vmgraft;

namespace {

std::string output(ImageBench& bench, std::vector<std::string> argv) {
  Command command;
  command.argv = std::move(argv);
  const auto result = bench.host.run(command);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

void check_shell(ImageBench& bench, const std::string& name, const std::string& script) {
  INFO(name);
  bench.write("script", script);
  CHECK(output(bench, {"sh", "-n", (bench.temp / "script").string()}).empty());
}

std::string shared_library(ImageBench& bench) {
  for (const auto& [path, file] : find_libraries(bench.host, {"/proc/self/exe"}, {"/"}).files) {
    if (path.find("libc.so.6") != std::string::npos) return ImageBench::read(file);
  }
  FAIL("this test runs with a libc");
  return {};
}

}  // namespace

TEST_CASE("A program's libraries are found by reading it, libraries of libraries included") {
  ImageBench bench;
  const auto closure = find_libraries(bench.host, {"/proc/self/exe"}, {"/"});
  CHECK(closure.missing.empty());
  const auto has = [&](const std::string& name) {
    return std::any_of(closure.files.begin(), closure.files.end(),
                       [&](const auto& file) { return file.first.find(name) != std::string::npos; });
  };
  CHECK(has("/libc.so.6"));
  CHECK(has("/ld-linux"));
  CHECK(has("/libcurl"));
}

TEST_CASE("A library that stands nowhere is named") {
  ImageBench bench;
  const auto closure = find_libraries(bench.host, {"/proc/self/exe"}, {bench.temp / "nothing"});
  CHECK(closure.files.empty());
  CHECK(std::find(closure.missing.begin(), closure.missing.end(), "libc.so.6") != closure.missing.end());
}

TEST_CASE("What is no ELF file, or is cut off, is refused and never read beyond its end") {
  CHECK(error_of([] { (void)read_elf("hello", "f"); }).what() ==
        std::string("f: not a usable ELF file: it does not begin with the ELF magic"));
  ImageBench bench;
  const auto whole = shared_library(bench);
  REQUIRE_FALSE(read_elf(whole, "libc").needed.empty());
  for (std::size_t size = 4; size < 8192; size += 61)
    CHECK(error_of([&] { (void)read_elf(whole.substr(0, size), "f"); }).code() == Errc::other);
}

TEST_CASE("An initramfs is a newc cpio with its files, links and console") {
  using Kind = ArchiveFile::Kind;
  ImageBench bench;
  const auto archive = to_cpio({{Kind::folder, "dev", 0755, {}, 0, 0},
                                {Kind::character_device, "dev/console", 0600, {}, 5, 1},
                                {Kind::file, "init", 0755, "#!/bin/sh\n", 0, 0},
                                {Kind::link, "sh", 0777, "busybox", 0, 0}});
  CHECK(archive.substr(0, 6) == "070701");
  CHECK(archive.find("#!/bin/sh\n") != std::string::npos);
  CHECK(archive.find("TRAILER!!!") != std::string::npos);
}

TEST_CASE("Compressed kernel modules are read as they are, by gzip, xz or zstd") {
  ImageBench bench;
  const std::string text =
      "\x7f"
      "ELF " +
      std::string(100'000, 'm');
  CHECK(decompressed(text, "a.ko") == text);
  for (const auto& [program, ending] : {std::pair{"gzip", ".gz"}, {"xz", ".xz"}, {"zstd", ".zst"}}) {
    if (bench.host.find_program(program).empty()) continue;
    const auto file = bench.write("a.ko", text);
    output(bench, {program, "-q", "-k", "-f", file.string()});
    INFO(program);
    const auto packed = ImageBench::read(file.string() + ending);
    REQUIRE(packed.size() < text.size());
    CHECK(decompressed(packed, "a.ko") == text);
    CHECK(error_of([&] { (void)decompressed(packed.substr(0, packed.size() / 2), "a.ko"); }).code() == Errc::other);
  }
}

TEST_CASE("A file system is made without root, and everything in it belongs to root with its mode") {
  ImageBench bench;
  GuestTree tree;
  tree.add_text("/etc/secret", "hidden\n", 0600);
  tree.add_text("/bin/su", "#!/bin/sh\n", 04755);
  tree.add_folder("/tmp", 01777);
  tree.add_link("/bin/sh", "/bin/busybox");
  tree.add_file("/deep/in/here", bench.write("a file", "content"), 0644);
  const auto image = bench.temp / "root.raw";
  tree.write_ext4(bench.work, image, 16u << 20, "root");
  const auto stat = [&](const std::string& path) {
    return output(bench, {"debugfs", "-R", "stat " + path, image.string()});
  };
  CHECK(stat("/etc/secret").find("Mode:  0600") != std::string::npos);
  CHECK(stat("/bin/su").find("Mode:  04755") != std::string::npos);
  CHECK(stat("/tmp").find("Mode:  01777") != std::string::npos);
  CHECK(stat("/bin/sh").find("Fast link dest: \"/bin/busybox\"") != std::string::npos);
  for (const auto* path : {"/", "/etc/secret", "/deep", "/deep/in/here", "/bin/sh"}) {
    INFO(path);
    CHECK(stat(path).find("User:     0   Group:     0") != std::string::npos);
  }
  CHECK(output(bench, {"debugfs", "-R", "cat /deep/in/here", image.string()}) == "content");
}

TEST_CASE("A file that cannot be put into a file system fails the build, though debugfs exits 0") {
  ImageBench bench;
  GuestTree tree;
  tree.add_file("/x", bench.temp / "none");
  CHECK(error_of([&] { tree.write_ext4(bench.work, bench.temp / "root.raw", 16u << 20, "root"); }).code() ==
        Errc::other);
  GuestTree full;
  full.add_text("/big", std::string(20u << 20, 'x'));
  CHECK(error_of([&] { full.write_ext4(bench.work, bench.temp / "full.raw", 16u << 20, "root"); }).code() ==
        Errc::other);
}

TEST_CASE("Unpacking a tar says whose files have another owner or mode, and leaves devices out") {
  using Kind = ArchiveFile::Kind;
  ImageBench bench;
  const auto archive = to_tar({{Kind::folder, "bin", 0755, {}, 0, 0},
                               {Kind::file, "bin/su", 04755, "su", 0, 0},
                               {Kind::character_device, "null", 0666, {}, 1, 3},
                               {Kind::link, "sh", 0777, "bin/sh", 0, 0}});
  const auto tar = bench.write("a.tar", archive);
  std::filesystem::create_directory(bench.temp / "tree");
  const auto owners = unpack_tar(tar, std::filesystem::canonical(bench.temp / "tree"), nullptr);
  const auto su = std::find_if(owners.begin(), owners.end(), [](const auto& file) { return file.path == "/bin/su"; });
  REQUIRE(su != owners.end());
  CHECK(su->mode == 0104755U);
  CHECK(su->uid == 0);
  CHECK(ImageBench::read(bench.temp / "tree/bin/su") == "su");
  CHECK(std::filesystem::read_symlink(bench.temp / "tree/sh") == "bin/sh");
  CHECK_FALSE(std::filesystem::exists(bench.temp / "tree/null"));
}

TEST_CASE("A hard link shares its first name's file, and only that name's owner and mode are told") {
  ImageBench bench;
  std::filesystem::create_directory(bench.temp / "in");
  bench.write("in/a", "perl");
  std::filesystem::create_hard_link(bench.temp / "in/a", bench.temp / "in/b");
  const auto tar = (bench.temp / "a.tar").string();
  output(bench, {"tar", "-C", (bench.temp / "in").string(), "--owner=7", "--group=7", "--sort=name", "-cf", tar, "."});
  std::filesystem::create_directory(bench.temp / "tree");
  const auto owners = unpack_tar(tar, std::filesystem::canonical(bench.temp / "tree"), nullptr);
  CHECK(std::filesystem::hard_link_count(bench.temp / "tree/a") == 2);
  CHECK(owners.size() == 2);  // the folder and the file
  for (const auto& file : owners) CHECK((file.mode & 0170000U) != 0);
}

TEST_CASE("Every script of the guests is a shell script without a syntax error") {
  ImageBench bench;
  check_shell(bench, "micro init", micro_initramfs_script({"a.ko", "b.ko"}));
  check_shell(bench, "debian customize", debian_customize_script());
  auto files = debian_late_files("bookworm");
  std::size_t scripts = 0;
  for (const auto& file : files) {
    if (file.content.rfind("#!/bin/sh", 0) != 0) continue;
    check_shell(bench, file.path, file.content);
    ++scripts;
  }
  CHECK(scripts == 2);
}

TEST_CASE("The micro image's initramfs loads its modules in order, then hands over to init") {
  const auto script = micro_initramfs_script({"virtio.ko", "virtio_blk.ko"});
  const auto first = script.find("insmod /modules/virtio.ko\n");
  const auto second = script.find("insmod /modules/virtio_blk.ko\n");
  CHECK(first != std::string::npos);
  CHECK(first < second);
  CHECK(second < script.find("exec switch_root /root /sbin/init"));
}

TEST_CASE("A Debian image names Debian's own mirror and finds its boot partition by the label it is given") {
  const auto files = debian_late_files("bookworm");
  const auto content = [&](const std::string& path) {
    const auto found = std::find_if(files.begin(), files.end(), [&](const auto& file) { return file.path == path; });
    REQUIRE(found != files.end());
    return found->content;
  };
  CHECK(content("etc/apt/sources.list").find("deb http://deb.debian.org/debian-security bookworm-security main\n") !=
        std::string::npos);
  CHECK(content("usr/lib/vmgraft/update-boot").find("/dev/disk/by-label/" + std::string(kBootLabel)) !=
        std::string::npos);
  CHECK(content("etc/machine-id").empty());
}

TEST_CASE("A package's dependencies are read from apt-cache, virtual ones left out") {
  const std::string text =
      "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-1-cloud-amd64\nlinux-image-6.1.0-1-cloud-amd64\n  "
      "Depends: kmod\n |Depends: "
      "initramfs-tools\n    dracut\nkmod\n<linux-image-virtual>\n";
  CHECK(parse_depends(text, {"linux-image-"}) ==
        std::vector<std::string>{"linux-image-cloud-amd64", "linux-image-6.1.0-1-cloud-amd64"});
}

TEST_CASE("A full disk is said as such, with what to do") {
  const auto error =
      tool_error("convert 'a'", "qemu-img: error while writing: No space left on device\n", "/store/tmp");
  CHECK(error.what() == std::string("cannot convert 'a': no space left on device at '/store/tmp'"));
  CHECK(error.hint().find("free space there") != std::string::npos);
}

TEST_CASE("What qemu-img could not write when it closed the file is an error, though it ends with 0") {
  const auto error = [](const std::string& err) { return error_at_close({0, false, {}, err}); };
  CHECK(error("qemu-img: Failed to flush the L2 table cache: Input/output error\nqemu-img: Failed to flush the refcount block "
              "cache: Input/output error\n") == "Failed to flush the L2 table cache: Input/output error");
  CHECK(error("qemu-img: warning: it is slow\nqemu-img: Lost persistent bitmaps\n") == "Lost persistent bitmaps");
  for (const char* fine : {"", "qemu-img: warning: it is slow\n", "qemu-img: info: read\n", "Repairing cluster 0 refcount=1 reference=0\n"})
    CHECK(error(fine).empty());
}

TEST_CASE("A tool's last words are in the error, and what is missing names its package") {
  ImageBench bench;
  ToolRun run;
  run.what = "list it";
  run.argv = {"ls", (bench.temp / "none").string()};
  const std::string what = error_of([&] { (void)run_tool(bench.work, run); }).what();
  CHECK(what.rfind("cannot list it: ", 0) == 0);
  CHECK(what.find("No such file or directory") != std::string::npos);
  const auto missing = error_of([&] { (void)need_program(bench.host, "vmgraft-no-such-program", "some-package"); });
  CHECK(missing.code() == Errc::host_unfit);
  CHECK(missing.hint() == "install it: apt-get install some-package");
}

// SPDX-License-Identifier: Apache-2.0
#include "host/linux_host.hpp"

#include <cerrno>
#include <cstdio>
#include <functional>
#include <thread>

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/posix.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

/// Names in a folder, the hidden ones too: no temporary may stay behind.
std::vector<std::string> names_in(const fs::path& folder) {
  return LinuxHost().list_folder(folder);
}

bool says_full(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return std::string(error.what()).find("the file system is full") != std::string::npos;
  }
  return false;
}

/// Run in a child, on a disk of 256 KiB: which expectation failed, 0 for none.
int full_disk_behaviour(const fs::path& folder) {
  LinuxHost host;
  const std::string much(kMiB, 'x');
  host.write_file(folder / "kept", "kept", 0644);
  if (!says_full([&] { host.write_file(folder / "kept", much, 0644); })) return 1;
  if (!says_full([&] { host.create_sparse(folder / "s", 4 * kMiB, {{0, much}}, 0644); })) return 2;
  if (!says_full([&] {
        host.copy("/proc/self/exe", folder / "link");
        host.copy(fs::canonical("/proc/self/exe"), folder / "c");
      }))
    return 3;
  host.remove(folder / "link");
  if (names_in(folder) != std::vector<std::string>{"kept"}) return 4;
  return host.read_file(folder / "kept") == "kept" ? 0 : 5;
}

}  // namespace

TEST_CASE("a written file has its content and mode whatever the umask, and no temporary stays") {
  LinuxHost host;
  const TempFolder folder;
  const mode_t before = ::umask(0077);
  host.write_file(folder / "a", "one", 0644);
  ::umask(before);
  CHECK(host.read_file(folder / "a") == "one");
  CHECK(host.stat(folder / "a")->mode == 0644);
  host.write_file(folder / "a", "two", 0600);
  CHECK(host.read_file(folder / "a") == "two");
  CHECK(host.stat(folder / "a")->mode == 0600);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"a"});
}

TEST_CASE("a file that cannot be written leaves no temporary and the old content") {
  LinuxHost host;
  const TempFolder folder;
  host.make_folder(folder / "a", 0755);
  host.write_file(folder / "a/x", "kept", 0644);
  CHECK(error_of([&] { host.write_file(folder / "a", "text", 0644); }).code() == Errc::other);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"a"});
  CHECK(host.read_file(folder / "a/x") == "kept");
  CHECK(error_of([&] { host.write_file(folder / "none/b", "text", 0644); }).code() == Errc::other);
}

TEST_CASE("a full disk and a missing permission are said with what to do") {
  const Error full = error_of([] { posix::fail("write", "/s/layers/x", ENOSPC); });
  CHECK(std::string(full.what()) == "cannot write '/s/layers/x': the file system is full (folder '/s/layers')");
  CHECK(full.hint().find("--store") != std::string::npos);
  const Error taken = error_of([] { posix::fail("create", "/s/x", EEXIST); });
  CHECK(taken.code() == Errc::conflict);
  const Error closed = error_of([] { posix::fail("read", "/s/x", EACCES); });
  CHECK(std::string(closed.what()).starts_with("cannot read '/s/x': permission denied for user '"));
  CHECK_FALSE(closed.hint().empty());
}

TEST_CASE("on a disk that fills up, writing fails and leaves nothing behind") {
  const TempFolder folder;
  // A small disk in a mount namespace of its own; its end takes the mount along.
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", folder.path().c_str(), "tmpfs", 0, "size=256k") != 0) {
      ::_exit(77);
    }
    ::_exit(full_disk_behaviour(folder.path()));
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    std::puts("SKIPPED: a full disk cannot be made here (mounting is not permitted)");
    return;
  }
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("writing at once from many threads leaves one of the contents whole") {
  LinuxHost host;
  const TempFolder folder;
  std::vector<std::thread> writers;
  for (char c = 'a'; c < 'e'; ++c) {
    writers.emplace_back([&folder, c] {
      for (int i = 0; i < 20; ++i) LinuxHost().write_file(folder / "f", std::string(5000, c), 0644);
    });
  }
  for (std::thread& writer : writers) writer.join();
  const std::string content = *host.read_file(folder / "f");
  CHECK(content == std::string(5000, content.front()));
  CHECK(names_in(folder.path()) == std::vector<std::string>{"f"});
}

TEST_CASE("writing over a link replaces the link, not what it points to") {
  LinuxHost host;
  const TempFolder folder;
  host.write_file(folder / "target", "kept", 0644);
  fs::create_symlink(folder / "target", folder / "link");
  host.write_file(folder / "link", "new", 0644);
  CHECK(host.read_file(folder / "target") == "kept");
  CHECK_FALSE(host.stat(folder / "link")->is_link);
}

TEST_CASE("what is absent is a value where it can be") {
  LinuxHost host;
  const TempFolder folder;
  host.write_file(folder / "file", "x", 0644);
  CHECK_FALSE(host.read_file(folder / "none").has_value());
  CHECK_FALSE(host.read_file(folder / "file/below").has_value());
  CHECK_FALSE(host.stat(folder / "none").has_value());
  CHECK(host.list_folder(folder / "none").empty());
  CHECK_NOTHROW(host.remove(folder / "none"));
  CHECK(error_of([&] { (void)host.read_range(folder / "none", 0, 1); }).code() == Errc::other);
}

TEST_CASE("files of /proc that say they are empty are read whole, and folders and FIFOs are refused") {
  LinuxHost host;
  const TempFolder folder;
  CHECK(host.read_file("/proc/self/status")->starts_with("Name:"));
  CHECK(host.read_file("/proc/cpuinfo")->size() > 100);
  CHECK(error_of([&] { (void)host.read_file(folder.path()); }).code() == Errc::other);
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK(std::string(error_of([&] { (void)host.read_file(folder / "fifo"); }).what()).find("not a regular file") !=
        std::string::npos);
}

TEST_CASE("a range is read from within a file, and short at its end") {
  LinuxHost host;
  const TempFolder folder;
  host.write_file(folder / "a", "0123456789", 0644);
  CHECK(host.read_range(folder / "a", 2, 3) == "234");
  CHECK(host.read_range(folder / "a", 8, 100) == "89");
  CHECK(host.read_range(folder / "a", 10, 1).empty());
  CHECK(host.read_range(folder / "a", UINT64_MAX, SIZE_MAX).empty());
}

TEST_CASE("a sparse file takes no more room than its extents, and is not made over another") {
  LinuxHost host;
  const TempFolder folder;
  host.create_sparse(folder / "s", 1ULL << 40, {{0, "head"}, {1ULL << 39, "middle"}}, 0640);
  const FileInfo info = *host.stat(folder / "s");
  CHECK(info.size == 1ULL << 40);
  CHECK(info.allocated < kMiB);
  CHECK(info.mode == 0640);
  CHECK(host.read_range(folder / "s", 1ULL << 39, 6) == "middle");
  const Error error = error_of([&] { host.create_sparse(folder / "s", 1, {}, 0640); });
  CHECK(error.code() == Errc::conflict);
  CHECK(host.stat(folder / "s")->size == 1ULL << 40);
}

TEST_CASE("a sparse file that cannot be made as large as asked leaves nothing behind") {
  LinuxHost host;
  const TempFolder folder;
  CHECK(error_of([&] { host.create_sparse(folder / "s", UINT64_MAX, {}, 0600); }).code() == Errc::other);
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("a folder is made with its mode, making it again is fine, making it over a file is not") {
  LinuxHost host;
  const TempFolder folder;
  host.make_folder(folder / "d", 0711);
  CHECK(host.stat(folder / "d")->mode == 0711);
  CHECK(host.stat(folder / "d")->is_folder);
  CHECK_NOTHROW(host.make_folder(folder / "d", 0700));
  CHECK(host.stat(folder / "d")->mode == 0711);
  host.write_file(folder / "f", "", 0644);
  CHECK(error_of([&] { host.make_folder(folder / "f", 0700); }).code() == Errc::conflict);
  CHECK(error_of([&] { host.make_folder(folder / "no/parent", 0700); }).code() == Errc::other);
}

TEST_CASE("a copy of a file keeps content, holes and mode, and refuses a name that is taken") {
  LinuxHost host;
  const TempFolder folder;
  // Data, hole, data across the piece in which bytes are copied, hole at the end.
  const std::string data = std::string(kMiB + 777, 'd');
  host.create_sparse(folder / "a", 64 * kMiB + 5, {{0, "start"}, {20 * kMiB, data}}, 0640);
  host.copy(folder / "a", folder / "b");
  const FileInfo info = *host.stat(folder / "b");
  CHECK(info.size == 64 * kMiB + 5);
  CHECK(info.mode == 0640);
  CHECK(info.allocated < 4 * kMiB);
  CHECK(*host.read_file(folder / "a") == *host.read_file(folder / "b"));
  CHECK(error_of([&] { host.copy(folder / "a", folder / "b"); }).code() == Errc::conflict);
}

TEST_CASE("an empty file and one that is only a hole are copied") {
  LinuxHost host;
  const TempFolder folder;
  host.write_file(folder / "empty", "", 0600);
  host.create_sparse(folder / "hole", 10 * kMiB, {}, 0600);
  host.copy(folder / "empty", folder / "empty2");
  host.copy(folder / "hole", folder / "hole2");
  CHECK(host.stat(folder / "empty2")->size == 0);
  CHECK(host.stat(folder / "hole2")->size == 10 * kMiB);
  CHECK(host.stat(folder / "hole2")->allocated < kMiB);
}

TEST_CASE("a copy of a tree has all of it, links as links") {
  LinuxHost host;
  const TempFolder folder;
  host.make_folder(folder / "t", 0750);
  host.make_folder(folder / "t/sub", 0700);
  host.write_file(folder / "t/sub/f", "text", 0400);
  fs::create_symlink("../nowhere", folder / "t/link");
  host.copy(folder / "t", folder / "u");
  CHECK(host.stat(folder / "u")->mode == 0750);
  CHECK(host.stat(folder / "u/sub")->mode == 0700);
  CHECK(host.read_file(folder / "u/sub/f") == "text");
  CHECK(host.stat(folder / "u/sub/f")->mode == 0400);
  CHECK(fs::read_symlink(folder / "u/link") == "../nowhere");
}

TEST_CASE("a copy that fails in the middle removes what it made") {
  LinuxHost host;
  const TempFolder folder;
  host.make_folder(folder / "t", 0755);
  host.write_file(folder / "t/a", "text", 0644);
  REQUIRE(::mkfifo((folder / "t/b").c_str(), 0600) == 0);
  host.write_file(folder / "t/c", "text", 0644);
  const Error error = error_of([&] { host.copy(folder / "t", folder / "u"); });
  CHECK(std::string(error.what()).find("t/b") != std::string::npos);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"t"});
  CHECK(names_in(folder / "t").size() == 3);
}

TEST_CASE("a folder is not copied into itself, by no detour either") {
  LinuxHost host;
  const TempFolder folder;
  host.make_folder(folder / "t", 0755);
  fs::create_symlink(folder / "t", folder / "way");
  CHECK(error_of([&] { host.copy(folder / "t", folder / "t/u"); }).code() == Errc::other);
  CHECK(error_of([&] { host.copy(folder / "t", folder / "way/u"); }).code() == Errc::other);
  CHECK(names_in(folder / "t").empty());
}

TEST_CASE("a tree is removed without following the links in it") {
  LinuxHost host;
  const TempFolder folder;
  host.make_folder(folder / "outside", 0755);
  host.write_file(folder / "outside/kept", "x", 0644);
  host.make_folder(folder / "t", 0755);
  host.make_folder(folder / "t/sub", 0755);
  host.write_file(folder / "t/sub/f", "x", 0644);
  fs::create_symlink(folder / "outside", folder / "t/sub/link");
  fs::create_symlink(folder / "outside", folder / "link");
  host.remove(folder / "t");
  host.remove(folder / "link");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"outside"});
  CHECK(host.read_file(folder / "outside/kept") == "x");
}

TEST_CASE("files are moved over others and linked to free names only") {
  LinuxHost host;
  const TempFolder folder;
  host.make_folder(folder / "d", 0755);
  host.write_file(folder / "a", "a", 0644);
  host.write_file(folder / "d/b", "b", 0644);
  host.rename(folder / "a", folder / "d/b");
  CHECK(host.read_file(folder / "d/b") == "a");
  CHECK_FALSE(host.stat(folder / "a").has_value());
  host.hard_link(folder / "d/b", folder / "c");
  CHECK(host.read_file(folder / "c") == "a");
  CHECK(error_of([&] { host.hard_link(folder / "d/b", folder / "c"); }).code() == Errc::conflict);
  CHECK(error_of([&] { host.rename(folder / "none", folder / "x"); }).code() == Errc::other);
}

TEST_CASE("mode and owner are set, and never through a link") {
  LinuxHost host;
  const TempFolder folder;
  host.write_file(folder / "f", "x", 0644);
  host.set_mode(folder / "f", 0444);
  CHECK(host.stat(folder / "f")->mode == 0444);
  CHECK_NOTHROW(host.set_owner(folder / "f", ::getuid(), ::getgid()));
  fs::create_symlink(folder / "f", folder / "link");
  CHECK(error_of([&] { host.set_mode(folder / "link", 0777); }).code() == Errc::other);
  CHECK(host.stat(folder / "f")->mode == 0444);
}

TEST_CASE("free space is told for a folder that is yet to be made as well") {
  LinuxHost host;
  const TempFolder folder;
  const FreeSpace space = host.free_space(folder / "a/b/c");
  CHECK(space.total > 0);
  CHECK(space.available <= space.total);
  CHECK(space.total == host.free_space(folder.path()).total);
}

TEST_CASE("a link is told as it stands, whatever its length, and what is no link is none") {
  LinuxHost host;
  const TempFolder folder;
  const std::string target = "../" + std::string(200, 'a') + "/" + std::string(200, 'b');
  fs::create_symlink("../../drivers/vfio-pci", folder / "driver");
  fs::create_symlink(target, folder / "long");
  host.write_file(folder / "file", "", 0644);
  CHECK(host.read_link(folder / "driver") == "../../drivers/vfio-pci");
  CHECK(host.read_link(folder / "long") == target);
  CHECK_FALSE(host.read_link(folder / "file"));
  CHECK_FALSE(host.read_link(folder.path()));
  CHECK_FALSE(host.read_link(folder / "none"));
  CHECK_FALSE(host.read_link(folder / "file/below"));
}

TEST_CASE("facts of a recorded host are read below its root, and all else from the host") {
  const TempFolder folder;
  const auto record = [&](const std::string& file, const std::string& text) {
    fs::create_directories((folder / file).parent_path());
    LinuxHost().write_file(folder / file, text, 0644);
  };
  for (const std::string top :
       {"sys", "proc", "dev", "etc/vmgraft", "etc/libvirt/hooks", "run/vmgraft", "lib/modules"}) {
    record(top + "/recorded", top);
  }
  record("system/recorded", "not asked for");
  fs::create_symlink("../../devices/pci0000:40", folder / "sys/link");

  LinuxHost host(folder.path());
  for (const std::string top :
       {"/sys", "/proc", "/dev", "/etc/vmgraft", "/etc/libvirt/hooks", "/run/vmgraft", "/lib/modules"}) {
    INFO(top);
    CHECK("/" + host.read_file(top + "/recorded").value_or("") == top);
    CHECK(host.list_folder(top).front() == (top == "/sys" ? "link" : "recorded"));
    CHECK(host.stat(top + "/recorded")->size == top.size() - 1);
    CHECK("/" + host.read_range(top + "/recorded", 0, 100) == top);
  }
  CHECK(host.read_link("/sys/link") == "../../devices/pci0000:40");
  CHECK_FALSE(host.read_file("/proc/self/stat"));
  CHECK_FALSE(host.read_file("/sys/../etc/recorded"));
  CHECK_FALSE(host.read_file("/system/recorded"));
  CHECK(host.read_file(folder / "sys/recorded") == "sys");
  host.write_file(folder / "own", "written", 0644);
  CHECK(host.read_file(folder / "own") == "written");
}

TEST_CASE("a device has its number under every name, and what is none has no number") {
  const TempFolder folder;
  LinuxHost host;
  fs::create_symlink("/dev/null", folder / "link");
  host.write_file(folder / "file", "", 0644);
  const int null = ::open("/dev/null", O_RDONLY);
  const auto number = host.device_number("/dev/null");
  REQUIRE(number);
  CHECK(host.device_number(folder / "link") == number);
  CHECK(host.device_number("/proc/self/fd/" + std::to_string(null)) == number);
  CHECK(host.device_number("/dev/zero") != number);
  CHECK_FALSE(host.device_number(folder / "file"));
  CHECK_FALSE(host.device_number(folder / "none"));
  ::close(null);
}

TEST_CASE("the devices of a recorded host cannot be changed") {
  const TempFolder folder;
  LinuxHost().make_folder(folder / "sys", 0755);
  LinuxHost().write_file(folder / "sys/reset", "", 0644);
  LinuxHost host(folder.path());
  const Error error = error_of([&] { host.write_attribute("/sys/reset", "1", std::chrono::seconds(60)); });
  CHECK(error.code() == Errc::usage);
  CHECK(std::string(error.what()) ==
        "a recorded host cannot be changed: its devices are read from '" + folder.path().native() + "'");
  CHECK(LinuxHost().read_file(folder / "sys/reset") == "");
  CHECK(error_of([&] { host.hot_reset({"0000:41:00.0"}, std::chrono::seconds(60)); }).code() == Errc::usage);
}

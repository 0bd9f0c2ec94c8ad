// SPDX-License-Identifier: Apache-2.0
// A store that came from elsewhere may hold symbolic links; vmgraft works in it as root.
#include <functional>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/linux_host.hpp"
#include "store/store.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;
namespace fs = std::filesystem;

namespace {

/// A store beside a folder that is none of its business, and links from one into the other.
struct Planted {
  Planted() {
    fs::create_directories(store / "vms/a");
    fs::create_directories(store / "layers");
    fs::create_directory(outside);
    host.write_file(outside / "passwd", "precious", 0644);
    host.write_file(store / "vms/a/own", "own", 0600);
    fs::create_directory_symlink(outside, store / "vms/folder");
    fs::create_symlink(outside / "passwd", store / "vms/a/file");
    fs::create_symlink(outside / "new", store / "vms/a/dangling");
    host.keep_beneath(store);
  }

  [[nodiscard]] bool is_untouched() const {
    struct stat facts {};
    return ::lstat((outside / "passwd").c_str(), &facts) == 0 && (facts.st_mode & 07777U) == 0644 &&
           facts.st_nlink == 1 && LinuxHost().read_file(outside / "passwd") == "precious" &&
           LinuxHost().list_folder(outside) == std::vector<std::string>{"passwd"};
  }

  TempFolder folder;
  fs::path store = folder / "store";
  fs::path outside = folder / "outside";
  LinuxHost host;
};

using Act = std::pair<const char*, std::function<void(Planted&)>>;

}  // namespace

// Each of these followed the link: read, wrote, deleted, or gave away what lay outside.
TEST_CASE("no call follows a link that stands in the store, on the way") {
  const std::vector<Act> acts = {
      {"read", [](Planted& p) { static_cast<void>(p.host.read_file(p.store / "vms/folder/passwd")); }},
      {"read a part", [](Planted& p) { static_cast<void>(p.host.read_range(p.store / "vms/folder/passwd", 0, 4)); }},
      {"look", [](Planted& p) { static_cast<void>(p.host.stat(p.store / "vms/folder/passwd")); }},
      {"list", [](Planted& p) { static_cast<void>(p.host.list_folder(p.store / "vms/folder/sub")); }},
      {"read a link", [](Planted& p) { static_cast<void>(p.host.read_link(p.store / "vms/folder/passwd")); }},
      {"write", [](Planted& p) { p.host.write_file(p.store / "vms/folder/passwd", "x", 0666); }},
      {"create", [](Planted& p) { p.host.create_sparse(p.store / "vms/folder/new", 1, {}, 0644); }},
      {"make a folder", [](Planted& p) { p.host.make_folder(p.store / "vms/folder/new", 0755); }},
      {"copy in", [](Planted& p) { p.host.copy(p.store / "vms/a/own", p.store / "vms/folder/new"); }},
      {"copy out", [](Planted& p) { p.host.copy(p.store / "vms/folder/passwd", p.store / "vms/a/new"); }},
      {"move in", [](Planted& p) { p.host.rename(p.store / "vms/a/own", p.store / "vms/folder/new"); }},
      {"move out", [](Planted& p) { p.host.rename(p.store / "vms/folder/passwd", p.store / "vms/a/new"); }},
      {"link", [](Planted& p) { p.host.hard_link(p.store / "vms/folder/passwd", p.store / "vms/a/new"); }},
      {"remove", [](Planted& p) { p.host.remove(p.store / "vms/folder/passwd"); }},
      {"set the mode", [](Planted& p) { p.host.set_mode(p.store / "vms/folder/passwd", 0666); }},
      {"set the owner", [](Planted& p) { p.host.set_owner(p.store / "vms/folder/passwd", ::getuid(), ::getgid()); }},
  };
  for (const auto& [name, act] : acts) {
    INFO(name);
    Planted planted;
    const Error error = error_of([&, act = act] { act(planted); });
    CHECK(error.code() == Errc::conflict);
    CHECK(std::string(error.what()).find("is reached through a symbolic link") != std::string::npos);
    CHECK(planted.is_untouched());
    CHECK(LinuxHost().list_folder(planted.store / "vms/a") == std::vector<std::string>{"dangling", "file", "own"});
  }
}

TEST_CASE("no call follows a link that stands in the store in the place of a file") {
  const std::vector<Act> acts = {
      {"read", [](Planted& p) { static_cast<void>(p.host.read_file(p.store / "vms/a/file")); }},
      {"read a part", [](Planted& p) { static_cast<void>(p.host.read_range(p.store / "vms/a/file", 0, 4)); }},
      {"create", [](Planted& p) { p.host.create_sparse(p.store / "vms/a/dangling", 1, {}, 0644); }},
      {"make a folder", [](Planted& p) { p.host.make_folder(p.store / "vms/folder", 0755); }},
      {"copy", [](Planted& p) { p.host.copy(p.store / "vms/a/file", p.store / "vms/a/new"); }},
      {"copy a tree", [](Planted& p) { p.host.copy(p.store / "vms/a", p.store / "vms/b"); }},
      {"copy out of the store", [](Planted& p) { p.host.copy(p.store / "vms/a/file", p.folder / "new"); }},
      {"set the mode", [](Planted& p) { p.host.set_mode(p.store / "vms/a/file", 0666); }},
      {"set the owner", [](Planted& p) { p.host.set_owner(p.store / "vms/a/file", ::getuid(), ::getgid()); }},
  };
  for (const auto& [name, act] : acts) {
    INFO(name);
    Planted planted;
    CHECK_THROWS_AS(act(planted), Error);
    CHECK(planted.is_untouched());
    CHECK_FALSE(fs::exists(fs::symlink_status(planted.folder / "new")));
  }
  Planted planted;
  CHECK(planted.host.list_folder(planted.store / "vms/folder").empty());
  planted.host.write_file(planted.store / "vms/a/file", "new", 0600);  // takes the link's place
  planted.host.remove(planted.store / "vms/folder");
  CHECK(planted.is_untouched());
  CHECK(planted.host.read_file(planted.store / "vms/a/file") == "new");
  CHECK_FALSE(fs::exists(fs::symlink_status(planted.store / "vms/folder")));
}

TEST_CASE("a path that leaves the store by its dots is refused") {
  Planted planted;
  CHECK_THROWS_AS(planted.host.remove(planted.store / "vms/../../outside/passwd"), Error);
  CHECK_THROWS_AS(static_cast<void>(planted.host.read_file(planted.store.native() + "/../outside/passwd")), Error);
  CHECK(planted.is_untouched());
}

TEST_CASE("a store may itself stand behind a link, and its files are told by the path that was asked for") {
  Planted planted;
  fs::create_directory_symlink(planted.store, planted.folder / "way");
  LinuxHost host;
  host.keep_beneath(planted.folder.path() / "way/");
  host.write_file(planted.folder / "way/vms/a/f", "x", 0600);
  CHECK(host.read_file(planted.folder / "way/vms/a/f") == "x");
  CHECK(host.list_folder(planted.folder / "way/vms/a/") == std::vector<std::string>{"dangling", "f", "file", "own"});
  CHECK_FALSE(host.read_file(planted.folder / "way/vms/none/f"));
  CHECK_FALSE(host.stat(planted.folder / "way/vms/a/f/below"));
  const Error error = error_of([&] { planted.host.create_sparse(planted.store / "vms/a/own", 1, {}, 0644); });
  CHECK(error.what() == "cannot create '" + (planted.store / "vms/a/own").native() + "': it exists already");
}

TEST_CASE("a folder is found name by name, where openat2 is not known, as by openat2") {
  Planted planted;
  const posix::Fd root = posix::open(planted.store, O_PATH | O_DIRECTORY, "open");
  for (const auto& open : {posix::try_open_beneath, posix::try_walk_beneath}) {
    CHECK(open(root.get(), "vms/a"));
    CHECK(open(root.get(), ""));
    CHECK_FALSE(open(root.get(), "vms/folder"));
    CHECK(errno == ELOOP);
    CHECK_FALSE(open(root.get(), "vms/a/own"));
    CHECK(errno == ENOTDIR);
    CHECK_FALSE(open(root.get(), "vms/none"));
    CHECK(errno == ENOENT);
  }
}

TEST_CASE("a store in which a folder is a link is refused") {
  const TempFolder folder;
  LinuxHost host;
  Store(host, folder / "s").prepare();
  fs::rename(folder / "s/locks", folder / "elsewhere");
  fs::create_directory_symlink(folder / "elsewhere", folder / "s/locks");
  const Error error = error_of([&] { Store(host, folder / "s").prepare(); });
  CHECK(error.code() == Errc::conflict);
  CHECK(error.what() == "'" + (folder / "s/locks").native() + "' is a symbolic link");
}

// `sudo vmgraft` worked on in a store of another user, who could swap files under root's hands.
TEST_CASE("a store that another user owns, or that everybody may write to, is refused") {
  const TempFolder folder;
  LinuxHost host;
  Store(host, folder / "s").prepare();
  for (const char* name : {"s", "s/journal", "s/vms"}) {
    INFO(name);
    fs::permissions(folder / name, fs::perms::others_write, fs::perm_options::add);
    const Error error = error_of([&] { Store(host, folder / "s").prepare(); });
    CHECK(error.code() == Errc::conflict);
    CHECK(error.what() == "'" + (folder / name).native() + "' is writable by everybody");
    fs::permissions(folder / name, fs::perms::others_write, fs::perm_options::remove);
    CHECK_NOTHROW(Store(host, folder / "s").prepare());
  }
  if (::geteuid() != 0) return;  // nobody else can give a folder away
  REQUIRE(::chown((folder / "s/journal").c_str(), 65534, 65534) == 0);
  const Error error = error_of([&] { Store(host, folder / "s").prepare(); });
  CHECK(error.code() == Errc::conflict);
  CHECK(std::string(error.what()).find("belongs to user 65534") != std::string::npos);
}

TEST_CASE("what a store holds is closed to others, whatever the umask") {
  for (const mode_t mask : {mode_t{0}, mode_t{077}}) {
    const TempFolder folder;
    LinuxHost host;
    const mode_t before = ::umask(mask);
    Store(host, folder / "s").prepare();
    host.make_folder(folder / "s/vms/a", 0700);
    host.write_file(folder / "s/vms/a/seed.iso", "key", 0600);
    host.create_sparse(folder / "s/layers/head", 1, {}, 0600);
    host.write_file(folder / "s/layers/frozen", "x", 0444);
    host.copy(folder / "s/vms/a/seed.iso", folder / "s/vms/a/copy");
    ::umask(before);
    for (const char* name : {"images", "journal", "locks", "tmp", "vms/a"})
      CHECK(host.stat(folder.path() / "s" / name)->mode == 0700);
    for (const char* name : {"vms/a/seed.iso", "vms/a/copy", "layers/head"})
      CHECK(host.stat(folder.path() / "s" / name)->mode == 0600);
    CHECK(host.stat(folder / "s/layers/frozen")->mode == 0444);
  }
}

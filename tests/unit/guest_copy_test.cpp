// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include "guest/provision.hpp"
#include "guest/tree_archive.hpp"
#include "support/catch.hpp"
#include "support/fake_agent.hpp"

using namespace vmgraft;
namespace fs = std::filesystem;

namespace {

struct CopyWorld {
  ScratchFolder folder;
  FakeAgent fake;
  std::atomic<bool> interrupted{false};
  GuestAgent agent{fake, "a", "uuid", {&interrupted, std::chrono::minutes(1)}};
  fs::path here = folder.path() / "here";
  fs::path there = folder.path() / "there";  // the fake's guest is this host

  CopyWorld() {
    fs::create_directory(here);
    fs::create_directory(there);
  }
};

void put(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

const std::string kLongName(180, 'n');

void make_tree(const fs::path& root) {
  fs::create_directories(root / "sub" / "empty");
  put(root / "one", "1");
  put(root / "sub" / "big", std::string(700000, 'b'));
  put(root / "sub" / kLongName, "long");
  put(root / "sub" / "nothing", "");
  put(root / "sub" / "tool", "#!/bin/sh\n");
  fs::permissions(root / "sub" / "tool", fs::perms(0755));
  fs::create_symlink("../one", root / "sub" / "link");
}

void check_tree(const fs::path& root) {
  CHECK(content_of(root / "one") == "1");
  CHECK(content_of(root / "sub" / "big") == std::string(700000, 'b'));
  CHECK(content_of(root / "sub" / kLongName) == "long");
  CHECK(fs::file_size(root / "sub" / "nothing") == 0);
  CHECK(fs::is_directory(root / "sub" / "empty"));
  CHECK(fs::read_symlink(root / "sub" / "link") == "../one");
  CHECK((fs::status(root / "sub" / "tool").permissions() & fs::perms(0111)) == fs::perms(0111));
}

struct TarEntry {
  std::string name;
  std::string content{};
  unsigned type = AE_IFREG;
  std::string target{};
  bool hard_link = false;
  unsigned mode = 0644;
};

std::function<std::optional<std::string>()> tar_of(const std::vector<TarEntry>& entries) {
  std::string bytes(1 << 20, '\0');
  std::size_t used = 0;
  struct archive* tar = archive_write_new();
  archive_write_set_format_pax_restricted(tar);
  archive_write_open_memory(tar, bytes.data(), bytes.size(), &used);
  for (const TarEntry& from : entries) {
    struct archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, from.name.c_str());
    archive_entry_set_filetype(entry, from.type);
    archive_entry_set_perm(entry, from.mode);
    if (from.hard_link) {
      archive_entry_set_hardlink(entry, from.target.c_str());
    } else if (!from.target.empty()) {
      archive_entry_set_symlink(entry, from.target.c_str());
    }
    archive_entry_set_size(entry, static_cast<la_int64_t>(from.content.size()));
    archive_write_header(tar, entry);
    archive_write_data(tar, from.content.data(), from.content.size());
    archive_entry_free(entry);
  }
  archive_write_close(tar);
  archive_write_free(tar);
  bytes.resize(used);
  return [bytes, given = false]() mutable -> std::optional<std::string> {
    if (std::exchange(given, true)) return std::nullopt;
    return bytes;
  };
}

}  // namespace

TEST_CASE("a file is copied into the guest under a new name, or into a folder") {
  CopyWorld world;
  put(world.here / "f", "hello");
  fs::permissions(world.here / "f", fs::perms(0750));
  const CopyCount named = copy_to_guest(world.agent, world.here / "f", (world.there / "g").string());
  CHECK(named.files == 1);
  CHECK(named.bytes == 5);
  CHECK(content_of(world.there / "g") == "hello");
  CHECK(fs::status(world.there / "g").permissions() == fs::perms(0750));
  copy_to_guest(world.agent, world.here / "f", world.there.string());
  copy_to_guest(world.agent, world.here / "f", world.there.string() + "/");
  CHECK(content_of(world.there / "f") == "hello");
  CHECK(names_in(world.there) == std::vector<std::string>{"f", "g"});
}

TEST_CASE("a file is copied out of the guest under a new name, or into a folder") {
  CopyWorld world;
  put(world.there / "f", std::string(500000, 'x'));
  const CopyCount count = copy_from_guest(world.agent, (world.there / "f").string(), world.here / "g");
  CHECK(count.files == 1);
  CHECK(count.bytes == 500000);
  copy_from_guest(world.agent, (world.there / "f").string(), world.here);
  CHECK(content_of(world.here / "f") == std::string(500000, 'x'));
  CHECK(names_in(world.here) == std::vector<std::string>{"f", "g"});
}

TEST_CASE("a tree goes into the guest as with cp -r") {
  CopyWorld world;
  make_tree(world.here / "tree");
  const CopyCount count = copy_to_guest(world.agent, world.here / "tree", (world.there / "new").string());
  CHECK(count.files == 5);
  CHECK(count.bytes == 700000 + 1 + 4 + 10);
  check_tree(world.there / "new");
  copy_to_guest(world.agent, world.here / "tree", world.there.string());
  check_tree(world.there / "tree");
}

TEST_CASE("a tree comes out of the guest as with cp -r") {
  CopyWorld world;
  make_tree(world.there / "tree");
  const CopyCount count = copy_from_guest(world.agent, (world.there / "tree").string(), world.here / "new");
  CHECK(count.files == 5);
  CHECK(count.bytes == 700000 + 1 + 4 + 10);
  check_tree(world.here / "new");
  CHECK(fs::status(world.here / "new").permissions() == fs::status(world.there / "tree").permissions());
  copy_from_guest(world.agent, (world.there / "tree").string() + "/", world.here);
  check_tree(world.here / "tree");
  CHECK(names_in(world.here) == std::vector<std::string>{"new", "tree"});
}

TEST_CASE("a tree that comes out over one that exists is merged into it") {
  CopyWorld world;
  make_tree(world.there / "tree");
  fs::create_directories(world.here / "tree" / "sub");
  put(world.here / "tree" / "sub" / "mine", "kept");
  put(world.here / "tree" / "one", "old");
  copy_from_guest(world.agent, (world.there / "tree").string(), world.here);
  check_tree(world.here / "tree");
  CHECK(content_of(world.here / "tree" / "sub" / "mine") == "kept");
  CHECK(names_in(world.here) == std::vector<std::string>{"tree"});
}

TEST_CASE("a merge does not go through a link that stands where a folder must be") {
  CopyWorld world;
  make_tree(world.there / "tree");
  const fs::path outside = world.folder.path() / "outside";
  fs::create_directory(outside);
  fs::create_directory(world.here / "tree");
  fs::create_symlink(outside, world.here / "tree" / "sub");
  const Error error = error_of([&] { copy_from_guest(world.agent, (world.there / "tree").string(), world.here); });
  CHECK(error.code() == Errc::conflict);
  CHECK(fs::is_empty(outside));
}

TEST_CASE("a large tree goes in several streams and arrives whole") {
  CopyWorld world;
  fs::create_directory(world.here / "tree");
  for (int i = 0; i < 40; ++i) put(world.here / "tree" / std::to_string(i), std::string(20000, 'x'));
  unsigned streams = 0;
  std::uint64_t longest = 0;
  const CopyCount count = write_tree(world.here / "tree", "t", 100000, [&](const auto& next) {
    ++streams;
    std::uint64_t length = 0;
    while (const std::optional<std::string> piece = next()) length += piece->size();
    longest = std::max(longest, length);
  });
  CHECK(count.files == 40);
  CHECK(count.bytes == 800000);
  CHECK(streams >= 7);
  CHECK(longest < 150000);
}

TEST_CASE("copying says what is missing or in the way") {
  CopyWorld world;
  put(world.here / "f", "x");
  put(world.there / "f", "x");
  fs::create_directory(world.here / "d");
  const auto to = [&](const fs::path& from, const std::string& path) {
    return error_of([&] { copy_to_guest(world.agent, from, path); });
  };
  const auto from = [&](const std::string& path, const fs::path& where) {
    return error_of([&] { copy_from_guest(world.agent, path, where); });
  };
  CHECK(to(world.here / "no", world.there.string()).code() == Errc::not_found);
  CHECK(to(world.here / "f", "relative").code() == Errc::usage);
  const Error missing = to(world.here / "f", (world.there / "no" / "f").string());
  CHECK(missing.code() == Errc::not_found);
  CHECK(std::string(missing.what()) ==
        "VM 'a': there is no folder '" + (world.there / "no").string() + "' in the guest");
  CHECK(to(world.here / "d", (world.there / "no" / "d").string()).code() == Errc::not_found);
  CHECK(to(world.here / "f", (world.there / "no").string() + "/").code() == Errc::not_found);
  CHECK(to(world.here / "d", (world.there / "f").string()).code() == Errc::conflict);
  CHECK(to("/dev/null", world.there.string()).code() == Errc::conflict);
  CHECK(from((world.there / "no").string(), world.here).code() == Errc::not_found);
  CHECK(from("/dev/null", world.here).code() == Errc::conflict);
  CHECK(from((world.there / "f").string(), world.here / "no" / "f").code() == Errc::not_found);
  CHECK(from(world.there.string(), world.here / "f").code() == Errc::conflict);
  CHECK(names_in(world.here) == std::vector<std::string>{"d", "f"});
}

TEST_CASE("an interrupted copy leaves nothing behind") {
  CopyWorld world;
  put(world.here / "f", std::string(300000, 'x'));
  make_tree(world.there / "tree");
  // While the guest is at work on it, and before it is asked at all.
  const auto [to_guest, at] = GENERATE(table<bool, std::string>(
      {{true, ""}, {true, "guest-exec"}, {true, "guest-file-write"}, {false, ""}, {false, "guest-exec"}, {false, "guest-file-read"}}));
  INFO((to_guest ? "to the guest, at " : "from the guest, at ") << at);
  world.interrupted = at.empty();
  world.fake.on_command = [&, at = at](const std::string& command) { world.interrupted = world.interrupted || command == at; };
  const auto copy = [&, to_guest = to_guest] {
    if (to_guest)
      copy_to_guest(world.agent, world.here / "f", (world.there / "f").string());
    else
      copy_from_guest(world.agent, (world.there / "tree").string(), world.here / "new");
  };
  CHECK(error_of(copy).code() == Errc::interrupted);
  CHECK(world.fake.log.empty() == at.empty());
  CHECK(names_in(world.there) == std::vector<std::string>{"tree"});
  CHECK(names_in(world.here) == std::vector<std::string>{"f"});
  CHECK(world.fake.open_files() == 0);
}

TEST_CASE("a hostile guest cannot write outside the destination") {
  const ScratchFolder folder;
  const fs::path target = folder.path() / "in";
  const fs::path outside = folder.path() / "outside";
  fs::create_directory(target);
  fs::create_directory(outside);
  put(outside / "secret", "safe");
  const std::string out = outside.string();
  const std::vector<std::vector<TarEntry>> attacks{
      {{"../outside/x", "bad"}},
      {{"a/../../outside/x", "bad"}},
      {{out + "/x", "bad"}},
      {{"link", "", AE_IFLNK, out}, {"link/x", "bad"}},
      {{"link", "", AE_IFLNK, "../outside"}, {"link/x", "bad"}},
      {{"hard", "", AE_IFREG, "../outside/secret", true}, {"hard", "bad"}},
      {{"hard", "", AE_IFREG, out + "/secret", true}},
      {{"link", "", AE_IFLNK, out}, {"hard", "", AE_IFREG, "link/secret", true}},
      {{"d", "", AE_IFDIR}, {"d", "", AE_IFLNK, out}, {"d/x", "bad"}},
  };
  for (const auto& attack : attacks) {
    fs::remove_all(target);
    fs::create_directory(target);
    try {
      read_tree(tar_of(attack), target);
    } catch (const Error& error) {
      CHECK(error.code() == Errc::other);
    }
    CHECK(names_in(outside) == std::vector<std::string>{"secret"});
    CHECK(content_of(outside / "secret") == "safe");
    CHECK(fs::hard_link_count(outside / "secret") == 1);
  }
  CHECK(names_in(folder.path()) == std::vector<std::string>{"in", "outside"});
}

TEST_CASE("devices from a guest are refused and set-id bits dropped") {
  const ScratchFolder folder;
  CHECK(error_of([&] { read_tree(tar_of({{"dev", "", AE_IFCHR}}), folder.path()); }).code() == Errc::conflict);
  CHECK(error_of([&] { read_tree(tar_of({{"pipe", "", AE_IFIFO}}), folder.path()); }).code() == Errc::conflict);
  read_tree(tar_of({{"tool", "x", AE_IFREG, "", false, 06755}}), folder.path());
  CHECK((fs::status(folder.path() / "tool").permissions() & fs::perms(07000)) == fs::perms::none);
}

TEST_CASE("a cut or senseless tar stream is an error") {
  const ScratchFolder folder;
  const auto source = [](std::string bytes) {
    return [bytes = std::move(bytes), given = false]() mutable -> std::optional<std::string> {
      if (std::exchange(given, true)) return std::nullopt;
      return bytes;
    };
  };
  CHECK(error_of([&] { read_tree(source(std::string(2048, 'z')), folder.path()); }).code() == Errc::other);
  auto whole = tar_of({{"f", std::string(5000, 'f')}});
  const std::string cut = whole()->substr(0, 2000);
  CHECK(error_of([&] { read_tree(source(cut), folder.path()); }).code() == Errc::other);
}

// SPDX-License-Identifier: Apache-2.0
// gc and extend, over libvirt's test driver: no daemon, no VM.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <sys/stat.h>
#include <unistd.h>

#include "cli/run_binary.hpp"
#include "model/moment.hpp"
#include "store/records.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using nlohmann::json;
using vmgraft::Manifest;
namespace fs = std::filesystem;

const std::string kId(32, 'e');

class TestStore {
 public:
  TestStore() { run({"image", "list"}); }  // the first command that needs a store makes its folders

  vmgraft::CommandResult run(std::vector<std::string> words, int want_exit = 0) {
    words.insert(words.begin(), {"--connect", "test:///default", "--store", root()});
    auto result = run_vmgraft(words);
    INFO(result.out << result.err);
    CHECK(result.exit_code == want_exit);
    return result;
  }
  json result_of(std::vector<std::string> words) {
    words.insert(words.begin(), "--json");
    return record_of(run(std::move(words))).at("result");
  }
  [[nodiscard]] std::string root() const { return folder_ / "store"; }
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories(fs::path(root() + "/" + file).parent_path());
    std::ofstream(root() + "/" + file) << text;
  }
  void add_vm(const std::string& name, const std::string& expires, const std::string& on_expire = "delete") const {
    Manifest manifest;
    manifest.name = name;
    manifest.uuid = "00000000-0000-4000-8000-0000000000" + std::to_string(10 + name.size());
    manifest.spec = R"({"version":1,"name":"t","vm":{"memory":"64MiB"},"lifecycle":{"on_expire":")" + on_expire + "\"}}";
    manifest.template_name = "t";
    manifest.created = "2026-01-02T03:04:05Z";
    manifest.expires = expires;
    write("vms/" + name + "/vm.json", to_json_text(manifest));
  }
  /// Every path below it, but for locks.
  [[nodiscard]] std::vector<std::string> inventory() const {
    std::vector<std::string> paths;
    for (const auto& entry : fs::recursive_directory_iterator(root()))
      if (entry.path().string().find("/locks/") == std::string::npos) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    return paths;
  }

 private:
  TempFolder folder_;
};

std::string in(std::chrono::seconds time) { return vmgraft::to_rfc3339(vmgraft::this_second() + time); }

const json kNothing = json::parse(
    R"({"layers":[],"files":[],"domains":[],"manifests":[],"journals":[],"expired":[]})");

}  // namespace

TEST_CASE("gc of a store in order answers with its six lists, all empty, and prints nothing") {
  TestStore store;
  CHECK(store.result_of({"gc"}) == kNothing);
  CHECK(store.result_of({"gc", "--dry-run"}) == kNothing);
  CHECK(store.run({"gc"}).out.empty());
  CHECK(store.run({"gc"}).err == "nothing to do\n");
  CHECK(store.run({"--quiet", "gc"}).err.empty());
}

TEST_CASE("gc --dry-run tells what gc then does, and changes nothing") {
  TestStore store;
  store.write("layers/" + kId + ".qcow2", std::string(8192, 'x'));
  store.write("tmp/" + kId + "/disk", "x");
  store.write("layers/mine.qcow2", "x");
  const auto before = store.inventory();
  const json foretold = store.result_of({"gc", "--dry-run"});
  CHECK(store.inventory() == before);
  REQUIRE(foretold.at("files").size() == 2);
  const json& file = foretold.at("files")[0];
  CHECK(file.size() == 6);
  CHECK(file.at("name") == store.root() + "/layers/" + kId + ".qcow2");
  CHECK(file.at("what") == "a layer without a record");
  CHECK(file.at("size") == 8192);
  CHECK(file.at("action") == "remove");
  CHECK(file.at("done") == false);
  CHECK(file.at("note").is_null());
  CHECK(foretold.at("files")[1].at("what") == "work folder of a process that died");

  const std::string line = "layers/" + kId + ".qcow2: a layer without a record (8 KiB)\n";
  CHECK(store.run({"gc", "--dry-run"}).out.find("would remove file " + store.root() + "/" + line) == 0);
  const auto done = store.run({"gc"});
  CHECK(done.out.find("removed file " + store.root() + "/" + line) == 0);
  CHECK(done.out.find(" freed\n") != std::string::npos);
  CHECK(fs::exists(store.root() + "/layers/mine.qcow2"));
  CHECK_FALSE(fs::exists(store.root() + "/layers/" + kId + ".qcow2"));
  CHECK_FALSE(fs::exists(store.root() + "/tmp/" + kId));
  CHECK(store.result_of({"gc"}) == kNothing);
}

// It made a store there, found it empty, and took the domains of the one whose disk was not mounted for garbage.
TEST_CASE("gc makes no store where there is none") {
  TempFolder folder;
  const std::string root = folder / "store";
  const auto result = run_vmgraft({"--connect", "test:///default", "--store", root, "gc"});
  CHECK(result.exit_code == 0);
  CHECK(result.err == "there is no store at " + root + "\nnothing to do\n");
  CHECK_FALSE(fs::exists(root));
  fs::create_directory(root);
  CHECK(run_vmgraft({"--connect", "test:///default", "--store", root, "gc"}).exit_code == 0);
  CHECK(fs::is_empty(root));
}

// A folder in journal/ kept every command from its work, and one in locks/ kept check.
TEST_CASE("what somebody put beside the journals and locks keeps no command from its work") {
  TestStore store;
  for (const char* folder : {"journal/", "locks/"}) {
    store.write(std::string(folder) + "mine/notes", "x");
    REQUIRE(mkfifo((store.root() + "/" + folder + "fifo").c_str(), 0600) == 0);
  }
  store.write("layers/" + kId + ".qcow2", "x");
  store.write("tmp/" + kId + "/disk", "x");
  CHECK(store.result_of({"gc", "--dry-run"}).at("files").size() == 2);
  CHECK(store.result_of({"list"}).at("vms").empty());
  CHECK(store.result_of({"gc"}).at("files").size() == 1);  // list saw to the other
  store.run({"check"});
  CHECK(fs::exists(store.root() + "/journal/mine/notes"));
}

// It ended there, listed nothing, and every command after it said so again.
TEST_CASE("a file that cannot be removed keeps gc neither from the others nor from telling") {
  TestStore store;
  const std::string stuck = store.root() + "/layers/" + std::string(32, 'a') + ".qcow2";
  store.write("layers/" + std::string(32, 'a') + ".qcow2", "x");
  store.write("layers/" + kId + ".qcow2", "x");
  vmgraft::LinuxHost host;
  vmgraft::Command command;
  command.argv = {"chattr", "+i", stuck};
  if (geteuid() != 0 || host.run(command).exit_code != 0) {
    std::puts("SKIPPED: a file that cannot be removed cannot be made here (chattr +i is not permitted)");
    return;
  }
  const json files = record_of(store.run({"--json", "gc"}, 8)).at("result").at("files");
  const json journals = store.result_of({"gc", "--dry-run"}).at("journals");
  const auto list = store.run({"list"});
  command.argv[1] = "-i";
  CHECK(host.run(command).exit_code == 0);
  REQUIRE(files.size() == 2);
  CHECK(files[0].at("name") == stuck);
  CHECK(files[0].at("done") == false);
  CHECK(files[0].at("note").get<std::string>().find("permission denied") != std::string::npos);
  CHECK(files[1].at("done") == true);
  CHECK(journals.empty());
  CHECK(list.err.empty());
}

TEST_CASE("a life time of nothing is refused, and not taken for one that is over") {
  TestStore store;
  for (const char* none : {"0", "0s"})
    CHECK(store.run({"create", "micro", "x", "--ttl", none}, 2).err.find("a life time of 0 s is over at once") !=
          std::string::npos);
}

TEST_CASE("gc removes nothing when a record of the store cannot be read") {
  TestStore store;
  store.write("layers/" + kId + ".qcow2", "x");
  store.write("vms/a/vm.json", "{ broken");
  const auto before = store.inventory();
  const auto result = store.run({"gc"}, 1);
  CHECK(result.out.empty());
  CHECK(result.err.find("vms/a/vm.json") != std::string::npos);
  CHECK(store.inventory() == before);
}

TEST_CASE("gc tells a journal that it cannot read, leaves it, and leaves what it names") {
  TestStore store;
  store.write("journal/" + std::string(32, 'a') + ".json", "{\"version\": 9, \"steps\": \"" + kId + "\"}");
  store.write("tmp/" + kId + "/disk", "x");
  const json found = store.result_of({"gc"});
  REQUIRE(found.at("journals").size() == 1);
  CHECK(found.at("journals")[0].at("action") == "keep");
  CHECK(found.at("journals")[0].at("name") == std::string(32, 'a'));
  CHECK(found.at("journals")[0].at("note").get<std::string>().find("not a journal that can be read") != std::string::npos);
  CHECK(found.at("files").empty());
  CHECK(fs::exists(store.root() + "/tmp/" + kId));
}

TEST_CASE("a VM beyond its time is deleted, and one that is only to stop is left when it is off") {
  TestStore store;
  store.add_vm("a", in(std::chrono::seconds(-1)));
  const json foretold = store.result_of({"gc", "--dry-run"});
  REQUIRE(foretold.at("expired").size() == 1);
  CHECK(foretold.at("expired")[0].at("name") == "a");
  CHECK(foretold.at("expired")[0].at("action") == "remove");
  CHECK(fs::exists(store.root() + "/vms/a/vm.json"));
  const json done = store.result_of({"gc"});
  CHECK(done.at("expired")[0].at("done") == true);
  CHECK(done.at("manifests").empty());
  CHECK_FALSE(fs::exists(store.root() + "/vms/a"));
  CHECK(store.result_of({"gc"}) == kNothing);
  store.add_vm("b", in(std::chrono::seconds(-1)), "stop");
  CHECK(store.result_of({"gc", "--dry-run"}).at("expired").empty());
}

TEST_CASE("where libvirt knows not one of several VMs, gc takes it for the wrong one and touches none") {
  TestStore store;
  store.add_vm("a", in(std::chrono::seconds(-1)));
  store.add_vm("bb", "");
  const auto before = store.inventory();
  const json found = store.result_of({"gc"});
  CHECK(found.at("expired")[0].at("action") == "keep");
  CHECK(found.at("manifests").size() == 2);
  for (const json& entry : found.at("manifests")) {
    CHECK(entry.at("action") == "keep");
    CHECK(entry.at("note").get<std::string>().find("test:///default knows no VM of this store") == 0);
  }
  CHECK(store.inventory() == before);
}

TEST_CASE("extend adds to what is left, counts from now where nothing is, and takes the end away") {
  TestStore store;
  store.add_vm("a", "2099-01-02T03:04:05Z", "stop");
  const auto vm = [&](const std::string& by) { return store.result_of({"extend", "a", by}).at("vm"); };
  CHECK(vm("1d2h").at("expires") == "2099-01-03T05:04:05Z");
  CHECK(vm("1h").at("on_expire") == "stop");
  CHECK(vm("never").at("expires").is_null());
  CHECK(vm("never").at("on_expire").is_null());
  const std::string earliest = in(std::chrono::hours(2));
  const std::string set = vm("2h").at("expires");
  CHECK(set >= earliest);
  CHECK(set <= in(std::chrono::hours(2)));
  store.add_vm("a", "2020-01-02T03:04:05Z");
  CHECK(vm("2h").at("expires") >= earliest);
  CHECK(store.run({"extend", "a", "never"}).out == "never\n");
  store.add_vm("a", "2262-04-01T00:00:00Z");  // the clock's nanoseconds end in that year
  CHECK(vm("30d").at("expires") == "2262-05-01T00:00:00Z");
  store.add_vm("a", "9999-12-31T00:00:00Z");
  CHECK(store.run({"extend", "a", "2d"}, 2).err.find("cannot live that long") != std::string::npos);
  CHECK(store.run({"extend", "b", "2h"}, 4).err.find("there is no VM 'b'") != std::string::npos);
}

TEST_CASE("list and show tell what is left, and JSON the moment") {
  TestStore store;
  const std::string moment = in(std::chrono::minutes(3 * 60 + 30));
  store.add_vm("a", moment);
  store.add_vm("bb", "2020-01-02T03:04:05Z", "stop");
  store.add_vm("ccc", "");
  const std::string text = store.run({"list", "--all"}).out;
  CHECK(text.find(" in 3 h\n") != std::string::npos);
  CHECK(text.find(" expired\n") != std::string::npos);
  CHECK(text.find(moment) == std::string::npos);
  const json vms = store.result_of({"list", "--all"}).at("vms");
  CHECK(vms[0].at("expires") == moment);
  CHECK(vms[0].at("on_expire") == "delete");
  CHECK(vms[2].at("expires").is_null());
  CHECK(vms[2].at("on_expire").is_null());
  CHECK(store.run({"show", "a"}).out.find("expires:      " + moment + " (in 3 h, then deleted)\n") != std::string::npos);
  CHECK(store.run({"show", "bb"}).out.find("(expired, then stopped)\n") != std::string::npos);
  CHECK(store.run({"show", "ccc"}).out.find("expires:      never\n") != std::string::npos);
}

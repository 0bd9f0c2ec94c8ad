// SPDX-License-Identifier: Apache-2.0
// check of a store that came from elsewhere, or in which a process died: over libvirt's test driver, no daemon, no VM.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <unistd.h>

#include "cli/run_binary.hpp"
#include "store/qcow2.hpp"
#include "store/records.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using nlohmann::json;
using namespace vmgraft;
namespace fs = std::filesystem;

const std::string kHead(32, 'd');
const std::string kJournal(32, '0');

void put(const fs::path& file, const std::string& text) { std::ofstream(file) << text; }

/// A store with an image and a VM on it, beside a folder that is none of its business; and a qemu-img that notes what it is
/// asked to open.
class PlantedStore {
 public:
  PlantedStore() {
    fs::create_directory(outside());
    run({"image", "list"});  // makes its folders
    LayerRecord base;
    base.id = kBase;
    base.virtual_size = 1 << 20;
    base.made_by = "image base";
    base.created = "2026-01-02T03:04:05Z";
    add_layer(base);
    LayerRecord head = base;
    head.id = kHead;
    head.parent = kBase;
    add_layer(head);
    ImageRecord image;
    image.name = "base";
    image.layer = kBase;
    image.sha256 = std::string(64, '1');
    image.origin = "import x";
    image.created = base.created;
    put(root() / "images/base.json", to_json_text(image));
    Manifest manifest;
    manifest.name = "a";
    manifest.uuid = "00000000-0000-4000-8000-000000000001";
    manifest.spec = R"({"version":1,"name":"t","vm":{"memory":"64MiB"}})";
    manifest.template_name = "t";
    manifest.created = base.created;
    manifest.heads = {{"root", "vda", kHead}};
    fs::create_directory(root() / "vms/a");
    put(root() / "vms/a/vm.json", to_json_text(manifest));
    fs::permissions(root() / "vms/a/vm.json", fs::perms::owner_read | fs::perms::owner_write);
    put(folder_ / "qemu-img", "#!/bin/sh\necho \"$@\" >>\"$0.log\"\n");
    fs::permissions(folder_ / "qemu-img", fs::perms::owner_all);
  }

  [[nodiscard]] fs::path root() const { return folder_ / "store"; }
  [[nodiscard]] fs::path outside() const { return folder_ / "outside"; }
  [[nodiscard]] fs::path layer(const std::string& id) const { return root() / "layers" / (id + ".qcow2"); }

  /// Put it outside, and a link to it in its place.
  void plant(const std::string& file) const {
    const fs::path moved = outside() / fs::path(file).filename();
    fs::rename(root() / file, moved);
    fs::create_symlink(moved, root() / file);
  }
  CommandResult run(std::vector<std::string> words, const std::string& uri = "test:///default") const {
    words.insert(words.begin(), {"--connect", uri, "--store", root()});
    return run_vmgraft(words, {"PATH=" + folder_.path().native() + ":/usr/bin:/bin"});
  }
  /// Those that are not ok, without what a domain that libvirt does not know brings: "fail vm-record VM a".
  [[nodiscard]] std::vector<std::string> findings(std::vector<std::string> words = {"check"}) const {
    words.insert(words.begin(), "--json");
    const CommandResult result = run(words);
    INFO(result.out << result.err);
    const json record = record_of(result);
    REQUIRE(record.at("result").is_object());
    const json& checks = record.at("result").at("checks");
    std::vector<std::string> lines;
    for (const json& row : checks) {
      const auto word = [&](const char* key) { return row.at(key).get<std::string>(); };
      CHECK((word("health") == "ok" || row.at("remedy").is_string()));
      if (word("health") != "ok" && word("id") != "domain") lines.push_back(word("health") + " " + word("id") + " " + word("place"));
    }
    return lines;
  }
  /// What qemu-img was asked to open, each.
  [[nodiscard]] std::string opened() const {
    std::ifstream log(folder_ / "qemu-img.log");
    return {std::istreambuf_iterator<char>(log), {}};
  }

  const std::string kBase = std::string(32, 'b');

 private:
  void add_layer(const LayerRecord& record) const {
    const Qcow2Layout layout = new_qcow2(record.virtual_size, record.parent.empty() ? "" : record.parent + ".qcow2");
    std::string content(layout.size, '\0');
    for (const Extent& extent : layout.extents) content.replace(extent.offset, extent.bytes.size(), extent.bytes);
    put(layer(record.id), content);
    put(root() / "layers" / (record.id + ".json"), to_json_text(record));
    const bool is_head = !record.parent.empty();
    fs::permissions(layer(record.id), is_head ? fs::perms::owner_read | fs::perms::owner_write
                                              : fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read);
  }

  TempFolder folder_;
};

using Lines = std::vector<std::string>;

std::string journal_text(const std::string& steps) {
  return R"({"version":1,"id":")" + kJournal + R"(","committed":true,"pid":4194305,"verb":"test","vms":[],"steps":[)" + steps + "]}";
}

}  // namespace

// check followed every one of these: it read what lay outside, and gave it to qemu-img.
TEST_CASE("check follows no link that stands in a store, and tells each") {
  const std::string layer = "layers/" + std::string(32, 'b');
  const struct {
    std::string planted;
    Lines findings;
  } cases[] = {
      {"vms/a", {"fail vm-record VM a"}},
      {"vms/a/vm.json", {"fail vm-record VM a"}},
      {"vms", {"fail store-folder store"}},
      {"images", {"fail store-folder store"}},
      {"images/base.json", {"fail image-record image base"}},
      {layer + ".json",
       {"fail vm-layers VM a", "fail image-layer image base", "fail layer-record layer " + std::string(32, 'b'), "fail layer-parent layer " + kHead}},
      {layer + ".qcow2", {"fail layer-file layer " + std::string(32, 'b')}},
      {"version", {"fail link store"}},
  };
  for (const auto& each : cases) {
    INFO(each.planted);
    const PlantedStore store;
    REQUIRE(store.findings() == Lines{});
    store.plant(each.planted);
    CHECK(store.findings() == each.findings);
  }
}

TEST_CASE("check without the layers tells that their folder is a link") {
  const PlantedStore store;
  store.plant("layers");
  CHECK(store.findings() == Lines{"fail store-folder store", "fail vm-layers VM a", "fail image-layer image base"});
  CHECK(store.opened().empty());
}

TEST_CASE("qemu-img is run neither on a layer that is a link nor on one that stands on it") {
  const PlantedStore store;
  REQUIRE(store.findings() == Lines{});
  CHECK(store.opened().find(store.layer(store.kBase)) != std::string::npos);
  CHECK(store.opened().find(store.layer(kHead)) != std::string::npos);
  const std::string before = store.opened();
  store.plant("layers/" + store.kBase + ".qcow2");
  const CommandResult result = store.run({"check"});
  CHECK(result.exit_code == 8);
  CHECK(result.out.find("layer " + kHead + " (it stands on layer " + store.kBase + ", which is not whole)") != std::string::npos);
  CHECK(store.opened() == before);
}

TEST_CASE("links beside the records of a store are told by their places") {
  const PlantedStore store;
  put(store.outside() / "precious", "precious");
  fs::create_directory(store.root() / "vms/a/ssh");
  for (const char* const link : {"vms/a/nvram.fd", "vms/a/ssh/config", "vms/a/snapshots"})
    fs::create_symlink(store.outside() / "precious", store.root() / link);
  CHECK(store.findings() == Lines(3, "fail link VM a"));
  CHECK(store.findings({"check", "a"}) == Lines(3, "fail link VM a"));
  CHECK(store.findings({"check", "base"}) == Lines{});
  for (const char* const link : {"vms/a/nvram.fd", "vms/a/ssh/config", "vms/a/snapshots"}) fs::remove(store.root() / link);
  for (const char* const link : {"link", "layers/link", "images/link", "vms/.link", "journal/link", "locks/vm-a.lock", "tmp/downloads"})
    fs::create_symlink(store.outside() / "precious", store.root() / link);
  CHECK(store.findings() == Lines(7, "fail link store"));
  const CommandResult result = store.run({"check"});
  CHECK(result.out.find((store.root() / "tmp/downloads").native() + " is a symbolic link to " +
                        (store.outside() / "precious").native()) != std::string::npos);
}

TEST_CASE("a journal that is a link is neither read nor carried out") {
  const PlantedStore store;
  const std::string victim = store.root() / "images/base.json";
  put(store.outside() / "journal", journal_text(R"({"step":"remove_path","do":{"path":")" + victim + R"("}})"));
  fs::create_symlink(store.outside() / "journal", store.root() / "journal" / (kJournal + ".json"));
  CHECK(store.findings() == Lines{"fail journal journal/" + kJournal + ".json"});
  CHECK(fs::exists(victim));
}

TEST_CASE("a store that itself stands behind a link is checked as any other") {
  const PlantedStore store;
  const fs::path moved = store.outside() / "store";
  fs::rename(store.root(), moved);
  fs::create_symlink(moved, store.root());
  CHECK(store.findings() == Lines{});
}

TEST_CASE("check first finishes or undoes what a process that died had under way, and says so in one line") {
  const PlantedStore store;
  const fs::path journal = store.root() / "journal" / (kJournal + ".json");
  for (const Lines& words : {Lines{"check"}, Lines{"check", "--quick"}, Lines{"check", "a"}}) {
    const fs::path left = store.root() / "tmp/left";
    put(left, "x");
    put(journal, journal_text(R"({"step":"remove_path","do":{"path":")" + left.native() + R"("}})"));
    const CommandResult result = store.run(words);
    INFO(words.back() << result.out << result.err);
    CHECK(result.err.find("finished 'test', which process 4194305 had left half done\n") != std::string::npos);
    CHECK_FALSE(fs::exists(journal));
    CHECK_FALSE(fs::exists(left));
    CHECK(result.out.find(" journal ") == std::string::npos);
  }
}

TEST_CASE("what keeps check from recovering is a row, and not the end of the check") {
  const PlantedStore store;
  const fs::path journal = store.root() / "journal" / (kJournal + ".json");
  const Lines told{"fail journal journal/" + kJournal + ".json", "fail layer-file layer " + kHead};
  fs::remove(store.layer(kHead));
  put(journal, "{");
  CHECK(store.findings() == told);
  put(journal, journal_text(R"({"step":"remove_path","do":{"path":"/etc/passwd"}})"));
  CHECK(store.findings() == told);

  // No libvirt to ask about the domain.
  put(journal, journal_text(R"({"step":"undefine_domain","do":{"name":"a","uuid":"00000000-0000-4000-8000-000000000001","keep_tpm":false}})"));
  const CommandResult result = store.run({"--json", "check"}, kNoLibvirt);
  CHECK(result.exit_code == 8);
  const json record = record_of(result);
  std::string seen;
  for (const json& row : record.at("result").at("checks"))
    seen += row.at("health").get<std::string>() + " " + row.at("id").get<std::string>() + ": " + row.at("seen").get<std::string>() + "\n";
  INFO(seen);
  CHECK(seen.find("warn journal: 'test' was cut short: its process (pid 4194305) died") != std::string::npos);
  CHECK(seen.find("warn libvirt: ") != std::string::npos);
  CHECK(seen.find("fail layer-file: ") != std::string::npos);
  CHECK(fs::exists(journal));
}

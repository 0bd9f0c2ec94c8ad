// SPDX-License-Identifier: Apache-2.0
// `vmgraft check` on a real store: right about what other tools say, and without a trace.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "qemu/lab.hpp"

using namespace vmgraft;
namespace fs = std::filesystem;

namespace {

/// Everything of the store, with modes, times and owners: what a look must not change.
std::string footprint(Lab& lab) {
  return lab.run({"sh", "-c", "cd \"$0\" && find . -printf '%p %m %u %g %s %T@\\n' | sort", lab.store()}).out;
}

nlohmann::json row_of(const nlohmann::json& checks, const std::string& id) {
  for (const nlohmann::json& row : checks)
    if (row.at("id") == id) return row;
  return nullptr;
}

}  // namespace

TEST_CASE("check: a store in use is whole, and is not changed by looking", "[session]") {
  Lab lab;
  const std::string vm = lab.name("whole");
  lab.vmgraft({"create", "micro", vm, "--no-start"});
  lab.vmgraft({"start", "--wait", "none", vm});
  lab.vmgraft({"snapshot", "create", vm, "live"});
  const std::string head = fs::path(lab.json({"show", vm}).at("vm").at("disks").at(0).at("path").get<std::string>()).stem();
  const std::string domain = lab.virsh({"dumpxml", "--inactive", vm});
  const nlohmann::json checks = lab.json({"check", vm, "micro"}).at("checks");
  for (const nlohmann::json& row : checks) {
    INFO(row.dump());
    CHECK(row.size() == 5);
    CHECK(row.at("health") == "ok");
  }
  const std::string layers = row_of(checks, "layers").at("seen");
  CHECK_THAT(layers, contains("left out: layer " + head + " (VM '" + vm + "' runs and writes to it)"));
  CHECK_THAT(layers, contains("1 hash compared"));
  lab.virsh({"destroy", vm});
  const std::string before = footprint(lab);
  CHECK_THAT(row_of(lab.json({"check", vm}).at("checks"), "layers").at("seen").get<std::string>(),
             contains("3 layers; 3 checked by qemu-img"));
  CHECK(footprint(lab) == before);
  CHECK(lab.virsh({"dumpxml", "--inactive", vm}) == domain);
  CHECK(lab.vmgraft({"check", "--quick", vm}).out.find("--quick") != std::string::npos);
  lab.error({"check", vm + "-nobody"}, 4);
}

TEST_CASE("check: what a killed process left is finished first, and said", "[session]") {
  Lab lab;
  const std::string id(32, '0');
  const fs::path journal = lab.store() / "journal" / (id + ".json");
  // A plan that changes nothing: whoever recovers it removes the file.
  std::ofstream(journal) << R"({"version": 1, "id": ")" << id
                         << R"(", "committed": true, "pid": 4194305, "verb": "test", "vms": [], "steps": []})";
  const CommandResult result = lab.vmgraft({"--json", "check", "--quick"});
  CHECK_THAT(result.err, contains("finished 'test', which process 4194305 had left half done"));
  const nlohmann::json checks = nlohmann::json::parse(result.out).at("result").at("checks");
  CHECK(row_of(checks, "journal").is_null());
  CHECK(!fs::exists(journal));
}

TEST_CASE("check: damage that qemu-img finds, and an image that was written to, end with exit 8", "[session]") {
  Lab lab;
  const nlohmann::json micro = lab.json({"image", "list"}).at("images").at(0);
  const std::string base = lab.store() / "layers" / (micro.at("layer").get<std::string>() + ".qcow2");
  lab.vmgraft({"image", "import", base, "check-me"});
  std::string layer;
  const nlohmann::json images = lab.json({"image", "list"}).at("images");
  for (const nlohmann::json& image : images)
    if (image.at("name") == "check-me") layer = image.at("layer");
  const fs::path file = lab.store() / "layers" / (layer + ".qcow2");
  CHECK_THAT(row_of(lab.json({"check", "check-me"}).at("checks"), "layers").at("seen").get<std::string>(),
             contains("1 hash compared"));
  fs::permissions(file, fs::perms::owner_write, fs::perm_options::add);
  REQUIRE(lab.run({"qemu-io", "-f", "qcow2", "-c", "write -P 7 64M 4k", file}).exit_code == 0);
  const auto failed = [&] {
    const nlohmann::json record = nlohmann::json::parse(lab.vmgraft({"--json", "check", "check-me"}, 8).out);
    CHECK(record.at("ok") == false);
    CHECK(record.at("error").at("code") == "incomplete");
    return record.at("result").at("checks");
  };
  CHECK(row_of(failed(), "layer-hash").at("health") == "fail");
  CHECK(row_of(failed(), "layer-content").is_null());
  {
    std::fstream broken(file, std::ios::in | std::ios::out | std::ios::binary);
    broken.seekp(48);  // offset of the refcount table
    broken.write("\0\0\0\0\x7f\xff\0\0", 8);
    REQUIRE(broken.flush());
  }
  fs::permissions(file, fs::perms::owner_write, fs::perm_options::remove);
  CHECK(row_of(failed(), "layer-content").at("health") == "fail");
  lab.vmgraft({"image", "delete", "check-me"});
  lab.error({"check", "check-me"}, 4);
}

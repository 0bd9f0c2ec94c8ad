// SPDX-License-Identifier: Apache-2.0
// The GPU verbs on a recorded host: what they print, and that they change nothing there.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include "cli/run_binary.hpp"
#include "support/catch.hpp"
#include "support/recorded_host.hpp"
#include "support/temp_folder.hpp"

using nlohmann::json;

namespace {

using Words = std::vector<std::string>;

/// A recorded host; unless another is named, the virtual GPU server of tests/vfio-lab: a boot VGA 00:05.0, a GPU with a
/// companion 41:00.0, one on the other node 81:00.0, and one that shares its group with a NIC 83:01.0.
class Lab {
 public:
  explicit Lab(const std::string& host = "lab") { vmgraft::expand_recorded_host(host, folder_.path()); }

  [[nodiscard]] vmgraft::CommandResult run(Words words) const {
    words.insert(words.begin(), {"--connect", kNoLibvirt, "--store", folder_ / "store"});
    return run_vmgraft(words, environment());
  }
  [[nodiscard]] Words environment() const { return {"VMGRAFT_HOST_ROOT=" + folder_.path().string()}; }

 private:
  TempFolder folder_;
};

Words lines_of(const std::string& text) {
  std::istringstream stream(text);
  Words lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::size_t line_with(const Words& lines, const std::string& text) {
  const auto found =
      std::find_if(lines.begin(), lines.end(), [&](const std::string& line) { return line.find(text) != line.npos; });
  INFO("no line with " << text);
  REQUIRE(found != lines.end());
  return static_cast<std::size_t>(found - lines.begin());
}

/// The object of \p list whose \p key is \p value.
json one_with(const json& list, const std::string& key, const std::string& value) {
  const auto found =
      std::find_if(list.begin(), list.end(), [&](const json& one) { return one.at(key) == json(value); });
  INFO("none with " << key << " " << value);
  REQUIRE(found != list.end());
  return *found;
}

}  // namespace

TEST_CASE("gpu list gives every GPU of a host with everything that is known of it") {
  const Lab lab;
  const auto result = lab.run({"gpu", "list", "--json"});
  INFO(result.out << result.err);
  REQUIRE(result.exit_code == 0);
  const json gpus = record_of(result).at("result").at("gpus");
  Words addresses;
  for (const json& gpu : gpus) {
    addresses.push_back(gpu.at("address"));
    CHECK(gpu.size() == 21);
    for (const char* key : {"address",    "id",     "subsystem", "name",
                            "class_code", "memory", "numa_node", "iommu_group",
                            "neighbours", "driver", "link",      "reset_methods",
                            "boot_vga",   "vfs",    "most_vfs",  "physical_function",
                            "mdev_types", "path",   "state",     "vm",
                            "note"}) {
      INFO(key);
      CHECK(gpu.contains(key));
    }
  }
  CHECK(addresses == Words{"0000:00:05.0", "0000:41:00.0", "0000:81:00.0", "0000:83:01.0"});

  const json gpu = one_with(gpus, "address", "0000:41:00.0");
  CHECK(gpu.at("id") == "1234:1111");
  CHECK(gpu.at("class_code") == "0x038000");
  CHECK(gpu.at("memory") == 16777216);
  CHECK(gpu.at("numa_node") == 0);
  CHECK(gpu.at("iommu_group") == 13);
  CHECK(gpu.at("driver") == "bochs-drm");
  CHECK(gpu.at("reset_methods") == json{"bus"});
  CHECK(gpu.at("path") == json{"0000:40:00.0"});
  CHECK(gpu.at("state") == "host");
  CHECK(gpu.at("vm").is_null());
  CHECK(gpu.at("physical_function").is_null());
  CHECK(gpu.at("link").size() == 4);
  const json companion = one_with(gpu.at("neighbours"), "address", "0000:41:00.1");
  CHECK(companion.size() == 5);
  CHECK(companion.at("role") == "companion");
  CHECK(companion.at("driver") == "snd_hda_intel");

  CHECK(gpus.at(0).at("boot_vga") == true);
  CHECK(gpus.at(0).at("numa_node").is_null());
  const json shared = one_with(gpus, "address", "0000:83:01.0");
  CHECK(one_with(shared.at("neighbours"), "address", "0000:83:02.0").at("role") == "stranger");
}

TEST_CASE("gpu list prints a line a GPU, and more of each with --verbose") {
  const Lab lab;
  const Words lines = lines_of(lab.run({"gpu", "list"}).out);
  REQUIRE(lines.size() == 5);
  std::istringstream header(lines[0]);
  const Words columns{std::istream_iterator<std::string>(header), {}};
  CHECK(columns == Words{"ADDRESS", "NAME", "MEMORY", "NODE", "GROUP", "DRIVER", "STATE", "VM"});
  for (const std::string& line : lines) CHECK(line.size() <= 120);
  CHECK(lines[2].rfind("0000:41:00.0 ", 0) == 0);
  CHECK(lines[2].find("16 MiB    0    13 bochs-drm host") != std::string::npos);

  const Words more = lines_of(lab.run({"gpu", "list", "--verbose"}).out);
  REQUIRE(more.size() == 5);
  CHECK(more[2].find("1234:1111") != std::string::npos);
  CHECK(more[2].find("companion 0000:41:00.1 (snd_hda_intel)") != std::string::npos);
}

TEST_CASE("gpu list --tree hangs each GPU below its ports, and what shares slot or group below it") {
  const Lab lab;
  const Words lines = lines_of(lab.run({"gpu", "list", "--tree"}).out);
  const std::size_t bridge = line_with(lines, "pci0000:40 ");
  CHECK(lines[bridge].find("host bridge") != std::string::npos);
  CHECK(line_with(lines, "0000:40:00.0 ") == bridge + 1);
  CHECK(lines[bridge + 1].find("root port") != std::string::npos);
  CHECK(line_with(lines, "0000:41:00.0 ") == bridge + 2);
  CHECK(line_with(lines, "0000:41:00.1 ") == bridge + 3);
  CHECK(lines[bridge + 3].find("companion") != std::string::npos);
  const std::size_t shared = line_with(lines, "0000:83:01.0 ");
  CHECK(lines[shared - 1].find("0000:82:00.0") != std::string::npos);
  CHECK(lines[shared - 1].find(" bridge ") != std::string::npos);
  CHECK(line_with(lines, "0000:83:02.0 ") == shared + 1);
  CHECK(lines[shared + 1].find("stranger") != std::string::npos);
  // Each bridge once, however many GPUs are below it.
  CHECK(std::count_if(lines.begin(), lines.end(),
                      [](const std::string& line) { return line.find("pci0000:80 ") != std::string::npos; }) == 1);
  CHECK(lab.run({"gpu", "list", "--tree", "--json"}).out == lab.run({"gpu", "list", "--json"}).out);
}

TEST_CASE("gpu list --tree shows GPUs below one switch together, and the switch once") {
  const Lab server("sxm-8gpu");
  const Words lines = lines_of(server.run({"gpu", "list", "--tree"}).out);
  const std::size_t upstream = line_with(lines, "0000:16:00.0 ");
  const Words below{"0000:17:00.0 ", "0000:18:00.0 ", "0000:17:01.0 ", "0000:19:00.0 "};
  for (std::size_t i = 0; i < below.size(); ++i) CHECK(line_with(lines, below[i]) == upstream + 1 + i);
  CHECK(lines[upstream].find(" switch port ") != std::string::npos);
  CHECK(lines[upstream + 1].find(" switch port ") != std::string::npos);
  CHECK(std::count_if(lines.begin(), lines.end(),
                      [](const std::string& line) { return line.find("0000:16:00.0 ") != std::string::npos; }) == 1);
}

TEST_CASE("gpu check fails as a host that is unfit, and says each failure with its remedy") {
  const Lab lab;
  const auto result = lab.run({"gpu", "check", "--json"});
  INFO(result.out << result.err);
  CHECK(result.exit_code == 6);
  const json record = record_of(result);
  const json checks = record.at("result").at("checks");
  std::size_t failed = 0;
  for (const json& row : checks) {
    CHECK(row.size() == 5);
    CHECK((row.at("address").is_null() || row.at("address").is_string()));
    CHECK((row.at("health") == "ok") == row.at("remedy").is_null());
    if (row.at("health") == "fail") ++failed;
  }
  const std::string message = record.at("error").at("message");
  CHECK(message.rfind(std::to_string(failed) + " check", 0) == 0);
  CHECK(message.find("0000:00:05.0 boot-vga") != std::string::npos);
  CHECK(message.find("0000:83:01.0 group-not-viable") != std::string::npos);

  const auto text = lab.run({"gpu", "check", "00:05.0"});
  CHECK(text.exit_code == 6);
  const Words lines = lines_of(text.out);
  REQUIRE(!lines.empty());
  CHECK(lines[0].rfind("ADDRESS", 0) == 0);
  CHECK(line_with(lines, "boot-vga: ") > line_with(lines, "boot-vga  "));
  CHECK(text.out.find("0000:41:00.0") == std::string::npos);
}

TEST_CASE("gpu check --for puts the template's request to the choice that a start makes") {
  const Lab server("sxm-8gpu");
  TempFolder templates;
  for (const auto& [name, count] : {std::pair{"one", 1}, std::pair{"three", 3}}) {
    json spec{{"version", 1}, {"name", name}};
    spec["vm"] = {{"memory", "8GiB"}, {"gpus", {{{"count", count}}}}, {"disks", {{{"name", "root"}, {"size", "1GiB"}}}}};
    std::ofstream(templates.path() / (std::string(name) + ".json")) << spec;
  }
  const auto check = [&](Words more) {
    Words words{"--templates", templates.path().string(), "gpu", "check", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const auto result = server.run(words);
    INFO(result.out << result.err);
    CHECK(result.exit_code == 6);  // the boot VGA is none for VMs
    return record_of(result).at("result").at("checks");
  };
  const json refused = one_with(check({"--for", "three"}), "id", "choice");
  CHECK(refused.at("address").is_null());
  CHECK(refused.at("health") == "fail");
  CHECK(refused.at("seen").get<std::string>().find("3 GPUs wanted: ") == 0);
  CHECK(refused.at("seen").get<std::string>().find("[fabric-partition]") != std::string::npos);
  CHECK(refused.at("remedy").get<std::string>().find("name the partitions") == 0);

  const json taken = one_with(check({"--for", "one"}), "id", "choice");
  CHECK(taken.at("health") == "ok");
  CHECK(taken.at("seen").get<std::string>().find("a start would take 0000:") == 0);
  CHECK(taken.at("remedy").is_null());

  const auto text = server.run({"--templates", templates.path().string(), "gpu", "check", "--for", "three"});
  CHECK(text.exit_code == 6);
  CHECK(text.err.find("checks failed: choice, ") != std::string::npos);
}

TEST_CASE("a GPU that is not there is not found") {
  const Lab lab;
  const auto result = lab.run({"gpu", "check", "99:00.0"});
  CHECK(result.exit_code == 4);
  CHECK(result.out.empty());
  CHECK(result.err.find("0000:99:00.0") != std::string::npos);
}

TEST_CASE("gpu detach takes the UUID of a mediated device, as its manual says") {
  const TempFolder folder;
  const auto detach = [&](const std::string& device) {
    return run_vmgraft({"--connect", "test:///default", "--store", folder / "store", "gpu", "detach", "web", device});
  };
  const auto known = detach("83b8f4f2-509f-382f-3c1e-e6bfe0fa1001");
  INFO(known.err);
  CHECK(known.exit_code == 4);  // the VM is looked for
  CHECK(known.err.find("'web'") != std::string::npos);
  const auto other = detach("83b8f4f2");
  CHECK(other.exit_code == 2);
  CHECK(other.err.rfind("vmgraft: error: '83b8f4f2' is neither a PCI address (want like 0000:41:00.0 or 41:00.0) nor the "
                        "UUID of a mediated device\n",
                        0) == 0);
}

TEST_CASE("a recorded host is looked at and not changed") {
  const Lab lab;
  for (const char* verb : {"lend", "return"}) {
    const auto result = lab.run({"gpu", verb, "41:00.0"});
    INFO(result.err);
    CHECK(result.exit_code == 2);
    CHECK(result.err.rfind("vmgraft: error: a recorded host cannot be changed\n", 0) == 0);
  }
}

TEST_CASE("a recorded host has no VMs, and no verb of theirs reads half of it") {
  const Lab lab;
  for (const Words& words : {Words{"list"}, Words{"show", "web"}, Words{"delete", "web"}, Words{"create", "micro", "web"}}) {
    const auto result = lab.run(words);
    INFO(words[0] << ": " << result.err);
    CHECK(result.exit_code == 2);
    CHECK(result.err.find("unset VMGRAFT_HOST_ROOT") != std::string::npos);
  }
}

TEST_CASE("completion knows the GPUs by their class") {
  const Lab lab;
  const auto words = [&](const std::string& prefix) {
    return run_vmgraft({"--connect", kNoLibvirt, "__complete", "gpus", prefix}, lab.environment()).out;
  };
  CHECK(words("") == "0000:00:05.0\n0000:41:00.0\n0000:81:00.0\n0000:83:01.0\n");
  CHECK(words("0000:8") == "0000:81:00.0\n0000:83:01.0\n");
}

TEST_CASE("libvirt is loaded by the commands that connect to it, and by no other") {
#ifdef VMGRAFT_IS_SHARED
  std::cout << "SKIPPED: a shared libvmgraft brings libvirt along, as its users expect\n";
  return;
#endif
  const auto loads = [](const Words& words, const Words& environment) {
    Words with_debug = environment;
    with_debug.emplace_back("LD_DEBUG=files");
    return run_vmgraft(words, with_debug).err.find("file=libvirt.so.0") != std::string::npos;
  };
  const Lab lab;
  CHECK_FALSE(loads({"gpu", "list"}, lab.environment()));
  CHECK_FALSE(loads({"template", "list"}, {}));
  CHECK(loads({"--connect", "test:///default", "doctor"}, {}));
  // Whoever has the loader bind all symbols at once is served too.
  CHECK(run_vmgraft({"template", "list"}, {"LD_BIND_NOW=1"}).exit_code == 0);
}

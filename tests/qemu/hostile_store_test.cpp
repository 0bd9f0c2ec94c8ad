// SPDX-License-Identifier: Apache-2.0
// A store with what an attacker may have put into it, and the built program on a real libvirt.
#include <filesystem>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include "qemu/lab.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;
namespace fs = std::filesystem;

namespace {

std::string message(const nlohmann::json& error) {
  return error.at("message").get<std::string>();
}

void put(const fs::path& file, const std::string& text) {
  std::ofstream(file) << text;
}

}  // namespace

TEST_CASE("a journal from elsewhere deletes, writes and undefines nothing", "[session]") {
  Lab lab;
  const TempFolder outside;
  put(outside / "precious", "precious");
  const std::string foreign = lab.name("mine");
  put(outside / "mine.xml",
      "<domain type='qemu'><name>" + foreign +
          "</name><memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>");
  lab.virsh({"define", (outside / "mine.xml").string()});
  std::string uuid = lab.virsh({"domuuid", foreign});
  uuid = uuid.substr(0, 36);
  const std::vector<std::string> steps = {
      R"({"step":"remove_path","do":{"path":")" + (outside / "precious").string() + R"("}})",
      R"({"step":"write_file","do":{"path":")" + (outside / "new").string() +
          R"(","content":"x","mode":511,"existed":false,"previous":""}})",
      R"({"step":"undefine_domain","do":{"name":")" + foreign + R"(","uuid":")" + uuid + R"(","keep_tpm":false}})",
  };
  const std::string id(32, 'e');
  const fs::path file = lab.store() / "journal" / (id + ".json");
  for (const std::string& step : steps) {
    INFO(step);
    put(file, R"({"version":1,"id":")" + id +
                  R"(","committed":true,"pid":4194305,"verb":"evil","vms":[],"steps":[{"step":"commit","do":{}},)" +
                  step + "]}");
    const CommandResult result =
        lab.run({lab.program("vmgraft"), "--connect", lab.uri(), "--store", lab.store().string(), "list"});
    const bool is_told = result.err.find("nothing of it is carried out") != std::string::npos ||
                         result.err.find("is not of this store") != std::string::npos;
    CHECK(is_told);
    CHECK(fs::exists(outside / "precious"));
    CHECK_FALSE(fs::exists(outside / "new"));
    CHECK(lab.virsh({"list", "--all", "--name"}).find(foreign) != std::string::npos);
    fs::remove(file);
  }
  lab.virsh({"undefine", foreign});
}

TEST_CASE("a snapshot's definition that reaches files of the host makes no clone", "[session]") {
  Lab lab;
  const std::string vm = lab.name("reach");
  lab.vmgraft({"create", "micro", vm, "--no-start"});
  lab.vmgraft({"snapshot", "create", vm, "s"});
  const fs::path kept = lab.store() / "vms" / vm / "snapshots/s/domain.xml";
  std::string xml = lab.read(kept);
  xml.insert(
      xml.find("</devices>"),
      "<disk type='file' device='disk'><source file='/etc/shadow'/><target dev='vdz' bus='virtio'/><readonly/></disk>");
  put(kept, xml);
  const std::string clone = lab.name("thief");
  for (const std::vector<std::string>& verb :
       {std::vector<std::string>{"clone", vm + "@s", clone}, {"revert", vm + "@s"}})
    CHECK(message(lab.error(verb, 5)).find("<source> file='/etc/shadow'") != std::string::npos);
  CHECK(lab.virsh({"list", "--all", "--name"}).find(clone) == std::string::npos);
}

TEST_CASE("a VM whose files in the store are links is not started", "[session]") {
  Lab lab;
  const TempFolder outside;
  put(outside / "precious", "precious");
  const std::string vm = lab.name("linked");
  lab.vmgraft({"create", "micro", vm, "--no-start"});
  fs::create_symlink(outside / "precious", lab.store() / "vms" / vm / "console.log");
  CHECK(message(lab.error({"start", vm, "--wait", "none"}, 5)).find("is a symbolic link") != std::string::npos);
  CHECK(lab.read(outside / "precious") == "precious");
  fs::remove(lab.store() / "vms" / vm / "console.log");
}

TEST_CASE("what a VM leaves in a store is closed to others, its memory too, under an open umask", "[session]") {
  Lab lab;
  const std::string vm = lab.name("closed");
  const mode_t before = ::umask(0);
  lab.vmgraft({"create", "micro", vm});
  lab.vmgraft({"snapshot", "create", vm, "warm", "--memory"});
  ::umask(before);
  std::size_t seen = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(lab.store())) {
    struct stat facts {};
    REQUIRE(::lstat(entry.path().c_str(), &facts) == 0);
    const unsigned mode = facts.st_mode & 07777U;
    INFO(entry.path() << ' ' << std::oct << mode);
    if (entry.path().string().find(vm) != std::string::npos) ++seen;
    if (entry.is_directory())
      CHECK((mode & 0066U) == 0);  // at most to be passed through
    else
      CHECK((mode == 0600 || mode == 0400 || mode == 0444));
    if (entry.path().filename() == "memory") CHECK((mode & 0077U) == 0);
  }
  CHECK(seen > 4);
}

// SPDX-License-Identifier: Apache-2.0
// Ctrl-C in the middle of what takes long: it ends soon, with 130, and leaves nothing.
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "qemu/lab.hpp"
#include "support/interrupt.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;

namespace {

/// What Lab::vmgraft() runs, for who does not wait for its end.
std::vector<std::string> words_of(const Lab& lab, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {lab.program("vmgraft"), "--connect", lab.uri(), "--store", lab.store(), "--templates",
                                       std::getenv("VMGRAFT_TEST_TEMPLATES")});
  return arguments;
}

}  // namespace

TEST_CASE("Ctrl-C while a guest step runs ends create, and the VM goes", "[session][long]") {
  Lab lab;
  const std::string vm = lab.name("stopped");
  const std::vector<std::string> before = lab.inventory();
  Interruption interruption;
  const CommandResult result =
      interruption.run(words_of(lab, {"create", "provisioned", vm, "--set", "last=sleep 1000"}), "run 3/3");
  INFO(result.out << result.err);
  CHECK(interruption.is_sent());
  CHECK(result.exit_code == 130);
  CHECK(lab.run({"virsh", "-c", lab.uri(), "dominfo", vm}).exit_code != 0);
  CHECK(lab.inventory() == before);
  lab.error({"show", vm}, 4);
  lab.vmgraft({"create", "micro", vm, "--no-start"});
}

// The call to the agent could not be ended: Ctrl-C was seen when libvirt gave it up, and so was each that was to tidy up.
TEST_CASE("Ctrl-C ends an exec in a guest that hangs", "[session][long]") {
  Lab lab;
  const std::string vm = lab.name("hung");
  lab.vmgraft({"create", "micro", vm, "--wait", "agent"});
  const pid_t qemu = std::stoi(lab.run({"pgrep", "-f", "guest=" + vm + ","}).out);
  Interruption interruption;
  const CommandResult result =
      interruption.run(words_of(lab, {"exec", "--no-stdin", vm, "--", "sh", "-c", "echo up; exec sleep 1000"}), "up", {},
                       [&] { REQUIRE(::kill(qemu, SIGSTOP) == 0); });
  REQUIRE(::kill(qemu, SIGCONT) == 0);
  INFO(result.out << result.err);
  CHECK(interruption.is_sent());
  CHECK(result.exit_code == 130);
  CHECK(result.err.find("the command may still run in the guest") != std::string::npos);
  CHECK(lab.virsh({"domstate", vm}).starts_with("running"));
  lab.vmgraft({"delete", "--yes", vm});
}

TEST_CASE("Ctrl-C while a VM boots ends create, and the VM goes", "[session]") {
  Lab lab;
  const std::string vm = lab.name("booting");
  const std::vector<std::string> before = lab.inventory();
  Interruption interruption;
  const CommandResult result = interruption.run(words_of(lab, {"create", "micro", vm, "--wait", "agent"}), "waiting for");
  INFO(result.out << result.err);
  CHECK(interruption.is_sent());
  CHECK(result.exit_code == 130);
  CHECK(lab.run({"virsh", "-c", lab.uri(), "dominfo", vm}).exit_code != 0);
  CHECK(lab.inventory() == before);
}

TEST_CASE("Ctrl-C in the middle of a build leaves neither an image nor what it is made of", "[session]") {
  Lab lab;
  const TempFolder folder;
  lab.use_store(folder / "store");
  Interruption interruption;
  const CommandResult result = interruption.run(words_of(lab, {"image", "build", "micro"}), "assembling the micro image");
  INFO(result.out << result.err);
  CHECK(interruption.is_sent());
  CHECK(result.exit_code == 130);
  for (const char* name : {"images", "layers", "vms", "journal", "tmp"}) CHECK(std::filesystem::is_empty(lab.store() / name));
  CHECK(lab.json({"image", "list"}).at("images").empty());
}

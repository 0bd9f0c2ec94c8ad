// SPDX-License-Identifier: Apache-2.0
#include <csignal>

#include "faults/tracer.hpp"
#include "vfio-lab/gpu_lab.hpp"

using namespace vmgraft;

namespace {

/// What a kill must leave as it was, or as it was to become, once the next command has run.
struct World {
  std::map<std::string, std::string> drivers;
  bool lent = false;
  std::string holder;             ///< of the GPU, in the ledger
  std::set<std::string> running;  ///< VMs, as libvirt notes them
  friend bool operator==(const World&, const World&) = default;
};

World look(GpuLab& lab) {
  World world;
  world.drivers = drivers();
  const auto records = lab.ledger();
  if (const auto record = records.find(kGpu); record != records.end()) {
    world.lent = record->second.at("lent");
    world.holder = record->second.at("vm");
    CHECK(record->second.at("quarantine") == "");
  }
  for (const auto& entry : std::filesystem::directory_iterator("/run/libvirt/qemu"))
    if (entry.path().extension() == ".pid") world.running.insert(entry.path().stem());
  return world;
}

/// What the next command makes of it.
void expect_repaired(GpuLab& lab, const World& start, const World& finish, const std::function<void()>& back) {
  lab.vmgraft({"list"});
  const World now = look(lab);
  CHECK(lab.journals().empty());
  INFO("lent " << now.lent << ", holder '" << now.holder << "', drivers " << now.drivers.at(kGpu) << " and "
               << now.drivers.at(kCompanion) << ", running " << now.running.size());
  REQUIRE((now == start || now == finish));
  if (now == finish) back();
}

/// Kill vmgraft before each thing that it does to a device itself, and where a file that must last has got its name. Returns the
/// number of kills.
int sweep(GpuLab& lab, const std::vector<std::string>& verb, const World& start, const World& finish,
          const std::function<void()>& back) {
  Tracer tracer({lab.store(), "/run/vmgraft", "/sys"});
  const Traced whole = tracer.run(lab.command_line(verb), {});
  INFO(verb[0] << " " << verb[1] << "\n" << whole.err);
  REQUIRE(whole.exit_code == 0);
  REQUIRE(look(lab) == finish);
  back();
  int kills = 0;
  for (std::size_t at = 1; at <= whole.calls.size(); ++at) {
    const Call& call = whole.calls[at - 1];
    const bool has_name = call.name == "fsync" && std::filesystem::is_directory(call.path);
    if (call.by_child || (!has_name && !call.path.starts_with("/sys/"))) continue;
    const Traced traced = tracer.run(lab.command_line(verb), {Fault::Kind::kill_before, at});
    INFO("killed before call " << at << ", " << call.name << " " << call.path << ": " << traced.exit_code << "\n"
                               << traced.out << traced.err);
    if (!traced.hit) {  // a message that keeps the connection up was not due this time: it was a call shorter
      REQUIRE(traced.exit_code == 0);
      back();
      continue;
    }
    REQUIRE(traced.exit_code == 128 + SIGKILL);
    ++kills;
    expect_repaired(lab, start, finish, back);
  }
  return kills;
}

/// Kill vmgraft while it waits for a helper process, the first, the second, ...: the next command meets that one at work.
int sweep_waits(GpuLab& lab, const std::vector<std::string>& verb, const World& start, const World& finish,
                const std::function<void()>& back) {
  for (int when = 1;; ++when) {
    REQUIRE(when < 200);
    // The tracer above would wait for the helper.
    const CommandResult result =
        lab.try_vmgraft(verb, {"strace", "-qq", "-o", "/dev/null", "-e", "trace=wait4", "-e",
                               "inject=wait4:signal=KILL:when=" + std::to_string(when)});
    INFO(verb[0] << " " << verb[1] << ", killed at wait " << when << ": " << result.exit_code << "\n"
                 << result.out << result.err);
    if (result.exit_code == 0) return when - 1;
    REQUIRE(result.exit_code == 128 + SIGKILL);
    expect_repaired(lab, start, finish, back);
  }
}

}  // namespace

TEST_CASE("kill -9 of vmgraft at every step of lending and returning is repaired by the next command", "[second]") {
  GpuLab lab;
  const World host = look(lab);
  lab.vmgraft({"gpu", "lend", kGpu});
  const World lent = look(lab);
  REQUIRE(lent.lent);
  const auto lend = [&] { lab.vmgraft({"gpu", "lend", kGpu}); };
  const auto give_back = [&] { lab.vmgraft({"gpu", "return", kGpu}); };
  int kills = sweep(lab, {"gpu", "return", kGpu}, lent, host, lend);
  kills += sweep_waits(lab, {"gpu", "return", kGpu}, lent, host, lend);
  kills += sweep(lab, {"gpu", "lend", kGpu}, host, lent, give_back);
  kills += sweep_waits(lab, {"gpu", "lend", kGpu}, host, lent, give_back);
  give_back();
  CHECK(look(lab) == host);
  CHECK(kills > 20);
  std::cout << "killed " << kills << " times while lending and returning\n";
}

TEST_CASE("kill -9 of vmgraft at every step of a start and a stop with a GPU is repaired by the next command") {
  GpuLab lab;
  const std::string vm = lab.name("cut");
  lab.vmgraft({"create", "idle", vm, "--no-start", "--gpus", kGpu});
  const World off = look(lab);
  lab.vmgraft({"start", vm});
  const World on = look(lab);
  REQUIRE(on.holder == vm);
  const auto start = [&] { lab.vmgraft({"start", vm}); };
  const auto stop = [&] { lab.vmgraft({"stop", vm, "--timeout", "0s"}); };
  int kills = sweep(lab, {"stop", vm, "--timeout", "0s"}, on, off, start);
  kills += sweep_waits(lab, {"stop", vm, "--timeout", "0s"}, on, off, start);
  kills += sweep(lab, {"start", vm}, off, on, stop);
  kills += sweep_waits(lab, {"start", vm}, off, on, stop);
  stop();
  CHECK(look(lab) == off);
  CHECK(kills > 15);
  std::cout << "killed " << kills << " times while starting and stopping\n";
}

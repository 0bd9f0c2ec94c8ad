// SPDX-License-Identifier: Apache-2.0
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

/// Kill vmgraft at the first, second, ... call of \p syscall of its main thread until it comes through: every write
/// that must be durable ends with fsync, and every change of a driver is waited for with wait4. Returns the number of
/// kills.
int sweep(GpuLab& lab, const std::string& syscall, const std::vector<std::string>& verb, const World& start,
          const World& finish, const std::function<void()>& again) {
  for (int when = 1;; ++when) {
    REQUIRE(when < 200);
    const CommandResult result =
        lab.try_vmgraft(verb, {"strace", "-qq", "-o", "/dev/null", "-e", "trace=" + syscall, "-e",
                               "inject=" + syscall + ":signal=KILL:when=" + std::to_string(when)});
    INFO(verb[0] << " " << verb[1] << ", killed at " << syscall << " number " << when << ": " << result.exit_code
                 << "\n"
                 << result.out << result.err);
    if (result.exit_code == 0) return when - 1;
    REQUIRE(result.exit_code == 137);
    lab.vmgraft({"list"});
    const World now = look(lab);
    CHECK(lab.journals().empty());
    INFO("lent " << now.lent << ", holder '" << now.holder << "', drivers " << now.drivers.at(kGpu) << " and "
                 << now.drivers.at(kCompanion) << ", running " << now.running.size());
    REQUIRE((now == start || now == finish));
    if (now == finish) again();
  }
}

}  // namespace

TEST_CASE("kill -9 of vmgraft at every step of lending and returning is repaired by the next command") {
  GpuLab lab;
  const World host = look(lab);
  lab.vmgraft({"gpu", "lend", kGpu});
  const World lent = look(lab);
  REQUIRE(lent.lent);
  const auto lend = [&] { lab.vmgraft({"gpu", "lend", kGpu}); };
  const auto give_back = [&] { lab.vmgraft({"gpu", "return", kGpu}); };
  int kills = 0;
  for (const char* syscall : {"fsync", "wait4"}) {
    kills += sweep(lab, syscall, {"gpu", "return", kGpu}, lent, host, lend);
    kills += sweep(lab, syscall, {"gpu", "lend", kGpu}, host, lent, give_back);
  }
  give_back();
  CHECK(look(lab) == host);
  CHECK(kills > 20);
  std::cout << "killed " << kills << " times while lending and returning\n";
}

TEST_CASE("kill -9 of vmgraft at every step of a start and a stop with a GPU is repaired by the next command",
          "[long]") {
  GpuLab lab;
  const std::string vm = lab.name("cut");
  lab.vmgraft({"create", "idle", vm, "--no-start", "--gpus", kGpu});
  const World off = look(lab);
  lab.vmgraft({"start", vm});
  const World on = look(lab);
  REQUIRE(on.holder == vm);
  const auto start = [&] { lab.vmgraft({"start", vm}); };
  const auto stop = [&] { lab.vmgraft({"stop", vm, "--timeout", "0s"}); };
  int kills = 0;
  kills += sweep(lab, "fsync", {"stop", vm, "--timeout", "0s"}, on, off, start);
  kills += sweep(lab, "fsync", {"start", vm}, off, on, stop);
  stop();
  CHECK(look(lab) == off);
  CHECK(kills > 4);
  std::cout << "killed " << kills << " times while starting and stopping\n";
}

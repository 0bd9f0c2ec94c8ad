// SPDX-License-Identifier: Apache-2.0
// A journal is a file of the store, and is carried out by who opens the store next, who may be root.
#include <fmt/format.h>

#include "domain/domain_xml.hpp"
#include "domain/placement.hpp"
#include "plan/plan_gpu.hpp"
#include "run/store_trust.hpp"
#include "support/catch.hpp"
#include "support/gpu_world.hpp"
#include "support/plan_world.hpp"

using namespace vmgraft;

namespace {

const std::string kId(32, 'e');
constexpr const char* kTpm = "/swtpm";

JournalEntry entry_of(std::vector<Step> steps, bool committed = true) {
  return {kId, committed, 42, false, {"evil", {"a"}, std::move(steps)}};
}

/// What recovery says to it; the world must not change.
Error refusal(PlanWorld& world, const JournalEntry& entry) {
  const std::string before = world.host.tree();
  Error error = error_of([&] { static_cast<void>(Executor(world.world()).recover(entry)); });
  CHECK(world.host.tree() == before);
  return error;
}

std::string domain_of_store(PlanWorld& world, const std::string& name, const std::string& from, const std::string& to) {
  std::string xml = world.hypervisor.domain_xml(world.uuid(name), true);
  const std::size_t at = xml.find(from);
  REQUIRE(at != std::string::npos);
  return xml.replace(at, from.size(), to);
}

}  // namespace

// The journal of an image import that had been killed stopped every command.
TEST_CASE("a journal about VMs, an image, a sweep or GPUs is one that vmgraft writes, and no other lock is taken for it") {
  PlanWorld world;
  const auto require_locks = [&](const std::vector<std::string>& names) {
    JournalEntry entry = entry_of({Commit{}});
    entry.plan.vms = names;
    require_own_journal(entry, kId, world.store, kTpm);
  };
  CHECK_NOTHROW(require_locks({"a", "b", "@image-debian-12", "@sweep", "@gpus", "@work-" + kId}));
  for (const char* name : {"@image-../../etc/x", "@image-", "@work-../x", "@other", "../x", ""})
    CHECK_THROWS_AS(require_locks({name}), Error);
}

// A journal with RemovePath of a file of the host was carried out, by root.
TEST_CASE("a journal that names a path outside the store is refused, whatever its step") {
  PlanWorld world;
  world.add_vm("a");
  const std::vector<std::string> paths = {"/etc/passwd",
                                          "/store",
                                          "/store/",
                                          "/store/vms",
                                          "/store/version",
                                          "/store/vms/../../etc/passwd",
                                          "/store/vms/a/../../../etc",
                                          "/storefront/vms/a",
                                          "vms/a",
                                          "",
                                          "/store//vms/a",
                                          "/store/vms/./a",
                                          "/swtpm",
                                          "/swtpm/x",
                                          "/swtpm/../etc/passwd",
                                          "/run/vmgraft/gpus/lock",
                                          "/run/vmgraft/gpus/../../x.json"};
  for (const std::string& path : paths) {
    INFO(path);
    const std::string inside = "/store/vms/a/x";
    const std::vector<Step> steps = {MakeFolder{path},
                                     WriteFile{path, "x"},
                                     CopyPath{inside, path},
                                     CopyPath{path, inside},
                                     ReplacePath{inside, path, ""},
                                     ReplacePath{path, inside, ""},
                                     AdoptFile{inside, path},
                                     AdoptFile{path, inside},
                                     RemovePath{path},
                                     SwitchDisks{"a", world.uuid("a"), {}, {}, false, {}, {CopyPath{inside, path}}}};
    for (const Step& step : steps) {
      for (const bool committed : {true, false}) {
        const bool is_none =
            path.empty() && std::holds_alternative<ReplacePath>(step) && std::get<ReplacePath>(step).from.empty();
        if (is_none) continue;  // "just remove it"
        const Error error = refusal(world, entry_of({step}, committed));
        CHECK(error.code() == Errc::other);
        CHECK(std::string(error.what()).find("vmgraft does not write such a one") != std::string::npos);
      }
    }
  }
}

TEST_CASE("a plan that would change something outside the store is not begun") {
  PlanWorld world;
  world.host.add_file("/etc/passwd", "precious");
  for (const Step& step :
       {Step(RemovePath{"/etc/passwd"}), Step(ReplacePath{"", "/etc/passwd", ""}), Step(WriteFile{"/etc/passwd", "x"})})
    CHECK_THROWS_AS(world.run({"evil", {}, {step}}), Error);
  CHECK(world.host.effects() == 0);
}

// The journal's own id and the names of its locks became paths unlooked at: one deleted a file, the other made one.
TEST_CASE("a journal whose id or VMs are no names is refused") {
  PlanWorld world;
  const auto refused = [&](const JournalEntry& entry, const std::string& name) {
    CHECK_THROWS_AS(require_own_journal(entry, name, world.store, kTpm), Error);
  };
  JournalEntry entry = entry_of({});
  entry.id = "../../etc/x";
  refused(entry, kId);
  for (const char* vm : {"@../../etc/x", "../a", "@work-../x", "@", "", "@work-", "a/b"}) {
    INFO(vm);
    entry = entry_of({});
    entry.plan.vms = {vm};
    refused(entry, kId);
  }
  entry.plan.vms = {"a", "@gpus", "@sweep", "@work-" + kId};
  CHECK_NOTHROW(require_own_journal(entry, kId, world.store, kTpm));
}

TEST_CASE("a journal whose layers, modes, UUIDs, devices or attributes vmgraft would not write is refused") {
  PlanWorld world;
  world.add_vm("a");
  const std::string uuid = world.uuid("a");
  const std::vector<Step> steps = {
      DeleteLayer{"../../etc/passwd"},
      FreezeLayer{"x"},
      MakeFolder{"/store/vms/b", 0777},
      WriteFile{"/store/vms/a/x", "x", 04755},
      AdoptFile{"/store/tmp/x", "/store/vms/a/x", 0666},
      PowerOff{"a", "../x"},
      UndefineDomain{"../a", uuid, false},
      SwitchDisks{"a", uuid, {{"vda", "../../x"}}, {}, false, {}, {}},
      BindDriver{"../../x", "vfio-pci", "", "", ""},
      BindDriver{"0000:41:00.0", "../x", "", "", ""},
      WriteAttribute{"/proc/sys/kernel/core_pattern", "x", ""},
      WriteAttribute{"/sys/bus/pci/devices/0000:41:00.0/remove", "1", ""},
      WriteAttribute{"/sys/bus/pci/devices/../../../kernel/sriov_numvfs", "1", ""},
      MakeMdev{"0000:41:00.0", "../../x", uuid},
      RemoveMdev{"../x"},
      StartDomain{"a", uuid},
  };
  for (const Step& step : steps) {
    INFO(step.index());
    CHECK(refusal(world, entry_of({Commit{}, step})).code() == Errc::other);
  }
}

// A journal undefined any domain of libvirt's by its UUID.
TEST_CASE("a journal that names a domain that is not of the store is refused") {
  PlanWorld world;
  world.add_vm("a");
  const std::string uuid = "11111111-2222-4333-8444-555555555555";
  world.hypervisor.define("<domain type='qemu'><name>mine</name><uuid>" + uuid + "</uuid></domain>", Schema::known);
  for (const Step& step :
       {Step(PowerOff{"mine", uuid}), Step(UndefineDomain{"mine", uuid, false}),
        Step(ReplacePath{"", "/swtpm/" + uuid, ""}), Step(CopyPath{"/swtpm/" + uuid, "/store/vms/a/x"})}) {
    const Error error = refusal(world, entry_of({step}));
    CHECK(error.code() == Errc::conflict);
    CHECK(std::string(error.what()).find("the domain 'mine'") != std::string::npos);
  }
}

TEST_CASE("a journal that would define a VM with what is the host's is refused, and so is another VM's definition") {
  PlanWorld world;
  world.add_vm("a");
  const std::string uuid = world.uuid("a");
  const std::string root_disk = world.store.layer_file(world.head("a"));
  const std::vector<std::string> definitions = {
      domain_of_store(world, "a", root_disk, "/dev/sda"),
      domain_of_store(world, "a", "</devices>",
                      "<filesystem type='mount'><source dir='/'/><target dir='x'/></filesystem></devices>"),
      domain_of_store(world, "a", "store=\"/store\"", "store=\"/other\""),
      domain_of_store(world, "a", "<name>a</name>", "<name>b</name>"),
  };
  for (const std::string& xml : definitions) {
    INFO(xml);
    CHECK(refusal(world, entry_of({DefineDomain{"a", uuid, xml, {}, true}})).code() == Errc::conflict);
    CHECK(refusal(world, entry_of({DefineDomain{"a", uuid, world.hypervisor.domain_xml(uuid, true), xml, true}}, false))
              .code() == Errc::conflict);
  }
}

TEST_CASE("an interrupted creation is undone, whatever of the host its template gives the VM") {
  PlanWorld world;
  Plan plan = world.plan_new({"a"});
  for (Step& step : plan.steps)
    if (auto* define = std::get_if<DefineDomain>(&step))
      define->xml.insert(define->xml.find("</devices>"),
                         "<filesystem type='mount'><source dir='/srv'/><target dir='x'/></filesystem>");
  CHECK_NOTHROW(static_cast<void>(Executor(world.world()).recover(entry_of(plan.steps, false))));
}

TEST_CASE("a journal that plugs in a device of the host that is not leased to the VM is refused") {
  PlanWorld world;
  world.add_vm("a");
  add_gpus(world.host);
  world.hypervisor.set_running(world.uuid("a"), true);
  const auto attach = [&](const std::string& address) {
    PassedGpu gpu;
    gpu.functions.push_back({address, true, 0});
    return entry_of({AttachDevice{"a", world.uuid("a"), "ua-gpu0-0", hostdev_xml(gpu, 0, "ua-gpu0-0", 3)}});
  };
  CHECK(refusal(world, attach("0000:41:00.0")).code() == Errc::conflict);
  world.run(lease_of(world.host, "a"));
  CHECK(refusal(world, attach("0000:99:00.0")).code() == Errc::conflict);
  CHECK(refusal(world, entry_of({AttachDevice{"a", world.uuid("a"), "x",
                                              "<disk type='block'><source dev='/dev/sda'/></disk>"}}))
            .code() == Errc::conflict);
  CHECK_NOTHROW(static_cast<void>(Executor(world.world()).recover(attach("0000:41:00.0"))));
}

// Which driver a device of the host is on was for a journal to say.
TEST_CASE("a journal about devices is forgotten when no process of this boot has left its mark for it") {
  PlanWorld world;
  world.add_vm("a");
  add_gpus(world.host);
  const std::string driver = world.host.pci_driver("0000:41:00.0");
  JournalEntry entry = entry_of({Commit{}, BindDriver{"0000:41:00.0", "", "", driver, ""}});
  world.host.add_file(world.store.journal_folder() / (kId + ".json"), to_json_text(entry));
  CHECK(Executor(world.world()).recover(entry) ==
        "forgot 'evil', which process 42 had left half done: it was over, or the host has booted since");
  CHECK(world.host.pci_driver("0000:41:00.0") == driver);
  CHECK_FALSE(world.host.exists(world.store.journal_folder() / (kId + ".json")));
}

TEST_CASE("what is told of a plan says neither what is in a file nor a definition") {
  const std::string secret = "s3cret";
  for (const Step& step : {Step(WriteFile{"/store/vms/a/vm.json", secret, 0600, true, secret}),
                           Step(DefineDomain{"a", kId, secret, secret, true}), Step(StartDomain{"a", kId, secret, {}}),
                           Step(AttachDevice{"a", kId, "x", secret})})
    CHECK(describe(step).find(secret) == std::string::npos);
}

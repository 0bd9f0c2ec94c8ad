// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "domain/domain_xml.hpp"
#include "plan/plan_delete.hpp"
#include "support/catch.hpp"
#include "support/plan_world.hpp"

using namespace vmgraft;

namespace {

template <typename Wanted>
std::vector<Wanted> steps_of(const Plan& plan) {
  std::vector<Wanted> found;
  for (const Step& step : plan.steps)
    if (const auto* each = std::get_if<Wanted>(&step)) found.push_back(*each);
  return found;
}

std::size_t depth(PlanWorld& world, const std::string& vm) { return world.store.chain(world.head(vm)).size(); }

}  // namespace

TEST_CASE("a created VM's disks stand on the image or on nothing, and its manifest is written last") {
  PlanWorld world;
  const Plan plan = world.plan_new({"a"});
  const auto layers = steps_of<CreateLayer>(plan);
  REQUIRE(layers.size() == 2);
  CHECK(layers[0].record.parent == std::string(32, 'a'));
  CHECK(layers[1].record.parent.empty());
  CHECK(std::holds_alternative<WriteFile>(plan.steps.back()));
  world.run(plan);
  CHECK(world.store.manifest("a").heads.size() == 2);
  CHECK(world.hypervisor.find_by_name("a")->state == VmState::shut_off);
  const DomainFacts domain = read_domain(world.hypervisor.domain_xml(world.uuid("a"), true));
  CHECK(domain.store == "/store");
  CHECK(domain.disks.at(0).path == world.store.layer_file(layers[0].record.id));
}

TEST_CASE("a disk smaller than its image is refused, with both sizes") {
  PlanWorld world;
  CreateFacts facts{world.store, {}, {}, "qemu", {}, false, "tester", "2026-01-02T03:04:05Z", {}, {}};
  facts.resolved.file = "t.json";
  facts.resolved.spec.disks = {{"root", "base", std::uint64_t{512} << 10, true}};
  facts.images.emplace("base", ImageFacts{world.store.image("base"), world.store.layer(std::string(32, 'a'))});
  const Error small = error_of([&] { static_cast<void>(plan_create(facts, {{"a", "u", {}, {world.next_id()}, {}, {}}})); });
  CHECK(small.code() == Errc::invalid_template);
  CHECK(std::string(small.what()) ==
        "t.json: /vm/disks/0/size: disk 'root' of 512 KiB is smaller than its image 'base' of 1 MiB");
  facts.resolved.spec.disks = {{"data", "", {}, true}};
  CHECK(std::string(error_of([&] { static_cast<void>(plan_create(facts, {{"a", "u", {}, {world.next_id()}, {}, {}}})); }).what()) ==
        "t.json: /vm/disks/0/size: disk 'data' has no image, so it needs a size");
}

TEST_CASE("an image that cannot boot as the template asks is refused") {
  PlanWorld world;
  CreateFacts facts{world.store, {}, {}, "qemu", {}, false, "tester", "2026-01-02T03:04:05Z", {}, {}};
  facts.resolved.file = "t.json";
  facts.resolved.spec.firmware = Firmware::direct;
  facts.resolved.spec.disks = {{"root", "base", {}, true}};
  ImageFacts image{world.store.image("base"), world.store.layer(std::string(32, 'a'))};
  image.layer.boot_direct = false;
  facts.images.emplace("base", image);
  const Error error = error_of([&] { static_cast<void>(domain_config(facts, {"a", "u", {}, {world.next_id()}, {}, {}})); });
  CHECK(std::string(error.what()) == "t.json: /vm/firmware: image 'base' has no kernel of its own to boot directly");
  CHECK(error.hint() == "use \"firmware\": \"bios\" or \"uefi\"");
}

TEST_CASE("in a session nat is user networking, and an isolated network is refused") {
  PlanWorld world;
  CreateFacts facts{world.store, {}, {}, "qemu", {}, true, "tester", "2026-01-02T03:04:05Z", {}, {}};
  facts.resolved.spec.firmware = Firmware::bios;
  facts.resolved.spec.networks = {{NetworkKind::nat, {}}};
  CHECK(domain_config(facts, {"a", "u", {"52:00:00:00:00:01"}, {}, {}, {}}).nics.at(0).kind == NetworkKind::user);
  facts.resolved.spec.networks = {{NetworkKind::isolated, {}}};
  CHECK(error_of([&] { static_cast<void>(domain_config(facts, {"a", "u", {"52:00:00:00:00:01"}, {}, {}, {}})); }).code() ==
        Errc::host_unfit);
}

TEST_CASE("a stopped VM to which nothing was written is named without a new layer") {
  PlanWorld world;
  world.add_vm("a", {true, false});
  const Plan first = world.plan_snap("a", "s1");
  CHECK(steps_of<CreateLayer>(first).empty());
  CHECK(steps_of<DefineDomain>(first).empty());
  world.run(first);
  CHECK(find_snapshot(world.store.manifest("a"), "s1")->disks.at(0).layer == std::string(32, 'a'));
  world.touch("a");
  const Plan second = world.plan_snap("a", "s2");
  CHECK(steps_of<CreateLayer>(second).size() == 1);  // the scratch disk is left out
  CHECK(steps_of<FreezeLayer>(second).size() == 1);
  world.run(second);
  CHECK(world.host.stat(world.store.layer_file(find_snapshot(world.store.manifest("a"), "s2")->disks.at(0).layer))->mode == 0444);
  CHECK(find_snapshot(world.store.manifest("a"), "s2")->parent == "s1");
}

TEST_CASE("a snapshot name that is taken is a conflict") {
  PlanWorld world;
  world.add_vm("a");
  world.run(world.plan_snap("a", "s1"));
  const Error error = error_of([&] { static_cast<void>(world.plan_snap("a", "s1")); });
  CHECK(error.code() == Errc::conflict);
  CHECK(std::string(error.what()) == "VM 'a' already has a snapshot 's1'");
}

TEST_CASE("a guest that cannot be frozen is left as it was, and the caller is told") {
  PlanWorld world;
  world.add_vm("a");
  world.hypervisor.set_running(world.uuid("a"), true);
  world.hypervisor.refuse_freeze(true);
  const Plan plan = world.plan_snap("a", "s1", true);
  const PlanWorld before(world);
  CHECK_THROWS_AS(world.run(plan), FreezeFailed);
  CHECK(world.host == before.host);
  world.run(world.plan_snap("a", "s1", false));
  CHECK(find_snapshot(world.store.manifest("a"), "s1")->consistency == Consistency::crash);
}

TEST_CASE("after a live snapshot the guest is thawed and writes to the new heads") {
  PlanWorld world;
  world.add_vm("a", {false, true});
  world.hypervisor.set_running(world.uuid("a"), true);
  const std::string old_head = world.head("a");
  world.run(world.plan_snap("a", "s1", true));
  CHECK_FALSE(world.hypervisor.is_frozen(world.uuid("a")));
  CHECK(world.head("a") != old_head);
  CHECK(read_domain(world.hypervisor.domain_xml(world.uuid("a"), false)).disks.at(0).path ==
        world.store.layer_file(world.head("a")).string());
  CHECK(*world.host.read_file("/store/vms/a/snapshots/s1/nvram.fd") == "nvram of a");
  CHECK(*world.host.read_file("/store/vms/a/snapshots/s1/tpm/tpm2-00.permall") == "tpm of a");
}

TEST_CASE("a revert names the present state, and reverting to that name brings it back") {
  PlanWorld world;
  world.add_vm("a", {true, true});
  world.run(world.plan_snap("a", "s1"));
  world.touch("a");
  const std::string written = world.head("a");
  const std::string scratch = world.store.manifest("a").heads.at(1).layer;
  world.host.add_file(world.store.nvram_file("a"), "changed nvram", 0600);
  const RevertPlan back = world.plan_back("a", "s1");
  CHECK(back.undo == "before-revert-1");
  world.run(back.plan);
  const Manifest manifest = world.store.manifest("a");
  CHECK(manifest.current == "s1");
  CHECK(manifest.heads.at(1).layer == scratch);
  CHECK(find_snapshot(manifest, "before-revert-1")->disks.at(0).layer == written);
  CHECK(*world.host.read_file(world.store.nvram_file("a")) == "nvram of a");
  world.run(world.plan_back("a", "before-revert-1").plan);
  CHECK(world.store.layer(world.head("a")).parent == written);
  CHECK(*world.host.read_file(world.store.nvram_file("a")) == "changed nvram");
}

TEST_CASE("a revert of a VM in which nothing changed names nothing new") {
  PlanWorld world;
  world.add_vm("a", {true, false});
  world.run(world.plan_snap("a", "s1"));
  CHECK(world.plan_back("a", "s1").undo == "s1");
}

TEST_CASE("a new VM remembers the cards that it asks for, and its clones do") {
  PlanWorld world;
  world.add_vm("a");
  Manifest source = world.store.manifest("a");
  const std::vector<NamedGpu> named{{"0000:41:00.0", "10de:2330 10de:16c1"}};
  CreateFacts facts{world.store, {}, {}, "qemu", {}, false, "tester", "2026-01-02T03:04:05Z", {}, {}, named};
  facts.resolved.json = "{}";
  const Plan created = plan_create(facts, {{"n", "u", {}, {}, {}, {}}});
  CHECK(manifest_from_json(std::get<WriteFile>(created.steps.back()).content, "n").named_gpus == named);
  source.named_gpus = named;
  world.host.add_file(world.store.manifest_file("a"), to_json_text(source), 0600);
  world.run(world.plan_snap("a", "s1"));
  world.run(world.plan_cloned("a", "s1", {"b"}));
  CHECK(world.store.manifest("b").named_gpus == named);
}

TEST_CASE("clones share the layer of a snapshot and bring their own identity") {
  PlanWorld world;
  world.add_vm("a", {true, true});
  world.touch("a");
  world.run(world.plan_snap("a", "s1"));
  world.run(world.plan_cloned("a", "s1", {"b", "c"}));
  const std::string base = find_snapshot(world.store.manifest("a"), "s1")->disks.at(0).layer;
  for (const char* name : {"b", "c"}) {
    const Manifest clone = world.store.manifest(name);
    CHECK(world.store.layer(clone.heads.at(0).layer).parent == base);
    CHECK(world.store.layer(clone.heads.at(1).layer).parent.empty());
    CHECK(clone.source == "a@s1");
    CHECK(clone.identity_pending);
    CHECK(clone.snapshots.empty());
    CHECK(*world.host.read_file(world.store.nvram_file(name)) == "nvram of a");
    CHECK(read_domain(world.hypervisor.domain_xml(clone.uuid, true)).nvram == world.store.nvram_file(name).string());
  }
}

TEST_CASE("a chain is bounded: beyond the most layers a snapshot is refused with the ways out") {
  PlanWorld world;
  world.add_vm("a", {true, false});
  int taken = 0;
  Error refusal(Errc::other, "");
  try {
    for (;; ++taken) {
      world.touch("a");
      world.run(world.plan_snap("a", "s" + std::to_string(taken)));
    }
  } catch (const Error& error) {
    refusal = error;
  }
  CHECK(depth(world, "a") == kMaxChainDepth);
  CHECK(refusal.code() == Errc::conflict);
  CHECK(std::string(refusal.what()) == "VM 'a': disk 'root' stands on 24 layers, the most that every supported libvirt starts");
  CHECK(refusal.hint().find("vmgraft clone a NEW --full") != std::string::npos);
}

TEST_CASE("merging takes unnamed inner layers only, never an image, a named layer or what another VM reaches") {
  PlanWorld world;
  world.add_vm("a", {true, false});
  for (const char* name : {"s1", "s2", "s3"}) {
    world.touch("a");
    world.run(world.plan_snap("a", name));
  }
  world.touch("a");
  const std::string s2 = find_snapshot(world.store.manifest("a"), "s2")->disks.at(0).layer;
  const std::string s1 = find_snapshot(world.store.manifest("a"), "s1")->disks.at(0).layer;
  CHECK(plan_merge(world.store_facts(), world.store.manifest("a"), false, true).merged.empty());
  world.run(world.plan_cloned("a", "s1", {"b"}));
  for (const char* name : {"s1", "s2"}) world.run(plan_snapshot_delete(world.store, world.store.manifest("a"), name));

  // s2's layer lies between s1's, which b stands on, and s3's: only s2's may go.
  const MergePlan running = plan_merge(world.store_facts(), world.store.manifest("a"), true, true);
  CHECK(running.merged.empty());
  CHECK(running.deferred == std::vector<std::string>{s2});
  const MergePlan stopped = plan_merge(world.store_facts(), world.store.manifest("a"), false, true);
  CHECK(stopped.merged == std::vector<std::string>{s2});
  world.run(stopped.plan);
  CHECK(world.store.layer(find_snapshot(world.store.manifest("a"), "s3")->disks.at(0).layer).parent == s1);
  CHECK_FALSE(world.store.has_layer(s2));
  CHECK(plan_sweep(world.store_facts()).steps.empty());
}

TEST_CASE("deleting a VM leaves the layers its clone stands on, and the last one takes them along") {
  PlanWorld world;
  world.add_vm("a", {true, false});
  world.touch("a");
  world.run(world.plan_snap("a", "s1"));
  world.run(world.plan_cloned("a", "s1", {"b"}));
  const std::size_t before = world.store.layers().size();
  world.run(plan_delete(world.store, world.store.manifest("a"), true));
  world.run(plan_sweep(world.store_facts()));
  CHECK(world.store.layers().size() == before - 2);  // a's two heads; what b stands on stays
  CHECK(depth(world, "b") == 3);
  world.run(plan_delete(world.store, world.store.manifest("b"), true));
  world.run(plan_sweep(world.store_facts()));
  CHECK(world.store.layers().size() == 1);  // the image
}

TEST_CASE("a journal is read back as it was written, and anything else is refused") {
  PlanWorld world;
  world.add_vm("a", {true, true});
  JournalEntry entry{"0123", true, 42, true, world.plan_snap("a", "s1")};
  const std::string text = to_json_text(entry);
  CHECK(to_json_text(journal_from_json(text, "j")) == text);
  for (const char* bad : {"", "[]", "{}", R"({"version":2})", R"({"version":1,"id":"x","committed":true,"pid":1,"verb":"v","vms":[],"steps":[{"step":"sing","do":{}}]})"})
    CHECK(std::string(error_of([&] { static_cast<void>(journal_from_json(bad, "j.json")); }).what()).starts_with(
        "j.json: not a journal that can be read"));
}

namespace {

/// Why a journal of one step is refused; empty when it is not.
std::string why_no_journal(const std::string& before, const std::string& after) {
  std::string text = to_json_text(
      JournalEntry{"0123", false, 42, false, Plan{"attach", {"a"}, {DetachDevice{"a", "u", "ua-gpu", "<hostdev/>", 60}}}});
  const std::size_t at = text.find(before);
  REQUIRE(at != std::string::npos);
  text.replace(at, before.size(), after);
  try {
    static_cast<void>(journal_from_json(text, "j.json"));
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("numbers of a journal that its fields cannot hold are refused, where they were taken as others") {
  CHECK(why_no_journal("60", "61").empty());
  for (const char* number : {"-1", "1.9", "1e300", "4294967356"}) {
    CAPTURE(number);
    CHECK_FALSE(why_no_journal("60", number).empty());
  }
  CHECK_FALSE(why_no_journal("\"pid\": 42", "\"pid\": 1e300").empty());
  CHECK_FALSE(why_no_journal("\"version\": 1", "\"version\": 4294967297").empty());
}

TEST_CASE("a journal with a key twice, or one that nobody reads, is refused") {
  CHECK(why_no_journal("\"pid\": 42", "\"pid\": 42, \"pid\": 43").find("occurs twice") != std::string::npos);
  CHECK(why_no_journal("\"pid\": 42", "\"pid\": 42, \"force\": true").find("what vmgraft does not write") !=
        std::string::npos);
  CHECK(why_no_journal("\"timeout\"", "\"undo\": 1, \"timeout\"").find("what vmgraft does not write") !=
        std::string::npos);
}

TEST_CASE("what a damaged journal says reaches no terminal as it is") {
  CHECK(why_no_journal("detach_device", "\u202e\\u001b[2J") ==
        "j.json: not a journal that can be read: unknown step '\\xe2\\x80\\xae\\x1b[2J'");
}

TEST_CASE("a plan with text that JSON cannot hold is refused, and is no error of the program") {
  JournalEntry entry{"0123", false, 42, false, Plan{"create a", {"a"}, {MakeFolder{"/store/\xff"}}}};
  const Error error = error_of([&] { static_cast<void>(to_json_text(entry)); });
  CHECK(error.code() == Errc::usage);
  CHECK(error.what() == std::string("create a: a text is not valid UTF-8, and cannot be recorded"));
}

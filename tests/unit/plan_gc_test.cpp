// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_gc.hpp"

#include <algorithm>

#include "domain/domain_xml.hpp"
#include "plan/plan_delete.hpp"
#include "run/gc_facts.hpp"
#include "support/catch.hpp"
#include "support/gc_world.hpp"

using namespace vmgraft;

namespace {

const std::string kStray(32, 'e');

template <typename T>
std::vector<T> steps_of(const Plan& plan) {
  std::vector<T> found;
  for (const Step& step : plan.steps)
    if (const auto* each = std::get_if<T>(&step)) found.push_back(*each);
  return found;
}

/// "remove /store/tmp/x", "keep ..."
std::vector<std::string> said(const std::vector<GcEntry>& entries) {
  std::vector<std::string> lines;
  for (const GcEntry& entry : entries) lines.push_back(to_string(entry.action) + " " + entry.name);
  std::sort(lines.begin(), lines.end());
  return lines;
}

std::vector<std::string> said(const std::vector<GcItem>& items) {
  std::vector<GcEntry> entries;
  for (const GcItem& item : items) entries.push_back(item.entry);
  return said(entries);
}

std::string note_of(const std::vector<GcEntry>& entries, const std::string& name) {
  for (const GcEntry& entry : entries)
    if (entry.name == name) return entry.note;
  return "no entry of " + name;
}

/// The VM's manifest is gone, the domain is there.
void lose_manifest(PlanWorld& world, const std::string& vm) { world.host.erase(world.store.manifest_file(vm)); }

/// A layer that no ref reaches, standing on \p parent.
std::string add_orphan(PlanWorld& world, const std::string& parent) {
  LayerRecord layer;
  layer.id = world.next_id();
  layer.parent = parent;
  layer.virtual_size = 1 << 20;
  layer.made_by = "create lost";
  layer.created = "2026-01-02T03:04:05Z";
  world.run({"make", {}, {CreateLayer{layer}}});
  return layer.id;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("gc finds nothing in a store that is in order") {
  PlanWorld world;
  world.add_vm("a", {true, true});
  world.touch("a");
  world.run(world.plan_snap("a", "s1"));
  world.run(world.plan_cloned("a", "s1", {"b"}));
  world.hypervisor.set_running(world.uuid("a"), true);
  const GcPlan plan = plan_gc(gc_facts_of(world));
  CHECK(said(plan.layers).empty());
  CHECK(said(plan.files).empty());
  CHECK(said(plan.domains).empty());
  CHECK(said(plan.manifests).empty());
  CHECK(plan.removal.steps.empty());
}

TEST_CASE("gc takes layers that nothing reaches, children first, and says where they come from") {
  PlanWorld world;
  world.add_vm("a");
  const std::string below = add_orphan(world, world.head("a"));
  const std::string above = add_orphan(world, below);
  const GcPlan plan = plan_gc(gc_facts_of(world));
  REQUIRE(plan.layers.size() == 2);
  CHECK(plan.layers[0].name == above);
  CHECK(plan.layers[1].name == below);
  CHECK(plan.layers[0].what == "create lost, 2026-01-02T03:04:05Z");
  CHECK(plan.layers[0].size > 0);
  CHECK(std::holds_alternative<Commit>(plan.removal.steps.at(0)));
  CHECK(plan.removal.vms == Lines{kSweepLock});
  world.run(plan.removal);
  CHECK_FALSE(world.store.has_layer(below));
  CHECK(world.store.has_layer(world.head("a")));
  CHECK(plan_gc(gc_facts_of(world)).removal.steps.empty());
}

TEST_CASE("gc keeps a layer that any domain which stays names, and all below it") {
  PlanWorld world;
  world.add_vm("a");
  const std::string below = add_orphan(world, {});
  const std::string above = add_orphan(world, below);
  GcFacts facts = gc_facts_of(world);
  facts.domains.push_back({"theirs", "11111111-0000-4000-8000-000000000000", false, false,
                           {world.store.layer_file(above).string()}});
  const GcPlan plan = plan_gc(facts);
  CHECK(plan.removal.steps.empty());
  CHECK(said(plan.layers) == Lines{"keep " + below, "keep " + above});
  CHECK(note_of(plan.layers, above) == "domain 'theirs' uses it");
  CHECK(note_of(plan.layers, below) == "a layer that stays stands on it");
}

TEST_CASE("a circle of layers that was made by hand is told, not followed for ever") {
  PlanWorld world;
  const std::string one = add_orphan(world, {});
  const std::string two = add_orphan(world, one);
  LayerRecord layer = world.store.layer(one);
  layer.parent = two;
  world.host.add_file(world.store.layer_record(one), to_json_text(layer), 0444);
  const GcPlan plan = plan_gc(gc_facts_of(world));
  CHECK(plan.removal.steps.empty());
  CHECK(said(plan.layers) == Lines{"keep " + one, "keep " + two});
  CHECK(note_of(plan.layers, one) == "its chain comes back to itself: its record was changed by hand");
}

TEST_CASE("a write that was cut off goes with the journal of its process, and is not told twice") {
  PlanWorld world;
  world.host.add_file("/store/layers/." + kStray + ".json.7.0.tmp", "x", 0600);
  world.host.erase("/store/tmp/work");
  GcFacts facts = gc_facts_of(world);
  REQUIRE(plan_gc(facts).files.size() == 1);
  facts.journals.push_back({{"a"}, "{}", 7});
  CHECK(plan_gc(facts).files.empty());
  facts.journals.back().pid = 8;
  CHECK(plan_gc(facts).files.size() == 1);
}

TEST_CASE("gc takes half-made files, each for its reason, and nothing that it did not make") {
  PlanWorld world;
  world.add_vm("a");
  world.run(world.plan_snap("a", "s1"));
  const Lines garbage{"/store/.version.7.0.tmp",
                      "/store/images/.base.json.7.0.tmp",
                      "/store/journal/." + kStray + ".json.7.1.tmp",
                      "/store/layers/." + kStray + ".json.7.0.tmp",
                      "/store/layers/" + kStray + ".kernel",
                      "/store/layers/" + kStray + ".qcow2",
                      "/store/vms/a/.vm.json.7.12.tmp",
                      "/store/vms/a/nvram.fd.part",
                      "/store/vms/a/snapshots/s1/tpm.part"};
  const Lines others{"/store/layers/notes.txt",        "/store/layers/mine.qcow2",
                     "/store/images/README",           "/store/tmp/mine.xml",
                     "/store/tmp/downloads/x.part",    "/store/vms/a/notes",
                     "/store/vms/a/console.log.0",     "/store/vms/lost+found",
                     "/store/locks/vm-z.lock",         "/store/journal/mine.txt",
                     "/store/vms/.hidden/x",           "/store/mine",
                     "/store/vms/a/thesis.part",       "/store/vms/a/snapshots/s1/thesis.part",
                     "/store/vms/a/snapshots/.mine/x", "/store/vms/a/snapshots/notes"};
  for (const std::string& file : garbage) world.host.add_file(file, "x", 0600);
  for (const std::string& file : others) world.host.add_file(file, "x", 0600);
  world.host.add_folder("/store/tmp/" + kStray);
  world.host.add_file("/store/tmp/" + kStray + "/disk", std::string(5000, 'x'), 0600);
  world.host.add_file("/store/vms/a/snapshots/s2/domain.xml", "x", 0600);
  world.host.add_file("/store/vms/gone/nvram.fd", "x", 0600);
  world.host.add_file("/store/vms/gone/snapshots/s/domain.xml", "x", 0600);
  world.host.add_file("/store/vms/mixed/nvram.fd", "x", 0600);
  world.host.add_file("/store/vms/mixed/thesis.txt", "x", 0600);
  world.host.add_file("/store/vms/deep/snapshots/s/tpm/state", "x", 0600);
  world.host.add_file("/store/vms/deep/snapshots/s/thesis.txt", "x", 0600);
  world.host.add_file("/store/vms/a/snapshots/backup/thesis.txt", "x", 0600);
  world.host.erase("/store/tmp/work");
  world.host.reset();

  const GcPlan plan = plan_gc(gc_facts_of(world));
  Lines want{"keep /store/vms/mixed",
             "keep /store/vms/deep",
             "keep /store/vms/a/snapshots/backup",
             "remove /store/tmp/" + kStray,
             "remove /store/vms/a/snapshots/s2",
             "remove /store/vms/gone"};
  for (const std::string& file : garbage) want.push_back("remove " + file);
  std::sort(want.begin(), want.end());
  CHECK(said(plan.files) == want);
  CHECK(note_of(plan.files, "/store/vms/mixed") ==
        "not all in it was made by vmgraft: look what it is, and remove it by hand");
  for (const GcEntry& entry : plan.files)
    if (entry.name == "/store/tmp/" + kStray) CHECK(entry.size >= 5000);

  world.run(plan.removal);
  for (const std::string& file : others) CHECK(world.host.stat(file));
  CHECK(world.host.stat("/store/vms/mixed/thesis.txt"));
  CHECK(world.host.stat("/store/vms/a/snapshots/s1/domain.xml"));
  for (const std::string& file : garbage) CHECK_FALSE(world.host.stat(file));
  CHECK_FALSE(world.host.stat("/store/vms/gone"));
  CHECK(said(plan_gc(gc_facts_of(world)).files) ==
        Lines{"keep /store/vms/a/snapshots/backup", "keep /store/vms/deep", "keep /store/vms/mixed"});
}

TEST_CASE("gc leaves what a living process is making") {
  PlanWorld world;
  world.add_vm("a");
  world.host.add_file("/store/vms/a/.vm.json.7.0.tmp", "x", 0600);
  world.host.add_file("/store/vms/new/nvram.fd", "x", 0600);
  world.host.add_file("/store/tmp/" + kStray + "/disk", "x", 0600);
  const std::string layer = add_orphan(world, {});
  const GcFacts dead = gc_facts_of(world);
  REQUIRE(plan_gc(dead).files.size() == 3);
  REQUIRE(plan_gc(dead).layers.size() == 1);

  GcFacts held = dead;
  for (StoreFile& file : held.files) file.is_held = true;
  CHECK(said(plan_gc(held).files) == Lines{"remove /store/vms/new"});
  held.held = {"a", "new"};
  CHECK(plan_gc(held).files.empty());

  GcFacts in_flight = dead;
  in_flight.journals = {{{"a", "new"}, "moves " + layer + " and /store/tmp/" + kStray + "/disk"}};
  CHECK(plan_gc(in_flight).files.empty());
  CHECK(plan_gc(in_flight).layers.empty());
  CHECK(plan_gc(in_flight).removal.steps.empty());
}

TEST_CASE("a disk file that lost its record is left where a ref or another layer names it") {
  PlanWorld world;
  world.add_vm("a");
  world.touch("a");
  world.run(world.plan_snap("a", "s1"));
  world.host.erase(world.store.layer_record(world.store.manifest("a").snapshots.at(0).disks.at(0).layer));
  world.host.erase(world.store.layer_record(world.head("a")));
  CHECK(plan_gc(gc_facts_of(world)).files.empty());
}

TEST_CASE("gc removes a domain of ours that no manifest has, and then its folder and layers") {
  PlanWorld world;
  world.add_vm("a");
  world.add_vm("b");
  const std::string uuid = world.uuid("a");
  const std::string head = world.head("a");
  lose_manifest(world, "a");
  const GcPlan plan = plan_gc(gc_facts_of(world));
  REQUIRE(said(plan.domains) == Lines{"remove a"});
  CHECK(plan.domains[0].plan.vms == Lines{kSweepLock});
  CHECK(said(plan.files) == Lines{"remove /store/vms/a"});
  CHECK(plan.layers.size() == 2);
  world.run(plan.domains[0].plan);
  world.run(plan.removal);
  CHECK_FALSE(world.hypervisor.find_by_uuid(uuid));
  CHECK_FALSE(world.store.has_layer(head));
  CHECK(world.hypervisor.find_by_uuid(world.uuid("b")));
  CHECK(world.store.has_layer(world.head("b")));
}

// With its disk not mounted, gc found an empty folder in the store's place and undefined every domain of the store.
TEST_CASE("a domain of which no file is in the store is left: the store was moved, or is not mounted") {
  PlanWorld world;
  world.add_vm("a");
  const std::string uuid = world.uuid("a");
  for (const char* folder : {"vms", "layers", "images"}) {
    world.host.erase(std::string("/store/") + folder);
    world.host.add_folder(std::string("/store/") + folder);
  }
  const GcPlan plan = plan_gc(gc_facts_of(world));
  REQUIRE(said(plan.domains) == Lines{"keep a"});
  CHECK(plan.domains[0].plan.steps.empty());
  CHECK(plan.domains[0].entry.note.find("is its disk not mounted?") != std::string::npos);
  CHECK(plan.domains[0].entry.note.find("virsh undefine " + uuid + " --nvram") != std::string::npos);
}

// gc removed a folder named like a layer with all that a user kept in it.
TEST_CASE("a folder or link that has the name of a layer or work folder is somebody's own") {
  PlanWorld world;
  world.host.erase("/store/tmp/work");
  world.host.add_file("/store/layers/" + kStray + ".qcow2/thesis.txt", "x", 0600);
  world.host.add_link("/store/layers/" + kStray + ".kernel", "/home/me/thesis.txt");
  world.host.add_link("/store/tmp/" + kStray, "/home/me");
  CHECK(plan_gc(gc_facts_of(world)).files.empty());
}

TEST_CASE("a domain that lost its manifest and runs, or could not be removed, stays with all it stands on") {
  PlanWorld world;
  world.add_vm("a");
  const std::string uuid = world.uuid("a");
  const std::string head = world.head("a");
  lose_manifest(world, "a");
  GcFacts stuck = gc_facts_of(world);
  stuck.domains.at(0).stuck = "libvirt says no";
  CHECK(plan_gc(stuck).removal.steps.empty());

  world.hypervisor.set_running(uuid, true);
  const GcPlan plan = plan_gc(gc_facts_of(world));
  REQUIRE(said(plan.domains) == Lines{"keep a"});
  CHECK(plan.domains[0].entry.note == "it runs: when it is not needed, virsh destroy a, and gc removes it");
  CHECK(plan.domains[0].plan.steps.empty());
  CHECK(said(plan.files) == Lines{"keep /store/vms/a"});
  CHECK(note_of(plan.layers, head) == "domain 'a' uses it");
  CHECK(plan.removal.steps.empty());
}

TEST_CASE("a domain is ours by its metadata's store and by the UUID that it was made with") {
  PlanWorld world;
  world.add_vm("a");
  std::string xml = world.hypervisor.domain_xml(world.uuid("a"), true);
  const auto copy_as = [&](const std::string& name, const std::string& uuid) {
    std::string copy = xml;
    copy.replace(copy.find("<name>a<"), 8, "<name>" + name + "<");
    const std::string old = "<uuid>" + world.uuid("a") + "<";
    copy.replace(copy.find(old), old.size(), "<uuid>" + uuid + "<");
    return copy;
  };
  // What virt-clone makes: our metadata, another UUID.
  world.hypervisor.define(copy_as("copy", "22222222-0000-4000-8000-000000000000"), Schema::known);
  const std::string store = "store=\"/store\"";
  REQUIRE(xml.find(store) != std::string::npos);
  xml.replace(xml.find(store), store.size(), "store=\"/other\"");
  world.hypervisor.define(copy_as("theirs", world.uuid("a").replace(0, 8, "33333333")), Schema::known);
  CHECK(said(plan_gc(gc_facts_of(world)).domains).empty());
}

TEST_CASE("gc defines a lost domain again where that can be done, and says why where it cannot") {
  PlanWorld world;
  world.add_vm("a");
  world.add_vm("b");
  const std::string xml = world.hypervisor.domain_xml(world.uuid("a"), true);
  world.hypervisor.undefine(world.uuid("a"), true);
  GcFacts facts = gc_facts_of(world);
  facts.redefinitions = {{"a", {xml, "as it was", {}}}, {"b", {{}, {}, "layer x is missing"}}};
  const GcPlan plan = plan_gc(facts);
  REQUIRE(said(plan.manifests) == Lines{"define a", "keep b"});
  CHECK(plan.manifests[0].entry.note == "as it was");
  CHECK(plan.manifests[1].entry.note == "layer x is missing");
  CHECK(plan.manifests[1].plan.steps.empty());
  world.run(plan.manifests[0].plan);
  CHECK(world.hypervisor.find_by_uuid(world.uuid("a")));

  facts.held = {"a", "b"};
  CHECK(plan_gc(facts).manifests.empty());
  facts.held.clear();
  facts.wrong_libvirt = "it is another";
  CHECK(said(plan_gc(facts).manifests) == Lines{"keep a", "keep b"});
  CHECK(plan_gc(facts).manifests[0].plan.steps.empty());
}

TEST_CASE("VMs beyond their time go as their template says, and those that are to stop only when they run") {
  PlanWorld world;
  for (const char* name : {"never", "later", "gone", "runs", "off", "odd"}) world.add_vm(name);
  GcFacts facts = gc_facts_of(world);
  facts.running = {"runs", "gone"};
  const auto manifest = [&](const std::string& name) -> Manifest& {
    return *std::find_if(facts.refs.manifests.begin(), facts.refs.manifests.end(),
                         [&](const Manifest& each) { return each.name == name; });
  };
  const std::string stop = R"({"version":1,"name":"t","vm":{"memory":"64MiB"},"lifecycle":{"on_expire":"stop"}})";
  manifest("later").expires = "2026-01-02T03:04:06Z";
  manifest("odd").expires = "0";
  for (const char* name : {"gone", "runs", "off"}) manifest(name).expires = "2026-01-02T03:04:05Z";
  for (const char* name : {"runs", "off"}) manifest(name).spec = stop;
  const std::string now = "2026-01-02T03:04:05Z";
  CHECK(said(plan_expiry(facts, now)) == Lines{"remove gone", "stop runs"});
  CHECK(plan_expiry(facts, now)[0].what == "expired 2026-01-02T03:04:05Z");
  CHECK(plan_expiry(facts, "2026-01-02T03:04:04Z").empty());
  facts.held = {"gone"};
  CHECK(said(plan_expiry(facts, now)) == Lines{"keep gone", "stop runs"});
  facts.wrong_libvirt = "it is another";
  CHECK(said(plan_expiry(facts, now)) == Lines{"keep gone", "keep runs"});
}

TEST_CASE("a dry run tells of a VM that expires what the run itself would find afterwards") {
  PlanWorld world;
  world.add_vm("a");
  world.touch("a");
  world.run(world.plan_snap("a", "s1"));
  world.run(world.plan_cloned("a", "s1", {"b"}));
  GcFacts foretold = gc_facts_of(world);
  forget_vm(foretold, "a");
  world.run(plan_delete(world.store, world.store.manifest("a"), true));
  const GcPlan before = plan_gc(foretold);
  const GcPlan after = plan_gc(gc_facts_of(world));
  CHECK(said(before.layers) == said(after.layers));
  CHECK(before.layers.size() == 2);  // a's two heads: what b stands on stays
  CHECK(before.files.empty());
  CHECK(before.domains.empty());
  CHECK(after.files.empty());
}

TEST_CASE("a write that was cut off is known by its name, with its process") {
  CHECK(writer_of(".vm.json.123.0.tmp") == "123");
  CHECK(writer_of(".doctor-write.12.0.tmp") == "12");
  CHECK(writer_of("." + kStray + ".json.7.12.tmp") == "7");
  for (const char* other : {"vm.json.123.0.tmp", ".vm.json.123.tmp.", ".tmp", ".1.tmp", "..1.2.tmp.x", ".a.b.0.tmp",
                            ".a.1.b.tmp", ".a.1.0.part", "", "."})
    CHECK(writer_of(other).empty());
}

TEST_CASE("every path below the store that a domain's XML names is known, in whatever element") {
  const std::set<std::string> paths = paths_below(
      "<domain xmlns:qemu='urn:q'><os><kernel>/s/layers/a.kernel</kernel><nvram> /s/vms/a/nvram.fd </nvram></os>"
      "<devices><disk><source file='/s/layers/a.qcow2'/></disk><log file='/sx/log'/><log file='/t/s/x'/></devices>"
      "<qemu:commandline><qemu:arg value='file=/s/layers/b.qcow2,if=none'/></qemu:commandline></domain>",
      "/s");
  CHECK(paths == std::set<std::string>{"/s/layers/a.kernel", "/s/vms/a/nvram.fd", "/s/layers/a.qcow2",
                                       "/s/layers/b.qcow2", "/s/x"});
}

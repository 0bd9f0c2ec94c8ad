// SPDX-License-Identifier: Apache-2.0
// What other programs do to a VM's domain, and which verbs it then refuses: on the fake hypervisor.
#include <algorithm>
#include <array>
#include <iterator>

#include "plan/outside_change.hpp"
#include "run/vm_facts.hpp"
#include "support/catch.hpp"
#include "support/plan_world.hpp"

using namespace vmgraft;
using Kind = OutsideChange::Kind;

namespace {

constexpr std::array kActs{Act::start, Act::stop, Act::guest, Act::disks, Act::remove};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

struct EditedVm {
  PlanWorld world;
  EditedVm() { world.add_vm("a"); }

  [[nodiscard]] std::string file(std::size_t disk = 0) {
    return world.store.layer_file(world.store.manifest("a").heads.at(disk).layer);
  }
  void edit(const std::string& from, const std::string& to) {
    world.hypervisor.define(replaced(world.hypervisor.domain_xml(world.uuid("a"), true), from, to), Schema::checked);
  }
  [[nodiscard]] DomainSight sight() { return read_sight(world.hypervisor, world.store.manifest("a")); }
  [[nodiscard]] std::vector<OutsideChange> changes(const DomainSight& seen) {
    return outside_changes(world.store, world.store.manifest("a"), world.store.layers(), seen);
  }
  [[nodiscard]] std::vector<OutsideChange> changes() { return changes(sight()); }
};

VmSpec spec_of(unsigned cpus, std::uint64_t mebibytes) {
  VmSpec spec;
  spec.cpus = cpus;
  spec.memory = mebibytes << 20;
  return spec;
}

/// The one change there is.
OutsideChange only(const std::vector<OutsideChange>& changes) {
  REQUIRE(changes.size() == 1);
  CHECK(!changes.front().remedy.empty());
  return changes.front();
}

/// The acts that it forbids.
std::vector<Act> forbidden(Kind kind) {
  std::vector<Act> acts;
  std::copy_if(kActs.begin(), kActs.end(), std::back_inserter(acts), [&](Act act) { return forbids(kind, act); });
  return acts;
}

}  // namespace

TEST_CASE("a VM as vmgraft made it has no outside change, off and running") {
  EditedVm vm;
  CHECK(vm.changes().empty());
  vm.world.hypervisor.set_running(vm.world.uuid("a"), true);
  CHECK(vm.changes().empty());
  CHECK(hardware_changes(vm.world.store.manifest("a"), spec_of(1, 64), vm.sight()).empty());
}

TEST_CASE("an undefined domain forbids all but removing the VM") {
  EditedVm vm;
  vm.world.hypervisor.undefine(vm.world.uuid("a"), true);
  const OutsideChange change = only(vm.changes());
  CHECK(change.kind == Kind::undefined);
  CHECK(change.id == "domain");
  CHECK(change.what == "libvirt has no domain of it any more: it was undefined by other means");
  CHECK(change.remedy.find("vmgraft gc") != std::string::npos);
  CHECK(forbidden(change.kind) == std::vector{Act::start, Act::stop, Act::guest, Act::disks});
}

TEST_CASE("another domain under the name of an undefined one is told, and not taken for it") {
  EditedVm vm;
  const std::string xml = vm.world.hypervisor.domain_xml(vm.world.uuid("a"), true);
  vm.world.hypervisor.undefine(vm.world.uuid("a"), true);
  const std::string other = "11111111-2222-3333-4444-555555555555";
  vm.world.hypervisor.define(replaced(xml, "<uuid>" + vm.world.uuid("a"), "<uuid>" + other), Schema::checked);
  const OutsideChange change = only(vm.changes());
  CHECK(change.kind == Kind::undefined);
  CHECK(change.what.find(other) != std::string::npos);
  CHECK(change.remedy.find("virsh domrename a OTHER") != std::string::npos);
}

TEST_CASE("a domain without our metadata, or with another store's, is never touched") {
  EditedVm vm;
  vm.edit("store=\"/store\"", "store=\"/other\"");
  const OutsideChange change = only(vm.changes());
  CHECK(change.kind == Kind::not_ours);
  CHECK(change.what.find("it says it is of the store /other") != std::string::npos);
  CHECK(change.remedy.find("virsh metadata " + vm.world.uuid("a")) != std::string::npos);
  CHECK(change.remedy.find("<vm id=\"" + vm.world.uuid("a") + "\" store=\"/store\"") != std::string::npos);
  CHECK(forbidden(change.kind) == std::vector(kActs.begin(), kActs.end()));
  CHECK_THROWS_AS(vm.world.plan_snap("a", "s"), Error);
}

// Each disk was told as moved by a snapshot, with a block job as the way out.
TEST_CASE("a store that was moved or copied under its domains is told as that, once") {
  EditedVm vm;
  vm.edit("store=\"/store\"", "store=\"/old\"");
  for (std::size_t disk = 0; disk < vm.world.store.manifest("a").heads.size(); ++disk)
    vm.edit(vm.file(disk), "/old" + vm.file(disk).substr(std::string("/store").size()));
  const OutsideChange change = only(vm.changes());
  CHECK(change.kind == Kind::not_ours);
  CHECK(change.what ==
        "its domain and its disks are of the store /old: /store was moved from there, or is a copy of it; vmgraft does "
        "not touch it");
  CHECK(change.remedy ==
        "moved: move it back, or put a link there (ln -s /store /old) and use it as --store /old; a copy: use the "
        "store /old");
}

TEST_CASE("a renamed domain can be stopped and removed, not started") {
  EditedVm vm;
  DomainSight sight = vm.sight();
  sight.domain->name = "it's b";
  const OutsideChange change = only(vm.changes(sight));
  CHECK(change.kind == Kind::renamed);
  CHECK(change.what == "its domain was renamed to 'it's b'");
  CHECK(change.remedy.find("virsh domrename 'it'\\''s b' a") != std::string::npos);
  CHECK(forbidden(change.kind) == std::vector{Act::start, Act::disks});
}

TEST_CASE("a running domain that was undefined gets no new layers") {
  EditedVm vm;
  vm.world.hypervisor.set_running(vm.world.uuid("a"), true);
  DomainSight sight = vm.sight();
  sight.domain->persistent = false;
  const OutsideChange change = only(vm.changes(sight));
  CHECK(change.kind == Kind::transient);
  CHECK(forbidden(change.kind) == std::vector{Act::disks});
}

TEST_CASE("saved memory forbids new layers, on which it would wake") {
  EditedVm vm;
  DomainSight sight = vm.sight();
  sight.domain->saved = true;
  const OutsideChange change = only(vm.changes(sight));
  CHECK(change.kind == Kind::saved);
  CHECK(change.remedy.find("virsh managedsave-remove a") != std::string::npos);
  CHECK(forbidden(change.kind) == std::vector{Act::disks});
}

TEST_CASE("a disk on a file that we do not know forbids starting and new layers") {
  EditedVm vm;
  const std::string file = vm.file();
  vm.edit(file, "/elsewhere/a.outer");
  const OutsideChange change = only(vm.changes());
  CHECK(change.kind == Kind::disk_moved);
  CHECK(change.what.find("its disk vda is now '/elsewhere/a.outer'") == 0);
  CHECK(change.remedy.find("virsh blockcommit a vda --base " + file + " --active --pivot") != std::string::npos);
  CHECK(change.remedy.find(file) != std::string::npos);
  CHECK(forbidden(change.kind) == std::vector{Act::start, Act::disks});
  CHECK_THAT(error_of([&] { (void)vm.world.plan_snap("a", "s"); }).what(), contains("its disk vda is now '/elsewhere/a.outer'"));
  CHECK_THAT(error_of([&] { (void)vm.world.plan_moved("a"); }).what(), contains("its disk vda is now"));
}

TEST_CASE("a running VM whose live disk moved is noticed, whatever its definition says") {
  EditedVm vm;
  vm.world.hypervisor.set_running(vm.world.uuid("a"), true);
  DomainSight sight = vm.sight();
  sight.live->disks.at(0).path = "/elsewhere/a.outer";
  CHECK(only(vm.changes(sight)).kind == Kind::disk_moved);
}

TEST_CASE("an older manifest that was put back is told as such") {
  EditedVm vm;
  vm.world.touch("a");
  const std::string old = *vm.world.host.read_file(vm.world.store.manifest_file("a"));
  vm.world.run(vm.world.plan_snap("a", "s"));
  vm.world.host.add_file(vm.world.store.manifest_file("a"), old, 0600);
  const std::vector<OutsideChange> changes = vm.changes();
  REQUIRE(!changes.empty());
  CHECK(changes.front().kind == Kind::disk_moved);
  CHECK(changes.front().what.find("an older vm.json was put in place") != std::string::npos);
  CHECK(changes.front().remedy.find("put the newer vm.json back") == 0);
}

TEST_CASE("a disk put back to a layer below its own is told as an edit or block job") {
  EditedVm vm;
  vm.edit(vm.file(), vm.world.store.layer_file(std::string(32, 'a')));
  const OutsideChange change = only(vm.changes());
  CHECK(change.kind == Kind::disk_moved);
  CHECK(change.what.find("is now on layer " + std::string(32, 'a')) != std::string::npos);
  CHECK(change.remedy.find("virsh edit a") != std::string::npos);
}

TEST_CASE("a disk that was taken out of the definition forbids starting, snapshots and clones") {
  EditedVm vm;
  DomainSight sight = vm.sight();
  std::erase_if(sight.defined.disks, [](const DomainFacts::Disk& disk) { return disk.target == "vda"; });
  const OutsideChange change = only(vm.changes(sight));
  CHECK(change.kind == Kind::disk_gone);
  CHECK(change.remedy.find("virsh attach-disk a " + vm.file() + " vda") != std::string::npos);
  CHECK(forbidden(change.kind) == std::vector{Act::start, Act::disks});
}

TEST_CASE("another disk, other memory and other CPUs are told and forbid nothing") {
  EditedVm vm;
  DomainSight sight = vm.sight();
  sight.defined.disks.push_back({"vdz", "/data.img", "raw", {}, false});
  const OutsideChange disk = only(vm.changes(sight));
  CHECK(disk.kind == Kind::disk_added);
  CHECK(disk.what.find("'/data.img'") != std::string::npos);
  CHECK(forbidden(disk.kind).empty());
  const auto hardware = hardware_changes(vm.world.store.manifest("a"), spec_of(3, 128), sight);
  REQUIRE(hardware.size() == 2);
  CHECK(hardware.at(0).what == "its definition has 64 MiB of memory, its template gave it 128 MiB");
  CHECK(hardware.at(1).what == "its definition has 1 CPUs, its template gave it 3");
  CHECK(forbidden(Kind::hardware).empty());
}

TEST_CASE("a disk that is only plugged into the running VM is left alone by a live snapshot") {
  // It was unknown to the snapshot, and libvirt looked for an overlay of it.
  EditedVm vm;
  vm.world.hypervisor.set_running(vm.world.uuid("a"), true);
  const std::string live = replaced(vm.world.hypervisor.domain_xml(vm.world.uuid("a"), true), "</devices>",
                                    "<disk type=\"file\" device=\"disk\"><driver name=\"qemu\" type=\"qcow2\"/><source "
                                    "file=\"/x.qcow2\"/><target dev=\"vdz\" bus=\"virtio\"/></disk></devices>");
  vm.world.hypervisor.set_live(vm.world.uuid("a"), live);
  const VmFacts facts = vm.world.facts("a");
  CHECK(std::count(facts.other_targets.begin(), facts.other_targets.end(), "vdz") == 1);
}

TEST_CASE("a layer that a domain uses is not swept, nor what it stands on") {
  // An older manifest that was put back by hand, or a deleted one, made the next delete of any VM sweep away its disks.
  PlanWorld world;
  world.add_vm("a");
  world.touch("a");
  world.run(world.plan_snap("a", "s"));
  const std::string head = world.head("a");
  const std::string below = world.store.layer(head).parent;
  StoreFacts facts = world.store_facts();
  facts.manifests.clear();
  CHECK(!plan_sweep(facts).steps.empty());
  facts.in_use = {head};
  std::vector<std::string> gone;
  for (const Step& step : plan_sweep(facts).steps)
    if (const auto* layer = std::get_if<DeleteLayer>(&step)) gone.push_back(layer->id);
  CHECK(std::count(gone.begin(), gone.end(), head) == 0);
  CHECK(std::count(gone.begin(), gone.end(), below) == 0);
  CHECK(gone.size() == 2);  // the other disk
}

// SPDX-License-Identifier: Apache-2.0
// A store damaged in each way, and the row that tells of it. On fakes: every file is one of a tree in memory.
#include <algorithm>

#include "host/sha256.hpp"
#include "run/check_store.hpp"
#include "run/journal.hpp"
#include "store/qcow2.hpp"
#include "support/catch.hpp"
#include "support/plan_world.hpp"

using namespace vmgraft;

namespace {

const std::string kImage(32, 'a');

struct CheckedStore {
  PlanWorld world;
  CommandResult qemu_img;  ///< what it answers
  std::vector<std::string> checked;

  CheckedStore() {
    world.host.add_program("qemu-img", [this](FakeHost&, const Command& command) {
      CHECK(std::vector(command.argv.begin() + 1, command.argv.end() - 1) == std::vector<std::string>{"check", "-U", "-f", "qcow2"});
      checked.push_back(std::filesystem::path(command.argv.back()).stem());
      return qemu_img;
    });
    world.host.erase("/store/tmp/work");
    ImageRecord image = world.store.image("base");
    image.sha256 = sum_of(kImage);
    world.host.add_file(world.store.image_record("base"), to_json_text(image), 0600);
    world.add_vm("a", {.uefi = true});
    world.touch("a");
    world.run(world.plan_snap("a", "s"));
    world.host.reset();
  }

  [[nodiscard]] std::string sum_of(const std::string& layer) {
    return sha256_text(world.host.read_range(world.store.layer_file(layer), 0, 16 << 20));
  }
  [[nodiscard]] std::vector<CheckRow> rows(const CheckRequest& request = {}) {
    const std::string before = world.host.tree();
    const std::size_t runs = checked.size();
    std::vector<CheckRow> found = check_store(
        {world.host, world.store, "/tpm", [this]() -> Hypervisor& { return world.hypervisor; }, request, {}, nullptr});
    CHECK(world.host.tree() == before);  // it changes nothing, ever
    CHECK(world.host.effects() == checked.size() - runs);
    world.host.reset();
    for (const CheckRow& row : found) {
      INFO(row.id << " " << row.seen);
      CHECK((row.health == Health::ok) == row.remedy.empty());
      CHECK(!row.place.empty());
    }
    return found;
  }
  /// What is not well: "fail vm-layers VM a".
  [[nodiscard]] std::vector<std::string> findings(const CheckRequest& request = {}) {
    std::vector<std::string> lines;
    for (const CheckRow& row : rows(request))
      if (row.health != Health::ok) lines.push_back(to_string(row.health) + " " + row.id + " " + row.place);
    return lines;
  }
  [[nodiscard]] std::string head(std::size_t disk = 0) { return world.store.manifest("a").heads.at(disk).layer; }
  [[nodiscard]] std::string frozen() { return world.store.manifest("a").snapshots.at(0).disks.at(0).layer; }
  void write_manifest(const Manifest& manifest) {
    world.host.add_file(world.store.manifest_file(manifest.name), to_json_text(manifest), 0600);
  }
  void write_layer(const LayerRecord& record) {
    world.host.add_file(world.store.layer_record(record.id), to_json_text(record), 0444);
  }
};

using Lines = std::vector<std::string>;

bool has(const Lines& lines, const std::string& line) { return std::find(lines.begin(), lines.end(), line) != lines.end(); }

/// The row; fails the test when there is none.
CheckRow row_of(const std::vector<CheckRow>& rows, const std::string& id) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const CheckRow& row) { return row.id == id; });
  REQUIRE(found != rows.end());
  return *found;
}

}  // namespace

TEST_CASE("a whole store has no finding, and says what was looked at") {
  CheckedStore store;
  CHECK(store.findings().empty());
  const std::vector<CheckRow> rows = store.rows();
  CHECK(row_of(rows, "vm").seen == "1 snapshot and 5 layers are there, and its domain agrees");
  CHECK(row_of(rows, "image").place == "image base");
  CHECK(row_of(rows, "layers").seen == "5 layers; 5 checked by qemu-img, 1 hash compared");
}

TEST_CASE("--quick reads no contents") {
  CheckedStore store;
  store.world.host.add_file(store.world.store.layer_file(kImage), *store.world.host.read_file(store.world.store.layer_file(kImage)) + "x", 0444);
  CHECK(store.findings({{}, true}).empty());
  CHECK(store.checked.empty());
  CHECK(store.findings() == Lines{"fail layer-hash layer " + kImage});
}

TEST_CASE("a name limits the check to a VM or image and its layers; a name of nothing is an error") {
  CheckedStore store;
  store.world.add_vm("b");
  store.world.host.erase(store.world.store.layer_file(store.world.head("b")));
  CHECK(store.findings({{"a"}, false}).empty());
  CHECK(store.findings({{"base"}, false}).empty());
  CHECK(store.findings({{"b"}, false}) == Lines{"fail layer-file layer " + store.world.head("b")});
  const Error error = error_of([&] { static_cast<void>(store.rows({{"bb"}, false})); });
  CHECK(error.code() == Errc::not_found);
  CHECK(std::string(error.what()) == "there is no VM and no image 'bb'");
}

TEST_CASE("records that cannot be read are told one by one, and hide nothing else") {
  CheckedStore store;
  store.world.add_vm("b");
  store.world.host.add_file("/store/vms/b/vm.json", "{", 0600);
  store.world.host.add_file("/store/images/other.json", "[]", 0600);
  store.world.host.add_file("/store/layers/" + std::string(32, 'c') + ".json", "{\"version\":9}", 0444);
  const Lines lines = store.findings();
  CHECK(has(lines, "fail vm-record VM b"));
  CHECK(has(lines, "fail image-record image other"));
  CHECK(has(lines, "fail layer-record layer " + std::string(32, 'c')));
  CHECK(row_of(store.rows(), "vm").place == "VM a");
}

TEST_CASE("a deleted manifest is told, and the domain that nobody knows any more") {
  CheckedStore store;
  store.world.host.erase("/store/vms/a/vm.json");
  const Lines lines = store.findings();
  CHECK(has(lines, "fail vm-record VM a"));
  CHECK(has(lines, "fail domain-orphan domain a"));
  CHECK(std::none_of(lines.begin(), lines.end(), [](const std::string& line) { return line.find("layer-unused") != line.npos; }));
}

// check said that gc removes it, which gc rightly never did.
TEST_CASE("a domain that other means copied from a VM is told as a copy, not as an orphan") {
  CheckedStore store;
  std::string xml = store.world.hypervisor.domain_xml(store.world.uuid("a"), true);
  const std::string uuid = "<uuid>" + store.world.uuid("a");
  xml.replace(xml.find(uuid), uuid.size(), "<uuid>22222222-0000-4000-8000-000000000000");
  xml.replace(xml.find("<name>a<"), 8, "<name>copy<");
  store.world.hypervisor.define(xml, Schema::checked);
  store.world.host.reset();
  CHECK(store.findings() == Lines{"warn domain-copy domain copy"});
}

TEST_CASE("what is no folder among the VMs' is a stray, not a VM that lost its manifest; a link is told as that") {
  CheckedStore store;
  store.world.host.add_file("/store/vms/notes", "x", 0600);
  store.world.host.add_link("/store/vms/link", "/home/me");
  store.world.host.reset();
  CHECK(store.findings() == Lines{"warn stray store", "fail vm-record VM link"});
  CHECK(row_of(store.rows(), "vm-record").seen == "/store/vms/link is a symbolic link to /home/me");
}

TEST_CASE("a domain of another store is no orphan of this one") {
  CheckedStore store;
  std::string xml = store.world.hypervisor.domain_xml(store.world.uuid("a"), true);
  xml.replace(xml.find("store=\"/store\""), 14, "store=\"/other\"");
  store.world.hypervisor.define(xml, Schema::checked);
  store.world.host.erase("/store/vms/a");
  store.world.host.reset();
  const Lines lines = store.findings();
  CHECK(std::none_of(lines.begin(), lines.end(), [](const std::string& line) { return line.find("domain-orphan") != line.npos; }));
}

TEST_CASE("missing layers are told of the VM, snapshot and image that want them") {
  CheckedStore store;
  store.world.host.erase(store.world.store.layer_record(store.frozen()));
  Lines lines = store.findings();
  CHECK(has(lines, "fail vm-layers VM a"));
  CHECK(has(lines, "fail layer-parent layer " + store.head()));
  store.world.host.erase(store.world.store.layer_record(kImage));
  lines = store.findings();
  CHECK(has(lines, "fail image-layer image base"));
}

TEST_CASE("a chain that comes back to itself is told, and does not hang the check") {
  CheckedStore store;
  LayerRecord record = store.world.store.layer(store.frozen());
  record.parent = store.head();
  store.write_layer(record);
  CHECK(has(store.findings(), "fail vm-layers VM a"));
}

TEST_CASE("an image that names a layer which is no root") {
  CheckedStore store;
  ImageRecord image = store.world.store.image("base");
  image.layer = store.frozen();
  store.world.host.add_file(store.world.store.image_record("base"), to_json_text(image), 0600);
  CHECK(has(store.findings(), "fail image-layer image base"));
}

TEST_CASE("a layer's file that is missing, of another size, or on another parent") {
  CheckedStore store;
  const std::filesystem::path file = store.world.store.layer_file(store.head());
  const auto put = [&](std::uint64_t size, const std::string& backing) {
    const Qcow2Layout layout = new_qcow2(size, backing);
    std::string content(layout.size, '\0');
    for (const Extent& extent : layout.extents) content.replace(extent.offset, extent.bytes.size(), extent.bytes);
    store.world.host.add_file(file, content, 0600);
  };
  const std::string place = " layer " + store.head();
  put(2 << 20, store.frozen() + ".qcow2");
  CHECK(store.findings() == Lines{"fail layer-size" + place});
  put(1 << 20, "other.qcow2");
  CHECK(store.findings() == Lines{"fail layer-backing" + place});
  store.world.host.add_file(file, "text", 0600);
  CHECK(store.findings() == Lines{"fail layer-format" + place});
  store.world.host.erase(file);
  CHECK(store.findings() == Lines{"fail layer-file" + place});
}

TEST_CASE("a frozen layer that can be written to, and a head that others can read") {
  CheckedStore store;
  const auto file = [&](const std::string& id) { return store.world.store.layer_file(id); };
  store.world.host.set_mode(file(store.frozen()), 0644);
  store.world.host.set_mode(file(store.head()), 0644);
  store.world.host.reset();
  const Lines lines = store.findings();
  CHECK(has(lines, "fail layer-mode layer " + store.frozen()));
  CHECK(has(lines, "warn layer-mode layer " + store.head()));
  CHECK(lines.size() == 2);
}

TEST_CASE("a frozen layer that was given to another user is told") {
  CheckedStore store;
  store.world.host.set_owner(store.world.store.layer_file(store.frozen()), 107, 107);
  store.world.host.reset();
  CHECK(store.findings() == Lines{"warn layer-mode layer " + store.frozen()});
}

TEST_CASE("boot files of an image that are gone") {
  CheckedStore store;
  store.world.host.erase(store.world.store.kernel_file(kImage));
  CHECK(store.findings() == Lines{"fail layer-boot layer " + kImage});
}

TEST_CASE("what qemu-img finds is told by its exit code") {
  CheckedStore store;
  store.qemu_img = {2, false, "", "ERROR cluster 5 refcount=0\n"};
  CHECK(has(store.findings(), "fail layer-content layer " + kImage));
  store.qemu_img = {3, false, "2 leaked clusters\n", ""};
  CHECK(has(store.findings(), "warn layer-content layer " + kImage));
  store.qemu_img = {1, false, "", "qemu-img: cannot open\n"};
  const std::vector<CheckRow> rows = store.rows();
  CHECK(row_of(rows, "layer-content").health == Health::fail);
  CHECK(row_of(rows, "layer-content").seen == "qemu-img cannot check it: qemu-img: cannot open");
}

TEST_CASE("the head of a running VM is left out of the check of contents, with the reason") {
  CheckedStore store;
  store.world.hypervisor.set_running(store.world.uuid("a"), true);
  const std::string seen = row_of(store.rows(), "layers").seen;
  CHECK(std::count(store.checked.begin(), store.checked.end(), store.head()) == 0);
  CHECK(std::count(store.checked.begin(), store.checked.end(), store.frozen()) == 1);
  CHECK(seen.find("left out: layer " + store.head() + " (VM 'a' runs and writes to it)") != std::string::npos);
  CHECK(seen.find("3 checked by qemu-img") != std::string::npos);
}

TEST_CASE("a recorded hash of a layer counts before that of its image") {
  CheckedStore store;
  LayerRecord record = store.world.store.layer(kImage);
  record.sha256 = std::string(64, '1');
  store.write_layer(record);
  CHECK(store.findings() == Lines{"fail layer-hash layer " + kImage});
  record.sha256 = store.sum_of(kImage);
  store.write_layer(record);
  CHECK(store.findings().empty());
}

TEST_CASE("a layer that nothing reaches is told, but not while another vmgraft is at work") {
  CheckedStore store;
  LayerRecord record = store.world.store.layer(store.head());
  const std::string id(32, 'd');
  store.world.host.add_file(store.world.store.layer_file(id), *store.world.host.read_file(store.world.store.layer_file(record.id)), 0600);
  record.id = id;
  store.write_layer(record);
  CHECK(has(store.findings(), "warn layer-unused layer " + id));
  store.world.host.add_file("/store/locks/sweep.lock", "pid 77: create x\n", 0600);
  CHECK(has(store.findings(), "warn layer-unused layer " + id));  // who wrote that is dead
  store.world.host.add_folder("/proc/77");
  CHECK(store.findings().empty());
}

// A hundred processes, and a check of a VM that was just being deleted: its layers were told as damage.
TEST_CASE("a layer whose file is gone is no damage while a journal names it") {
  CheckedStore store;
  store.world.host.erase(store.world.store.layer_file(store.head()));
  CHECK(store.findings() == Lines{"fail layer-file layer " + store.head()});
  const JournalEntry sweep{"0123", true, 77, false, {"sweep", {"@sweep"}, {DeleteLayer{store.head()}}}};
  store.world.host.add_file("/store/journal/0123.json", to_json_text(sweep), 0600);
  store.world.host.add_folder("/proc/77");
  CHECK(store.findings() == Lines{"warn busy layer " + store.head()});
}

// It was no damage for a dead one's journal either, until the next command had seen to that.
TEST_CASE("a layer that a VM needs is damaged without its file, whatever a dead process had in hand") {
  CheckedStore store;
  store.world.host.erase(store.world.store.layer_file(store.head()));
  const JournalEntry dead{"0123", true, 77, false, {"sweep", {"@sweep"}, {DeleteLayer{store.head()}}}};
  store.world.host.add_file("/store/journal/0123.json", to_json_text(dead), 0600);
  CHECK(store.findings() == Lines{"warn journal journal/0123.json", "fail layer-file layer " + store.head()});
}

TEST_CASE("a layer without kernel and initrd is told as in work once") {
  CheckedStore store;
  store.world.host.erase(store.world.store.kernel_file(kImage));
  store.world.host.erase(store.world.store.initrd_file(kImage));
  const JournalEntry sweep{"0123", true, 77, false, {"sweep", {"@sweep"}, {DeleteLayer{kImage}}}};
  store.world.host.add_file("/store/journal/0123.json", to_json_text(sweep), 0600);
  store.world.host.add_folder("/proc/77");
  CHECK(store.findings() == Lines{"warn busy layer " + kImage});
}

TEST_CASE("a VM that another vmgraft works on is not judged") {
  CheckedStore store;
  store.world.host.erase(store.world.store.layer_record(store.head()));
  store.world.host.add_file("/store/locks/vm-a.lock", "pid 77: snapshot a\n", 0600);
  CHECK(has(store.findings({{"a"}, false}), "fail vm-layers VM a"));
  store.world.host.add_folder("/proc/77");
  const std::vector<CheckRow> rows = store.rows({{"a"}, false});
  CHECK(row_of(rows, "busy").seen == "not judged: pid 77: snapshot a is at work on it");
  CHECK(std::none_of(rows.begin(), rows.end(), [](const CheckRow& row) { return row.place == "VM a" && row.health == Health::fail; }));
}

TEST_CASE("two writers of one layer, and a head that something stands on") {
  CheckedStore store;
  Manifest manifest = store.world.store.manifest("a");
  manifest.heads.at(0).layer = store.frozen();
  store.write_manifest(manifest);
  CHECK(has(store.findings(), "fail vm-head VM a"));
  store.world.add_vm("b");
  Manifest other = store.world.store.manifest("b");
  other.heads.at(0).layer = manifest.heads.at(1).layer;
  store.write_manifest(other);
  CHECK(has(store.findings(), "fail vm-head VM b"));
}

TEST_CASE("what a snapshot keeps beside its disks must be there") {
  for (const char* const file : {"domain.xml", "nvram.fd", "tpm"}) {
    INFO(file);
    CheckedStore store;
    store.world.host.erase(store.world.store.snapshot_folder("a", "s") / file);
    CHECK(store.findings() == Lines{"fail snapshot-files VM a"});
  }
  CheckedStore store;
  store.world.host.add_file(store.world.store.snapshot_folder("a", "s") / "domain.xml", "<domain", 0600);
  CHECK(store.findings() == Lines{"fail snapshot-files VM a"});
}

TEST_CASE("NVRAM that is gone is told where there was one") {
  CheckedStore store;
  store.world.host.erase(store.world.store.nvram_file("a"));
  CHECK(store.findings() == Lines{"warn vm-nvram VM a"});
}

TEST_CASE("a template that cannot be used any more, and a manifest that others can read") {
  CheckedStore store;
  Manifest manifest = store.world.store.manifest("a");
  manifest.spec = R"({"version":1,"name":"t","vm":{"memory":true}})";
  store.write_manifest(manifest);
  CHECK(store.findings() == Lines{"fail vm-spec VM a"});
  manifest.spec = R"({"version":1,"name":"t","vm":{"memory":"64MiB","disks":[]}})";
  store.write_manifest(manifest);
  store.world.host.set_mode("/store/vms/a/vm.json", 0644);
  store.world.host.reset();
  CHECK(store.findings() == Lines{"warn vm-mode VM a"});
}

TEST_CASE("what was done to the domain is told by the row of its kind") {
  CheckedStore store;
  const std::string xml = store.world.hypervisor.domain_xml(store.world.uuid("a"), true);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = xml;
    text.replace(text.find(from), from.size(), to);
    store.world.hypervisor.define(text, Schema::checked);
    store.world.host.reset();
    return store.findings();
  };
  CHECK(with(store.world.store.layer_file(store.head()), "/outer") == Lines{"fail domain-disk VM a"});
  CHECK(with("store=\"/store\"", "store=\"/other\"") == Lines{"fail domain-owner VM a"});
  CHECK(with("<name>a</name>", "<name>b</name>") == Lines{"fail domain-name VM a"});
  CHECK(with("</memory>", "0</memory>") == Lines{"warn domain-hardware VM a"});
  store.world.hypervisor.undefine(store.world.uuid("a"), true);
  store.world.host.reset();
  CHECK(store.findings() == Lines{"fail domain VM a"});
}

TEST_CASE("without libvirt the files are checked, and it is said that the domains were not") {
  CheckedStore store;
  const std::vector<CheckRow> rows = check_store({store.world.host, store.world.store, "/tpm",
                                                  []() -> Hypervisor& { throw Error(Errc::unreachable, "no libvirt"); },
                                                  {}, {}, nullptr});
  CHECK(row_of(rows, "libvirt").health == Health::warn);
  CHECK(row_of(rows, "libvirt").seen == "the VMs' domains were not looked at: no libvirt");
  CHECK(row_of(rows, "vm").seen == "1 snapshot and 5 layers are there");
  CHECK(row_of(rows, "layers").seen.find("whether its VM runs is not known") != std::string::npos);
}

TEST_CASE("folders that are missing or open to others, and files that belong to nothing") {
  CheckedStore store;
  store.world.host.set_mode("/store/layers", 0777);
  store.world.host.set_mode("/store/images", 0755);
  store.world.host.reset();
  CHECK(store.findings() == Lines{"fail store-mode store", "warn store-mode store"});
  CheckedStore other;
  other.world.host.erase("/store/journal");
  CHECK(other.findings() == Lines{"fail store-folder store"});
  CheckedStore third;
  third.world.host.add_file("/store/layers/" + third.head() + ".outer", "x", 0600);
  third.world.host.add_file("/store/images/x.txt", "x", 0600);
  third.world.host.add_file("/store/tmp/left", "x", 0600);
  third.world.host.add_folder("/store/vms/.hidden");
  CHECK(third.findings() == Lines(4, "warn stray store"));
}

TEST_CASE("an operation that was cut short is told and not finished; one that is under way is no finding") {
  CheckedStore store;
  JournalEntry entry{"0123", false, 77, false, {"snapshot a", {"a"}, {}}};
  store.world.host.add_file("/store/journal/0123.json", to_json_text(entry), 0600);
  const CheckRow dead = row_of(store.rows(), "journal");
  CHECK(dead.health == Health::warn);
  CHECK(dead.seen == "'snapshot a' was cut short: its process (pid 77) died");
  CHECK(dead.remedy.find("undoes it") != std::string::npos);
  entry.committed = true;
  store.world.host.add_file("/store/journal/0123.json", to_json_text(entry), 0600);
  CHECK(row_of(store.rows(), "journal").remedy.find("finishes it") != std::string::npos);
  store.world.host.add_folder("/proc/77");
  CHECK(row_of(store.rows(), "journal").health == Health::ok);
  store.world.host.add_file("/store/journal/0123.json", "{", 0600);
  CHECK(store.findings() == Lines{"fail journal journal/0123.json"});
}

TEST_CASE("of a journal that vmgraft does not write, check says that nobody carries it out") {
  CheckedStore store;
  const JournalEntry entry{"0123", true, 77, false, {"delete a", {"a"}, {RemovePath{"/etc/passwd"}}}};
  store.world.host.add_file("/store/journal/0123.json", to_json_text(entry), 0600);
  CHECK(store.findings() == Lines{"fail journal journal/0123.json"});
  const CheckRow row = row_of(store.rows(), "journal");
  CHECK(row.seen.find("vmgraft does not write such a one") != std::string::npos);
  CHECK(row.remedy.find("nothing of it is carried out") != std::string::npos);
}

TEST_CASE("a folder that is named like a journal is a stray, and keeps nobody from the store") {
  CheckedStore store;
  store.world.host.add_folder("/store/journal/0123.json");
  CHECK(store.findings() == Lines{"warn stray store"});
  CHECK(list_journals(store.world.host, store.world.store).empty());
}

TEST_CASE("a layer with internal snapshots is told") {
  CheckedStore store;
  const std::filesystem::path file = store.world.store.layer_file(store.head());
  std::string content = *store.world.host.read_file(file);
  content[63] = 1;  // nb_snapshots, big endian at 60
  store.world.host.add_file(file, content, 0600);
  CHECK(store.findings() == Lines{"warn layer-inner layer " + store.head()});
}

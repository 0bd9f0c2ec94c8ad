// SPDX-License-Identifier: Apache-2.0
#include "store/store.hpp"

#include <utility>

#include "store/qcow2.hpp"
#include "support/catch.hpp"
#include "support/fake_host.hpp"

using namespace vmgraft;

namespace {

std::string id_of(char c) {
  return std::string(32, c);
}

void add_layer(FakeHost& host, const Store& store, char id, const std::string& parent) {
  LayerRecord layer;
  layer.id = id_of(id);
  layer.parent = parent;
  host.add_file(store.layer_record(layer.id), to_json_text(layer));
}

void add_vm(FakeHost& host, const Store& store, const std::string& name) {
  Manifest manifest;
  manifest.name = name;
  manifest.spec = "{}";
  host.add_file(store.manifest_file(name), to_json_text(manifest));
}

/// Another vmgraft makes the store, and puts its reserve there, between our looks at `version` and at the rest.
class OvertakenHost : public FakeHost {
 public:
  std::vector<std::string> list_folder(const std::filesystem::path& path) override {
    if (!std::exchange(is_overtaken_, true)) {
      Store(*this, "/s").prepare();
      add_file("/s/.reserve.12.1.tmp", "");
    }
    return FakeHost::list_folder(path);
  }

 private:
  bool is_overtaken_ = false;
};

}  // namespace

TEST_CASE("a new store has its folders, closed to others but where QEMU must come through") {
  FakeHost host;
  Store store(host, "/var/lib/vmgraft", {true, 64055, 106});
  store.prepare();
  CHECK(host.stat("/var/lib/vmgraft")->mode == 0711);
  for (const char* name : {"layers", "vms"}) {
    const FileInfo info = *host.stat(store.root() / name);
    CHECK(info.mode == 0710);
    CHECK(info.uid == 0);
    CHECK(info.gid == 106);
  }
  for (const char* name : {"images", "journal", "locks", "tmp"}) CHECK(host.stat(store.root() / name)->mode == 0700);
  CHECK(host.read_file("/var/lib/vmgraft/version") == "1\n");
}

TEST_CASE("a store of an ordinary user changes no owner") {
  FakeHost host;
  Store store(host, "/home/dev/.local/share/vmgraft");
  store.prepare();
  CHECK(host.stat(store.layers_folder())->mode == 0711);
  CHECK(host.stat(store.tmp_folder())->mode == 0700);
  for (const std::string& call : host.calls()) CHECK_FALSE(call.starts_with("set_owner"));
}

TEST_CASE("preparing a store that is there does nothing") {
  FakeHost host;
  Store store(host, "/s");
  store.prepare();
  host.reset();
  store.prepare();
  CHECK(host.effects() == 0);
}

TEST_CASE("wherever preparing a store fails or dies, the next one ends with the same store") {
  FakeHost finished;
  Store(finished, "/a/s", {true, 1, 2}).prepare();
  const std::size_t effects = finished.effects();
  REQUIRE(effects > 10);
  for (std::size_t k = 1; k <= effects; ++k) {
    INFO("effect " << k);
    for (const auto when : {FakeHost::When::before, FakeHost::When::after}) {
      FakeHost host;
      Store store(host, "/a/s", {true, 1, 2});
      host.die_at(k, when);
      CHECK_THROWS_AS(store.prepare(), Death);
      host.revive();
      store.prepare();
      CHECK(host.tree() == finished.tree());
    }
    FakeHost host;
    Store store(host, "/a/s", {true, 1, 2});
    host.fail_at(k);
    CHECK(error_of([&] { store.prepare(); }).code() == Errc::other);
    store.prepare();
    CHECK(host.tree() == finished.tree());
  }
}

TEST_CASE("an empty folder that keeps others out is opened for the QEMU user, and only when there is one") {
  FakeHost host;
  host.add_folder("/tmp/x", 0700);
  Store(host, "/tmp/x", {true, 1, 2}).prepare();
  CHECK(host.stat("/tmp/x")->mode == 0711);
  host.add_folder("/tmp/y", 0700);
  Store(host, "/tmp/y").prepare();
  CHECK(host.stat("/tmp/y")->mode == 0700);
}

TEST_CASE("a folder of somebody else's is not made a store") {
  FakeHost host;
  host.add_file("/home/dev/notes.txt", "x");
  const FakeHost before = host;
  const Error error = error_of([&] { Store(host, "/home/dev").prepare(); });
  CHECK(error.code() == Errc::conflict);
  CHECK(std::string(error.what()) == "'/home/dev' cannot be made a store: it is not empty (it holds 'notes.txt')");
  CHECK(host == before);
  CHECK(error_of([&] { Store(host, "/home/dev/notes.txt").prepare(); }).code() == Errc::conflict);
  host.add_file("/pictures/images/cat.png", "x");
  CHECK(error_of([&] { Store(host, "/pictures").prepare(); }).code() == Errc::conflict);
}

TEST_CASE("what a process that is just ahead puts into its new store is not taken for a stranger's") {
  OvertakenHost host;
  host.add_folder("/s", 0700);
  Store(host, "/s").prepare();
  CHECK(host.read_file("/s/version") == "1\n");
}

TEST_CASE("what a doctor that was killed left does not keep a folder from being made a store") {
  FakeHost host;
  host.add_file("/s/.doctor-write.12.0.tmp", "vmgraft");
  Store(host, "/s").prepare();
  CHECK(host.read_file("/s/version") == "1\n");
}

TEST_CASE("a store of a later format is left alone") {
  FakeHost host;
  host.add_file("/s/version", "2\n");
  const Error error = error_of([&] { Store(host, "/s").prepare(); });
  CHECK(std::string(error.what()) == "the store '/s' has format 2, made by a newer vmgraft");
  host.add_file("/t/version", "rubbish");
  CHECK(error_of([&] { Store(host, "/t").prepare(); }).code() == Errc::other);
  CHECK(host.effects() == 0);
}

TEST_CASE("paths stay in the store") {
  FakeHost host;
  const Store store(host, "/s/");
  CHECK(store.root() == "/s");
  CHECK(store.layer_file(id_of('a')) == "/s/layers/" + id_of('a') + ".qcow2");
  CHECK(store.manifest_file("ci-7") == "/s/vms/ci-7/vm.json");
  CHECK(store.snapshot_folder("ci-7", "one") == "/s/vms/ci-7/snapshots/one");
  CHECK(error_of([&] { (void)store.vm_folder("../x"); }).code() == Errc::usage);
  CHECK(error_of([&] { (void)store.vm_folder(""); }).code() == Errc::usage);
  CHECK(error_of([&] { (void)store.image_record("/etc/passwd"); }).code() == Errc::usage);
  CHECK(error_of([&] { (void)store.snapshot_folder("a", ".."); }).code() == Errc::usage);
  CHECK(error_of([&] { (void)store.layer_file("../../etc/passwd"); }).code() == Errc::other);
}

TEST_CASE("VMs are the folders that have a manifest") {
  FakeHost host;
  const Store store(host, "/s");
  add_vm(host, store, "b");
  add_vm(host, store, "a");
  host.add_folder("/s/vms/half-made");
  host.add_file("/s/vms/.hidden/vm.json", "rubbish");
  CHECK(store.vm_names() == std::vector<std::string>{"a", "b"});
  REQUIRE(store.manifests().size() == 2);
  CHECK(store.manifests().front().name == "a");
  CHECK(store.manifest("b").name == "b");
  CHECK_FALSE(store.find_manifest("half-made").has_value());
}

TEST_CASE("a VM that is not there is not found, and a near name is offered") {
  FakeHost host;
  const Store store(host, "/s");
  add_vm(host, store, "builder");
  const Error error = error_of([&] { (void)store.manifest("bulider"); });
  CHECK(error.code() == Errc::not_found);
  CHECK(std::string(error.what()) == "there is no VM 'bulider'");
  CHECK(error.hint() == "did you mean 'builder'?");
}

TEST_CASE("a manifest under another VM's name is refused") {
  FakeHost host;
  const Store store(host, "/s");
  add_vm(host, store, "a");
  host.add_file("/s/vms/b/vm.json", *host.read_file(store.manifest_file("a")));
  CHECK(std::string(error_of([&] { (void)store.manifest("b"); }).what()) ==
        "'/s/vms/b/vm.json': /name: it is the manifest of 'a', not of 'b'");
}

TEST_CASE("images are found by name, and a missing one comes with how to get it") {
  FakeHost host;
  const Store store(host, "/s");
  host.add_file(store.image_record("debian-13"), to_json_text(ImageRecord{"debian-13", id_of('a'), "", "", ""}));
  host.add_file("/s/images/.debian-13.json.7.0.tmp", "rubbish");
  CHECK(store.image("debian-13").layer == id_of('a'));
  CHECK(store.images().size() == 1);
  CHECK(error_of([&] { (void)store.image("debain-13"); }).hint() == "did you mean 'debian-13'?");
  CHECK(error_of([&] { (void)store.image("debian-12"); }).hint() == "vmgraft image build debian-12");
  CHECK(error_of([&] { (void)store.image("micro"); }).hint() == "vmgraft image build micro");
  CHECK(error_of([&] { (void)store.image("fedora"); }).hint() == "vmgraft image list");
  CHECK(error_of([&] { (void)store.image("fedora"); }).code() == Errc::not_found);
}

TEST_CASE("a chain is the layer, its parents and its root") {
  FakeHost host;
  const Store store(host, "/s");
  add_layer(host, store, 'a', "");
  add_layer(host, store, 'b', id_of('a'));
  add_layer(host, store, 'c', id_of('b'));
  const auto chain = store.chain(id_of('c'));
  REQUIRE(chain.size() == 3);
  CHECK(chain[0].id == id_of('c'));
  CHECK(chain[2].id == id_of('a'));
  CHECK(store.layers().size() == 3);
}

TEST_CASE("a chain that lacks a layer or turns in a circle is an error that names the layer") {
  FakeHost host;
  const Store store(host, "/s");
  add_layer(host, store, 'a', id_of('b'));
  const Error missing = error_of([&] { (void)store.chain(id_of('a')); });
  CHECK(missing.code() == Errc::other);
  CHECK(std::string(missing.what()) ==
        "layer '" + id_of('a') + "' stands on layer '" + id_of('b') + "', which is missing from '/s/layers'");
  add_layer(host, store, 'b', id_of('a'));
  CHECK(std::string(error_of([&] { (void)store.chain(id_of('a')); }).what()).find("comes back to layer") !=
        std::string::npos);
  CHECK(std::string(error_of([&] { (void)store.layer(id_of('d')); }).what()) ==
        "layer '" + id_of('d') + "' is missing from '/s/layers'");
}

TEST_CASE("a layer is there when both its file and its record are") {
  FakeHost host;
  const Store store(host, "/s");
  add_layer(host, store, 'a', "");
  CHECK_FALSE(store.has_layer(id_of('a')));
  host.add_file(store.layer_file(id_of('a')), "");
  CHECK(store.has_layer(id_of('a')));
}

TEST_CASE("a layer is untouched until its L1 table has an entry") {
  FakeHost host;
  const Store store(host, "/s");
  host.add_folder("/s/layers");
  Qcow2Layout layout = new_qcow2(std::uint64_t{64} << 40, "x.qcow2");
  host.create_sparse(store.layer_file(id_of('a')), layout.size, layout.extents, 0600);
  CHECK(store.is_untouched(id_of('a')));
  layout.extents.push_back({layout.size - 8, std::string("\x80\0\0\0\0\x0e\0\0", 8)});
  host.create_sparse(store.layer_file(id_of('b')), layout.size, layout.extents, 0600);
  CHECK_FALSE(store.is_untouched(id_of('b')));
  host.create_sparse(store.layer_file(id_of('c')), layout.size - 131072, {layout.extents.front()}, 0600);
  CHECK(error_of([&] { (void)store.is_untouched(id_of('c')); }).code() == Errc::other);
  host.add_file(store.layer_file(id_of('d')), "raw");
  CHECK(error_of([&] { (void)store.is_untouched(id_of('d')); }).code() == Errc::other);
}

// SPDX-License-Identifier: Apache-2.0
// A layer's file against its record: each way in which it can be another one.
#include "store/layer_file.hpp"
#include "store/qcow2.hpp"
#include "support/catch.hpp"
#include "support/plan_world.hpp"

using namespace vmgraft;

namespace {

struct OneLayer {
  PlanWorld world;
  LayerRecord record;
  OneLayer() {
    world.add_vm("a");
    record = world.store.layer(world.head("a"));
  }
  void put(const Qcow2Layout& layout) {
    std::string content(layout.size, '\0');
    for (const Extent& extent : layout.extents) content.replace(extent.offset, extent.bytes.size(), extent.bytes);
    world.host.add_file(world.store.layer_file(record.id), content, 0600);
  }
  /// As if another tool had written that name, which we would not.
  void put_backing(const std::string& name) {
    const std::string plain(name.size(), 'x');
    put(new_qcow2(record.virtual_size, plain));
    const auto file = world.store.layer_file(record.id);
    std::string content = *world.host.read_file(file);
    content.replace(content.find(plain), name.size(), name);
    world.host.add_file(file, content, 0600);
  }
  [[nodiscard]] std::vector<LayerFault> look() { return inspect_layer(world.host, world.store, record); }
  [[nodiscard]] LayerFault only() {
    const std::vector<LayerFault> faults = look();
    REQUIRE(faults.size() == 1);
    CHECK(faults.front().what.find(world.store.layer_file(record.id).string()) != std::string::npos);
    CHECK(!faults.front().remedy.empty());
    CHECK_THAT(error_of([&] { (void)require_whole(world.host, world.store, {{record.id, record}}); }).what(), contains(faults.front().what));
    return faults.front();
  }
  [[nodiscard]] std::string parent() const { return record.parent + ".qcow2"; }
};

}  // namespace

TEST_CASE("a layer as vmgraft made it has no fault") {
  OneLayer layer;
  CHECK(layer.look().empty());
  CHECK_NOTHROW(require_whole(layer.world.host, layer.world.store, {{layer.record.id, layer.record}}));
}

TEST_CASE("a layer whose file is missing, a folder or a link") {
  OneLayer layer;
  const auto file = layer.world.store.layer_file(layer.record.id);
  layer.world.host.erase(file);
  CHECK(layer.only().id == "layer-file");
  layer.world.host.add_folder(file);
  CHECK(layer.only().what.find("is a folder") != std::string::npos);
  layer.world.host.erase(file);
  layer.world.host.add_link(file, "/etc/shadow");
  CHECK(layer.only().what.find("is a link") != std::string::npos);
}

TEST_CASE("a layer whose file is not qcow2, or damaged in its header") {
  OneLayer layer;
  const auto file = layer.world.store.layer_file(layer.record.id);
  layer.world.host.add_file(file, "raw data", 0600);
  CHECK(layer.only().what.find("is not qcow2") != std::string::npos);
  layer.world.host.add_file(file, std::string("QFI\xfb\0\0\0\3", 8), 0600);
  const LayerFault fault = layer.only();
  CHECK(fault.id == "layer-format");
  CHECK(fault.what.find("is damaged") != std::string::npos);
}

TEST_CASE("a layer of another size") {
  OneLayer layer;
  layer.put(new_qcow2(2 << 20, layer.parent()));
  const LayerFault fault = layer.only();
  CHECK(fault.id == "layer-size");
  CHECK(fault.what.find("2097152 bytes, its record says 1048576") != std::string::npos);
}

TEST_CASE("a layer that stands on nothing gets the command that puts it on its parent again") {
  OneLayer layer;
  layer.put(new_qcow2(layer.record.virtual_size, ""));
  const LayerFault fault = layer.only();
  CHECK(fault.id == "layer-backing");
  CHECK(fault.what.find("stands on nothing") != std::string::npos);
  CHECK(fault.remedy.find("qemu-img rebase -u -f qcow2 -F qcow2 -b " + layer.parent()) != std::string::npos);
}

TEST_CASE("a layer that stands on a file outside the store, by whatever way that is written") {
  OneLayer layer;
  for (const char* const path : {"/etc/shadow", "../../etc/shadow", "../vms/a/vm.json"}) {
    INFO(path);
    layer.put_backing(path);
    const LayerFault fault = layer.only();
    CHECK(fault.id == "layer-backing");
    CHECK(fault.what.find("outside the store") != std::string::npos);
  }
  layer.put_backing("json:{\"driver\":\"nbd\"}");
  CHECK(layer.only().id == "layer-backing");
  layer.put_backing("./" + layer.parent());
  CHECK(layer.look().empty());  // the same file
}

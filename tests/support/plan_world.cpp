// SPDX-License-Identifier: Apache-2.0
#include "support/plan_world.hpp"

#include <fmt/format.h>

#include "run/vm_facts.hpp"
#include "store/qcow2.hpp"

namespace vmgraft {
namespace {

constexpr const char* kNow = "2026-01-02T03:04:05Z";
const std::string kImageLayer(32, 'a');

std::string uuid_of(const std::string& name) {
  std::string hex;
  for (const char letter : name) hex += fmt::format("{:02x}", static_cast<unsigned char>(letter));
  hex.resize(12, '0');
  return "00000000-0000-4000-8000-" + hex;
}

std::string tpm_home(const std::string& uuid) { return "/swtpm/" + uuid; }

void put_qcow2(FakeHost& host, const std::filesystem::path& file, std::uint64_t size, unsigned mode) {
  const Qcow2Layout layout = new_qcow2(size, {});
  std::string content(layout.size, '\0');
  for (const Extent& extent : layout.extents) content.replace(extent.offset, extent.bytes.size(), extent.bytes);
  host.add_file(file, content, mode);
}

CommandResult qemu_img(FakeHost& host, const Command& command) {
  const std::vector<std::string>& argv = command.argv;
  const std::filesystem::path last = command.folder / argv.back();
  if (argv.at(1) == "rebase") fake_rebase(host, last, argv.at(7));
  if (argv.at(1) == "convert") put_qcow2(host, last, 1 << 20, 0644);
  return {};
}

}  // namespace

PlanWorld::PlanWorld() : store(host, "/store", StoreAccess{true, 107, 107}) {
  host.add_folder("/swtpm");
  store.prepare();
  host.add_folder("/store/tmp/work");
  host.add_program("qemu-img", qemu_img);
  host.add_program("fake-pull", [](FakeHost& each, const Command& command) {
    fake_rebase(each, command.argv.at(1), command.argv.at(2));
    return CommandResult{};
  });
  LayerRecord layer;
  layer.id = kImageLayer;
  layer.virtual_size = 1 << 20;
  layer.made_by = "image base";
  layer.created = kNow;
  layer.boot_direct = layer.boot_uefi = layer.agent = true;
  layer.cmdline = "console=ttyS0";
  put_qcow2(host, store.layer_file(layer.id), layer.virtual_size, 0444);
  host.add_file(store.kernel_file(layer.id), "kernel", 0444);
  host.add_file(store.initrd_file(layer.id), "initrd", 0444);
  host.add_file(store.layer_record(layer.id), to_json_text(layer), 0444);
  host.add_file(store.image_record("base"), to_json_text(ImageRecord{"base", layer.id, std::string(64, '0'), "build base", kNow}),
                0600);
  host.reset();
}

PlanWorld::PlanWorld(const PlanWorld& other)
    : host(other.host), hypervisor(host), store(host, "/store", StoreAccess{true, 107, 107}), last_id_(other.last_id_) {}

std::string PlanWorld::next_id() { return fmt::format("{:032x}", ++last_id_); }

FreshIds PlanWorld::ids(std::size_t count) {
  std::vector<std::string> drawn;
  while (drawn.size() < count) drawn.push_back(next_id());
  return FreshIds(drawn);
}

World PlanWorld::world() {
  return {host, store, [this]() -> Hypervisor& { return hypervisor; }, nullptr, {}, "/swtpm", {}};
}

Plan PlanWorld::plan_new(const std::vector<std::string>& names, VmShape shape) {
  CreateFacts facts{store, {}, {}, "qemu", {}, false, "tester", kNow, {}, {}};
  facts.resolved.name = "t";
  facts.resolved.file = "t.json";
  facts.resolved.digest = std::string(64, 'd');
  facts.resolved.json = R"({"version":1,"name":"t","vm":{"memory":"64MiB","disks":[]}})";
  VmSpec& spec = facts.resolved.spec;
  spec.memory = 64 << 20;
  spec.firmware = shape.uefi ? Firmware::uefi : Firmware::direct;
  spec.tpm = shape.uefi;
  spec.disks = {{"root", "base", {}, true}, {"data", "", std::uint64_t{1} << 20, !shape.scratch}};
  spec.networks = {{NetworkKind::nat, {}}};
  facts.images.emplace("base", ImageFacts{store.image("base"), store.layer(kImageLayer)});
  std::vector<NewVm> vms;
  for (const std::string& name : names)
    vms.push_back({name, uuid_of(name), {"52:00:00:00:00:01"}, {next_id(), next_id()}, {}, {}});
  return plan_create(facts, vms);
}

void PlanWorld::add_vm(const std::string& name, VmShape shape) {
  run(plan_new({name}, shape));
  if (shape.uefi) {
    host.add_file(store.nvram_file(name), "nvram of " + name, 0600);
    host.add_folder(tpm_home(uuid_of(name)));
    host.add_file(tpm_home(uuid_of(name)) + "/tpm2-00.permall", "tpm of " + name, 0600);
  }
  host.reset();
}

void PlanWorld::touch(const std::string& name) {
  const std::filesystem::path file = store.layer_file(head(name));
  const auto header = read_qcow2(host.read_range(file, 0, 128 << 10));
  fake_rebase(host, file, header->backing_file);
}

VmFacts PlanWorld::facts(const std::string& name) {
  return read_vm_facts(host, hypervisor, store, store.manifest(name), tpm_home(uuid(name)));
}

Plan PlanWorld::plan_snap(const std::string& vm, const std::string& name, bool freeze) {
  return plan_snapshot({store, facts(vm), name, "", kNow, freeze, ids(2)});
}

MovePlan PlanWorld::plan_moved(const std::string& vm, bool freeze) {
  return plan_move(store, facts(vm), freeze, "/store/tmp/work", ids(2), kNow);
}

Plan PlanWorld::plan_cloned(const std::string& vm, const std::string& snapshot, const std::vector<std::string>& names,
                            bool full) {
  const Manifest source = store.manifest(vm);
  const SnapshotRecord& record = *find_snapshot(source, snapshot);
  const std::filesystem::path folder = store.snapshot_folder(vm, snapshot);
  ClonePlanInput input{store,
                       source,
                       snapshot,
                       {record.disks, *host.read_file(folder / "domain.xml"), record.nvram ? (folder / "nvram.fd").string() : "",
                        record.tpm ? (folder / "tpm").string() : ""},
                       store.layers(),
                       {},
                       full,
                       true,
                       "tester",
                       kNow,
                       {},
                       ids(2 * names.size())};
  for (const std::string& name : names)
    input.targets.push_back({name, uuid_of(name), {"52:00:00:00:00:02"}, {}, tpm_home(uuid_of(name))});
  return plan_clone(std::move(input));
}

RevertPlan PlanWorld::plan_back(const std::string& vm, const std::string& snapshot) {
  unsigned number = 1;
  while (find_snapshot(store.manifest(vm), fmt::format("before-revert-{}", number)) != nullptr) ++number;
  return plan_revert({store, facts(vm), snapshot, *host.read_file(store.snapshot_folder(vm, snapshot) / "domain.xml"),
                      fmt::format("before-revert-{}", number), kNow, ids(4)});
}

}  // namespace vmgraft

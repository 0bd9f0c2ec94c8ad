// SPDX-License-Identifier: Apache-2.0
#include "run/step_effects.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "domain/domain_xml.hpp"
#include "image/programs.hpp"
#include "model/size.hpp"
#include "store/layer_file.hpp"
#include "store/qcow2.hpp"

namespace vmgraft {
namespace {

constexpr unsigned kHeadMode = 0600;
constexpr unsigned kFrozenMode = 0444;

void make_writable(World& world, const std::string& id) {
  const std::filesystem::path file = world.store.layer_file(id);
  world.host.set_mode(file, kHeadMode);
  if (const StoreAccess& access = world.store.access(); access.own_labels)
    world.host.set_owner(file, access.uid, access.gid);
}

void make_immutable(World& world, const std::string& id) {
  const std::filesystem::path file = world.store.layer_file(id);
  if (world.store.access().own_labels) world.host.set_owner(file, 0, 0);
  world.host.set_mode(file, kFrozenMode);
}

void write_record(World& world, const LayerRecord& record) {
  world.host.write_file(world.store.layer_record(record.id), to_json_text(record), kFrozenMode);
}

void remove_layer(World& world, const std::string& id) {
  // The record goes last: a layer that is half gone is still known, and swept again.
  for (const std::filesystem::path& file : {world.store.layer_file(id), world.store.kernel_file(id),
                                            world.store.initrd_file(id), world.store.layer_record(id)})
    world.host.remove(file);
}

std::string layer_name(const World& world, const std::string& id) { return world.store.layer_file(id).filename(); }

/// qemu-img opens whatever the headers name.
void require_whole_chain(World& world, const std::vector<LayerRecord>& chain) {
  std::map<std::string, LayerRecord> layers;
  for (const LayerRecord& layer : chain) layers.emplace(layer.id, layer);
  require_whole(world.host, world.store, layers);
}

void run_qemu_img(World& world, std::vector<std::string> arguments, const std::string& what, bool may_interrupt) {
  Command command;
  command.argv = {"qemu-img"};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  command.folder = world.store.layers_folder();
  command.deadline = std::chrono::hours(24);
  if (may_interrupt) command.interrupted = world.interrupted;
  const CommandResult result = world.host.run(command);
  const std::string at_close = error_at_close(result);
  if (result.exit_code == 0 && at_close.empty()) return;
  if (may_interrupt && world.interrupted != nullptr && world.interrupted->load())
    throw Error(Errc::interrupted, fmt::format("{}: interrupted", what));
  const std::string said = at_close.empty() ? result.err.substr(0, result.err.find('\n')) : at_close;
  throw Error(Errc::other, fmt::format("{}: qemu-img failed: {}", what, said));
}

std::string backing_of(World& world, const std::string& id) {
  const auto header = read_qcow2(world.host.read_range(world.store.layer_file(id), 0, kQcow2Start));
  if (!header) throw Error(Errc::other, fmt::format("layer {} is not a qcow2 file", id));
  return std::filesystem::path(header->backing_file).filename();
}

bool is_head(World& world, const std::string& id) {
  for (const Manifest& manifest : world.store.manifests())
    for (const HeadRecord& head : manifest.heads)
      if (head.layer == id) return true;
  return false;
}

/// The path that a disk of the domain writes to; empty when the domain or the disk is not there.
std::string active_path(World& world, const std::string& uuid, const std::string& target) {
  Hypervisor& hypervisor = world.hypervisor();
  const std::optional<DomainState> domain = hypervisor.find_by_uuid(uuid);
  if (!domain) return {};
  for (const DomainFacts::Disk& disk : read_domain(hypervisor.domain_xml(uuid, !is_active(domain))).disks)
    if (disk.target == target) return disk.path;
  return {};
}

}  // namespace

// --- files

void apply_step(World& world, const MakeFolder& step) {
  world.host.make_folder(step.path, step.mode);
  if (const StoreAccess& access = world.store.access(); access.own_labels && (step.mode & 0010) != 0)
    world.host.set_owner(step.path, 0, access.gid);
}
void undo_step(World& world, const MakeFolder& step) { world.host.remove(step.path); }

void apply_step(World& world, const WriteFile& step) { world.host.write_file(step.path, step.content, step.mode); }
void undo_step(World& world, const WriteFile& step) {
  if (step.existed)
    world.host.write_file(step.path, step.previous, step.mode);
  else
    world.host.remove(step.path);
}

void apply_step(World& world, const CopyPath& step) {
  // What is there is whole, since it came by rename. It is not copied again: by now the source may hold something newer.
  if (world.host.stat(step.to)) return;
  const std::string part = step.to + ".part";
  world.host.remove(part);
  world.host.copy(step.from, part);
  world.host.rename(part, step.to);
}
void undo_step(World& world, const CopyPath& step) {
  world.host.remove(step.to + ".part");
  world.host.remove(step.to);
}

void apply_step(World& world, const ReplacePath& step) {
  world.host.remove(step.to);
  if (!step.from.empty()) world.host.copy(step.from, step.to);
}
void undo_step(World& world, const ReplacePath& step) {
  // Without the kept copy nothing was replaced yet: the steps before this one make it.
  if (!step.undo_from.empty() && !world.host.stat(step.undo_from)) return;
  world.host.remove(step.to);
  if (step.undo_from.empty()) return;
  try {
    world.host.rename(step.undo_from, step.to);  // on a full disk too: the kept copy goes with the step that made it
  } catch (const Error&) {
    world.host.copy(step.undo_from, step.to);  // the TPM's states may be on another file system
  }
}

void apply_step(World& world, const AdoptFile& step) {
  if (world.host.stat(step.from)) world.host.rename(step.from, step.to);
  world.host.set_mode(step.to, step.mode);
}
void undo_step(World& world, const AdoptFile& step) { world.host.remove(step.to); }

void apply_step(World& world, const RemovePath& step) { world.host.remove(step.path); }

void apply_step(World&, const Commit&) {}

// --- layers

void apply_step(World& world, const CreateLayer& step) {
  const LayerRecord& record = step.record;
  const Qcow2Layout layout =
      new_qcow2(record.virtual_size, record.parent.empty() ? std::string{} : layer_name(world, record.parent));
  world.host.create_sparse(world.store.layer_file(record.id), layout.size, layout.extents, kHeadMode);
  if (const StoreAccess& access = world.store.access(); access.own_labels)
    world.host.set_owner(world.store.layer_file(record.id), access.uid, access.gid);
  write_record(world, record);
}
void undo_step(World& world, const CreateLayer& step) { remove_layer(world, step.record.id); }

void apply_step(World& world, const FlattenLayer& step) {
  const LayerRecord& record = step.record;
  const std::vector<LayerRecord> chain = world.store.chain(step.from);
  require_whole_chain(world, chain);
  if (world.on_progress)
    world.on_progress({fmt::format("copying {} of {}", format_size(record.virtual_size), step.from.substr(0, 8)), 0, 0});
  run_qemu_img(world,
               {"convert", "-t", "writeback", "-f", "qcow2", "-O", "qcow2", "-o", "cluster_size=128k,extended_l2=on", "-W", "-m", "8",
                layer_name(world, step.from), layer_name(world, record.id)},
               fmt::format("copying layer {}", step.from), true);
  if (record.boot_direct) {
    world.host.hard_link(world.store.kernel_file(chain.back().id), world.store.kernel_file(record.id));
    world.host.hard_link(world.store.initrd_file(chain.back().id), world.store.initrd_file(record.id));
  }
  make_writable(world, record.id);
  write_record(world, record);
}
void undo_step(World& world, const FlattenLayer& step) { remove_layer(world, step.record.id); }

void apply_step(World& world, const FreezeLayer& step) { make_immutable(world, step.id); }
void undo_step(World& world, const FreezeLayer& step) { make_writable(world, step.id); }

void apply_step(World& world, const DeleteLayer& step) { remove_layer(world, step.id); }

void apply_step(World& world, const RebaseLayer& step) {
  const LayerRecord& layer = step.layer;
  const std::filesystem::path file = world.store.layer_file(layer.id);
  // The record, which is synced after the file, says whether it is done. The header does not: qemu-img names the new
  // base in it before it writes the tables that lead to what was copied. Killed between, it leaves a layer without that
  // data.
  const std::string under = world.store.layer(layer.id).parent;
  if (under != layer.parent) {
    const auto rebase = [&](const std::string& base, bool copies) {
      std::vector<std::string> arguments{"rebase", "-f", "qcow2", "-F", "qcow2", "-b", layer_name(world, base)};
      if (!copies) arguments.emplace_back("-u");
      arguments.push_back(layer_name(world, layer.id));
      run_qemu_img(world, std::move(arguments), fmt::format("merging layers into {}", layer.id), false);
    };
    world.host.set_mode(file, kHeadMode);
    if (world.on_progress) world.on_progress({fmt::format("merging layers into {}", layer.id.substr(0, 8)), 0, 0});
    if (backing_of(world, layer.id) != layer_name(world, under)) rebase(under, false);
    require_whole_chain(world, world.store.chain(layer.id));
    rebase(layer.parent, true);
    // Once more before the layers go that it was copied from; and what a run that was cut off had copied, so that no
    // table leads to it, is given back.
    run_qemu_img(world, {"check", "-q", "-f", "qcow2", "-r", "leaks", layer_name(world, layer.id)},
                 fmt::format("checking layer {}", layer.id), false);
  }
  // Not as it was found: a process that died in the middle has left it writable.
  world.host.set_mode(file, is_head(world, layer.id) ? kHeadMode : kFrozenMode);
  write_record(world, layer);
}

void apply_step(World& world, const PullLayer& step) {
  const std::string file = world.store.layer_file(step.layer.id);
  Hypervisor& hypervisor = world.hypervisor();
  const std::optional<DomainState> domain = hypervisor.find_by_uuid(step.uuid);
  if (!is_active(domain) || active_path(world, step.uuid, step.target) != file)
    return apply_step(world, RebaseLayer{step.layer});  // it was stopped meanwhile
  if (world.on_progress) world.on_progress({fmt::format("merging layers of {} while it runs", step.name), 0, 0});
  hypervisor.pull_into_active(step.uuid, step.target, world.store.layer_file(step.layer.parent), nullptr);
  write_record(world, step.layer);
}

// --- domains

namespace {

/// The user's passwords are in no plan, so in no journal: they are taken over from libvirt in the last moment.
std::string with_secrets(World& world, const std::string& uuid, const std::string& xml) {
  return with_console_passwords(xml, world.hypervisor().secure_definition(uuid));
}

void define(World& world, const std::string& uuid, const std::string& xml, Schema schema) {
  world.hypervisor().settle(uuid, nullptr);
  world.hypervisor().define(with_secrets(world, uuid, xml), schema);
}

}  // namespace

void apply_step(World& world, const DefineDomain& step) {
  define(world, step.uuid, step.xml, step.is_derived ? Schema::known : Schema::checked);
}
void undo_step(World& world, const DefineDomain& step) {
  if (!step.previous.empty())
    define(world, step.uuid, step.previous, Schema::known);
  else if (world.hypervisor().find_by_uuid(step.uuid))
    world.hypervisor().undefine(step.uuid, false);
}

void apply_step(World& world, const StartDomain& step) {
  if (!step.memory.empty())
    world.hypervisor().restore_memory(step.memory, with_secrets(world, step.uuid, step.xml));
  else if (step.xml.empty())
    world.hypervisor().start(step.uuid);
  else
    world.hypervisor().start_as(with_secrets(world, step.uuid, step.xml));
}
void undo_step(World& world, const StartDomain& step) {
  if (world.hypervisor().find_by_uuid(step.uuid)) world.hypervisor().power_off(step.uuid);
}

void apply_step(World& world, const PowerOff& step) {
  if (world.hypervisor().find_by_uuid(step.uuid)) world.hypervisor().power_off(step.uuid);
}

void apply_step(World& world, const UndefineDomain& step) {
  if (world.hypervisor().find_by_uuid(step.uuid)) world.hypervisor().undefine(step.uuid, step.keep_tpm);
}

bool has_switched(World& world, const SwitchDisks& step) {
  return !step.disks.empty() && active_path(world, step.uuid, step.disks.front().target) ==
                                    world.store.layer_file(step.disks.front().layer).string();
}

bool has_missed_memory(World& world, const SwitchDisks& step) {
  return !step.memory.empty() && has_switched(world, step) && !world.host.stat(step.memory);
}

namespace {

void move_back(World& world, const SwitchDisks& step) {
  if (is_active(world.hypervisor().find_by_uuid(step.uuid)))
    throw Error(Errc::conflict,
                fmt::format("VM '{}' was started again on the disks of a snapshot that has no memory", step.name),
                "the next command keeps that snapshot, without a memory");
  std::map<std::string, std::string> paths;
  for (const SwitchDisk& disk : step.disks)
    paths[disk.target] = world.store.layer_file(world.store.layer(disk.layer).parent);
  define(world, step.uuid, with_disk_paths(world.hypervisor().domain_xml(step.uuid, true), paths), Schema::known);
}

}  // namespace

namespace {

/// A process may have died between freeze and thaw: a guest must not stay frozen.
void thaw_if_running(World& world, const SwitchDisks& step) {
  if (!step.freeze) return;
  const std::optional<DomainState> domain = world.hypervisor().find_by_uuid(step.uuid);
  if (domain && domain->state == VmState::running) world.hypervisor().thaw(step.uuid);
}

}  // namespace

void apply_step(World& world, const SwitchDisks& step) {
  if (has_switched(world, step)) return thaw_if_running(world, step);
  Hypervisor& hypervisor = world.hypervisor();
  std::string why_not;
  if (step.freeze && hypervisor.freeze(step.uuid, why_not) != FreezeOutcome::frozen)
    throw FreezeFailed(fmt::format("VM '{}': its file systems were not frozen: {}", step.name, why_not));
  std::exception_ptr failure;
  try {
    for (const CopyPath& sidecar : step.sidecars) apply_step(world, sidecar);
    std::vector<OverlayTarget> overlays;
    for (const SwitchDisk& disk : step.disks)
      overlays.push_back({disk.target, world.store.layer_file(disk.layer), world.store.access().own_labels});
    if (step.memory.empty())
      hypervisor.switch_to_overlays(step.uuid, overlays, step.untouched);
    else
      hypervisor.save_memory(step.uuid, step.memory, overlays, step.untouched);
    if (has_missed_memory(world, step))
      throw Error(Errc::conflict, fmt::format("VM '{}' went off while its memory was to be saved", step.name),
                  "without --memory a snapshot takes its disks as they are");
  } catch (...) {
    failure = std::current_exception();
  }
  if (step.freeze) hypervisor.thaw(step.uuid);
  if (failure) std::rethrow_exception(failure);
}

void undo_step(World& world, const SwitchDisks& step) {
  // A request that had not begun when recovery looked.
  world.hypervisor().settle(step.uuid, nullptr);
  if (has_missed_memory(world, step))
    move_back(world, step);
  else if (has_switched(world, step))
    throw Error(Errc::conflict,
                fmt::format("libvirt has switched the disks of VM '{}' after all, for a process that died", step.name),
                "the next command finishes it");
  for (const CopyPath& sidecar : step.sidecars) undo_step(world, sidecar);
  if (!step.memory.empty()) world.host.remove(step.memory);
  thaw_if_running(world, step);
}

}  // namespace vmgraft

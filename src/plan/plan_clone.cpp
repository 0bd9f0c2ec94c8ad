// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_clone.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"
#include "host/sha256.hpp"
#include "plan/plan_snapshot.hpp"

namespace vmgraft {
namespace {

/// The clone's own head for each disk of the source.
std::vector<HeadRecord> append_heads(ClonePlanInput& input, const CloneTarget& target, std::vector<Step>& steps) {
  const CloneBase& base = input.base;
  std::vector<HeadRecord> heads;
  for (const HeadRecord& head : input.source.heads) {
    const auto kept = std::find_if(base.disks.begin(), base.disks.end(),
                                   [&](const SnapshotDisk& disk) { return disk.name == head.name; });
    LayerRecord layer;
    layer.id = input.ids.take();
    layer.made_by = fmt::format("clone {}", target.name);
    layer.created = input.now;
    if (kept == base.disks.end()) {  // scratch: the clone gets an empty one of its size
      layer.virtual_size = input.layers.at(head.layer).virtual_size;
      steps.emplace_back(CreateLayer{layer});
    } else {
      const std::vector<LayerRecord> chain = chain_of(input.layers, kept->layer);
      layer.virtual_size = chain.front().virtual_size;
      if (input.full) {
        const LayerRecord& root = chain.back();
        layer.boot_direct = root.boot_direct;
        layer.cmdline = root.cmdline;
        layer.boot_bios = root.boot_bios;
        layer.boot_uefi = root.boot_uefi;
        layer.agent = root.agent;
        layer.cloud_init = root.cloud_init;
        layer.default_user = root.default_user;
        steps.emplace_back(FlattenLayer{kept->layer, layer});
      } else {
        if (chain.size() + 1 > kMaxChainDepth)
          throw Error(Errc::conflict,
                      fmt::format("VM '{}': disk '{}' stands on {} layers, the most that every supported libvirt starts",
                                  input.source.name, head.name, chain.size()),
                      "clone with --full: it gets layers of its own");
        layer.parent = kept->layer;
        steps.emplace_back(CreateLayer{layer});
      }
    }
    heads.push_back({head.name, head.target, layer.id, head.snapshot});
  }
  return heads;
}

/// A full clone boots from its own copies of the image's kernel and initrd: the image's may go before it.
void set_own_kernel(const ClonePlanInput& input, const std::vector<HeadRecord>& heads, CloneIdentity& identity) {
  for (const SnapshotDisk& disk : input.base.disks) {
    if (!chain_of(input.layers, disk.layer).back().boot_direct) continue;
    const auto own = std::find_if(heads.begin(), heads.end(), [&](const auto& head) { return head.name == disk.name; });
    identity.kernel = input.store.kernel_file(own->layer);
    identity.initrd = input.store.initrd_file(own->layer);
    return;
  }
}

void append_clone(ClonePlanInput& input, const CloneTarget& target, Plan& plan) {
  const Store& store = input.store;
  const Manifest& source = input.source;
  plan.vms.push_back(target.name);
  plan.steps.emplace_back(MakeFolder{store.vm_folder(target.name)});
  plan.steps.emplace_back(MakeFolder{store.vm_folder(target.name) / "snapshots", 0700});
  Manifest manifest = source;
  manifest.name = target.name;
  manifest.uuid = target.uuid;
  manifest.owner = input.owner;
  manifest.created = input.now;
  manifest.expires = input.expires;
  if (!input.spec.empty()) {
    manifest.spec = input.spec;
    manifest.template_digest = sha256_text(input.spec);
  }
  manifest.source = input.snapshot.empty() ? source.name : fmt::format("{}@{}", source.name, input.snapshot);
  manifest.current.clear();
  manifest.snapshots.clear();
  manifest.identity_pending = true;
  manifest.heads = append_heads(input, target, plan.steps);

  CloneIdentity identity;
  identity.name = target.name;
  identity.uuid = target.uuid;
  identity.macs = target.macs;
  identity.disks = disk_paths(store, manifest.heads);
  identity.console_log = store.console_log(target.name);
  if (!read_domain(input.base.xml).nvram.empty()) identity.nvram = store.nvram_file(target.name);
  if (!input.base.nvram.empty()) plan.steps.emplace_back(CopyPath{input.base.nvram, identity.nvram});
  if (input.keep_tpm && !input.base.tpm.empty()) plan.steps.emplace_back(CopyPath{input.base.tpm, target.tpm_home});
  if (!target.seed.empty()) {
    identity.seed = store.seed_file(target.name);
    plan.steps.emplace_back(AdoptFile{target.seed, identity.seed, 0600});
  }
  if (input.full) set_own_kernel(input, manifest.heads, identity);
  plan.steps.emplace_back(DefineDomain{target.name, target.uuid, clone_domain_xml(input.base.xml, identity), {}, true});
  plan.steps.emplace_back(WriteFile{store.manifest_file(target.name), to_json_text(manifest)});
}

}  // namespace

MovePlan plan_move(const Store& store, const VmFacts& vm, bool freeze, const std::string& scratch, FreshIds ids,
                   const std::string& now) {
  const std::string& name = vm.manifest.name;
  const HeadMove move = move_heads(vm, ids, now, fmt::format("clone of {}", name));
  MovePlan result;
  result.plan = {fmt::format("move {} to new layers", name), {name}, {}};
  result.base = {move.frozen, vm.inactive_xml, vm.nvram, vm.tpm};
  if (!move.changes()) return result;
  std::vector<Step>& steps = result.plan.steps;
  if (vm.is_running) {
    std::vector<CopyPath> sidecars;
    if (!vm.nvram.empty()) sidecars.push_back({vm.nvram, result.base.nvram = scratch + "/nvram.fd"});
    if (!vm.tpm.empty()) sidecars.push_back({vm.tpm, result.base.tpm = scratch + "/tpm"});
    append_live_move(store, vm, move, {freeze, std::move(sidecars)}, steps);
  } else {
    append_stopped_move(store, vm, move, steps);
  }
  Manifest after = vm.manifest;
  after.heads = move.heads;
  steps.emplace_back(write_manifest(store, vm.manifest, after));
  return result;
}

Plan plan_clone(ClonePlanInput input) {
  Plan plan;
  plan.verb = fmt::format("clone {}{} to {}{}", input.source.name, input.snapshot.empty() ? "" : "@" + input.snapshot,
                          input.targets.front().name,
                          input.targets.size() == 1 ? "" : fmt::format(" .. {}", input.targets.back().name));
  plan.vms.push_back(input.source.name);
  for (const CloneTarget& target : input.targets) append_clone(input, target, plan);
  return plan;
}

}  // namespace vmgraft

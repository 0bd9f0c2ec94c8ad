// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "model/names.hpp"
#include "plan/plan_clone.hpp"
#include "run/fresh.hpp"
#include "run/manager_impl.hpp"
#include "template/on_expire.hpp"
#include "run/vm_facts.hpp"

namespace vmgraft {
namespace {

std::vector<CloneTarget> targets_of(Manager::Impl& impl, const std::vector<std::string>& names, const std::string& xml) {
  const DomainFacts facts = read_domain(xml);
  std::vector<CloneTarget> targets;
  for (const std::string& name : names) {
    CloneTarget target{name, fresh_uuid(), fresh_macs(facts.nics.size()), {}, {}};
    if (facts.tpm) target.tpm_home = impl.tpm_home(target.uuid);
    targets.push_back(target);
  }
  return targets;
}

ClonePlanInput clone_input(Manager::Impl& impl, const CloneRequest& request, const Manifest& source,
                           const std::string& snapshot, CloneBase base, const std::vector<std::string>& names) {
  const VmSpec spec = parse_spec(source.spec, source.template_name);
  require_life(request.ttl);
  const std::string expires = fresh_expiry(request.ttl, spec.lifecycle.ttl);
  std::vector<CloneTarget> targets = targets_of(impl, names, base.xml);
  ClonePlanInput input{impl.store(), source, snapshot,      std::move(base), {},      std::move(targets),
                       request.full, request.keep_tpm, login_name(), now_rfc3339(), expires,
                       fresh_ids(source.heads.size() * names.size())};
  if (request.on_expire) input.spec = with_on_expire(source.spec, *request.on_expire);
  input.layers = reached_layers(impl.store(), source);
  for (const SnapshotDisk& disk : input.base.disks)
    for (const LayerRecord& layer : impl.store().chain(disk.layer)) input.layers.emplace(layer.id, layer);
  return input;
}

/// What a clone of a stopped VM's present state would stand on if nothing moved: for --full, and to be shown by a dry run.
CloneBase heads_as_base(const VmFacts& vm) {
  CloneBase base{{}, vm.inactive_xml, vm.nvram, vm.tpm};
  for (const HeadRecord& head : vm.manifest.heads)
    if (head.snapshot) base.disks.push_back({head.name, head.layer});
  return base;
}

CloneBase snapshot_as_base(Manager::Impl& impl, const Manifest& source, const std::string& snapshot) {
  const SnapshotRecord& record = *find_snapshot(source, snapshot);
  impl.require_kept(source, record);
  const std::filesystem::path folder = impl.store().snapshot_folder(source.name, snapshot);
  return {record.disks, impl.snapshot_xml(source.name, snapshot), record.nvram ? (folder / "nvram.fd").string() : "",
          record.tpm ? (folder / "tpm").string() : ""};
}

/// A clone whose image reads a NoCloud seed gets one of its own: a new instance to cloud-init.
void add_seeds(Manager::Impl& impl, const Manifest& source, ClonePlanInput& input, WorkFolder& scratch) {
  const LayerRecord image = impl.root_layer(source);
  if (!image.cloud_init) return;
  VmSpec spec = parse_spec(source.spec, source.template_name);
  spec.guest.hostname.clear();
  // What the template does to the guest is on the disk already.
  spec.guest.files.clear();
  spec.guest.run.clear();
  for (CloneTarget& target : input.targets)
    target.seed = impl.write_seed(scratch.make(), target.name, spec, source.ssh_keys, target.macs, image);
}

}  // namespace

CloneResult Manager::clone(const CloneRequest& request) {
  Impl& impl = *impl_;
  const auto [source_name, snapshot] = split_ref(request.source);
  require_name("VM", request.name);
  const std::vector<std::string> names = numbered(request.name, request.count);
  for (const std::string& name : names) require_name("VM", name);
  const Manifest found = impl.store().manifest(source_name);
  if (!snapshot.empty()) impl.require_snapshot(found, snapshot);
  CloneResult result;
  {
    std::vector<std::string> locked = names;
    locked.push_back(source_name);
    Locks locks = impl.lock_vms(locked, fmt::format("clone {} to {}", request.source, request.name));
    for (const std::string& name : names) impl.require_free_name(name);
    const Manifest source = impl.store().manifest(source_name);
    WorkFolder scratch(impl.host, impl.store());
    CloneBase base;
    Plan plan;
    if (!snapshot.empty()) {
      impl.require_snapshot(source, snapshot);
      base = snapshot_as_base(impl, source, snapshot);
      result.consistency = find_snapshot(source, snapshot)->consistency;
    } else {
      const VmFacts vm = impl.vm_facts(source);
      if (request.full && !vm.is_running) {
        base = heads_as_base(vm);
      } else {
        if (vm.is_running && !(vm.nvram.empty() && vm.tpm.empty())) scratch.make();
        const Impl::FreezeResult freeze = impl.with_freeze(vm, locks, [&](bool with_freeze) {
          const MovePlan move = plan_move(impl.store(), vm, with_freeze, scratch.path(), fresh_ids(source.heads.size()),
                                          now_rfc3339());
          // Disks that were switched under a running VM stay so, whatever becomes of the clone. A stopped VM moves only
          // together with it.
          if (vm.is_running)
            impl.execute(move.plan);
          else
            plan.steps = move.plan.steps;
          base = move.base;
        });
        result.consistency = freeze.consistency;
        result.note = freeze.note;
        if (vm.is_running) impl.share_sweep(locks);
      }
    }
    ClonePlanInput input = clone_input(impl, request, source, snapshot, std::move(base), names);
    add_seeds(impl, source, input, scratch);
    Plan clones = vmgraft::plan_clone(std::move(input));
    clones.steps.insert(clones.steps.begin(), plan.steps.begin(), plan.steps.end());
    impl.execute(clones);
  }
  if (request.start)
    for (const std::string& name : names) impl.bring_up(name, request.wait, request.timeout);
  for (const std::string& name : names) result.vms.push_back(show(name));
  return result;
}

PlanText Manager::plan_clone(const CloneRequest& request) {
  Impl& impl = *impl_;
  const auto [source_name, snapshot] = split_ref(request.source);
  require_name("VM", request.name);
  const std::vector<std::string> names = numbered(request.name, request.count);
  const Manifest source = impl.store().manifest(source_name);
  for (const std::string& name : names) impl.require_free_name(name);
  PlanText text;
  CloneBase base;
  if (!snapshot.empty()) {
    impl.require_snapshot(source, snapshot);
    base = snapshot_as_base(impl, source, snapshot);
  } else {
    const VmFacts vm = impl.vm_facts(source);
    base = heads_as_base(vm);
    if (!request.full || vm.is_running)
      text = plan_text(plan_move(impl.store(), vm, vm.agent_connected, "scratch", fresh_ids(source.heads.size()),
                                 now_rfc3339())
                           .plan);
  }
  const PlanText clones =
      plan_text(vmgraft::plan_clone(clone_input(impl, request, source, snapshot, std::move(base), names)));
  text.steps.insert(text.steps.end(), clones.steps.begin(), clones.steps.end());
  return text;
}

std::string Manager::clone_xml(const CloneRequest& request) {
  Impl& impl = *impl_;
  const auto [source_name, snapshot] = split_ref(request.source);
  require_name("VM", request.name);
  const Manifest source = impl.store().manifest(source_name);
  if (!snapshot.empty()) impl.require_snapshot(source, snapshot);
  CloneBase base = snapshot.empty() ? heads_as_base(impl.vm_facts(source)) : snapshot_as_base(impl, source, snapshot);
  const Plan plan = vmgraft::plan_clone(clone_input(impl, request, source, snapshot, std::move(base), {request.name}));
  for (const Step& step : plan.steps)
    if (const auto* define = std::get_if<DefineDomain>(&step)) return define->xml;
  return {};
}

}  // namespace vmgraft

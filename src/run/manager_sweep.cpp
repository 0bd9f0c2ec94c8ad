// SPDX-License-Identifier: Apache-2.0
// Layers that nothing names any more: merged and deleted.
#include <algorithm>

#include <fmt/format.h>

#include "model/names.hpp"
#include "run/manager_impl.hpp"
#include "run/vm_facts.hpp"
#include "store/layer_file.hpp"

namespace vmgraft {
namespace {

/// libvirt cannot say now what domains use: layers stay, and with them the journal by which the next command deletes
/// them.
class SweepLater : public Error {
 public:
  explicit SweepLater(const Error& why)
      : Error(
            Errc::unreachable,
            fmt::format(
                "unused layers are kept until the next command, as libvirt cannot tell whether a domain uses them: {}",
                why.what())) {}
};

}  // namespace

void Manager::Impl::execute_untidy(const Plan& plan, Locks& locks, const std::function<void()>& tidying) {
  tidy_up(Executor(world()).execute_untidy(plan), locks, tidying);
}

void Manager::Impl::tidy_up(const std::string& journal, Locks& locks, const std::function<void()>& tidying) {
  locks.drop_share();  // a sweep is nobody else's to share
  try {
    tidying();
    Executor(world()).close(journal);
  } catch (const SweepLater& later) {
    notice(later.what());  // what was asked for is done
  } catch (Error& error) {
    error.add_leftover("layers that nothing names any more: the next command merges and deletes them");
    throw;
  }
}

bool Manager::Impl::try_tidy(const std::vector<std::string>& held) {
  const std::optional<FileLock> lock = FileLock::try_take(lock_file(store(), kSweepLock), FileLock::Kind::exclusive, "tidy up");
  if (!lock) return false;
  // merge() reads them again: who is at work on another VM goes on meanwhile.
  for (const Manifest& manifest : vms_to_merge(store_facts())) {
    std::optional<FileLock> vm;
    if (std::find(held.begin(), held.end(), manifest.name) == held.end()) {
      vm = FileLock::try_take(lock_file(store(), manifest.name), FileLock::Kind::exclusive, "merge layers");
      if (!vm) continue;  // who is at work on it merges when he is done
    }
    if (!store().find_manifest(manifest.name)) continue;  // deleted meanwhile
    merge(manifest.name);
  }
  try {
    static_cast<void>(sweep_locked());
  } catch (const SweepLater& later) {
    notice(later.what());
    return false;
  }
  return true;
}

std::vector<std::string> Manager::Impl::sweep() {
  const FileLock lock = lock_sweep("sweep");
  return sweep_locked();
}

std::set<std::string> Manager::Impl::layers_in_use(const StoreFacts& facts, const std::set<std::string>& dead) {
  // A VM's own manifest accounts for its domain, but where an older manifest came in its place: then a dead layer was
  // made for that VM.
  const auto is_accounted = [&](const DomainState& domain) {
    const auto manifest = std::find_if(facts.manifests.begin(), facts.manifests.end(),
                                       [&](const Manifest& each) { return each.uuid == domain.uuid; });
    return manifest != facts.manifests.end() && std::none_of(dead.begin(), dead.end(), [&](const std::string& id) {
             return facts.layers.at(id).made_by.find(manifest->name) != std::string::npos;
           });
  };
  std::set<std::string> used;
  for (const DomainState& domain : hypervisor().domains()) {
    if (is_accounted(domain)) continue;
    for (const bool inactive : {true, false}) {
      if (!inactive && !is_active(domain)) continue;
      std::string xml;
      try {
        xml = hypervisor().domain_xml(domain.uuid, inactive);
      } catch (const Error& error) {
        if (error.code() == Errc::not_found) continue;  // it went meanwhile
        throw;
      }
      for (const DomainFacts::Disk& disk : read_domain(xml).disks) {
        for (const std::string& id : dead) {
          if (disk.path != store().layer_file(id).string() || !used.insert(id).second) continue;
          notice(fmt::format("layer {} is kept: the domain '{}' uses it, but no manifest knows of it; see vmgraft check", id,
                             printable(domain.name)));
        }
      }
    }
  }
  return used;
}

std::vector<std::string> Manager::Impl::sweep_locked() {
  drop_idle_locks();
  // A layer that a dead process made is not named by anything yet, and a running VM may write to it: what a journal
  // speaks of stays until that is finished or undone. Read before the manifests: a journal goes after they are written.
  const std::string journals = journals_text();
  std::optional<StoreFacts> facts = try_store_facts("unused layers are kept");
  if (!facts) return {};
  std::set<std::string> pinned;
  for (const auto& [id, layer] : facts->layers)
    if (journals.find(id) != std::string::npos) pinned.insert(id);
  const auto deleted_by = [](const Plan& plan) {
    std::set<std::string> ids;
    for (const Step& step : plan.steps)
      if (const auto* layer = std::get_if<DeleteLayer>(&step)) ids.insert(layer->id);
    return ids;
  };
  Plan plan = plan_sweep(*facts, pinned);
  if (plan.steps.empty()) return {};
  try {
    facts->in_use = layers_in_use(*facts, deleted_by(plan));
  } catch (const Error& error) {
    if (error.code() != Errc::unreachable) throw;
    throw SweepLater(error);
  }
  if (!facts->in_use.empty()) plan = plan_sweep(*facts, pinned);
  std::vector<std::string> removed;
  for (const Step& step : plan.steps)
    if (const auto* layer = std::get_if<DeleteLayer>(&step)) removed.push_back(layer->id);
  execute(plan);
  return removed;
}

MergePlan Manager::Impl::merge(const std::string& vm) {
  // What a dead process had begun may be undone, and then names layers again that would be merged here.
  if (!half_done_with({vm}).empty()) return {};
  const Manifest manifest = store().manifest(vm);
  const std::optional<DomainState> domain = hypervisor().find_by_uuid(manifest.uuid);
  const bool is_running = domain && domain->state != VmState::shut_off && domain->state != VmState::crashed;
  const std::optional<StoreFacts> facts = try_store_facts("unused layers are not merged");
  if (!facts) return {};
  MergePlan plan = plan_merge(*facts, manifest, is_running, can_merge_live(hypervisor().info()));
  if (plan.plan.steps.empty()) return plan;
  // Something that we do not know may stand on these layers, or wake on them.
  for (const OutsideChange& change : changes_of(manifest))
    if (forbids(change.kind, Act::disks)) return {};
  for (const std::string& id : reach(facts->layers, named_layers(manifest)))
    if (const auto layer = facts->layers.find(id); layer != facts->layers.end())
      if (!inspect_layer(host, store(), layer->second).empty()) return {};
  execute(plan.plan);
  return plan;
}

void Manager::Impl::tidy_neighbours(const Manifest& gone) {
  const std::optional<StoreFacts> read = try_store_facts("unused layers are not merged");
  if (!read) return;
  const StoreFacts& facts = *read;
  const std::set<std::string> lost = reach(facts.layers, named_layers(gone));
  for (const Manifest& manifest : vms_to_merge(facts)) {
    const std::set<std::string> reached = reach(facts.layers, named_layers(manifest));
    const bool shares = std::any_of(lost.begin(), lost.end(), [&](const std::string& id) { return reached.contains(id); });
    if (!shares) continue;
    // Somebody at work on that VM merges when he is done, or the next stop does: nobody is waited for.
    const std::optional<FileLock> lock =
        FileLock::try_take(lock_file(store(), manifest.name), FileLock::Kind::exclusive, "merge layers");
    if (lock && store().find_manifest(manifest.name)) merge(manifest.name);
  }
}

}  // namespace vmgraft

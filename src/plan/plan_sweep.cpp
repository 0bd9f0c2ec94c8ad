// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_sweep.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace vmgraft {

std::set<std::string> named_layers(const Manifest& manifest) {
  std::set<std::string> named;
  for (const HeadRecord& head : manifest.heads) named.insert(head.layer);
  for (const SnapshotRecord& snapshot : manifest.snapshots)
    for (const SnapshotDisk& disk : snapshot.disks) named.insert(disk.layer);
  return named;
}

std::set<std::string> named_layers(const StoreFacts& facts) {
  std::set<std::string> named;
  for (const Manifest& manifest : facts.manifests) named.merge(named_layers(manifest));
  for (const ImageRecord& image : facts.images) named.insert(image.layer);
  return named;
}

std::set<std::string> reach(const LayerMap& layers, const std::set<std::string>& from) {
  std::set<std::string> reached;
  for (std::string at : from) {
    while (!at.empty() && reached.insert(at).second) {
      const auto layer = layers.find(at);
      at = layer == layers.end() ? std::string{} : layer->second.parent;
    }
  }
  return reached;
}

Plan plan_sweep(const StoreFacts& facts, const std::set<std::string>& pinned) {
  Plan plan{"sweep", {kSweepLock}, {}};
  std::set<std::string> roots = named_layers(facts);
  roots.insert(pinned.begin(), pinned.end());
  roots.insert(facts.in_use.begin(), facts.in_use.end());
  const std::set<std::string> alive = reach(facts.layers, roots);
  std::set<std::string> dead;
  for (const auto& [id, layer] : facts.layers)
    if (!alive.contains(id)) dead.insert(id);
  if (dead.empty()) return plan;
  plan.steps.emplace_back(Commit{});
  // A layer goes when nothing dead stands on it any more: a sweep that dies half-way leaves whole chains.
  while (!dead.empty()) {
    std::set<std::string> parents;
    for (const std::string& id : dead) parents.insert(facts.layers.at(id).parent);
    std::vector<std::string> leaves;
    for (const std::string& id : dead)
      if (!parents.contains(id)) leaves.push_back(id);
    if (leaves.empty()) break;  // a circle made by hand: left for gc to report
    for (const std::string& id : leaves) {
      plan.steps.emplace_back(DeleteLayer{id});
      dead.erase(id);
    }
  }
  return plan;
}

namespace {

/// What of the layers' use decides on merging, of all VMs at once.
struct LayerUse {
  explicit LayerUse(const StoreFacts& facts) : named(named_layers(facts)) {
    // What nothing reaches any more (the head of a VM that was just deleted) is swept, and holds nothing up.
    for (const std::string& id : reach(facts.layers, named))
      if (const auto layer = facts.layers.find(id); layer != facts.layers.end()) ++children[layer->second.parent];
    for (const Manifest& manifest : facts.manifests)
      for (const std::string& id : reach(facts.layers, named_layers(manifest)))
        if (const auto [vm, is_first] = users.emplace(id, manifest.name); !is_first) vm->second.clear();
  }

  std::set<std::string> named;                  ///< by a ref
  std::map<std::string, std::size_t> children;  ///< of those that a ref reaches
  std::map<std::string, std::string> users;     ///< the VM that reaches it; "": several do
};

/// Layers that take in those below them, each to these, the nearest first.
std::map<std::string, std::vector<std::string>> merges_of(const StoreFacts& facts, const LayerUse& use, const Manifest& manifest) {
  const auto is_inner = [&](const std::string& id) {
    const auto children = use.children.find(id);
    return !use.named.contains(id) && children != use.children.end() && children->second == 1;
  };
  std::map<std::string, std::vector<std::string>> merges;
  for (const std::string& id : reach(facts.layers, named_layers(manifest))) {
    const auto user = use.users.find(id);
    const bool is_foreign = user != use.users.end() && user->second != manifest.name;
    if (is_inner(id) || is_foreign || !facts.layers.contains(id)) continue;
    std::string base = facts.layers.at(id).parent;
    while (facts.layers.contains(base) && !facts.layers.at(base).parent.empty() && is_inner(base)) {
      merges[id].push_back(base);
      base = facts.layers.at(base).parent;
    }
  }
  return merges;
}

}  // namespace

MergePlan plan_merge(const StoreFacts& facts, const Manifest& manifest, bool is_running, bool can_merge_live) {
  MergePlan result;
  result.plan = {fmt::format("merge layers of {}", manifest.name), {manifest.name}, {}};
  std::vector<Step> steps;
  for (const auto& [id, gone] : merges_of(facts, LayerUse(facts), manifest)) {
    LayerRecord layer = facts.layers.at(id);
    layer.parent = facts.layers.at(gone.back()).parent;
    if (is_running) {
      const auto head = std::find_if(manifest.heads.begin(), manifest.heads.end(),
                                     [&](const HeadRecord& record) { return record.layer == layer.id; });
      if (head == manifest.heads.end() || !can_merge_live) {
        result.deferred.insert(result.deferred.end(), gone.begin(), gone.end());
        continue;
      }
      steps.emplace_back(PullLayer{manifest.name, manifest.uuid, head->target, layer});
    } else {
      steps.emplace_back(RebaseLayer{layer});
    }
    for (const std::string& layer_id : gone) steps.emplace_back(DeleteLayer{layer_id});
    result.merged.insert(result.merged.end(), gone.begin(), gone.end());
  }
  if (steps.empty()) return result;
  result.plan.steps.emplace_back(Commit{});
  result.plan.steps.insert(result.plan.steps.end(), steps.begin(), steps.end());
  return result;
}

std::vector<Manifest> vms_to_merge(const StoreFacts& facts) {
  const LayerUse use(facts);
  std::vector<Manifest> vms;
  for (const Manifest& manifest : facts.manifests)
    if (!merges_of(facts, use, manifest).empty()) vms.push_back(manifest);
  return vms;
}

}  // namespace vmgraft

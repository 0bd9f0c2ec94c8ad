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

MergePlan plan_merge(const StoreFacts& facts, const Manifest& manifest, bool is_running, bool can_merge_live) {
  MergePlan result;
  result.plan = {fmt::format("merge layers of {}", manifest.name), {manifest.name}, {}};
  const std::set<std::string> named = named_layers(facts);
  std::map<std::string, std::size_t> children;
  // What nothing reaches any more (the head of a VM that was just deleted) is swept, and holds nothing up.
  const std::set<std::string> alive = reach(facts.layers, named);
  for (const auto& [id, layer] : facts.layers)
    if (alive.contains(id)) ++children[layer.parent];
  std::set<std::string> others;
  for (const Manifest& other : facts.manifests)
    if (other.name != manifest.name) others.merge(named_layers(other));
  const std::set<std::string> foreign = reach(facts.layers, others);

  std::vector<Step> steps;
  for (const std::string& id : reach(facts.layers, named_layers(manifest))) {
    const bool is_inner = !named.contains(id) && children[id] == 1;
    if (is_inner || foreign.contains(id) || !facts.layers.contains(id)) continue;
    std::vector<std::string> gone;
    std::string base = facts.layers.at(id).parent;
    while (facts.layers.contains(base) && !facts.layers.at(base).parent.empty() && !named.contains(base) &&
           children[base] == 1) {
      gone.push_back(base);
      base = facts.layers.at(base).parent;
    }
    if (gone.empty()) continue;
    LayerRecord layer = facts.layers.at(id);
    layer.parent = base;
    if (is_running) {
      const auto head = std::find_if(manifest.heads.begin(), manifest.heads.end(),
                                     [&](const HeadRecord& record) { return record.layer == id; });
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

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "plan/facts.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include <vmgraft/error.hpp>

namespace vmgraft {

std::vector<LayerRecord> chain_of(const LayerMap& layers, const std::string& id) {
  std::vector<LayerRecord> chain;
  for (std::string at = id; !at.empty();) {
    const auto found = layers.find(at);
    if (found == layers.end() || chain.size() > layers.size())
      throw Error(Errc::other, fmt::format("layer {}: its chain is broken at {}", id, at),
                  "a file of the store's layers folder was removed or changed by hand");
    chain.push_back(found->second);
    at = found->second.parent;
  }
  return chain;
}

std::string FreshIds::take() {
  if (next_ == ids_.size()) throw std::logic_error("a planner takes more ids than were drawn for it");
  return ids_[next_++];
}

HeadMove move_heads(const VmFacts& vm, FreshIds& ids, const std::string& now, const std::string& made_by) {
  HeadMove move;
  for (const HeadRecord& head : vm.manifest.heads) {
    if (!head.snapshot) {
      move.heads.push_back(head);
      continue;
    }
    const std::vector<LayerRecord> chain = chain_of(vm.layers, head.layer);
    const LayerRecord& old = chain.front();
    if (!vm.is_running && vm.untouched.contains(head.layer) && !old.parent.empty()) {
      move.frozen.push_back({head.name, old.parent});
      move.heads.push_back(head);
      continue;
    }
    if (chain.size() + 1 > kMaxChainDepth)
      throw Error(Errc::conflict,
                  fmt::format("VM '{}': disk '{}' stands on {} layers, the most that every supported libvirt starts",
                              vm.manifest.name, head.name, chain.size()),
                  fmt::format("delete snapshots you no longer need (vmgraft snapshot list {0}), or go on with a copy: "
                              "vmgraft clone {0} NEW --full",
                              vm.manifest.name));
    LayerRecord next;
    next.id = ids.take();
    next.parent = old.id;
    next.virtual_size = old.virtual_size;
    next.made_by = made_by;
    next.created = now;
    move.new_layers.push_back(next);
    move.freeze.push_back(old.id);
    move.frozen.push_back({head.name, old.id});
    HeadRecord moved = head;
    moved.layer = next.id;
    move.heads.push_back(moved);
  }
  return move;
}

}  // namespace vmgraft

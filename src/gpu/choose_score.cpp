// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gpu/choose_sets.hpp"

namespace vmgraft {
namespace {

template <typename Value>
bool holds(const std::vector<Value>& all, const Value& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

template <typename Value>
void add(std::vector<Value>& all, const Value& one) {
  if (!holds(all, one)) all.push_back(one);
}

// "0000:40": where the path to the function leaves the host bridge.
std::string root_bus(const PciFunction& function) {
  return (function.path.empty() ? function.address : function.path.front()).substr(0, 7);
}

// The switch or, without one, the slot that a function stands on; VFs stand on their GPU.
std::string switch_name(const PciFunction& function) {
  if (!function.physical_function.empty()) return function.physical_function;
  return function.path.size() < 2 ? function.slot() : function.path[function.path.size() - 2];
}

template <typename Key>
std::vector<std::size_t> islands_by(const std::vector<Candidate>& candidates, Key key) {
  using Name = std::pair<GpuKind, decltype(key(candidates.front()))>;
  std::map<Name, std::size_t> numbers;
  std::vector<std::size_t> islands;
  for (const Candidate& each : candidates)
    islands.push_back(numbers.try_emplace(Name{each.one.kind, key(each)}, numbers.size()).first->second);
  return islands;
}

std::vector<std::uint64_t> count_free(const std::vector<Candidate>& candidates,
                                      const std::vector<std::size_t>& islands) {
  std::vector<std::uint64_t> free(candidates.size(), 0);
  for (std::size_t each = 0; each < candidates.size(); ++each)
    if (candidates[each].why_not.empty()) free[islands[each]] += candidates[each].copies;
  return free;
}

}  // namespace

std::size_t free_cpus(const GpuFacts& facts, const HostNode& node, const std::string& vm_uuid) {
  std::set<unsigned> free(node.cpus.begin(), node.cpus.end());
  for (const DomainUse& domain : facts.domains) {
    if (!domain.is_running || (!vm_uuid.empty() && domain.uuid == vm_uuid)) continue;
    for (const unsigned cpu : domain.host_cpus) free.erase(cpu);
  }
  return free.size();
}

unsigned link_distance(const PciFunction& a, const PciFunction& b) {
  if (a.slot() == b.slot() || (!a.path.empty() && a.path == b.path)) return 0;
  const auto parted = std::mismatch(a.path.begin(), a.path.end(), b.path.begin(), b.path.end());
  const auto shared = parted.first - a.path.begin();
  // Root port, the switch's upstream port, then a downstream port each.
  if (shared >= 2 && a.path.end() - parted.first == 1 && b.path.end() - parted.second == 1) return 1;
  if (shared >= 1) return 2;
  if (root_bus(a) == root_bus(b)) return 3;
  return a.numa_node == b.numa_node ? 4 : 5;
}

bool have_switch_between(const PciFunction& a, const PciFunction& b) {
  const unsigned distance = link_distance(a, b);
  return distance == 1 || distance == 2;
}

SetScorer::SetScorer(const GpuFacts& facts, const VmSpec& spec, const std::string& vm_uuid,
                     const std::vector<Candidate>& candidates, const std::vector<Wish>& wishes)
    : spec_(spec), candidates_(candidates) {
  for (const Wish& wish : wishes) policies_.insert(policies_.end(), wish.spec->count, wish.spec->numa);
  for (const Candidate& a : candidates)
    for (const Candidate& b : candidates) distances_.push_back(link_distance(*a.function, *b.function));
  for (const Candidate& each : candidates)
    to_bind_.push_back(each.is_function() && !is_vfio_driver(each.function->driver));
  for (const HostNode& node : facts.settings.nodes) {
    std::uint64_t free_memory = node.free_memory;
    for (const HugePages& pages : node.huge_pages) free_memory += pages.free * pages.page_size;
    rooms_.push_back(
        {static_cast<int>(node.number), node.cpus.size(), free_cpus(facts, node, vm_uuid), node.memory, free_memory});
  }
  switches_ = islands_by(candidates, [](const Candidate& each) { return switch_name(*each.function); });
  nodes_ = islands_by(candidates, [](const Candidate& each) { return each.function->numa_node; });
  switch_free_ = count_free(candidates, switches_);
  node_free_ = count_free(candidates, nodes_);
  for (const FabricPartition& partition : facts.devices.config.partitions) {
    std::vector<std::size_t> free;
    for (std::size_t each = 0; each < candidates.size(); ++each)
      if (candidates[each].why_not.empty() && candidates[each].is_function() &&
          std::find(partition.gpus.begin(), partition.gpus.end(), candidates[each].one.address) != partition.gpus.end())
        free.push_back(each);
    if (free.size() > 1 && free.size() == partition.gpus.size()) partitions_.push_back(std::move(free));
  }
}

bool SetScorer::node_has_vm(const Nodes& nodes, bool counts_free) const {
  std::uint64_t cpus = 0, memory = 0;
  bool is_known = false;
  for (const Room& room : rooms_) {
    if (!holds(nodes, -1) && !holds(nodes, room.node)) continue;
    is_known = true;
    cpus += counts_free ? room.free_cpus : room.cpus;
    memory += counts_free ? room.free_memory : room.memory;
  }
  return !is_known || (cpus >= spec_.cpus && memory >= spec_.memory);
}

bool SetScorer::meets_numa(const CandidateSet& set) const {
  Nodes nodes;
  for (std::size_t unit = 0; unit < set.size(); ++unit)
    if (policies_[unit] == NumaPolicy::required) add(nodes, candidates_[set[unit]].function->numa_node);
  return nodes.empty() || (nodes.size() == 1 && nodes.front() != -1 && node_has_vm(nodes, false));
}

std::uint64_t SetScorer::rest(const CandidateSet& set, const std::vector<std::size_t>& islands,
                              const std::vector<std::uint64_t>& free) const {
  std::vector<std::size_t> touched;
  std::uint64_t left = 0;
  for (const std::size_t each : set) {
    if (holds(touched, islands[each])) continue;
    touched.push_back(islands[each]);
    left += free[islands[each]];
  }
  return left - std::min<std::uint64_t>(left, set.size());
}

std::uint64_t SetScorer::broken_partitions(const CandidateSet& set) const {
  std::uint64_t broken = 0;
  for (const auto& partition : partitions_) {
    const auto taken =
        std::count_if(partition.begin(), partition.end(), [&](std::size_t each) { return holds(set, each); });
    if (taken != 0 && static_cast<std::size_t>(taken) != partition.size()) broken += partition.size();
  }
  return broken;
}

SetScore SetScorer::score(const CandidateSet& set) const {
  SetScore score{};
  Nodes nodes, bound_nodes;
  std::vector<std::size_t> split;
  for (std::size_t unit = 0; unit < set.size(); ++unit) {
    const Candidate& each = candidates_[set[unit]];
    add(nodes, each.function->numa_node);
    if (policies_[unit] != NumaPolicy::any) add(bound_nodes, each.function->numa_node);
    if (each.one.make_vf) add(split, set[unit]);
    if (to_bind_[set[unit]]) ++score[kToBind];
    for (std::size_t other = 0; other < unit; ++other) score[kDistance] += distance(set[unit], set[other]);
  }
  score[kNodes] = bound_nodes.size();
  score[kNodeLacks] = node_has_vm(nodes, true) ? 0 : 1;
  score[kVfsToMake] = split.size();
  score[kPartitions] = broken_partitions(set);
  score[kSwitchRest] = rest(set, switches_, switch_free_);
  score[kNodeRest] = rest(set, nodes_, node_free_);
  return score;
}

}  // namespace vmgraft

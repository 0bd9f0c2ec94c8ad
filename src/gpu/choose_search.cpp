// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "gpu/check_rows.hpp"
#include "gpu/choose_sets.hpp"

namespace vmgraft {
namespace {

// 8 of 16 GPUs are 12870 sets; beyond this many, a start would wait for the arithmetic.
constexpr double kMostSets = 200'000;
constexpr std::size_t kMostBest = 4;

bool is_whole(const Candidate& candidate) {
  return candidate.is_function() && candidate.function->physical_function.empty();
}

// A GPU is given whole, in VFs or in mediated devices of one type.
bool exclude_each_other(const Candidate& a, const Candidate& b) {
  if (a.one.address == b.one.address) return true;
  return (is_whole(a) && b.function->physical_function == a.one.address) ||
         (is_whole(b) && a.function->physical_function == b.one.address);
}

CandidateSet sorted(CandidateSet set) {
  std::sort(set.begin(), set.end());
  return set;
}

double combinations(std::size_t of, std::size_t some) {
  if (some > of) return 0;
  double ways = 1;
  for (std::size_t each = 1; each <= some; ++each)
    ways = ways * static_cast<double>(of - some + each) / static_cast<double>(each);
  return ways;
}

}  // namespace

SetSearch::SetSearch(const GpuFacts& facts, const VmSpec& spec, const CheckFor& wanted,
                     const std::vector<Candidate>& candidates, const std::vector<Wish>& wishes)
    : facts_(facts),
      spec_(spec),
      wanted_(wanted),
      candidates_(candidates),
      wishes_(wishes),
      scorer_(facts, spec, wanted.vm_uuid, candidates, wishes) {
  for (const Candidate& each : candidates)
    on_fabric_.push_back(each.is_function() && is_on_fabric(facts.devices, each.one.address));
  for (std::size_t each = 0; each < wishes.size(); ++each) units_.insert(units_.end(), wishes[each].spec->count, each);
}

double SetSearch::count(const Pool& pool) const {
  double ways = 1;
  for (const Wish& wish : wishes_) {
    std::size_t there = 0;
    for (const std::size_t each : wish.matches)
      if (pool[each]) there += std::min(candidates_[each].copies, wish.spec->count);
    ways *= combinations(there, wish.spec->count);
  }
  return ways;
}

void SetSearch::run() {
  const Pool all(candidates_.size(), true);
  const bool is_exhaustive = count(all) <= kMostSets;
  repeats_ = !is_exhaustive || wishes_.size() > 1;
  if (is_exhaustive) return search(all);
  std::map<std::string, Pool> parts;
  const auto add = [&](const std::string& name, std::size_t candidate) {
    parts.try_emplace(name, candidates_.size(), false).first->second[candidate] = true;
  };
  const auto& partitions = facts_.devices.config.partitions;
  for (std::size_t each = 0; each < candidates_.size(); ++each) {
    const Candidate& candidate = candidates_[each];
    add("node " + std::to_string(candidate.function->numa_node), each);
    add("switch " + std::to_string(scorer_.switch_of(each)), each);
    for (std::size_t number = 0; number < partitions.size(); ++number) {
      const auto& gpus = partitions[number].gpus;
      if (std::find(gpus.begin(), gpus.end(), candidate.one.address) != gpus.end())
        add("partition " + std::to_string(number), each);
    }
  }
  for (const auto& [name, pool] : parts) search(pool);
  around_each(all);
}

void SetSearch::search(const Pool& pool) {
  if (count(pool) > kMostSets) return around_each(pool);
  CandidateSet set;
  every_set(pool, 0, 0, set);
}

// Within a wish the candidates come in their order, so that no set comes twice.
void SetSearch::every_set(const Pool& pool, std::size_t unit, std::size_t from, CandidateSet& set) {
  if (unit == units_.size()) return look_at(set);
  const auto& matches = wishes_[units_[unit]].matches;
  for (std::size_t each = from; each < matches.size(); ++each) {
    if (!pool[matches[each]] || !can_join(set, matches[each])) continue;
    set.push_back(matches[each]);
    const bool same_wish = unit + 1 < units_.size() && units_[unit + 1] == units_[unit];
    every_set(pool, unit + 1, same_wish ? each : 0, set);
    set.pop_back();
  }
}

// The nearest one; of those as near, one whose switch gives the most of what is still to be found, and has the least
// left.
std::size_t SetSearch::next_to(const CandidateSet& set, const Pool& pool) const {
  std::size_t nearest = candidates_.size();
  std::array<std::uint64_t, 3> least{};
  const std::uint64_t wanted = units_.size() - set.size();
  for (const std::size_t each : wishes_[units_[set.size()]].matches) {
    if (!pool[each] || !can_join(set, each)) continue;
    std::uint64_t far = 0, there = scorer_.free_on_switch_of(each);
    for (const std::size_t member : set) {
      far += scorer_.distance(member, each);
      if (scorer_.switch_of(member) == scorer_.switch_of(each) && there > 0) --there;
    }
    const std::array<std::uint64_t, 3> key{far, wanted - std::min(wanted, there), there - std::min(wanted, there)};
    if (nearest != candidates_.size() && !(key < least)) continue;
    least = key;
    nearest = each;
  }
  return nearest;
}

void SetSearch::around_each(const Pool& pool) {
  for (const std::size_t seed : wishes_[units_.front()].matches) {
    if (!pool[seed]) continue;
    CandidateSet set{seed};
    while (set.size() < units_.size()) {
      const std::size_t next = next_to(set, pool);
      if (next == candidates_.size()) break;
      set.push_back(next);
    }
    if (set.size() == units_.size()) look_at(std::move(set));
  }
}

bool SetSearch::can_join(const CandidateSet& set, std::size_t candidate) const {
  unsigned taken = 0;
  for (const std::size_t each : set) {
    if (each == candidate)
      ++taken;
    else if (exclude_each_other(candidates_[each], candidates_[candidate]))
      return false;
  }
  return taken < candidates_[candidate].copies;
}

std::vector<std::string> SetSearch::functions(const CandidateSet& set) const {
  std::vector<std::string> found = wanted_.together;
  for (const std::size_t each : set) {
    const std::string& address = candidates_[each].one.address;
    if (candidates_[each].is_function() && std::find(found.begin(), found.end(), address) == found.end())
      found.push_back(address);
  }
  return found;
}

bool SetSearch::is_joined(const CandidateSet& set) const {
  const bool has_fabric = std::any_of(set.begin(), set.end(), [&](std::size_t each) { return on_fabric_[each]; });
  return !has_fabric || fabric_joins(facts_.devices, functions(set));
}

// The rows that could not be judged of one GPU alone. All that depends on the sum is the same for each of the set.
bool SetSearch::passes_checks(const CandidateSet& set) {
  CheckFor wanted = wanted_;
  wanted.spec = &spec_;
  wanted.together = functions(set);
  const auto note_failure = [&](const std::vector<GpuCheck>& rows) {
    const auto failing =
        std::find_if(rows.begin(), rows.end(), [](const auto& row) { return row.health == Health::fail; });
    if (failing == rows.end()) return false;
    refusal_ = failing->seen + " [" + failing->id + "]";
    remedy_ = failing->remedy;
    return true;
  };
  const Candidate* first = &candidates_[set.front()];
  for (const std::size_t each : set) {
    const Candidate& candidate = candidates_[each];
    if (!candidate.is_function()) continue;
    if (!first->is_function()) first = &candidate;
    const bool has_mates = std::any_of(candidate.gpu->strangers.begin(), candidate.gpu->strangers.end(),
                                       [&](const std::string& other) { return facts_.find(other) != nullptr; });
    if (!has_mates || candidate.is_held) continue;
    wanted.kind = candidate.one.kind;
    if (note_failure(check_gpu_alone(facts_, *candidate.gpu, wanted))) return false;
  }
  wanted.kind = first->one.kind;
  return !note_failure(check_gpu_together(facts_, *first->gpu, wanted));
}

// Many sets are seen, and only overlapping searches see one of them twice.
void SetSearch::note_fitting(const CandidateSet& set) {
  if (!repeats_ || repeated_.insert(sorted(set)).second) ++fitting_;
}

void SetSearch::look_at(CandidateSet set) {
  if (!scorer_.meets_numa(set)) {
    if (refusal_.empty()) refusal_ = "numa=required wants all on one NUMA node that is known and holds the VM";
    return;
  }
  if (!is_joined(set)) {
    refusal_ =
        "several GPUs of a board with NVSwitches are given only as one of its fabric partitions [fabric-partition]";
    remedy_ = std::string("name the partitions in ") + kGpuConfigFile + ", or ask for as many GPUs as a free one has";
    return;
  }
  Scored scored{scorer_.score(set), std::move(set)};
  for (const std::size_t each : scored.set) {
    const auto [found, is_new] = best_with_.try_emplace(each, scored.score);
    if (!is_new) found->second = std::min(found->second, scored.score);
  }
  note_fitting(scored.set);
  if (best_.size() == kMostBest && !(scored < best_.back())) return;
  // The same GPUs can serve the entries of a request the other way round, and pools overlap: the better one is kept.
  const auto same = std::find_if(best_.begin(), best_.end(),
                                 [&](const Scored& each) { return sorted(each.set) == sorted(scored.set); });
  if ((same != best_.end() && !(scored < *same)) || !passes_checks(scored.set)) return;
  if (same != best_.end()) best_.erase(same);
  best_.insert(std::upper_bound(best_.begin(), best_.end(), scored), std::move(scored));
  if (best_.size() > kMostBest) best_.pop_back();
}

}  // namespace vmgraft

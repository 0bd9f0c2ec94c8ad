// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gpu/check.hpp"
#include "gpu/choose.hpp"
#include "gpu/gpu.hpp"

namespace vmgraft {

/// What could be given to the VM: a GPU, a VF, or VFs or mediated devices yet to be made on a GPU.
struct Candidate {
  GpuChoice::One one;
  const Gpu* gpu = nullptr;
  const PciFunction* function = nullptr;
  unsigned copies = 1;   ///< VFs or mediated devices that can be made; 1 of everything else
  bool is_held = false;  ///< somebody has it, but nothing is wrong with it
  std::string why_not;   ///< empty: it can be taken
  /// It hands a function of the host to the VM, rather than something made on one that stays.
  [[nodiscard]] bool is_function() const { return !one.make_vf && one.kind != GpuKind::mdev; }
};

/// An entry of the request with the candidates that match it, as places in the list of all, the preferred first.
struct Wish {
  const GpuSpec* spec = nullptr;
  std::vector<std::size_t> matches;
};

/// A set of candidates, one for each unit of the request in its order. A candidate is in it as often as it is taken.
using CandidateSet = std::vector<std::size_t>;

/// What is compared of two sets, less is better, in this order.
enum ScorePart : std::size_t {
  kNodes,       ///< NUMA nodes that are spanned by entries whose policy is not `any`
  kDistance,    ///< sum of link distances
  kNodeLacks,   ///< 1: the node has not the VM's CPUs or memory
  kVfsToMake,   ///< idle GPUs that would be split
  kPartitions,  ///< GPUs in free fabric partitions that would be broken up
  kSwitchRest,  ///< free ones that would be left on switches that are broken up
  kNodeRest,    ///< the same for nodes
  kToBind,      ///< functions not on vfio-pci yet
  kScoreParts,
};
using SetScore = std::array<std::uint64_t, kScoreParts>;

/// CPUs of the node that no VM but the asking one has for its own.
[[nodiscard]] std::size_t free_cpus(const GpuFacts& facts, const HostNode& node, const std::string& vm_uuid);

/// Scores sets of one list of candidates. What is compared again and again is worked out once.
class SetScorer {
 public:
  SetScorer(const GpuFacts& facts, const VmSpec& spec, const std::string& vm_uuid,
            const std::vector<Candidate>& candidates, const std::vector<Wish>& wishes);
  [[nodiscard]] SetScore score(const CandidateSet& set) const;
  [[nodiscard]] unsigned distance(std::size_t a, std::size_t b) const { return distances_[a * candidates_.size() + b]; }
  /// Entries that require it get one known node, which is large enough for the VM.
  [[nodiscard]] bool meets_numa(const CandidateSet& set) const;
  [[nodiscard]] std::size_t switch_of(std::size_t candidate) const { return switches_[candidate]; }
  [[nodiscard]] std::uint64_t free_on_switch_of(std::size_t candidate) const {
    return switch_free_[switches_[candidate]];
  }

 private:
  using Nodes = std::vector<int>;  ///< each once, as it comes; -1: not told
  struct Room {
    int node = 0;
    std::uint64_t cpus = 0, free_cpus = 0, memory = 0, free_memory = 0;
  };
  [[nodiscard]] bool node_has_vm(const Nodes& nodes, bool counts_free) const;
  [[nodiscard]] std::uint64_t rest(const CandidateSet& set, const std::vector<std::size_t>& islands,
                                   const std::vector<std::uint64_t>& free) const;
  [[nodiscard]] std::uint64_t broken_partitions(const CandidateSet& set) const;

  const VmSpec& spec_;
  const std::vector<Candidate>& candidates_;
  std::vector<NumaPolicy> policies_;  ///< of each unit of the request
  std::vector<Room> rooms_;           ///< the host's nodes
  std::vector<bool> to_bind_;
  std::vector<unsigned> distances_;
  std::vector<std::size_t> switches_, nodes_;  ///< island of each candidate
  std::vector<std::uint64_t> switch_free_, node_free_;
  std::vector<std::vector<std::size_t>> partitions_;  ///< those that are free as a whole, as candidates
};

/// Sets that fit the request, seen one after the other: the best, the next few, and the best one of each candidate.
class SetSearch {
 public:
  struct Scored {
    SetScore score{};
    CandidateSet set;
    friend bool operator<(const Scored& a, const Scored& b) {
      return a.score != b.score ? a.score < b.score : a.set < b.set;
    }
  };

  SetSearch(const GpuFacts& facts, const VmSpec& spec, const CheckFor& wanted, const std::vector<Candidate>& candidates,
            const std::vector<Wish>& wishes);
  /// At least one unit is wished for. Look at every set, or, when they are too many, at those within a node, switch or
  /// partition and around each candidate.
  void run();

  [[nodiscard]] const std::vector<Scored>& best() const { return best_; }  ///< the best first, a few
  [[nodiscard]] std::size_t fitting() const { return fitting_; }
  [[nodiscard]] const std::map<std::size_t, SetScore>& best_with() const { return best_with_; }
  /// Why the last set that was refused was refused, and what to do; empty: none was.
  [[nodiscard]] const std::string& refusal() const { return refusal_; }
  [[nodiscard]] const std::string& remedy() const { return remedy_; }
  [[nodiscard]] const SetScorer& scorer() const { return scorer_; }

 private:
  using Pool = std::vector<bool>;  ///< by candidate
  void search(const Pool& pool);
  void every_set(const Pool& pool, std::size_t unit, std::size_t from, CandidateSet& set);
  void around_each(const Pool& pool);
  [[nodiscard]] std::size_t next_to(const CandidateSet& set, const Pool& pool) const;
  void note_fitting(const CandidateSet& set);
  void look_at(CandidateSet set);
  [[nodiscard]] bool can_join(const CandidateSet& set, std::size_t candidate) const;
  [[nodiscard]] bool is_joined(const CandidateSet& set) const;
  [[nodiscard]] bool passes_checks(const CandidateSet& set);
  [[nodiscard]] std::vector<std::string> functions(const CandidateSet& set) const;
  [[nodiscard]] double count(const Pool& pool) const;

  const GpuFacts& facts_;
  const VmSpec& spec_;
  const CheckFor& wanted_;
  const std::vector<Candidate>& candidates_;
  const std::vector<Wish>& wishes_;
  std::vector<std::size_t> units_;  ///< the wish of each unit
  std::vector<bool> on_fabric_;     ///< by candidate
  SetScorer scorer_;
  std::vector<Scored> best_;
  std::map<std::size_t, SetScore> best_with_;
  bool repeats_ = false;
  std::set<CandidateSet> repeated_;
  std::size_t fitting_ = 0;
  std::string refusal_, remedy_;
};

}  // namespace vmgraft

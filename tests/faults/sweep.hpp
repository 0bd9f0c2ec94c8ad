// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <string>
#include <vector>

#include "faults/disk_model.hpp"
#include "faults/scenarios.hpp"

namespace vmgraft {

/// One kind of fault at each of a verb's points, and what became of it.
struct SweepResult {
  std::size_t points = 0;
  std::size_t faults = 0;
  std::size_t right = 0;
  std::vector<std::string> wrong;  ///< what was wrong, a point each
  double worst_seconds = 0;        ///< from SIGINT to the end
  std::size_t undone = 0;          ///< ended as they began
};

/// Somebody else who dies in the middle: how, and how he comes back before the next command.
struct Death {
  std::function<void()> die;
  std::function<void()> come_back = {};
  bool takes_vms_along = false;  ///< a VM that ran may be off afterwards
  bool is_told = false;          ///< every journal that it leaves is told by the next command
};

/// Drives one verb: prepares its world once, knows how it begins and ends when nothing goes wrong.
class FaultSweep {
 public:
  FaultSweep(FaultWorld& world, const FaultScenario& scenario);

  [[nodiscard]] std::size_t points() const { return points_; }
  [[nodiscard]] const std::vector<Call>& calls() const { return calls_; }
  /// \param kind, error  as in Fault. \param step, offset  every step-th point, from offset on.
  SweepResult sweep(Fault::Kind kind, int error, std::size_t step, std::size_t offset);
  /// It is killed when it has asked libvirt for something, which libvirt then does for nobody: every step-th request.
  SweepResult sweep_requests(std::size_t step, std::size_t offset);
  SweepResult sweep(const Death& death, std::size_t step, std::size_t offset);
  /// Power goes at each point, and when the verb has ended: what was not synced is lost, no VM runs any more.
  SweepResult sweep(DiskModel::Loss loss, std::size_t step, std::size_t offset);

 private:
  /// What comes between the fault and the next command.
  using Aftermath = std::function<void(const Traced&)>;
  SweepResult sweep(Fault fault, const std::vector<std::size_t>& points, const Aftermath& aftermath);
  /// Every step-th point.
  [[nodiscard]] std::vector<std::size_t> every(std::size_t step, std::size_t offset, bool with_end = false) const;
  /// Whether a state is that, as far as the fault lets it be.
  [[nodiscard]] bool is(const std::string& state, const std::string& wanted) const;
  std::string judge(const Fault& fault, const Traced& traced, std::size_t turn, SweepResult& result);
  [[nodiscard]] std::string check_recovery(const Fault& fault, const Traced& traced, std::size_t turn, std::size_t journals);
  [[nodiscard]] std::string check_end(const Fault& fault, const Traced& traced, std::size_t turn, SweepResult& result);
  /// The same for a verb that takes garbage away one thing after the other: what is left of it, the next one takes.
  [[nodiscard]] std::string check_cleaned(const std::string& state);
  [[nodiscard]] std::string check_garbage(const std::string& state, std::size_t turn);

  FaultWorld& world_;
  const FaultScenario& scenario_;
  Tracer tracer_;
  std::string start_;
  std::string finish_;
  std::string halfway_;
  std::string finish_of_off_;  ///< of the verb on VMs that were powered off
  std::size_t points_ = 0;
  std::vector<Call> calls_;
  std::set<std::string> deletable_;  ///< states from which everything was deleted, and nothing stayed
  bool is_at_start_ = true;
  std::set<std::string> start_flaws_;  ///< of a scenario with garbage
  std::size_t start_journals_ = 0;
  std::set<std::string> swept_;  ///< states in which gc was asked, and found nothing
  const Death* death_ = nullptr;
};

/// The lines that differ.
[[nodiscard]] std::string difference(const std::string& before, const std::string& after);

}  // namespace vmgraft

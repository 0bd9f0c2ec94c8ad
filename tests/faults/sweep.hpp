// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <string>
#include <vector>

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
};

/// Drives one verb: prepares its world once, knows how it begins and ends when nothing goes wrong.
class FaultSweep {
 public:
  FaultSweep(FaultWorld& world, const FaultScenario& scenario);

  [[nodiscard]] std::size_t points() const { return points_; }
  [[nodiscard]] const std::vector<Call>& calls() const { return calls_; }
  /// \param kind, error  as in Fault. \param step, offset  every step-th point, from offset on.
  SweepResult sweep(Fault::Kind kind, int error, std::size_t step, std::size_t offset);
  SweepResult sweep(const Death& death, std::size_t step, std::size_t offset);

 private:
  SweepResult sweep(Fault fault, std::size_t step, std::size_t offset);
  /// Whether a state is that, as far as the fault lets it be.
  [[nodiscard]] bool is(const std::string& state, const std::string& wanted) const;
  std::string judge(const Fault& fault, const Traced& traced, std::size_t turn, SweepResult& result);
  [[nodiscard]] std::string check_recovery(const Fault& fault, const Traced& traced, std::size_t turn, std::size_t journals);
  [[nodiscard]] std::string check_end(const Fault& fault, const Traced& traced, SweepResult& result);

  FaultWorld& world_;
  const FaultScenario& scenario_;
  Tracer tracer_;
  std::string start_;
  std::string finish_;
  std::string halfway_;
  std::size_t points_ = 0;
  std::vector<Call> calls_;
  std::set<std::string> deletable_;  ///< states from which everything was deleted, and nothing stayed
  bool is_at_start_ = true;
  const Death* death_ = nullptr;
};

/// The lines that differ.
[[nodiscard]] std::string difference(const std::string& before, const std::string& after);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "faults/sweep.hpp"

#include <algorithm>
#include <csignal>
#include <sstream>
#include <stdexcept>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vmgraft {
namespace {

bool kills(Fault::Kind kind) {
  return kind == Fault::Kind::kill_before || kind == Fault::Kind::kill_after || kind == Fault::Kind::power_off;
}

/// Of the ends of a scenario, every which one gc is asked about; and it is asked about each state once.
constexpr std::size_t kGarbageTurns = 4;

std::size_t recovery_lines(const std::string& err) {
  std::istringstream lines(err);
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("finished '") || line.starts_with("undid '")) ++count;
  return count;
}

std::multiset<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::multiset<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.insert(line);
  return lines;
}

}  // namespace

std::string difference(const std::string& before, const std::string& after) {
  const std::multiset<std::string> a = lines_of(before);
  const std::multiset<std::string> b = lines_of(after);
  std::vector<std::string> gone;
  std::vector<std::string> come;
  std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(gone));
  std::set_difference(b.begin(), b.end(), a.begin(), a.end(), std::back_inserter(come));
  return fmt::format("missing [{}], more [{}]", fmt::join(gone, "; "), fmt::join(come, "; "));
}

FaultSweep::FaultSweep(FaultWorld& world, const FaultScenario& scenario)
    : world_(world), scenario_(scenario), tracer_({world.store()}) {
  world_.begin();
  world_.set_copies_differ(scenario_.has_copies);
  scenario_.prepare(world_);
  world_.keep();
  start_ = world_.state();
  start_journals_ = world_.journals();
  if (scenario_.has_garbage)
    for (const std::string& flaw : world_.flaws()) start_flaws_.insert(masked(flaw));
  Traced whole = tracer_.run(world_.command(scenario_.verb(world_)), {});
  if (whole.exit_code != 0) throw std::runtime_error(scenario_.name + " fails by itself: " + whole.err);
  finish_ = world_.state();
  if (const auto flaws = world_.flaws(); !flaws.empty())
    throw std::runtime_error(fmt::format("{} has flaws by itself: {}", scenario_.name, fmt::join(flaws, "; ")));
  if (const auto garbage = world_.garbage(); !garbage.empty())
    throw std::runtime_error(fmt::format("{} leaves garbage by itself: {}", scenario_.name, fmt::join(garbage, "; ")));
  points_ = whole.counted;
  calls_ = std::move(whole.calls);
  world_.restore();
  if (scenario_.halfway) {
    scenario_.halfway(world_);
    halfway_ = world_.state();
    world_.restore();
  }
  if (world_.state() != start_)
    throw std::runtime_error(scenario_.name + ": the world is not put back: " + difference(start_, world_.state()));
}

SweepResult FaultSweep::sweep(Fault::Kind kind, int error, std::size_t step, std::size_t offset) {
  return sweep(Fault{kind, 0, error}, every(step, offset), {});
}

SweepResult FaultSweep::sweep_requests(std::size_t step, std::size_t offset) {
  std::vector<std::size_t> points;
  for (std::size_t at = 1; at <= points_; ++at)
    if (calls_[at - 1].path == "socket") points.push_back(at);
  std::vector<std::size_t> chosen;
  for (std::size_t i = offset % step; i < points.size(); i += step) chosen.push_back(points[i]);
  return sweep(Fault{Fault::Kind::kill_after}, chosen, {});
}

std::vector<std::size_t> FaultSweep::every(std::size_t step, std::size_t offset, bool with_end) const {
  std::vector<std::size_t> points;
  for (std::size_t at = 1 + offset % step; at <= points_ + (with_end ? 1 : 0); at += step) points.push_back(at);
  return points;
}

SweepResult FaultSweep::sweep(const Death& death, std::size_t step, std::size_t offset) {
  death_ = &death;
  if (death.takes_vms_along) {
    // Who is dead before the verb has looked is a VM that is off, of which it makes something else: a clean snapshot.
    if (!is_at_start_) world_.restore();
    world_.power_off();
    if (world_.run(scenario_.verb(world_)).exit_code == 0) finish_of_off_ = world_.state();
    is_at_start_ = false;
  }
  SweepResult result = sweep(Fault{Fault::Kind::act, 0, 0, death.die}, every(step, offset), [&](const Traced&) {
    if (death.come_back) death.come_back();
  });
  death_ = nullptr;
  return result;
}

SweepResult FaultSweep::sweep(DiskModel::Loss loss, std::size_t step, std::size_t offset) {
  Death outage;
  outage.takes_vms_along = true;
  outage.is_told = true;
  death_ = &outage;
  SweepResult result = sweep(Fault{Fault::Kind::power_off}, every(step, offset, true), [&](const Traced& traced) {
    DiskModel disk(world_.kept(), world_.store());
    for (const Call& call : traced.calls) disk.see(call);
    world_.power_off();
    disk.lose_power(loss);
  });
  death_ = nullptr;
  return result;
}

SweepResult FaultSweep::sweep(Fault fault, const std::vector<std::size_t>& points, const Aftermath& aftermath) {
  SweepResult result;
  result.points = points_;
  const bool is_outage = fault.kind == Fault::Kind::power_off;
  for (const std::size_t at : points) {
    if (!is_at_start_) world_.restore();
    is_at_start_ = false;
    fault.at = at;
    const Traced traced = tracer_.run(world_.command(scenario_.verb(world_)), fault, is_outage);
    if (aftermath) aftermath(traced);
    if (!traced.hit && !is_outage) {  // not a call on a file; or the run was a call shorter
      is_at_start_ = world_.state() == start_;
      continue;
    }
    ++result.faults;
    const std::string wrong = judge(fault, traced, at, result);
    if (wrong.empty()) {
      ++result.right;
      continue;
    }
    std::string where = "the end";
    if (at <= traced.calls.size()) {
      const Call& call = traced.calls[at - 1];
      where = call.name + " " + masked(call.path) + " " + masked(call.to) +
              (call.by_child ? " by a program that it runs" : "");
    }
    result.wrong.push_back(fmt::format("{}: point {} ({}), exit {}: {}", scenario_.name, at, where, traced.exit_code, wrong));
    is_at_start_ = false;
  }
  return result;
}

std::string FaultSweep::judge(const Fault& fault, const Traced& traced, std::size_t turn, SweepResult& result) {
  if (kills(fault.kind) && traced.hit && traced.exit_code != 128 + SIGKILL)
    return fmt::format("it was not killed: {}", traced.err);
  const std::size_t journals = world_.journals();
  if (!kills(fault.kind) && fault.kind != Fault::Kind::fail_from && death_ == nullptr && journals > start_journals_ &&
      traced.err.find("left over") == std::string::npos)
    return fmt::format("a journal stayed, and no word of it: {}", traced.err);
  if (std::string wrong = check_recovery(fault, traced, turn, journals); !wrong.empty()) return wrong;
  return check_end(fault, traced, turn, result);
}

bool FaultSweep::is(const std::string& state, const std::string& wanted) const {
  if (state == wanted) return true;
  if (death_ == nullptr || !death_->takes_vms_along) return false;
  const auto without_power = [](const std::string& text) {
    std::multiset<std::string> lines;
    for (std::string line : lines_of(text)) {
      // "domain NAME STATE DIGEST"
      if (line.starts_with("domain ")) line.erase(line.find(' ', 7), 2);
      lines.insert(line);
    }
    return lines;
  };
  return without_power(state) == without_power(wanted);
}

/// The next command, each time another, must do what is left to be done and say so in one line.
std::string FaultSweep::check_recovery(const Fault& fault, const Traced& traced, std::size_t turn, std::size_t journals) {
  const std::vector<std::vector<std::string>> next{{"list", "--all"}, {"image", "list"}, {"snapshot", "list", world_.vm()},
                                                   {"show", world_.vm()}, {"create", "idle", "vf-other", "--dry-run"}};
  const CommandResult result = world_.run(next[turn % next.size()]);
  if (result.exit_code != 0 && result.exit_code != 4)  // 4: the VM is not there (any more)
    return fmt::format("the next command ends with {}: {}", result.exit_code, result.err);
  const std::size_t lines = recovery_lines(result.err);
  const std::size_t wanted = journals == 0 ? 0 : 1;
  // Who is told of what is left says it himself; and a dead libvirt may have left nothing to be undone.
  const bool is_told = death_ == nullptr || death_->is_told;
  const bool fits = scenario_.has_garbage ? lines >= wanted && lines <= journals : lines == wanted;
  if (is_told && !fits) return fmt::format("{} lines of recovery, not {}: {}", lines, wanted, result.err);
  static_cast<void>(fault);
  static_cast<void>(traced);
  return {};
}

std::string FaultSweep::check_garbage(const std::string& state, std::size_t turn) {
  if (!swept_.insert(state).second && turn % kGarbageTurns != 0) return {};
  const std::vector<std::string> garbage = world_.garbage();
  return garbage.empty() ? std::string() : fmt::format("gc finds {}", fmt::join(garbage, "; "));
}

std::string FaultSweep::check_cleaned(const std::string& state) {
  for (const std::string& flaw : world_.flaws())
    if (!start_flaws_.contains(masked(flaw))) return flaw;
  if (state == finish_) return check_garbage(state, 0);
  is_at_start_ = false;
  const CommandResult again = world_.run(scenario_.verb(world_));
  if (again.exit_code != 0) return fmt::format("the next one ends with {}: {}", again.exit_code, again.err);
  if (const std::string now = world_.state(); now != finish_)
    return fmt::format("the next one does not take what is left: {}", difference(finish_, now));
  if (const auto flaws = world_.flaws(); !flaws.empty())
    return fmt::format("after the next one: {}", fmt::join(flaws, "; "));
  return {};
}

std::string FaultSweep::check_end(const Fault& fault, const Traced& traced, std::size_t turn, SweepResult& result) {
  const std::string state = world_.state();
  is_at_start_ = state == start_;
  if (is_at_start_) ++result.undone;
  if (fault.kind == Fault::Kind::interrupt) result.worst_seconds = std::max(result.worst_seconds, traced.after_signal);
  if (scenario_.has_garbage) return check_cleaned(state);
  if (const auto flaws = world_.flaws(); !flaws.empty()) return fmt::format("{}", fmt::join(flaws, "; "));
  if (death_ != nullptr && is(state, finish_of_off_)) return check_garbage(state, turn);
  if (!is(state, start_) && !is(state, finish_) && !is(state, halfway_))
    return fmt::format("neither as before nor done; to before: {}; to done: {}", difference(start_, state), difference(finish_, state));
  if (fault.kind == Fault::Kind::interrupt) {
    if (traced.exit_code != 0 && traced.exit_code != 130) return fmt::format("exit {}: {}", traced.exit_code, traced.err);
    // What lies halfway is an operation of its own: that one was done, the next was undone.
    if (traced.exit_code == 130 && state != start_ && !is(state, halfway_)) return fmt::format("interrupted, and yet done: {}", traced.err);
  }
  if (traced.exit_code == 0 && !is(state, finish_)) return fmt::format("it said that it was done, and it is not: {}", traced.out);
  if (std::string wrong = check_garbage(state, turn); !wrong.empty()) return wrong;
  if (deletable_.insert(state).second) {
    is_at_start_ = false;
    if (const auto left = world_.delete_all(); !left.empty()) return fmt::format("{}", fmt::join(left, "; "));
  }
  return {};
}

}  // namespace vmgraft

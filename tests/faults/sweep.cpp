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

bool kills(Fault::Kind kind) { return kind == Fault::Kind::kill_before || kind == Fault::Kind::kill_after; }

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
  Traced whole = tracer_.run(world_.command(scenario_.verb(world_)), {});
  if (whole.exit_code != 0) throw std::runtime_error(scenario_.name + " fails by itself: " + whole.err);
  finish_ = world_.state();
  if (const auto flaws = world_.flaws(); !flaws.empty())
    throw std::runtime_error(fmt::format("{} has flaws by itself: {}", scenario_.name, fmt::join(flaws, "; ")));
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
  return sweep(Fault{kind, 0, error}, step, offset);
}

SweepResult FaultSweep::sweep(const Death& death, std::size_t step, std::size_t offset) {
  death_ = &death;
  SweepResult result = sweep(Fault{Fault::Kind::act, 0, 0, death.die}, step, offset);
  death_ = nullptr;
  return result;
}

SweepResult FaultSweep::sweep(Fault fault, std::size_t step, std::size_t offset) {
  SweepResult result;
  result.points = points_;
  for (std::size_t at = 1 + offset % step; at <= points_; at += step) {
    if (!is_at_start_) world_.restore();
    is_at_start_ = false;
    fault.at = at;
    const Traced traced = tracer_.run(world_.command(scenario_.verb(world_)), fault);
    if (death_ != nullptr && death_->come_back) death_->come_back();
    if (!traced.hit) {  // not a call on a file; or the run was a call shorter
      is_at_start_ = world_.state() == start_;
      continue;
    }
    ++result.faults;
    const std::string wrong = judge(fault, traced, at, result);
    if (wrong.empty()) {
      ++result.right;
      continue;
    }
    const auto call = std::find_if(traced.calls.begin(), traced.calls.end(),
                                   [n = std::size_t{0}, at](const Call& each) mutable { return !each.by_child && ++n == at; });
    const std::string where = call == traced.calls.end() ? "?" : call->name + " " + masked(call->path) + " " + masked(call->to);
    result.wrong.push_back(fmt::format("{}: point {} ({}), exit {}: {}", scenario_.name, at, where, traced.exit_code, wrong));
    is_at_start_ = false;
  }
  return result;
}

std::string FaultSweep::judge(const Fault& fault, const Traced& traced, std::size_t turn, SweepResult& result) {
  if (kills(fault.kind) && traced.exit_code != 128 + SIGKILL) return fmt::format("it was not killed: {}", traced.err);
  const std::size_t journals = world_.journals();
  if (!kills(fault.kind) && fault.kind != Fault::Kind::fail_from && death_ == nullptr && journals != 0 && traced.err.find("left over") == std::string::npos)
    return fmt::format("a journal stayed, and no word of it: {}", traced.err);
  if (std::string wrong = check_recovery(fault, traced, turn, journals); !wrong.empty()) return wrong;
  return check_end(fault, traced, result);
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
  if (death_ == nullptr && lines != wanted) return fmt::format("{} lines of recovery, not {}: {}", lines, wanted, result.err);
  static_cast<void>(fault);
  static_cast<void>(traced);
  return {};
}

std::string FaultSweep::check_end(const Fault& fault, const Traced& traced, SweepResult& result) {
  const std::string state = world_.state();
  is_at_start_ = state == start_;
  if (is_at_start_) ++result.undone;
  if (const auto flaws = world_.flaws(); !flaws.empty()) return fmt::format("{}", fmt::join(flaws, "; "));
  if (!is(state, start_) && !is(state, finish_) && !is(state, halfway_))
    return fmt::format("neither as before nor done; to before: {}; to done: {}", difference(start_, state), difference(finish_, state));
  if (fault.kind == Fault::Kind::interrupt) {
    result.worst_seconds = std::max(result.worst_seconds, traced.after_signal);
    if (traced.exit_code != 0 && traced.exit_code != 130) return fmt::format("exit {}: {}", traced.exit_code, traced.err);
    // What lies halfway is an operation of its own: that one was done, the next was undone.
    if (traced.exit_code == 130 && state != start_ && !is(state, halfway_)) return fmt::format("interrupted, and yet done: {}", traced.err);
  }
  if (traced.exit_code == 0 && !is(state, finish_)) return fmt::format("it said that it was done, and it is not: {}", traced.out);
  if (deletable_.insert(state).second) {
    is_at_start_ = false;
    if (const auto left = world_.delete_all(); !left.empty()) return fmt::format("{}", fmt::join(left, "; "));
  }
  return {};
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"

namespace vmgraft::cli {

namespace {

class RevertVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("VM@SNAP", ref_, "snapshot to go back to");
    args.flag("--start", start_, "start the VM afterwards; without it only when it ran before");
    args.flag("--no-start", no_start_, "leave the VM shut off");
    declare_wait(args, "--wait", wait_, true, "until when to wait; without it as the template says");
    args.duration("--timeout", request_.timeout, "give up waiting after this");
  }

  int run(Session& session) override {
    std::tie(request_.vm, request_.snapshot) = require_snapshot_ref(ref_);
    if (start_ && no_start_) throw Error(Errc::usage, "--start and --no-start exclude each other");
    if (no_start_ && wait_) throw Error(Errc::usage, "--no-start and --wait exclude each other");
    if (start_ || no_start_) request_.start = start_;
    request_.wait = to_wait_for(wait_);
    if (session.globals().dry_run) {
      const PlanText plan = session.manager().plan_revert(request_);
      session.answer(plan_json(plan), plan_text(plan));
      return 0;
    }
    session.require_yes(request_.vm, "reverting it powers it off");
    const RevertResult result = session.manager().revert(request_);
    const std::string undo = result.undo.empty() ? "" : fmt::format("{}@{}", request_.vm, result.undo);
    session.answer(revert_json(result), undo.empty() ? "" : undo + "\n");
    session.notice(fmt::format("'{}' is back at '{}', {}", request_.vm, request_.snapshot, to_string(result.vm.state)));
    if (!undo.empty()) session.notice(fmt::format("to undo this: vmgraft revert {}", undo));
    return 0;
  }

 private:
  std::string ref_;
  bool start_ = false;
  bool no_start_ = false;
  std::optional<std::size_t> wait_;
  RevertRequest request_;
};

}  // namespace

std::unique_ptr<Verb> make_revert() {
  return std::make_unique<RevertVerb>();
}

}  // namespace vmgraft::cli

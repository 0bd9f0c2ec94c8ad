// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"

namespace vmgraft::cli {

namespace {

class SnapshotCreateVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("VM", request_.vm, "VM to take the snapshot of; it may run");
    args.optional("SNAP", request_.name, "name of the snapshot; without it snap-N");
    args.text("--description", "TEXT", request_.description, "a line to remember it by");
    args.flag("--memory", request_.memory, "memory and device state of the running VM too");
    args.duration("--timeout", timeout_, "with --memory: how long the guest has to let its GPUs go (60s)");
  }

  int run(Session& session) override {
    if (timeout_ && !request_.memory) {
      throw Error(Errc::usage, "--timeout waits for nothing without --memory");
    }
    request_.timeout = timeout_.value_or(request_.timeout);
    if (session.globals().dry_run) {
      const PlanText plan = session.manager().plan_snapshot(request_);
      session.answer(plan_json(plan), plan_text(plan));
      return 0;
    }
    const SnapshotResult result = session.manager().snapshot(request_);
    session.answer(snapshot_json(result), fmt::format("{}@{}\n", result.vm, result.snapshot.name));
    session.notice(result.snapshot.memory ? "with its memory: a revert wakes it where it was"
                                          : consistency_text(result.snapshot.consistency, result.note));
    return 0;
  }

 private:
  SnapshotRequest request_;
  std::optional<std::chrono::seconds> timeout_;
};

class SnapshotListVerb final : public Verb {
 public:
  void declare(Arguments& args) override { args.required("VM", vm_, "VM whose snapshots to list"); }

  int run(Session& session) override {
    const std::vector<SnapshotInfo> snapshots = session.manager().snapshots(vm_);
    session.answer(snapshots_json(vm_, snapshots), snapshots_text(session.terminal(), snapshots));
    return 0;
  }

 private:
  std::string vm_;
};

class SnapshotDeleteVerb final : public Verb {
 public:
  void declare(Arguments& args) override { args.required("VM@SNAP", ref_, "snapshot to forget"); }

  int run(Session& session) override {
    const auto [vm, snapshot] = require_snapshot_ref(ref_);
    if (session.globals().dry_run) {
      const PlanText plan = session.manager().plan_snapshot_delete(vm, snapshot);
      session.answer(plan_json(plan), plan_text(plan));
      return 0;
    }
    const SnapshotDeleteResult result = session.manager().snapshot_delete(vm, snapshot);
    session.answer(snapshot_delete_json(result), "");
    session.notice(fmt::format("deleted '{}'", ref_));
    session.notice(result.note);
    return 0;
  }

 private:
  std::string ref_;
};

}  // namespace

std::unique_ptr<Verb> make_snapshot_create() {
  return std::make_unique<SnapshotCreateVerb>();
}
std::unique_ptr<Verb> make_snapshot_list() {
  return std::make_unique<SnapshotListVerb>();
}
std::unique_ptr<Verb> make_snapshot_delete() {
  return std::make_unique<SnapshotDeleteVerb>();
}

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"
#include "model/names.hpp"

namespace vmgraft::cli {

namespace {

class ShowVerb final : public Verb {
 public:
  void declare(Arguments& args) override { args.required("VM[@SNAP]", ref_, "a VM, or one of its snapshots"); }

  int run(Session& session) override {
    if (ref_.find('@') != std::string::npos) {
      show_snapshot(session);
    } else {
      const VmInfo vm = session.manager().show(ref_);
      session.answer(vm_json(vm), vm_text(vm));
    }
    return 0;
  }

 private:
  void show_snapshot(Session& session) {
    const auto [vm, name] = require_snapshot_ref(ref_);
    const std::vector<SnapshotInfo> snapshots = session.manager().snapshots(vm);
    std::vector<std::string> names;
    for (const SnapshotInfo& snapshot : snapshots) {
      if (snapshot.name == name) {
        session.answer(snapshot_json(vm, snapshot), snapshot_text(vm, snapshot));
        return;
      }
      names.push_back(snapshot.name);
    }
    throw Error(Errc::not_found, fmt::format("VM '{}' has no snapshot '{}'", vm, printable(name)),
                did_you_mean(name, names, fmt::format("`vmgraft snapshot list {}` lists them", vm)));
  }

  std::string ref_;
};

}  // namespace

std::unique_ptr<Verb> make_show() {
  return std::make_unique<ShowVerb>();
}

}  // namespace vmgraft::cli

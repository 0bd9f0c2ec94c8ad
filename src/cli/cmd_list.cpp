// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"

namespace vmgraft::cli {

namespace {

/// As `virsh list`: what runs, or needs a look; --all adds those that are shut off.
class ListVerb final : public Verb {
 public:
  void declare(Arguments& args) override { args.flag("--all", all_, "VMs that are shut off too"); }

  int run(Session& session) override {
    std::vector<VmSummary> vms = session.manager().list();
    const std::size_t total = vms.size();
    if (!all_) std::erase_if(vms, [](const VmSummary& vm) { return vm.state == VmState::shut_off && vm.notes.empty(); });
    session.answer(list_json(vms), list_text(session.terminal(), vms));
    if (const std::size_t hidden = total - vms.size(); hidden > 0) {
      session.notice(fmt::format("{} more {} shut off: --all shows {}", hidden, hidden == 1 ? "is" : "are",
                                 hidden == 1 ? "it" : "them"));
    }
    return 0;
  }

 private:
  bool all_ = false;
};

}  // namespace

std::unique_ptr<Verb> make_list() {
  return std::make_unique<ListVerb>();
}

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"

namespace vmgraft::cli {

namespace {

class DeleteVerb final : public Verb {
 public:
  void declare(Arguments& args) override { args.several("VM", names_, "VMs to remove"); }

  int run(Session& session) override {
    if (session.globals().dry_run) {
      for_each_name(session, "plans", names_, [&](const std::string& name) {
        const PlanText plan = session.manager().plan_remove(name);
        session.print(plan_text(plan));
        return plan_object(name, plan);
      });
      return 0;
    }
    for_each_name(session, "vms", names_, [&](const std::string& name) {
      session.require_yes(name, "deleting it powers it off");
      const DeleteResult result = session.manager().remove(name);
      session.notice(fmt::format("deleted '{}'", result.name));
      return removed_object(result.name, result.removed_layers);
    });
    return 0;
  }

 private:
  std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<Verb> make_delete() {
  return std::make_unique<DeleteVerb>();
}

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"

namespace vmgraft::cli {

namespace {

class CheckVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.any("VM|IMAGE", request_.names, "VMs and images to look at; without one, the whole store");
    args.flag("--quick", request_.quick, "leave out what reads whole files: qemu-img check and hashes");
  }

  int run(Session& session) override {
    const std::vector<CheckRow> rows = session.manager().check(request_);
    session.answer(store_checks_json(rows), store_checks_text(session.terminal(), rows));
    const auto failed =
        std::count_if(rows.begin(), rows.end(), [](const CheckRow& row) { return row.health == Health::fail; });
    if (failed == 0) return 0;
    throw Error(Errc::incomplete, fmt::format("the store is not whole: {} check{} failed", failed, failed == 1 ? "" : "s"),
                "the remedy of each stands with it");
  }

 private:
  CheckRequest request_;
};

}  // namespace

std::unique_ptr<Verb> make_check() {
  return std::make_unique<CheckVerb>();
}

}  // namespace vmgraft::cli

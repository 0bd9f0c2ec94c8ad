// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"

namespace vmgraft::cli {

namespace {

class DoctorVerb final : public Verb {
 public:
  void declare(Arguments&) override {}

  int run(Session& session) override {
    const std::vector<DoctorRow> rows = session.manager().doctor();
    session.answer(checks_json(rows), checks_text(session.terminal(), rows));
    std::vector<std::string> failed;
    for (const DoctorRow& row : rows) {
      if (row.health == Health::fail) failed.push_back(row.id);
    }
    if (failed.empty()) return 0;
    throw Error(
        Errc::host_unfit,
        fmt::format("{} check{} failed: {}", failed.size(), failed.size() == 1 ? "" : "s", fmt::join(failed, ", ")),
        "the remedy of each stands with it");
  }
};

}  // namespace

std::unique_ptr<Verb> make_doctor() {
  return std::make_unique<DoctorVerb>();
}

}  // namespace vmgraft::cli

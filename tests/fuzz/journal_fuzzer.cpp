// SPDX-License-Identifier: Apache-2.0
#include "run/journal.hpp"

#include "fuzz/fuzz.hpp"

using namespace vmgraft;
using namespace vmgraft::fuzz;

VMGRAFT_FUZZER(input) {
  const auto entry = accepted([&] { return journal_from_json(std::string(input), "journal"); });
  if (!entry) return;
  const std::string written = to_json_text(*entry);
  require(to_json_text(journal_from_json(written, "what was written")) == written, "a journal reads back as it was");
  for (const Step& step : entry->plan.steps) require(!describe(step).empty(), "a step can be told");
}

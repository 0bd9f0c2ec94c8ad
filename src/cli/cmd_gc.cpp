// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.hpp"
#include "cli/gc_text.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"

namespace vmgraft::cli {

namespace {

class GcVerb final : public Verb {
 public:
  void declare(Arguments&) override {}

  int run(Session& session) override {
    const GcResult result = session.manager().gc({session.globals().dry_run});
    const std::string text = gc_text(result);
    session.answer(gc_json(result), text);
    if (text.empty()) session.notice("nothing to do");  // not the result: cron mails what is
    if (result.dry_run) return 0;
    Error failure(Errc::incomplete, "not everything that gc found could be seen to", "the rest is done; run it again later");
    for (const auto* list : {&result.journals, &result.expired, &result.domains, &result.manifests, &result.files,
                             &result.layers})
      for (const GcEntry& entry : *list)
        if (entry.action != GcAction::keep && !entry.done) failure.add_leftover(entry.name + ": " + entry.note);
    if (failure.leftovers().empty()) return 0;
    throw failure;
  }
};

}  // namespace

std::unique_ptr<Verb> make_gc() {
  return std::make_unique<GcVerb>();
}

}  // namespace vmgraft::cli

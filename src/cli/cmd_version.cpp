// SPDX-License-Identifier: Apache-2.0
#include <vmgraft/version.hpp>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"

namespace vmgraft::cli {

namespace {

class VersionVerb final : public Verb {
 public:
  void declare(Arguments&) override {}

  int run(Session& session) override {
    const std::string text(version());
    session.answer(text_json("version", text), "vmgraft " + text + "\n");
    return 0;
  }
};

}  // namespace

std::unique_ptr<Verb> make_version() {
  return std::make_unique<VersionVerb>();
}

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include "cli/command_line.hpp"
#include "cli/session.hpp"

namespace vmgraft::cli {

namespace {

class ConsoleVerb final : public Verb {
 public:
  void declare(Arguments& args) override { args.required("VM", vm_, "a running VM"); }

  int run(Session& session) override {
    if (session.globals().json) {
      throw Error(Errc::usage, "'vmgraft console' has no record to give: --json does not go with it",
                  "`vmgraft show --json VM` names the file that keeps the console's output");
    }
    if (session.terminal().in) session.notice("the console is yours; Ctrl-] leaves it");
    session.manager().console(vm_, STDIN_FILENO, STDOUT_FILENO);
    return 0;
  }

 private:
  std::string vm_;
};

}  // namespace

std::unique_ptr<Verb> make_console() {
  return std::make_unique<ConsoleVerb>();
}

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <csignal>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"

namespace vmgraft::cli {

namespace {

class SshVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("VM", vm_, "a running VM with a network address");
    args.rest("ARGS...", arguments_, "arguments for ssh: options, or a command to run there");
  }

  int run(Session& session) override {
    std::vector<std::string> command = session.manager().ssh_command(vm_, arguments_);
    if (session.globals().json) {
      session.answer(texts_json("argv", command), "");
      return 0;
    }
    session.close_manager();
    // An ignored signal stays ignored across exec; ssh counts on the default.
    std::signal(SIGPIPE, SIG_DFL);
    std::vector<char*> argv;
    for (std::string& word : command) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execvp(argv.front(), argv.data());
    const int error = errno;
    throw Error(Errc::host_unfit,
                fmt::format("cannot run '{}': {}", command.front(), std::generic_category().message(error)),
                "install an OpenSSH client (package openssh-client)");
  }

 private:
  std::string vm_;
  std::vector<std::string> arguments_;
};

}  // namespace

std::unique_ptr<Verb> make_ssh() {
  return std::make_unique<SshVerb>();
}

}  // namespace vmgraft::cli

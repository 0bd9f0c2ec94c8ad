// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"

namespace vmgraft::cli {

namespace {

class StartVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.several("VM", names_, "VMs to start");
    declare_wait(args, "--wait", wait_, true, "until when to wait; without it as the template says");
    args.duration("--timeout", request_.timeout, "give up waiting after this");
    args.flag("--explain", request_.explain, "say on stderr why these GPUs were chosen");
  }

  int run(Session& session) override {
    request_.wait = to_wait_for(wait_);
    for_each_name(session, "vms", names_, [&](const std::string& name) {
      request_.vm = name;
      const VmInfo vm = session.manager().start(request_);
      session.notice(fmt::format("'{}' is {}", vm.name, to_string(vm.state)));
      return vm_object(vm);
    });
    return 0;
  }

 private:
  std::vector<std::string> names_;
  StartRequest request_;
  std::optional<std::size_t> wait_;
};

}  // namespace

std::unique_ptr<Verb> make_start() {
  return std::make_unique<StartVerb>();
}

}  // namespace vmgraft::cli

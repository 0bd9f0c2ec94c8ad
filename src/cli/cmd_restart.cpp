// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/stop_options.hpp"

namespace vmgraft::cli {

namespace {

class RestartVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.several("VM", names_, "VMs to restart");
    stop_options_.declare(args, "--stop-timeout");
    declare_wait(args, "--wait", wait_, true, "until when to wait; without it as the template says");
    args.duration("--timeout", start_.timeout, "give up waiting after this");
  }

  int run(Session& session) override {
    StopRequest stop = stop_options_.request();
    start_.wait = to_wait_for(wait_);
    for_each_name(session, "vms", names_, [&](const std::string& name) {
      stop.vm = name;
      start_.vm = name;
      const VmInfo vm = session.manager().restart(stop, start_);
      session.notice(fmt::format("'{}' is {}", vm.name, to_string(vm.state)));
      return vm_object(vm);
    });
    return 0;
  }

 private:
  std::vector<std::string> names_;
  StopOptions stop_options_;
  StartRequest start_;
  std::optional<std::size_t> wait_;
};

}  // namespace

std::unique_ptr<Verb> make_restart() {
  return std::make_unique<RestartVerb>();
}

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/stop_options.hpp"

namespace vmgraft::cli {

namespace {

class StopVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.several("VM", names_, "VMs to stop");
    options_.declare(args, "--timeout");
  }

  int run(Session& session) override {
    StopRequest request = options_.request();
    for_each_name(session, "vms", names_, [&](const std::string& name) {
      request.vm = name;
      const VmInfo vm = session.manager().stop(request);
      session.notice(fmt::format("'{}' is {}", vm.name, to_string(vm.state)));
      return vm_object(vm);
    });
    return 0;
  }

 private:
  std::vector<std::string> names_;
  StopOptions options_;
};

}  // namespace

std::unique_ptr<Verb> make_stop() {
  return std::make_unique<StopVerb>();
}

}  // namespace vmgraft::cli

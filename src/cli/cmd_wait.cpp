// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"

namespace vmgraft::cli {

namespace {

constexpr std::chrono::minutes kDefaultTimeout{5};

class WaitVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("VM", name_, "VM to wait for");
    declare_wait(args, "--for", condition_, false, "what to wait for (ready: as the template says)");
    args.duration("--timeout", timeout_, "give up after this (5m)");
  }

  int run(Session& session) override {
    const VmInfo vm = session.manager().wait(name_, to_wait_for(condition_), timeout_.value_or(kDefaultTimeout));
    session.answer(vm_json(vm), "");
    session.notice(fmt::format("'{}' is {}", vm.name, to_string(vm.state)));
    return 0;
  }

 private:
  std::string name_;
  std::optional<std::size_t> condition_;
  std::optional<std::chrono::seconds> timeout_;
};

}  // namespace

std::unique_ptr<Verb> make_wait() {
  return std::make_unique<WaitVerb>();
}

}  // namespace vmgraft::cli

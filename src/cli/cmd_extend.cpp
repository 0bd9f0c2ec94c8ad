// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"
#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft::cli {

namespace {

class ExtendVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("VM", request_.vm, "the VM that is to live longer");
    args.required("DURATION|never", by_, "added to its expiry, or to now when that is over or there was none");
  }

  int run(Session& session) override {
    if (by_ != "never") {
      request_.by = parse_duration(by_);
      if (!request_.by || request_.by->count() == 0) {
        throw Error(Errc::usage, fmt::format("'{}' is not a duration", printable(by_)),
                    "write 90s, 5m, 8h, 2d or 1h30m; or never");
      }
    }
    const VmInfo vm = session.manager().extend(request_);
    session.answer(vm_json(vm), expiry_text(vm) + "\n");
    return 0;
  }

 private:
  ExtendRequest request_;
  std::string by_;
};

}  // namespace

std::unique_ptr<Verb> make_extend() {
  return std::make_unique<ExtendVerb>();
}

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "model/size.hpp"

namespace vmgraft::cli {

namespace {

class CopyVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("SRC", request_.source, "PATH, or VM:PATH");
    args.required("DST", request_.destination, "VM:PATH, or PATH");
  }

  int run(Session& session) override {
    const CopyResult result = session.manager().copy(request_);
    session.answer(copy_json(result), "");
    session.notice(
        fmt::format("copied {} file{}, {}", result.files, result.files == 1 ? "" : "s", format_size(result.bytes)));
    return 0;
  }

 private:
  CopyRequest request_;
};

}  // namespace

std::unique_ptr<Verb> make_copy() {
  return std::make_unique<CopyVerb>();
}

}  // namespace vmgraft::cli

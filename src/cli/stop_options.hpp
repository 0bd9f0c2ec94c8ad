// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include <vmgraft/requests.hpp>

#include "cli/command_line.hpp"

namespace vmgraft::cli {

/// How stop and restart shut a VM down: ask the guest, then power off.
class StopOptions {
 public:
  /// \param option  "--timeout", or "--stop-timeout" where --timeout means the start.
  void declare(Arguments& args, const std::string& option) {
    option_ = option;
    args.duration(option, timeout_, "power off when the guest has not shut down by then (60s); 0: at once");
    args.flag("--force", force_, "power off at once");
  }

  [[nodiscard]] StopRequest request() const {
    if (force_ && timeout_) throw Error(Errc::usage, "--force and " + option_ + " exclude each other");
    StopRequest request;
    request.timeout = force_ ? std::chrono::seconds(0) : timeout_.value_or(request.timeout);
    return request;
  }

 private:
  std::string option_;
  std::optional<std::chrono::seconds> timeout_;
  bool force_ = false;
};

}  // namespace vmgraft::cli

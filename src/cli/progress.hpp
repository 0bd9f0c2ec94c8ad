// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include <vmgraft/manager.hpp>

#include "cli/terminal.hpp"

namespace vmgraft::cli {

/// What is going on, on stderr: one line rewritten in place on a terminal, one line for each new thing elsewhere.
class ProgressLine {
 public:
  /// \param quiet, verbose  looked at when there is something to show: options are read after this is made.
  ProgressLine(const Terminal& terminal, const bool& quiet, const bool& verbose);

  void show(const Progress& progress);
  /// Take the line away, so that something else can be printed.
  void clear();

 private:
  void draw(const Progress& progress);

  const Terminal& terminal_;
  const bool& quiet_;
  const bool& verbose_;
  bool drawn_ = false;
  std::string what_;
  std::chrono::steady_clock::time_point next_{};
};

/// The line as it is drawn, cut to \p width: "downloading x  [####      ]  42%  12 MiB of 30 MiB".
[[nodiscard]] std::string progress_text(const Progress& progress, std::size_t width);

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace vmgraft {

/// Keeps the end of a long output, for the message of a failure.
class OutputTail {
 public:
  void add(std::string_view bytes);
  /// The last lines, fit to be printed, oldest first.
  [[nodiscard]] std::vector<std::string> lines(std::size_t most) const;

 private:
  std::string kept_;
};

/// The last line of \p output that is not blank, fit to be printed; "no output" when there is none.
[[nodiscard]] std::string last_line(std::string_view output);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vmgraft::cli {

/// What stands at our three standard descriptors.
struct Terminal {
  bool in = false;  ///< stdin is a terminal
  bool out = false;
  bool err = false;
  bool colour_out = false;  ///< a terminal that takes colours, and NO_COLOR is not set
  bool colour_err = false;
  std::size_t width = 0;  ///< columns of stdout; 0: not a terminal, or it does not say
  std::size_t width_err = 80;
};

[[nodiscard]] Terminal look_at_terminal();

/// Everything of \p text to a descriptor. \returns 0 or the errno of the failure.
[[nodiscard]] int write_all(int fd, std::string_view text) noexcept;

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <vmgraft/gc.hpp>

namespace vmgraft::cli {

/// One line for each thing found, and one of the space where there is some; every line ends with a line feed. Empty when nothing was.
[[nodiscard]] std::string gc_text(const GcResult& result);

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace vmgraft {

/// What is going on, for people. Told from the thread that called the Manager.
struct Progress {
  std::string what;             ///< "downloading debian-12-cloud"
  std::uint64_t done = 0;       ///< bytes
  std::uint64_t total = 0;      ///< bytes; 0: not known, or not a matter of bytes
};

}  // namespace vmgraft

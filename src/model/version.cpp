// SPDX-License-Identifier: Apache-2.0
#include <vmgraft/version.hpp>

#ifndef VMGRAFT_VERSION
#error "VMGRAFT_VERSION comes from the project() line of CMakeLists.txt"
#endif

namespace vmgraft {

std::string_view version() noexcept {
  return VMGRAFT_VERSION;
}

}  // namespace vmgraft

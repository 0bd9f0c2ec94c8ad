// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace vmgraft {

/// The library's version, "MAJOR.MINOR.PATCH". Needs no Manager and no libvirt.
[[nodiscard]] std::string_view version() noexcept;

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vmgraft {

/// "0000:3b:00.0", or short "3b:00.0" of domain 0000, in either case, to the form that sysfs and libvirt write:
/// "0000:3b:00.0". Nothing when it is neither. A slot is 00 to 1f, a function 0 to 7.
[[nodiscard]] std::optional<std::string> parse_pci_address(std::string_view text);

}  // namespace vmgraft

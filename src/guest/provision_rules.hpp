// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace vmgraft {

/// Refuse what is no host name, user name or octal file mode of a guest. \throws Error invalid_template.
void require_hostname(const std::string& name);
void require_user(const std::string& name);
[[nodiscard]] unsigned parse_mode(const std::string& text);

}  // namespace vmgraft

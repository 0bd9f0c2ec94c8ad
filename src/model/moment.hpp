// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace vmgraft {

/// Now. In seconds, which reach beyond the year 2262, where the clock's own unit ends.
[[nodiscard]] std::chrono::sys_seconds this_second();

/// RFC 3339, UTC, whole seconds: "2026-01-02T03:04:05Z".
[[nodiscard]] std::string to_rfc3339(std::chrono::sys_seconds time);

/// The same back; nothing when it is written in any other way, or is no time.
[[nodiscard]] std::optional<std::chrono::sys_seconds> parse_rfc3339(std::string_view text);

/// Whether a VM's time is over. What is no time (empty: never) is never over.
[[nodiscard]] bool is_over(const std::string& expires, const std::string& now);

/// What is left until then, in one unit, rounded down: "in 3 h", "in 45 s", "expired"; the text itself when it is no time.
[[nodiscard]] std::string time_left(const std::string& expires, const std::string& now);

}  // namespace vmgraft

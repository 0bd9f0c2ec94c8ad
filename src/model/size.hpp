// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmgraft {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

/// Whole numbers: "512MiB", "60 GiB", "1T" (powers of two), "1GB" (of ten), "4096" to bytes; nothing when malformed, negative
/// or too large.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);

/// Bytes in the largest binary unit that is not above them, rounded to one decimal: "1.5 GiB", "512 MiB".
[[nodiscard]] std::string format_size(std::uint64_t bytes);

/// "90s", "5m", "8h", "2d", "1h30m" to seconds; nothing when malformed or longer than 100 years.
[[nodiscard]] std::optional<std::chrono::seconds> parse_duration(std::string_view text);

[[nodiscard]] std::string format_duration(std::chrono::seconds duration);

}  // namespace vmgraft

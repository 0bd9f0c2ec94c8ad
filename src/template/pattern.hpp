// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace vmgraft {

/// Why \p pattern is none for a parameter: it is no regular expression (ECMAScript), or one so large that a small file
/// could keep a program busy for minutes. Nothing when it is good.
[[nodiscard]] std::optional<std::string> pattern_fault(const std::string& pattern);

/// Whether \p pattern, in which there is no fault, fits some part of \p text, which is at most kLongestMatched bytes.
[[nodiscard]] bool fits_pattern(const std::string& text, const std::string& pattern);

inline constexpr std::size_t kLongestMatched = 1024;

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vmgraft {

/// Refuse what is not a name of a VM, snapshot, image or disk: 1-63 of a-z A-Z 0-9 . _ -, first a letter or digit.
/// The same rule for all, so that a name is safe as file name, domain name and in a shell.
/// \param what  "VM", "snapshot", "image": said in the message.
/// \throws Error usage.
void require_name(std::string_view what, std::string_view name);
/// "is not a name for a VM (want ...)".
[[nodiscard]] std::string name_rule_broken(std::string_view what);

/// "VM@SNAP" to its parts; the second is empty when there is no '@'.
/// \throws Error usage: "VM@", with nothing behind the '@'.
[[nodiscard]] std::pair<std::string, std::string> split_ref(std::string_view ref);

/// The candidate nearest to \p wanted by edit distance when it is near enough to be a slip; empty otherwise.
[[nodiscard]] std::string nearest(std::string_view wanted, const std::vector<std::string>& candidates);

/// "did you mean 'x'?" for a near candidate, else \p otherwise.
[[nodiscard]] std::string did_you_mean(std::string_view wanted, const std::vector<std::string>& candidates,
                                       std::string otherwise = {});

/// \p text with control characters, bidi overrides and invalid UTF-8 written as "\xNN": fit to be printed in a message.
/// Longer than \p most bytes, it is cut and marked.
[[nodiscard]] std::string printable(std::string_view text, std::size_t most = 200);

}  // namespace vmgraft

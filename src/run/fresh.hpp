// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "model/moment.hpp"
#include "plan/facts.hpp"

namespace vmgraft {

/// 32 random hex digits. Source: getrandom(2).
[[nodiscard]] std::string fresh_layer_id();
/// A random UUID (RFC 4122, version 4).
[[nodiscard]] std::string fresh_uuid();
/// A locally administered unicast MAC, 52:xx:xx:xx:xx:xx: 40 random bits, since 24 collide among a few thousand VMs.
[[nodiscard]] std::string fresh_mac();
[[nodiscard]] std::vector<std::string> fresh_macs(std::size_t count);
[[nodiscard]] FreshIds fresh_ids(std::size_t count);

/// RFC 3339, UTC, whole seconds.
[[nodiscard]] std::string now_rfc3339();
/// \throws Error usage: \p asked is nothing.
void require_life(std::optional<std::chrono::seconds> asked);
/// Until when a new VM lives; "" when there is no end.
[[nodiscard]] std::string fresh_expiry(std::optional<std::chrono::seconds> asked,
                                       std::optional<std::chrono::seconds> of_template);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace vmgraft {

/// Until a TCP port of \p address (IPv4 or IPv6, numeric) takes connections. False at the deadline.
/// \throws Error interrupted.
[[nodiscard]] bool wait_for_port(const std::string& address, std::uint16_t port,
                                 std::chrono::steady_clock::time_point deadline, const std::atomic<bool>* interrupted);

}  // namespace vmgraft

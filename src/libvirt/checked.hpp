// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include <vmgraft/error.hpp>

namespace vmgraft {

/// VIR_ERR_AGENT_COMMAND_TIMEOUT of libvirt 11.2 and newer, which was VIR_ERR_AGENT_UNRESPONSIVE before: the guest's agent
/// was there, and did not answer a command in time.
inline constexpr int kAgentCommandTimeout = 112;

/// The thread's last libvirt error, copied. virInitialize() must have been called (EventLoop does). Call it in the same
/// expression as the failed call: freeing any handle clears it.
[[nodiscard]] LibvirtCause last_cause();

/// The kind of failure by libvirt's numbers alone; its text is never read.
[[nodiscard]] Errc errc_of(const LibvirtCause& cause) noexcept;

/// "cannot ACT: what libvirt says", with the cause and a hint where the numbers tell one.
[[nodiscard]] Error to_error(LibvirtCause cause, const std::string& act);

/// "VM 'ci-1'", for messages. Trap: like every libvirt function it clears the last error.
[[nodiscard]] std::string called(virDomain* domain);

/// \p result when the call succeeded (not negative, not null), else throws to_error of what libvirt says.
/// \param act  completes "cannot ...": "list domains". Must be text at hand: an argument that calls libvirt may be
/// evaluated
///             after the call and clear its error.
inline int checked(int result, const std::string& act) {
  if (result < 0) throw to_error(last_cause(), act);
  return result;
}

template <typename T>
[[nodiscard]] T* checked(T* result, const std::string& act) {
  if (result == nullptr) throw to_error(last_cause(), act);
  return result;
}

/// The same of one domain: "cannot ACT VM 'ci-1': ...".
inline int checked(int result, const char* act, virDomain* domain) {
  if (result >= 0) return result;
  LibvirtCause cause = last_cause();
  throw to_error(std::move(cause), act + (' ' + called(domain)));
}

template <typename T>
[[nodiscard]] T* checked(T* result, const char* act, virDomain* domain) {
  if (result != nullptr) return result;
  LibvirtCause cause = last_cause();
  throw to_error(std::move(cause), act + (' ' + called(domain)));
}

}  // namespace vmgraft

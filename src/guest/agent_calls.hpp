// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libvirt/hypervisor.hpp"

namespace vmgraft {

/// Bytes asked for by one read of a guest file. Larger is not faster: libvirt scans a growing reply from its start at
/// every KiB that arrives; a string in its RPC may hold 4 MiB at most.
inline constexpr std::size_t kAgentPiece = 192 * 1024;

/// Longest request, in JSON. Beyond about 210 KiB requests were seen to hang until the call timed out, as if the guest
/// were dead (measured, libvirt 9.0, QEMU 7.2; the agent's socket buffers 212992 bytes, which may be why).
inline constexpr std::size_t kLongestRequest = 160 * 1024;
/// Bytes of one write, which base64 makes a third longer.
inline constexpr std::size_t kWritePiece = 96 * 1024;

/// A program for guest-exec. Its output is captured, at most 16 MiB of it, and known only at its end.
struct AgentExec {
  std::string path;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;  ///< "K=V"; replaces the agent's
  std::string input;                     ///< stdin; empty: /dev/null
};

struct AgentExecStatus {
  bool exited = false;
  std::optional<int> exit_code;  ///< absent when a signal ended it
  std::optional<int> signal;
  std::string out;
  std::string err;
};

struct AgentPiece {
  std::string bytes;
  bool end = false;
};

/// The guest agent's commands as typed calls: JSON and base64 stay in here. One call is one round trip.
/// All methods throw Error: unreachable (no answer, or one that makes no sense), other (the agent's refusal), interrupted.
/// Source: qga/qapi-schema.json of QEMU.
class AgentCalls {
 public:
  /// \param grace  for what is still asked to tidy up after an interrupt; then the call is left, and none is made any more: an
  /// agent that hangs would hold us up at each.
  AgentCalls(Hypervisor& hypervisor, std::string vm_name, std::string uuid, GracePeriod grace = {});

  /// \returns the process id in the guest. \throws Error usage: arguments that JSON cannot carry, or too long.
  std::int64_t exec(const AgentExec& program);
  /// The agent forgets the process with the answer that says it exited.
  AgentExecStatus exec_status(std::int64_t pid);

  std::int64_t open_file(const std::string& path, const std::string& mode);
  AgentPiece read_piece(std::int64_t handle);
  void write_piece(std::int64_t handle, std::string_view bytes);
  void close_file(std::int64_t handle);

  /// \param nanoseconds  since 1970, UTC.
  void set_time(std::int64_t nanoseconds);

  [[nodiscard]] bool is_interrupted() const { return grace_.has_begun(); }
  /// Whether the guest is to be left tidy after an interrupt.
  [[nodiscard]] bool tidies_up() const { return grace_.length.count() > 0; }

  /// "VM 'a'": where every message of ours begins.
  [[nodiscard]] std::string place() const;

 private:
  std::string call(const std::string& request);

  Hypervisor& hypervisor_;
  std::string vm_name_;
  std::string uuid_;
  GracePeriod grace_;
};

[[nodiscard]] std::string to_base64(std::string_view bytes);
/// Nothing when \p text is not base64.
[[nodiscard]] std::optional<std::string> parse_base64(std::string_view text);
/// \p count random bytes as lower case hex. Source: getrandom.
[[nodiscard]] std::string random_hex(std::size_t count);
/// Source: getrandom.
[[nodiscard]] std::string random_bytes(std::size_t count);

}  // namespace vmgraft

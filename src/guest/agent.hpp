// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libvirt/hypervisor.hpp"

namespace vmgraft {

class AgentCalls;

/// What is under way in the guest when somebody asks us to stop is killed there, if that is done in this time.
inline constexpr std::chrono::milliseconds kTidyTime{1200};

/// A command in the guest.
struct GuestCommand {
  std::vector<std::string> argv;
  std::string user;  ///< empty: root, as the agent runs
  std::optional<std::chrono::seconds>
      timeout;  ///< absent: as long as it takes; when it passes, the command is killed in the guest
  std::function<std::optional<std::string>()>
      read_input;                                ///< next piece of stdin, nullopt at its end; empty function: no stdin
  std::function<void(std::string_view)> on_out;  ///< stdout as it arrives; empty: kept in the result
  std::function<void(std::string_view)> on_err;
};

struct GuestCommandResult {
  int exit_code = 0;  ///< 128 + signal when a signal ended it
  std::string out;    ///< when on_out was empty
  std::string err;
};

/// The QEMU guest agent of one running VM: commands and files, no network needed.
/// All methods throw Error: unreachable (no agent, no answer), not_found (no such command, file), other (the guest's
/// refusal, in its words), interrupted.
class GuestAgent {
 public:
  /// \param grace  after an interrupt, what runs in the guest is killed there within it; of no length: the guest goes anyway,
  /// and is left as it is.
  GuestAgent(Hypervisor& hypervisor, std::string vm_name, std::string uuid, GracePeriod grace = {});

  /// Run a command, output streamed and of any length.
  GuestCommandResult run(const GuestCommand& command);
  /// /bin/sh -c SCRIPT as root with arguments $1...; \throws Error other with its output when it fails.
  std::string shell(const std::string& script, const std::vector<std::string>& arguments = {});

  [[nodiscard]] bool has_file(const std::string& path);
  /// Read a file piece by piece.
  void read_file(const std::string& path, const std::function<void(std::string_view)>& on_piece);
  /// Replace a file at once: written beside it, then moved; \p next gives pieces until nullopt.
  void write_file(const std::string& path, const std::function<std::optional<std::string>()>& next, unsigned mode,
                  const std::string& owner = {});
  void write_file(const std::string& path, std::string_view content, unsigned mode, const std::string& owner = {});

  /// Set the guest's clock, and its hardware clock where it has one. Source: guest-set-time.
  void set_clock(std::chrono::system_clock::time_point now);

  [[nodiscard]] const std::string& vm_name() const { return vm_name_; }
  /// \throws Error interrupted, with \p while_doing in its text.
  void stop_when_interrupted(const std::string& while_doing) const;
  /// "VM 'web'", where an error happened.
  [[nodiscard]] std::string place() const { return "VM '" + vm_name_ + "'"; }

 private:
  /// For one piece of work. \throws Error interrupted: it is not begun.
  [[nodiscard]] AgentCalls calls() const;

  Hypervisor& hypervisor_;
  std::string vm_name_;
  std::string uuid_;
  GracePeriod grace_;
};

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <vmgraft/template.hpp>
#include <vmgraft/vm.hpp>

namespace vmgraft {

/// Until when `create`, `start`, `clone` and `wait` wait.
enum class WaitFor { ready, agent, ssh, none };  // ready: what the template's lifecycle.ready says

/// As a life time: without an end, whatever the template says.
inline constexpr std::chrono::seconds kForever = std::chrono::seconds::max();

struct CreateRequest {
  std::string template_name;              ///< name, or path of a file (contains '/' or ends in ".json")
  std::string name;                       ///< empty: the template's name with a free number, "micro-1"
  ParameterValues parameters;
  unsigned count = 1;                     ///< above 1: NAME-1 .. NAME-N
  bool start = true;
  bool keep_failed = false;               ///< keep the VM when provisioning fails
  WaitFor wait = WaitFor::ready;
  std::optional<std::chrono::seconds> timeout;  ///< of waiting; absent: the template's ready_timeout
  std::optional<std::chrono::seconds> ttl;      ///< absent: the template's; kForever: none
  std::optional<OnExpire> on_expire;      ///< absent: the template's
  std::vector<std::string> gpus;          ///< in place of the template's: "2", "model=H100,count=2,numa=required" or an address
  bool explain = false;                   ///< tell as notices why these GPUs were chosen
};

struct CloneRequest {
  std::string source;                     ///< "VM" or "VM@SNAP"
  std::string name;
  unsigned count = 1;                     ///< above 1: NAME-1 .. NAME-N
  bool full = false;                      ///< copy the data into layers of its own
  bool keep_tpm = false;                  ///< take the source's TPM state along (secrets included)
  bool start = false;
  WaitFor wait = WaitFor::ready;          ///< only with start
  std::optional<std::chrono::seconds> timeout;
  std::optional<std::chrono::seconds> ttl;      ///< absent: the source's template's, counted from now; kForever: none
  std::optional<OnExpire> on_expire;      ///< absent: as of the source
};

struct SnapshotRequest {
  std::string vm;
  std::string name;                       ///< empty: "snap-N"
  std::string description;
  bool memory = false;                    ///< RAM and device state too: a revert wakes the VM where it was
  std::chrono::seconds timeout{60};       ///< with memory: of the guest's answer when its GPUs are taken out for the moment
};

struct RevertRequest {
  std::string vm;
  std::string snapshot;
  std::optional<bool> start;              ///< absent: as it was before (running VMs run again)
  WaitFor wait = WaitFor::ready;
  std::optional<std::chrono::seconds> timeout;
};

struct StopRequest {
  std::string vm;
  std::chrono::seconds timeout{60};       ///< ask the guest, then power off after this; 0: power off at once
};

struct StartRequest {
  std::string vm;
  WaitFor wait = WaitFor::ready;
  std::optional<std::chrono::seconds> timeout;
  bool explain = false;                   ///< tell as notices why these GPUs were chosen
};

struct ExtendRequest {
  std::string vm;
  /// Added to its expiry; to now when it is expired or had none. Absent: it never expires.
  std::optional<std::chrono::seconds> by;
};

struct ExecRequest {
  std::string vm;
  std::vector<std::string> command;       ///< argv; never passed through a shell by us
  std::string user;                       ///< empty: the agent's user, root
  std::optional<std::chrono::seconds> timeout;
  int stdin_fd = -1;                      ///< read to its end before the command starts; -1: none
  int stdout_fd = 1;                      ///< written as output arrives
  int stderr_fd = 2;
};

/// "VM:PATH" on exactly one side.
struct CopyRequest {
  std::string source;
  std::string destination;
};

struct CopyResult {
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
};

}  // namespace vmgraft

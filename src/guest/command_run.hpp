// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "guest/agent.hpp"
#include "guest/agent_calls.hpp"
#include "guest/marked_stream.hpp"

namespace vmgraft {

/// One command in the guest, from its start to its end. The agent itself would keep at most 16 MiB of output and tell
/// of it only at the end, so a script in the guest (exec_scripts.hpp) spools it to files, which are read as they grow.
/// A command that ends at once costs two or three round trips: its output comes with the answer that says it ended.
class CommandRun {
 public:
  CommandRun(AgentCalls& calls, const GuestCommand& command);

  GuestCommandResult run();

 private:
  enum class Ending { exited, left_daemon, timed_out, interrupted };

  void start();
  std::string spool_input(std::string& first);
  std::string make_folder();
  void write_spool(const std::string& path, const std::string& first);
  Ending follow();
  std::optional<Ending> limit_reached() const;
  bool open_spool();
  bool read_spool(std::uint64_t most);
  bool read_stream(std::int64_t handle, MarkedStream& stream, std::uint64_t most);
  void take_end(const AgentExecStatus& status);
  void feed_rest(MarkedStream& stream, const std::string& whole);
  void close_spool();
  AgentExecStatus run_script(const char* script);
  void reap(std::int64_t pid);
  void stop_in_guest();
  [[noreturn]] void throw_stopped(Ending ending);
  int judge();

  AgentCalls& calls_;
  const GuestCommand& command_;
  const bool is_after_interrupt_;  // it tidies up: only the time that is left for that ends it
  std::string word_a_;
  std::string word_b_;
  std::chrono::steady_clock::time_point deadline_;
  GuestCommandResult result_;
  MarkedStream out_;
  MarkedStream err_;
  std::string folder_;                      // in the guest, once it is known
  std::int64_t pid_ = 0;                    // of the script; 0: not started, or done with
  bool reaped_ = false;                     // the agent has told that the script ended
  std::optional<std::int64_t> out_handle_;  // of the spool files
  std::optional<std::int64_t> err_handle_;
};

}  // namespace vmgraft

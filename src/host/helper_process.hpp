// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include <sys/types.h>

namespace vmgraft {

/// What a task in a helper process came to. Plain data: it comes back through a pipe.
struct HelperReport {
  int step = 0;               ///< where it ended, as the task numbers its steps
  int number = 0;             ///< errno of that step; 0: no system call failed
  std::uint64_t subject = 0;  ///< which of several things, as the task numbers them
};

struct HelperEnd {
  enum class Kind {
    reported,
    late,  ///< not done by the deadline: left behind, it may still come to its end
    died,  ///< ended without a report
  } kind = Kind::reported;
  pid_t pid = 0;
  HelperReport report;
};

/// Run \p task in a process of its own that nobody waits for: the kernel may keep it for ever in a call that no signal
/// ends. It has none of our descriptors, so that one left behind holds neither our locks nor our terminal; and it is of
/// a session of its own, so that Ctrl-C does not reach it.
/// \param task  may only make async-signal-safe calls (signal-safety(7)): other threads may hold any lock at the fork.
/// \param what  for the message when no process can be made: "write to '/sys/...'".
/// \throws Error other: no process, or no pipe, can be made.
[[nodiscard]] HelperEnd run_helper(const std::function<HelperReport()>& task, std::chrono::seconds deadline,
                                   const std::string& what);

/// The error of a helper left behind. \param doing  "writing 'x' to '/sys/...'".
[[noreturn]] void fail_left_behind(const std::string& doing, const HelperEnd& end, std::chrono::seconds deadline);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "host/helper_process.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <optional>
#include <system_error>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "host/posix.hpp"

namespace vmgraft {
namespace {

using Clock = std::chrono::steady_clock;

/// Where the helper keeps its end of the pipe; everything else is closed.
constexpr int kPipeFd = 3;

/// What goes through the pipe: well below PIPE_BUF, so each is written at once or not at all.
struct Message {
  enum class Kind { no_process, begun, ended } kind = Kind::begun;
  pid_t pid = 0;
  HelperReport report;
};

[[noreturn]] void fail_to_start(const std::string& what, int number) {
  throw Error(Errc::other,
              "cannot " + what + ": no helper process can be made: " + std::generic_category().message(number),
              "look at the limits on processes and open files (ulimit -u, ulimit -n)");
}

// --- in the helper: async-signal-safe calls only

void send(int fd, Message::Kind kind, const HelperReport& report) {
  const Message message{kind, ::getpid(), report};
  while (::write(fd, &message, sizeof(message)) < 0 && errno == EINTR) {
  }
}

void close_all_but_pipe(int fd, int most) {
  if (fd != kPipeFd) ::dup2(fd, kPipeFd);
  for (int standard = 0; standard < kPipeFd; ++standard) ::close(standard);
  // Absent before Linux 5.9.
  if (::syscall(SYS_close_range, kPipeFd + 1, ~0U, 0) == 0) return;
  for (int other = kPipeFd + 1; other < most; ++other) ::close(other);
}

[[noreturn]] void be_helper(int fd, int most, const std::function<HelperReport()>& task) {
  close_all_but_pipe(fd, most);
  static_cast<void>(::chdir("/"));  // one left behind keeps no file system busy
  send(kPipeFd, Message::Kind::begun, {});
  send(kPipeFd, Message::Kind::ended, task());
  ::_exit(0);
}

/// The process between us and the helper, which makes the helper init's child: nobody has to wait for that one.
[[noreturn]] void be_middle(int fd, int most, const std::function<HelperReport()>& task) {
  ::setsid();
  const pid_t helper = ::_Fork();  // fork() itself is not async-signal-safe
  if (helper == 0) be_helper(fd, most, task);
  if (helper < 0) send(fd, Message::Kind::no_process, {0, errno, 0});
  ::_exit(0);
}

// --- on our side

/// All signals blocked: a helper inherits that, and no handler of the program runs in it.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

int descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, INT_MAX));
}

/// The read end of a pipe into which the helper reports.
posix::Fd start_helper(const std::function<HelperReport()>& task, const std::string& what) {
  std::array<int, 2> ends{-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail_to_start(what, errno);
  posix::Fd read_end(ends[0]);
  const posix::Fd write_end(ends[1]);
  const int most = descriptor_limit();
  pid_t middle = -1;
  int number = 0;
  {
    const SignalsBlocked blocked;
    middle = ::fork();
    if (middle == 0) be_middle(write_end.get(), most, task);
    number = errno;
  }
  if (middle < 0) fail_to_start(what, number);
  // It ends at once. ECHILD: the program ignores SIGCHLD, the kernel has waited.
  while (::waitpid(middle, nullptr, 0) < 0 && errno == EINTR) {
  }
  return read_end;
}

/// The next message. Nothing: the end of the pipe, or \p deadline, with \p is_late telling which.
std::optional<Message> receive(int fd, Clock::time_point deadline, bool& is_late) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd one{fd, POLLIN, 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, INT_MAX)));
    if (ready < 0 && errno == EINTR) continue;
    is_late = ready == 0;
    if (is_late && Clock::now() < deadline) continue;  // poll cannot wait longer than 24 days
    if (ready <= 0) return std::nullopt;
    Message message;
    const ssize_t got = ::read(fd, &message, sizeof(message));
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof(message))) return std::nullopt;
    return message;
  }
}

}  // namespace

HelperEnd run_helper(const std::function<HelperReport()>& task, std::chrono::seconds deadline,
                     const std::string& what) {
  const auto end = Clock::now() + std::min(deadline, posix::kLongestWait);
  const posix::Fd pipe = start_helper(task, what);
  HelperEnd result;
  for (;;) {
    bool is_late = false;
    const std::optional<Message> message = receive(pipe.get(), end, is_late);
    if (!message) {
      result.kind = is_late ? HelperEnd::Kind::late : HelperEnd::Kind::died;
      return result;
    }
    if (message->kind == Message::Kind::no_process) fail_to_start(what, message->report.number);
    result.pid = message->pid;
    result.report = message->report;
    if (message->kind == Message::Kind::ended) return result;
  }
}

void fail_left_behind(const std::string& doing, const HelperEnd& end, std::chrono::seconds deadline) {
  if (end.kind == HelperEnd::Kind::died) {
    throw Error(Errc::other,
                doing + ": the helper process (pid " + std::to_string(end.pid) + ") ended without an answer",
                "look in dmesg for who killed it, or for a kernel bug; see the state of the device, then try again");
  }
  throw Error(Errc::unreachable,
              doing + " has not come back within " + std::to_string(deadline.count()) + " s (helper pid " +
                  std::to_string(end.pid) + ")",
              "the kernel waits for the users of the device: end them; the helper goes on by itself. "
              "If it never ends, the host must be rebooted");
}

}  // namespace vmgraft

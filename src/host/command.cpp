// SPDX-License-Identifier: Apache-2.0
// LinuxHost::run: a child in a process group of its own, its output read as it comes, ended in time.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <optional>

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "host/linux_host.hpp"
#include "host/posix.hpp"
#include "model/names.hpp"

extern char** environ;

namespace vmgraft {
namespace {

using Clock = std::chrono::steady_clock;

/// How long a child may take to clean up between SIGTERM and SIGKILL: somebody who pressed Ctrl-C waits for it, and one
/// that was beyond its deadline has had its time.
constexpr std::chrono::seconds kGrace{1};
/// The flag is set in a signal handler, which ends poll() when it ran in this thread. When it ran in another, or just
/// before poll(), nothing wakes us: so the flag is looked at this often as well.
constexpr std::chrono::milliseconds kFlagLook{200};
/// Without pidfd_open the end of a child that left its output open to others shows only by asking.
constexpr std::chrono::milliseconds kChildLook{20};

/// Of 64 KiB each: together more than the 1 MiB that a pipe of an ordinary user can be made to hold.
constexpr int kMostReads = 32;

/// A longer line is passed on in pieces.
constexpr std::size_t kLongestLine = 64 << 10;

/// One output stream of the child: its last bytes, and its lines as they come.
class Stream {
 public:
  Stream(posix::Fd fd, const Command& command) : fd_(std::move(fd)), command_(command) {}

  [[nodiscard]] int fd() const { return fd_.get(); }

  /// Read what is there, without waiting; closes at the end of file. More than a pipe holds is left for the next time,
  /// so that a child that writes without end is still ended in time.
  void drain() {
    std::array<char, 64 << 10> buffer;
    for (int reads = 0; fd_ && reads < kMostReads; ++reads) {
      const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) {
        fd_.close();
        return;
      }
      add({buffer.data(), static_cast<std::size_t>(got)});
    }
  }

  /// The end: pass on a last line without newline, and give what was kept.
  std::string finish() {
    if (!line_.empty()) end_line();
    trim(command_.output_cap);
    return std::move(kept_);
  }

 private:
  void add(std::string_view bytes) {
    kept_ += bytes;
    if (kept_.size() / 2 > command_.output_cap) trim(command_.output_cap);  // not at each read: erasing moves the rest
    if (!command_.on_line) return;
    while (!bytes.empty()) {
      const std::size_t end = bytes.find_first_of("\r\n");  // progress is rewritten in place by '\r'
      line_ += bytes.substr(0, end);
      if (end == std::string_view::npos) {
        if (line_.size() >= kLongestLine) end_line();
        return;
      }
      end_line();
      bytes.remove_prefix(end + 1);
    }
  }

  void end_line() {
    const std::string line = std::exchange(line_, {});
    if (!line.empty()) command_.on_line(line);
  }

  void trim(std::size_t most) {
    if (kept_.size() > most) kept_.erase(0, kept_.size() - most);
  }

  posix::Fd fd_;
  const Command& command_;
  std::string kept_;
  std::string line_;
};

/// A child not yet waited for. Left behind by an exception (a callback threw), it is killed with its group.
class Child {
 public:
  explicit Child(pid_t pid, std::string name)
      // Absent before Linux 5.3 and forbidden in some sandboxes; then the child is asked after now and then.
      : pid_(pid), name_(std::move(name)), pidfd_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (status_) return;
    signal_group(SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  [[nodiscard]] int pidfd() const { return pidfd_.get(); }

  /// The whole group, so that what a script started ends as well. Only before the child was waited for: later the
  /// number may be somebody else's.
  void signal_group(int number) const {
    if (!status_) ::kill(-pid_, number);
  }

  /// Take the exit status if there is one yet. \param with_group  kill first what is left of the group, while its
  /// number is still held by the child.
  bool try_reap(bool with_group) {
    if (status_) return true;
    siginfo_t info{};
    const int asked = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
    if (asked == 0 && info.si_pid == 0) return false;
    if (asked != 0 && errno == EINTR) return false;
    if (with_group) signal_group(SIGKILL);
    int status = 0;
    const pid_t got = ::waitpid(pid_, &status, WNOHANG);
    status_ = status;
    if (got > 0) return true;
    throw Error(Errc::other, "the exit status of '" + printable(name_) + "' was lost: somebody else waited for it",
                "do not start vmgraft with SIGCHLD ignored, and do not wait for all children beside the library");
  }

  /// As a shell has it: 128 + signal when a signal ended it.
  [[nodiscard]] int exit_code() const {
    return WIFSIGNALED(*status_) ? 128 + WTERMSIG(*status_) : WEXITSTATUS(*status_);
  }

 private:
  pid_t pid_;
  std::string name_;
  posix::Fd pidfd_;
  std::optional<int> status_;
};

/// A descriptor above 2: one that took the place of a closed stdin, stdout or stderr would be overwritten while the
/// child gets its own.
posix::Fd above_standard(posix::Fd fd) {
  if (fd.get() > 2) return fd;
  posix::Fd moved(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!moved) throw Error(Errc::other, "cannot start a program: too many open files", "raise the limit (ulimit -n)");
  return moved;
}

struct Pipe {
  posix::Fd read_end;
  posix::Fd write_end;
};

Pipe make_pipe() {
  std::array<int, 2> ends{-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) posix::fail("make a pipe for", "a program", errno);
  Pipe pipe{posix::Fd(ends[0]), posix::Fd(ends[1])};
  pipe.read_end = above_standard(std::move(pipe.read_end));
  pipe.write_end = above_standard(std::move(pipe.write_end));
  // Only our end: the flag belongs to the open file, and a program that meets EAGAIN on its stdout is a broken one.
  if (::fcntl(pipe.read_end.get(), F_SETFL, O_NONBLOCK) != 0) posix::fail("prepare a pipe for", "a program", errno);
  return pipe;
}

/// The child's stdin as a file in memory: nothing has to be pumped, and a child that does not read raises no SIGPIPE
/// here.
posix::Fd make_input(const std::string& input) {
  if (input.empty()) return above_standard(posix::open("/dev/null", O_RDONLY, "open"));
  posix::Fd fd = above_standard(posix::Fd(::memfd_create("vmgraft-input", MFD_CLOEXEC)));
  posix::write_all(fd.get(), input, "the input of a program");
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) posix::fail("rewind", "the input of a program", errno);
  return fd;
}

/// Ours, then LC_ALL=C (we read what programs print), then the command's own.
std::vector<std::string> make_environment(const Command& command) {
  std::vector<std::string> variables;
  const auto set = [&variables](const std::string& variable) {
    const std::string key = variable.substr(0, variable.find('=') + 1);
    std::erase_if(variables, [&key](const std::string& old) { return old.starts_with(key); });
    variables.push_back(variable);
  };
  for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
  set("LC_ALL=C");
  for (const std::string& variable : command.environment) set(variable);
  return variables;
}

std::vector<char*> to_pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void fail_start(const std::string& name, int number) {
  const std::string start = "cannot run '" + printable(name) + "': ";
  if (number == ENOENT) throw Error(Errc::host_unfit, start + "its interpreter is not installed");
  if (number == EACCES) throw Error(Errc::host_unfit, start + "it is not executable for us");
  if (number == E2BIG) throw Error(Errc::other, start + "its arguments are too long");
  posix::fail("run", name, number);
}

/// What the child needs between vfork() and exec, all of it made before.
struct Start {
  const char* program;
  const char* folder;  ///< null: ours
  char* const* arguments;
  char* const* environment;
  std::array<int, 3> standard;
  pid_t parent;
};

/// In the child, on the parent's memory and stack: only calls that a signal handler might make. \returns  errno.
int become(const Start& start) {
  ::setpgid(0, 0);
  // Whoever is killed cannot end what he runs, and the next command must not find it still at work on a layer.
  // posix_spawn does not offer this.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (::getppid() != start.parent) ::_exit(127);  // he was killed before that
  // A signal that we block or ignore must not be so in the child: it would not die of a closed pipe or of SIGTERM.
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &usual, nullptr);
  for (int i = 0; i < 3; ++i)
    if (::dup2(start.standard[static_cast<std::size_t>(i)], i) < 0) return errno;
  // Descriptors of the program that uses the library, which may lack O_CLOEXEC.
  ::closefrom(3);
  if (start.folder != nullptr && ::chdir(start.folder) != 0) return errno;
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(start.program, start.arguments, start.environment);
  return errno;
}

pid_t spawn(const std::filesystem::path& program, const Command& command, int in, int out, int err) {
  std::vector<std::string> arguments = command.argv;
  std::vector<std::string> environment = make_environment(command);
  const std::vector<char*> argument_pointers = to_pointers(arguments);
  const std::vector<char*> environment_pointers = to_pointers(environment);
  const Start start{program.c_str(),          command.folder.empty() ? nullptr : command.folder.c_str(),
                    argument_pointers.data(), environment_pointers.data(),
                    {in, out, err},           ::getpid()};
  // No handler of ours may run in the child, on our memory.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  volatile int number = 0;
  const pid_t pid = ::vfork();
  if (pid == 0) {
    number = become(start);
    ::_exit(127);
  }
  if (pid < 0) number = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (number == 0) return pid;
  while (pid > 0 && ::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  fail_start(command.argv.front(), number);
}

/// Why a child is being ended, and when with force.
struct Ending {
  enum class Cause { none, deadline, interrupt } cause = Cause::none;
  Clock::time_point kill_at;
};

/// Read the child's output until it ends, or end it.
Ending::Cause attend(const Command& command, Child& child, Stream& out, Stream& err) {
  const auto is_interrupted = [&] { return command.interrupted != nullptr && command.interrupted->load(); };
  const Clock::time_point deadline = Clock::now() + std::min(command.deadline, posix::kLongestWait);
  Ending ending;
  while (!child.try_reap(ending.cause != Ending::Cause::none)) {
    const Clock::time_point now = Clock::now();
    if (ending.cause == Ending::Cause::none && (is_interrupted() || now >= deadline)) {
      ending = {is_interrupted() ? Ending::Cause::interrupt : Ending::Cause::deadline, now + kGrace};
      child.signal_group(SIGTERM);
    } else if (ending.cause != Ending::Cause::none && now >= ending.kill_at) {
      child.signal_group(SIGKILL);
    }
    auto wait = (ending.cause == Ending::Cause::none ? deadline : ending.kill_at) - now;
    if (command.interrupted != nullptr) wait = std::min<Clock::duration>(wait, kFlagLook);
    if (child.pidfd() < 0) wait = std::min<Clock::duration>(wait, kChildLook);
    // After SIGKILL only the kernel can delay the end (a disk that does not answer): look again now and then.
    wait = std::clamp<Clock::duration>(wait, kChildLook, std::chrono::hours(1));

    // A negative descriptor is skipped by poll().
    std::array<pollfd, 3> watched{pollfd{out.fd(), POLLIN, 0}, pollfd{err.fd(), POLLIN, 0},
                                  pollfd{child.pidfd(), POLLIN, 0}};
    const auto timeout = std::chrono::ceil<std::chrono::milliseconds>(wait).count();
    if (::poll(watched.data(), watched.size(), static_cast<int>(timeout)) < 0 && errno != EINTR) {
      posix::fail("wait for", command.argv.front(), errno);
    }
    out.drain();
    err.drain();
  }
  // What it wrote is in the pipes by now. Their end is not waited for: a daemon that it left behind may hold them open.
  out.drain();
  err.drain();
  return ending.cause;
}

std::vector<std::filesystem::path> program_folders() {
  std::vector<std::filesystem::path> folders;
  const char* variable = ::getenv("PATH");
  std::string_view rest = variable == nullptr ? "/usr/local/bin:/usr/bin:/bin" : variable;
  for (;;) {
    const std::size_t end = rest.find(':');
    std::filesystem::path folder(rest.substr(0, end));
    // Not "." and the like: as root, what lies in the working folder is not to be run.
    if (folder.is_absolute()) folders.push_back(std::move(folder));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  // An ordinary user's PATH lacks the folders of swtpm_setup's, mke2fs's and iptables' kind.
  for (const char* folder : {"/usr/local/sbin", "/usr/sbin", "/sbin"}) folders.emplace_back(folder);
  return folders;
}

bool is_program(const std::filesystem::path& file) {
  struct stat facts {};
  return ::stat(file.c_str(), &facts) == 0 && S_ISREG(facts.st_mode) && ::access(file.c_str(), X_OK) == 0;
}

}  // namespace

std::filesystem::path LinuxHost::find_program(const std::string& name) {
  if (name.empty()) return {};
  if (name.find('/') != std::string::npos)
    return is_program(name) ? std::filesystem::path(name) : std::filesystem::path();
  for (const std::filesystem::path& folder : program_folders()) {
    if (is_program(folder / name)) return folder / name;
  }
  return {};
}

CommandResult LinuxHost::run(const Command& command) {
  if (command.argv.empty()) throw Error(Errc::other, "no program to run was given");
  const std::string& name = command.argv.front();
  if (command.interrupted != nullptr && command.interrupted->load()) {
    throw Error(Errc::interrupted, "interrupted before '" + printable(name) + "' was run");
  }
  const std::filesystem::path program = find_program(name);
  if (program.empty()) throw Error(Errc::host_unfit, "program '" + printable(name) + "' is not installed");
  if (!command.folder.empty() && !std::filesystem::is_directory(command.folder)) {
    posix::fail("run '" + printable(name) + "' in", command.folder, ENOENT);
  }

  Pipe out_pipe = make_pipe();
  Pipe err_pipe = make_pipe();
  posix::Fd input = make_input(command.input);
  Child child(spawn(program, command, input.get(), out_pipe.write_end.get(), err_pipe.write_end.get()), name);
  out_pipe.write_end.close();
  err_pipe.write_end.close();
  input.close();

  Stream out(std::move(out_pipe.read_end), command);
  Stream err(std::move(err_pipe.read_end), command);
  const Ending::Cause cause = attend(command, child, out, err);
  if (cause == Ending::Cause::interrupt) {
    throw Error(Errc::interrupted, "interrupted while '" + printable(name) + "' ran");
  }
  CommandResult result;
  result.exit_code = child.exit_code();
  result.timed_out = cause == Ending::Cause::deadline;
  result.out = out.finish();
  result.err = err.finish();
  return result;
}

}  // namespace vmgraft

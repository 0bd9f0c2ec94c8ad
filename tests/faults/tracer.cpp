// SPDX-License-Identifier: Apache-2.0
#include "faults/tracer.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

namespace vmgraft {
namespace {

using Clock = std::chrono::steady_clock;

/// Longer than any verb takes here: what is still there then hangs.
constexpr unsigned kDeadline = 120;

/// What a call's arguments mean: p path, d folder descriptor, f descriptor of a file, P second path, D second folder, - nothing.
struct Shape {
  int number;
  const char* name;
  const char* arguments;
};

constexpr Shape kShapes[] = {
    {SYS_open, "open", "p"},
    {SYS_creat, "creat", "p"},
    {SYS_openat, "openat", "dp"},
    {SYS_openat2, "openat2", "dp"},
    {SYS_write, "write", "f"},
    {SYS_pwrite64, "pwrite", "f"},
    {SYS_writev, "writev", "f"},
    {SYS_pwritev, "pwritev", "f"},
    {SYS_sendto, "send", "f"},
    {SYS_sendmsg, "sendmsg", "f"},
    {SYS_mkdir, "mkdir", "p"},
    {SYS_mkdirat, "mkdirat", "dp"},
    {SYS_rename, "rename", "pP"},
    {SYS_renameat, "renameat", "dpDP"},
    {SYS_renameat2, "renameat2", "dpDP"},
    {SYS_unlink, "unlink", "p"},
    {SYS_unlinkat, "unlinkat", "dp"},
    {SYS_rmdir, "rmdir", "p"},
    {SYS_link, "link", "pP"},
    {SYS_linkat, "linkat", "dpDP"},
    {SYS_symlink, "symlink", "-P"},
    {SYS_symlinkat, "symlinkat", "-DP"},
    {SYS_chmod, "chmod", "p"},
    {SYS_fchmod, "fchmod", "f"},
    {SYS_fchmodat, "fchmodat", "dp"},
    {SYS_chown, "chown", "p"},
    {SYS_lchown, "lchown", "p"},
    {SYS_fchown, "fchown", "f"},
    {SYS_fchownat, "fchownat", "dp"},
    {SYS_truncate, "truncate", "p"},
    {SYS_ftruncate, "ftruncate", "f"},
    {SYS_fallocate, "fallocate", "f"},
    {SYS_fsync, "fsync", "f"},
    {SYS_fdatasync, "fdatasync", "f"},
    {SYS_copy_file_range, "copy_file_range", "--f"},
    {SYS_sendfile, "sendfile", "f"},
    {SYS_ioctl, "ioctl", "f"},
    {SYS_utimensat, "utimensat", "dp"},
};

const Shape* shape_of(std::int64_t number) {
  for (const Shape& shape : kShapes)
    if (shape.number == number) return &shape;
  return nullptr;
}

/// Stop at the calls of the table; open only when it may make or empty a file, ioctl only when it clones one.
std::vector<sock_filter> make_filter() {
  constexpr auto number = static_cast<std::uint32_t>(offsetof(seccomp_data, nr));
  const auto argument = [](unsigned index) {
    return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + index * sizeof(std::uint64_t));
  };
  constexpr std::uint32_t makes = O_CREAT | O_TRUNC;
  const sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const sock_filter stop = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
  std::vector<sock_filter> code{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number)};
  for (const Shape& shape : kShapes) {
    const auto own = static_cast<std::uint32_t>(shape.number);
    if (shape.number == SYS_open || shape.number == SYS_openat) {
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, own, 0, 4));
      code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument(shape.number == SYS_open ? 1 : 2)));
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, makes, 0, 1));
      code.push_back(stop);
      code.push_back(allow);
    } else if (shape.number == SYS_ioctl) {
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, own, 0, 4));
      code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument(1)));
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(FICLONE), 0, 1));
      code.push_back(stop);
      code.push_back(allow);
    } else {
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, own, 0, 1));
      code.push_back(stop);
    }
  }
  code.push_back(allow);
  return code;
}

[[noreturn]] void become(const std::vector<std::string>& argv, std::vector<sock_filter>& filter, int out, int err) {
  const int null = ::open("/dev/null", O_RDONLY);
  ::dup2(null, 0);
  ::dup2(out, 1);
  ::dup2(err, 2);
  std::vector<char*> pointers;
  for (const std::string& word : argv) pointers.push_back(const_cast<char*>(word.c_str()));  // exec takes them so
  pointers.push_back(nullptr);
  sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
  ::raise(SIGSTOP);  // until the tracer has said what it wants to see
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
  ::execv(pointers.front(), pointers.data());
  ::_exit(127);
}

std::string read_memory(pid_t pid, std::uint64_t address, std::size_t length) {
  std::string bytes(length, '\0');
  iovec local{bytes.data(), length};
  iovec remote{reinterpret_cast<void*>(address), length};
  const ssize_t got = ::process_vm_readv(pid, &local, 1, &remote, 1, 0);
  bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return bytes;
}

std::string read_text(pid_t pid, std::uint64_t address) {
  std::string text;
  while (text.size() < PATH_MAX) {
    // Not across a page: the next one may not be there.
    const std::size_t piece = 4096 - (address + text.size()) % 4096;
    const std::string bytes = read_memory(pid, address + text.size(), piece);
    if (bytes.empty()) break;
    text += bytes;
    if (const std::size_t end = text.find('\0'); end != std::string::npos) return text.substr(0, end);
  }
  return text;
}

std::string link_of(const std::string& link) {
  std::error_code error;
  return std::filesystem::read_symlink(link, error).native();
}

std::string descriptor_path(pid_t pid, std::int64_t fd) {
  return link_of("/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd));
}

std::uint64_t position_of(pid_t pid, std::int64_t fd) {
  std::ifstream info("/proc/" + std::to_string(pid) + "/fdinfo/" + std::to_string(fd));
  std::string word;
  std::uint64_t position = 0;
  info >> word >> position;
  return position;
}

pid_t group_of(pid_t tid) {
  std::ifstream status("/proc/" + std::to_string(tid) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("Tgid:")) return static_cast<pid_t>(std::stol(line.substr(5)));
  return tid;
}

std::array<std::uint64_t, 6> arguments_of(const user_regs_struct& regs) {
  return {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9};
}

std::string absolute(pid_t pid, std::int64_t folder, const std::string& path) {
  constexpr std::string_view kDescriptors = "/proc/self/fd/";
  if (path.starts_with(kDescriptors)) {  // a place in the store, by the folder that holds it
    const std::size_t end = std::min(path.find('/', kDescriptors.size()), path.size());
    const std::string fd = path.substr(kDescriptors.size(), end - kDescriptors.size());
    return link_of("/proc/" + std::to_string(pid) + "/fd/" + fd) + path.substr(end);
  }
  if (path.starts_with('/')) return path;
  const std::string base = folder == AT_FDCWD ? link_of("/proc/" + std::to_string(pid) + "/cwd") : descriptor_path(pid, folder);
  return path.empty() ? base : base + "/" + path;
}

std::string take_all(int fd) {
  std::string text;
  std::array<char, 4096> buffer{};
  ::lseek(fd, 0, SEEK_SET);
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(fd);
  return text;
}

bool needs_room(const std::string& name) {
  static const std::set<std::string> names{"open", "openat", "openat2", "creat", "write", "pwrite", "writev", "pwritev", "mkdir",
                                           "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
                                           "symlinkat", "fallocate", "copy_file_range", "sendfile", "ioctl"};
  return names.contains(name);
}

bool is_sync(const std::string& name) { return name == "fsync" || name == "fdatasync"; }

/// One run.
class Session {
 public:
  Session(const std::vector<std::string>& roots, const Fault& fault, bool with_data)
      : roots_(roots), fault_(fault), with_data_(with_data) {}

  Traced run(const std::vector<std::string>& argv) {
    const int out = ::memfd_create("out", MFD_CLOEXEC);
    const int err = ::memfd_create("err", MFD_CLOEXEC);
    std::vector<sock_filter> filter = make_filter();
    main_ = ::fork();
    if (main_ == 0) become(argv, filter, out, err);
    int status = 0;
    ::waitpid(main_, &status, 0);
    ::ptrace(PTRACE_SETOPTIONS, main_, 0,
             PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
                 PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    group_[main_] = main_;
    ::ptrace(PTRACE_CONT, main_, 0, 0);
    attend();
    traced_.out = take_all(out);
    traced_.err = take_all(err);
    return std::move(traced_);
  }

 private:
  void attend() {
    struct sigaction action {};
    struct sigaction before {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &action, &before);
    ::alarm(kDeadline);
    bool has_timed_out = false;
    for (;;) {
      int status = 0;
      const pid_t tid = ::waitpid(-1, &status, __WALL);
      if (tid < 0 && errno == EINTR) {
        has_timed_out = true;
        kill_all();
        continue;
      }
      if (tid < 0) break;
      on_stop(tid, status);
    }
    ::alarm(0);
    ::sigaction(SIGALRM, &before, nullptr);
    if (has_timed_out) traced_.err += "\n(it hung, and was killed by the tracer)\n";
  }

  void on_stop(pid_t tid, int status) {
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      group_.erase(tid);
      leaving_.erase(tid);
      if (tid != main_) return;
      if (held_ >= 0) go_on(held_);
      traced_.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      if (signalled_) traced_.after_signal = std::chrono::duration<double>(Clock::now() - *signalled_).count();
      return;
    }
    if (!WIFSTOPPED(status)) return;
    const bool is_new = !group_.contains(tid);
    if (is_new) group_[tid] = group_of(tid);
    if (is_off_) ::kill(group_[tid], SIGKILL);  // begun just before
    const int signal = WSTOPSIG(status);
    const int event = status >> 16;
    if (event == PTRACE_EVENT_SECCOMP) return on_call(tid);
    if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) return on_spawn(tid);
    if (event != 0) return go_on(tid);
    if (signal == (SIGTRAP | 0x80)) return on_return(tid);
    if (is_new && signal == SIGSTOP) return go_on(tid);  // how a new one begins
    ::ptrace(PTRACE_CONT, tid, 0, signal);
  }

  void go_on(pid_t tid) { ::ptrace(PTRACE_CONT, tid, 0, 0); }

  void on_spawn(pid_t tid) {
    Call call;
    call.name = "spawn";
    call.by_child = group_[tid] != main_;
    begin(call);
    const Fault::Kind kind = due(call);
    traced_.calls.back().is_done = true;
    if (kind == Fault::Kind::kill_before || kind == Fault::Kind::kill_after) return kill_main(tid);
    if (kind == Fault::Kind::power_off) return kill_all();
    if (kind == Fault::Kind::interrupt) interrupt();
    if (kind == Fault::Kind::act) fault_.act();
    go_on(tid);
  }

  void on_call(pid_t tid) {
    user_regs_struct regs{};
    ::ptrace(PTRACE_GETREGS, tid, 0, &regs);
    const Shape* shape = shape_of(static_cast<std::int64_t>(regs.orig_rax));
    Call call;
    if (shape == nullptr || !describe(tid, *shape, arguments_of(regs), call)) return go_on(tid);
    call.by_child = group_[tid] != main_;
    begin(call);
    switch (due(call)) {
      case Fault::Kind::kill_before: return kill_main(tid);
      case Fault::Kind::power_off:
        return kill_all();
      case Fault::Kind::fail:
      case Fault::Kind::fail_from:
        regs.orig_rax = static_cast<unsigned long long>(-1);
        regs.rax = static_cast<unsigned long long>(-static_cast<long long>(fault_.error));
        ::ptrace(PTRACE_SETREGS, tid, 0, &regs);
        traced_.calls.back().result = -fault_.error;
        traced_.calls.back().is_done = true;
        return go_on(tid);
      case Fault::Kind::interrupt: interrupt(); break;
      case Fault::Kind::act: fault_.act(); break;
      case Fault::Kind::kill_after: kill_at_return_ = tid; break;
      case Fault::Kind::none: break;
    }
    leaving_[tid] = traced_.calls.size() - 1;
    ::ptrace(PTRACE_SYSCALL, tid, 0, 0);
  }

  void on_return(pid_t tid) {
    const auto at = leaving_.find(tid);
    if (at != leaving_.end()) {
      user_regs_struct regs{};
      ::ptrace(PTRACE_GETREGS, tid, 0, &regs);
      traced_.calls[at->second].result = static_cast<std::int64_t>(regs.rax);
      traced_.calls[at->second].is_done = true;
      leaving_.erase(at);
      if (kill_at_return_ == tid) return kill_main(tid);
    }
    go_on(tid);
  }

  void begin(Call& call) {
    call.after_signal = signalled_.has_value();
    ++traced_.counted;
    traced_.calls.push_back(call);
  }

  /// What is to be done at the call that has just begun.
  Fault::Kind due(const Call& call) {
    if (fault_.kind == Fault::Kind::none) return Fault::Kind::none;
    const bool is_here = traced_.counted == fault_.at;
    if (fault_.kind == Fault::Kind::fail_from && traced_.counted >= fault_.at) {
      const bool fails = call.is_file && (fault_.error == EROFS ? !is_sync(call.name) : needs_room(call.name));
      if (fails) traced_.hit = true;
      return fails ? fault_.kind : Fault::Kind::none;
    }
    if (!is_here || fault_.kind == Fault::Kind::fail_from) return Fault::Kind::none;
    if (fault_.kind == Fault::Kind::fail && !call.is_file) return Fault::Kind::none;
    traced_.hit = true;
    return fault_.kind;
  }

  /// \param at  the thread that made the call. What the program runs is to end with it; a helper that is not goes on then.
  void kill_main(pid_t at) {
    ::kill(main_, SIGKILL);
    held_ = at;
  }

  void kill_all() {
    is_off_ = true;
    for (const auto& [id, group] : group_) ::kill(group, SIGKILL);
  }

  void interrupt() {
    signalled_ = Clock::now();
    ::kill(main_, SIGINT);
  }

  [[nodiscard]] bool counts(const std::string& path) const {
    return std::any_of(roots_.begin(), roots_.end(), [&](const std::string& root) {
      return path == root || (path.starts_with(root) && path[root.size()] == '/');
    });
  }

  /// \returns false when the call changes nothing that counts.
  bool describe(pid_t tid, const Shape& shape, const std::array<std::uint64_t, 6>& arguments, Call& call) {
    call.name = shape.name;
    std::int64_t folder = AT_FDCWD;
    std::int64_t to_folder = AT_FDCWD;
    std::int64_t fd = -1;
    for (std::size_t i = 0; shape.arguments[i] != '\0'; ++i) {
      // A descriptor is an int: what is above it in the register is nothing.
      const auto number = static_cast<std::int64_t>(static_cast<std::int32_t>(arguments[i]));
      switch (shape.arguments[i]) {
        case 'd': folder = number; break;
        case 'D': to_folder = number; break;
        case 'p': call.path = absolute(tid, folder, read_text(tid, arguments[i])); break;
        case 'P': call.to = absolute(tid, to_folder, read_text(tid, arguments[i])); break;
        case 'f': call.path = descriptor_path(tid, fd = number); break;
        default: break;
      }
    }
    if (call.path.starts_with("socket:")) {
      // Messages of libvirt begin with their length; what goes out of a child or to syslog is not of interest.
      call.path = "socket";
      return call.name == "write" || call.name == "send" || call.name == "sendmsg" || call.name == "writev";
    }
    call.is_file = counts(call.path) || counts(call.to);
    if (!call.is_file) return false;
    return add_details(tid, shape, arguments, fd, call);
  }

  bool add_details(pid_t tid, const Shape& shape, const std::array<std::uint64_t, 6>& arguments, std::int64_t fd, Call& call) {
    switch (shape.number) {
      case SYS_openat2: {
        open_how how{};
        const std::string bytes = read_memory(tid, arguments[2], sizeof how);
        std::memcpy(&how, bytes.data(), std::min(bytes.size(), sizeof how));
        if ((how.flags & (O_CREAT | O_TRUNC)) == 0) return false;
        call.flags = how.flags;
        call.mode = how.mode;
        break;
      }
      case SYS_openat: call.flags = arguments[2]; call.mode = arguments[3]; break;
      case SYS_open: call.flags = arguments[1]; call.mode = arguments[2]; break;
      case SYS_mkdir: case SYS_chmod: case SYS_fchmod: call.mode = arguments[1]; break;
      case SYS_mkdirat: case SYS_fchmodat: call.mode = arguments[2]; break;
      case SYS_unlinkat: call.flags = arguments[2]; break;
      case SYS_truncate: case SYS_ftruncate: call.length = arguments[1]; break;
      case SYS_write: call.offset = position_of(tid, fd); call.length = arguments[2]; break;
      case SYS_pwrite64: call.offset = arguments[3]; call.length = arguments[2]; break;
      default: break;
    }
    if (call.name.starts_with("open")) call.existed = ::access(call.path.c_str(), F_OK) == 0;
    if (with_data_ && is_sync(call.name)) add_content(tid, fd, call);
    return true;
  }

  /// What a sync makes last, as it is before it.
  static void add_content(pid_t tid, std::int64_t fd, Call& call) {
    const std::string file = fmt::format("/proc/{}/fd/{}", tid, fd);
    struct stat facts {};
    if (::stat(file.c_str(), &facts) != 0) return;
    call.mode = facts.st_mode & 07777U;
    call.uid = facts.st_uid;
    call.gid = facts.st_gid;
    if (!S_ISREG(facts.st_mode)) return;
    std::ifstream in(file, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    call.data = text.str();
  }

  const std::vector<std::string>& roots_;
  const Fault& fault_;
  bool with_data_;
  pid_t main_ = -1;
  std::map<pid_t, pid_t> group_;               ///< thread: its process
  std::map<pid_t, std::size_t> leaving_;       ///< thread: the call that it is in
  pid_t kill_at_return_ = -1;
  pid_t held_ = -1;                            ///< thread that is stopped until the program is dead
  bool is_off_ = false;
  std::optional<Clock::time_point> signalled_;
  Traced traced_;
};

}  // namespace

Traced Tracer::run(const std::vector<std::string>& argv, const Fault& fault, bool with_data) {
  return Session(roots_, fault, with_data).run(argv);
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace vmgraft {

/// What is done to the traced program, at the n-th system call that changes something (from 1), its own or of a program
/// that it runs.
struct Fault {
  enum class Kind {
    none,
    kill_before,  ///< SIGKILL instead of the call
    kill_after,   ///< SIGKILL when the call has been done
    fail,         ///< the call fails with `error`, and is not done; calls on files only
    fail_from,    ///< this one and all later ones that need room (or, with EROFS, that change anything)
    interrupt,    ///< SIGINT before the call is done
    act,          ///< `act` is called before the call is done: somebody else dies
    power_off     ///< the program and all that it started are ended at once, instead of the call
  };
  Kind kind = Kind::none;
  std::size_t at = 0;
  int error = 0;
  std::function<void()> act = {};
};

/// A system call that changes something, as it was made.
struct Call {
  std::string name;         ///< "openat", "rename", ...; "spawn" for a child process
  std::string path;         ///< what it changes, absolute; "socket" for what is sent to libvirt
  std::string to;           ///< second path of rename and link
  bool is_file = false;     ///< can fail for a disk
  bool by_child = false;    ///< of a program that it runs
  bool is_done = false;     ///< it has come back
  bool after_signal = false;  ///< made after the SIGINT
  std::uint64_t offset = 0; ///< of a write
  std::uint64_t length = 0; ///< of a write or ftruncate
  std::string data;         ///< of a file that is synced, all that it holds then; only when recorded with data
  std::uint64_t mode = 0;   ///< of chmod, open, mkdir; with data, also of what is synced
  unsigned uid = 0;         ///< with data: the owner of what is synced
  unsigned gid = 0;
  std::uint64_t flags = 0;  ///< of open
  bool existed = false;     ///< open: the file was there
  std::int64_t result = 0;  ///< what it returned
};

struct Traced {
  int exit_code = 0;            ///< 128 + signal when a signal ended it
  bool hit = false;             ///< the fault was injected
  std::string out;
  std::string err;
  std::size_t counted = 0;      ///< calls, of which each can be the n-th
  std::vector<Call> calls;      ///< in their order
  double after_signal = 0;      ///< seconds from the SIGINT to the end
};

/// Run a program under ptrace; a seccomp filter stops it at the calls that change something and at no others.
/// Whichever library makes a call, it is seen. What the program starts is followed, recorded, and left in peace.
class Tracer {
 public:
  /// Where files count: below these folders.
  explicit Tracer(std::vector<std::string> roots) : roots_(std::move(roots)) {}
  Traced run(const std::vector<std::string>& argv, const Fault& fault, bool with_data = false);

 private:
  std::vector<std::string> roots_;
};

}  // namespace vmgraft

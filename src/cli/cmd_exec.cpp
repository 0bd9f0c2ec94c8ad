// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <system_error>

#include <sys/mman.h>
#include <unistd.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"

namespace vmgraft::cli {

namespace {

/// A file without a name that takes the place of stdout or stderr while --json keeps stdout for the record.
class MemoryFile {
 public:
  explicit MemoryFile(const char* name) : fd_(::memfd_create(name, MFD_CLOEXEC)) {
    if (fd_ < 0) fail("make");
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(fd_); }

  [[nodiscard]] int fd() const { return fd_; }

  [[nodiscard]] std::string content() const {
    std::string text;
    char block[65536];
    for (;;) {
      const ssize_t got = ::pread(fd_, block, sizeof block, static_cast<off_t>(text.size()));
      if (got == 0) return text;
      if (got > 0) {
        text.append(block, static_cast<std::size_t>(got));
      } else if (errno != EINTR) {
        fail("read");
      }
    }
  }

 private:
  [[noreturn]] static void fail(const char* act) {
    throw Error(Errc::other, std::string("cannot ") + act + " a file in memory for the command's output: " +
                                 std::generic_category().message(errno));
  }

  int fd_;
};

class ExecVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("VM", request_.vm, "a running VM with a guest agent");
    args.rest("CMD...", request_.command, "the command and its arguments; no shell is put in between");
    args.text("--user", "USER", request_.user, "run as this user of the guest (root)");
    args.duration("--timeout", request_.timeout, "end the command after this");
    args.flag("--no-stdin", no_stdin_, "give the command no input; without it ours, unless that is a terminal");
  }

  int run(Session& session) override {
    if (request_.command.empty()) {
      throw Error(Errc::usage, "no command was given",
                  "put it behind '--': vmgraft exec " + request_.vm + " -- uptime");
    }
    request_.stdin_fd = no_stdin_ || session.terminal().in ? -1 : STDIN_FILENO;
    if (!session.globals().json) return session.manager().exec(request_).exit_code;
    const MemoryFile out("stdout");
    const MemoryFile err("stderr");
    request_.stdout_fd = out.fd();
    request_.stderr_fd = err.fd();
    const ExecResult result = session.manager().exec(request_);
    session.answer(exec_json(result, out.content(), err.content()), "");
    return result.exit_code;
  }

 private:
  ExecRequest request_;
  bool no_stdin_ = false;
};

}  // namespace

std::unique_ptr<Verb> make_exec() {
  return std::make_unique<ExecVerb>();
}

}  // namespace vmgraft::cli

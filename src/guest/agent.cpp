// SPDX-License-Identifier: Apache-2.0
#include "guest/agent.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "guest/agent_calls.hpp"
#include "guest/command_run.hpp"
#include "guest/guarded.hpp"
#include "guest/output_tail.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

// Content up to this is written by one command; more goes in pieces through a file handle of the agent.
constexpr std::size_t kSmallFile = 40 * 1024;

// $1 path  $2 temporary beside it  $3 "check": only look, and make the temporary private. Prints why not.
constexpr const char* kBeginWrite = R"sh(
case $1 in */*) d=${1%/*} ;; esac
[ -d "${d:-/}" ] || { printf folder; exit 0; }
[ ! -d "$1" ] || { printf isfolder; exit 0; }
umask 077
: >"$2" || exit 1
)sh";

// $1 path  $2 temporary  $3 mode  $4 owner
constexpr const char* kEndWrite = R"sh(
fail() { rm -f "$2"; exit 1; }
[ -z "$4" ] || chown "$4" "$2" || fail "$@"
chmod "$3" "$2" && mv -f "$2" "$1" || fail "$@"
! command -v restorecon >/dev/null || restorecon "$1" || :
)sh";

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

void require_absolute(const AgentCalls& calls, const std::string& path) {
  if (!path.empty() && path.front() == '/' && path.find('\0') == std::string::npos) return;
  throw Error(Errc::usage, fmt::format("{}: '{}' is not an absolute path in the guest", calls.place(), printable(path)),
              "write it from the root: /path");
}

GuestCommandResult run_quietly(AgentCalls& calls, const std::string& script, const std::vector<std::string>& arguments,
                               const std::string& input = {}) {
  GuestCommand command;
  command.argv = {"/bin/sh", "-c", script, "sh"};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  if (!input.empty()) {
    command.read_input = [&input, given = false]() mutable -> std::optional<std::string> {
      if (std::exchange(given, true)) return std::nullopt;
      return input;
    };
  }
  return CommandRun(calls, command).run();
}

// Writes one file beside its place, then moves it there.
class FileWriter {
 public:
  FileWriter(AgentCalls& calls, std::string path, unsigned mode, std::string owner)
      : calls_(calls),
        path_(std::move(path)),
        temporary_(fmt::format("{}.vmgraft-{}", path_, random_hex(8))),
        mode_(fmt::format("{:04o}", mode & 07777u)),
        owner_(std::move(owner)) {}

  void write(const std::function<std::optional<std::string>()>& next) {
    std::string first;
    std::optional<std::string> piece;
    while (first.size() <= kSmallFile && (piece = next())) first += *piece;
    if (!piece) {
      check(run_quietly(calls_, std::string(kBeginWrite) + "cat >\"$2\" || { rm -f \"$2\"; exit 1; }\n" + kEndWrite,
                        {path_, temporary_, mode_, owner_}, first));
      return;
    }
    check(run_quietly(calls_, kBeginWrite, {path_, temporary_}));
    guarded(
        [&] {
          write_pieces(first, next);
          check(run_quietly(calls_, kEndWrite, {path_, temporary_, mode_, owner_}));
        },
        [this] { run_quietly(calls_, "rm -f \"$1\"", {temporary_}); });
  }

 private:
  void write_pieces(const std::string& first, const std::function<std::optional<std::string>()>& next) {
    const std::int64_t handle = calls_.open_file(temporary_, "w");
    guarded(
        [&] {
          calls_.write_piece(handle, first);
          while (const std::optional<std::string> piece = next()) calls_.write_piece(handle, *piece);
        },
        [&] { calls_.close_file(handle); });
    calls_.close_file(handle);  // here the agent's last bytes reach the file, or it says why not
  }

  void check(const GuestCommandResult& result) const {
    if (result.out == "folder") {
      throw Error(Errc::not_found,
                  fmt::format("{}: there is no folder '{}' in the guest", calls_.place(), printable(parent_of(path_))));
    }
    if (result.out == "isfolder") {
      throw Error(Errc::conflict, fmt::format("{}: '{}' is a folder in the guest", calls_.place(), printable(path_)));
    }
    if (result.exit_code == 0) return;
    throw Error(Errc::other, fmt::format("{}: cannot write '{}' in the guest: {}", calls_.place(), printable(path_),
                                         last_line(result.err)));
  }

  AgentCalls& calls_;
  std::string path_;
  std::string temporary_;
  std::string mode_;
  std::string owner_;
};

}  // namespace

GuestAgent::GuestAgent(Hypervisor& hypervisor, std::string vm_name, std::string uuid, GracePeriod grace)
    : hypervisor_(hypervisor), vm_name_(std::move(vm_name)), uuid_(std::move(uuid)), grace_(grace) {}

AgentCalls GuestAgent::calls() const {
  stop_when_interrupted("its guest was at work");
  return {hypervisor_, vm_name_, uuid_, grace_};
}

void GuestAgent::stop_when_interrupted(const std::string& while_doing) const {
  if (!grace_.has_begun()) return;
  throw Error(Errc::interrupted, fmt::format("{}: interrupted while {}", place(), while_doing));
}

GuestCommandResult GuestAgent::run(const GuestCommand& command) {
  AgentCalls calls = this->calls();
  if (command.argv.empty() || command.argv.front().empty()) {
    throw Error(Errc::usage, fmt::format("{}: no command to run in the guest", calls.place()));
  }
  return CommandRun(calls, command).run();
}

std::string GuestAgent::shell(const std::string& script, const std::vector<std::string>& arguments) {
  AgentCalls calls = this->calls();
  GuestCommandResult result = run_quietly(calls, script, arguments);
  if (result.exit_code == 0) return std::move(result.out);
  throw Error(Errc::other, fmt::format("{}: a command in the guest failed with exit code {}: {}", calls.place(),
                                       result.exit_code, last_line(result.err.empty() ? result.out : result.err)));
}

bool GuestAgent::has_file(const std::string& path) {
  AgentCalls calls = this->calls();
  return run_quietly(calls, "[ -e \"$1\" ] || [ -L \"$1\" ]", {path}).exit_code == 0;
}

void GuestAgent::read_file(const std::string& path, const std::function<void(std::string_view)>& on_piece) {
  AgentCalls calls = this->calls();
  require_absolute(calls, path);
  // Asked first: reading a folder fails late, opening a pipe that nobody writes to would hang the agent.
  const GuestCommandResult kind =
      run_quietly(calls, "[ -e \"$1\" ] || exit 3; [ ! -d \"$1\" ] || exit 4; [ -f \"$1\" ] || exit 5", {path});
  if (kind.exit_code == 3) {
    throw Error(Errc::not_found, fmt::format("{}: there is no file '{}' in the guest", calls.place(), printable(path)));
  }
  if (kind.exit_code != 0) {
    throw Error(Errc::conflict, fmt::format("{}: '{}' is {} in the guest, not a file", calls.place(), printable(path),
                                            kind.exit_code == 4 ? "a folder" : "a device or pipe"));
  }
  const std::int64_t handle = calls.open_file(path, "r");
  guarded(
      [&] {
        // Files of /proc give short pieces before their end: only an empty piece or the agent's word ends it.
        for (AgentPiece piece = calls.read_piece(handle);; piece = calls.read_piece(handle)) {
          if (!piece.bytes.empty()) on_piece(piece.bytes);
          if (piece.end || piece.bytes.empty()) break;
        }
      },
      [&] { calls.close_file(handle); });
  calls.close_file(handle);
}

void GuestAgent::write_file(const std::string& path, const std::function<std::optional<std::string>()>& next,
                            unsigned mode, const std::string& owner) {
  AgentCalls calls = this->calls();
  require_absolute(calls, path);
  FileWriter(calls, path, mode, owner).write(next);
}

void GuestAgent::write_file(const std::string& path, std::string_view content, unsigned mode,
                            const std::string& owner) {
  write_file(
      path,
      [content]() mutable -> std::optional<std::string> {
        if (content.empty()) return std::nullopt;
        const std::string_view piece = content.substr(0, kAgentPiece);
        content.remove_prefix(piece.size());
        return std::string(piece);
      },
      mode, owner);
}

void GuestAgent::set_clock(std::chrono::system_clock::time_point now) {
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch());
  calls().set_time(since.count());
}

}  // namespace vmgraft

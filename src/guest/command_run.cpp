// SPDX-License-Identifier: Apache-2.0
#include "guest/command_run.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>
#include <poll.h>

#include <vmgraft/error.hpp>

#include "guest/exec_scripts.hpp"
#include "guest/guarded.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kShortestWait{5};
constexpr milliseconds kLongestWait{100};
// Before this, output is not looked for: most commands end earlier, and opening the files would only slow them down.
constexpr milliseconds kStreamAfter{250};
// Where nobody waits for the output, it is looked for only to see whether a daemon was left behind.
constexpr milliseconds kLookAfter{2000};
// Stdin up to this goes with guest-exec itself; more is spooled to a file first.
constexpr std::size_t kInlineInput = 48 * 1024;
// Output up to this comes with the answer that says the command ended.
constexpr std::size_t kInlineOutput = 192 * 1024;
// Output that nobody streams is kept in memory, but not without end: the guest is not trusted.
constexpr std::size_t kMostKept = 64u << 20;
constexpr std::chrono::seconds kScriptPatience{20};

const std::vector<std::string>& guest_environment() {
  static const std::vector<std::string> environment{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                                    "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh"};
  return environment;
}

// The agent has no event for the end of a process, so this is the one place where nothing can be done but ask again.
// poll() with no file returns at once when a signal comes, so Ctrl-C is not waited for.
void wait_a_little(milliseconds wait) {
  ::poll(nullptr, 0, static_cast<int>(wait.count()));
}

std::function<void(std::string_view)> sink_for(const std::function<void(std::string_view)>& asked, std::string& kept,
                                               const AgentCalls& calls) {
  if (asked) return asked;
  return [&kept, &calls](std::string_view bytes) {
    if (kept.size() + bytes.size() > kMostKept) {
      throw Error(Errc::other, fmt::format("{}: the command wrote more than {} MiB where a short answer was expected",
                                           calls.place(), kMostKept >> 20));
    }
    kept += bytes;
  };
}

}  // namespace

CommandRun::CommandRun(AgentCalls& calls, const GuestCommand& command)
    : calls_(calls),
      command_(command),
      is_after_interrupt_(calls.is_interrupted()),
      word_a_(random_hex(8)),
      word_b_(random_hex(8)),
      deadline_(command.timeout ? Clock::now() + *command.timeout : Clock::time_point::max()),
      out_(word_b_ + word_a_, sink_for(command.on_out, result_.out, calls)),
      err_(word_b_ + word_a_, sink_for(command.on_err, result_.err, calls)) {}

GuestCommandResult CommandRun::run() {
  Ending ending = Ending::exited;
  guarded(
      [&] {
        start();
        ending = follow();
      },
      [this] { stop_in_guest(); });
  if (ending == Ending::timed_out || ending == Ending::interrupted) throw_stopped(ending);
  result_.exit_code = judge();
  return std::move(result_);
}

void CommandRun::start() {
  for (const std::string& argument : command_.argv) {
    if (argument.find('\0') != std::string::npos) {
      throw Error(Errc::usage, fmt::format("{}: an argument of the command holds a NUL byte", calls_.place()));
    }
  }
  AgentExec program{"/bin/sh", {}, guest_environment(), {}};
  const std::string input_folder = spool_input(program.input);
  program.arguments = {"-c",    kRunScript,    "vmgraft-run", word_a_,
                       word_b_, command_.user, input_folder,  std::to_string(kInlineOutput)};
  program.arguments.insert(program.arguments.end(), command_.argv.begin(), command_.argv.end());
  pid_ = calls_.exec(program);
}

// Short stdin is returned in `first`; longer stdin goes to a file in the guest, whose folder is returned.
std::string CommandRun::spool_input(std::string& first) {
  if (!command_.read_input) return {};
  while (first.size() <= kInlineInput) {
    const std::optional<std::string> piece = command_.read_input();
    if (!piece) return {};
    first += *piece;
  }
  folder_ = make_folder();
  write_spool(folder_ + "/i", first);
  first.clear();
  return folder_;
}

std::string CommandRun::make_folder() {
  const AgentExecStatus made = run_script(kMakeFolderScript);
  const std::string expected_end = "/vmgraft-" + word_a_ + word_b_;
  if (made.exit_code != 0 || made.out.size() <= expected_end.size() ||
      made.out.substr(made.out.size() - expected_end.size()) != expected_end) {
    throw Error(
        Errc::other,
        fmt::format("{}: no temporary folder can be made in /var/tmp, /tmp or /run of the guest", calls_.place()),
        "is the guest's disk full or read-only?");
  }
  return made.out;
}

void CommandRun::write_spool(const std::string& path, const std::string& first) {
  const std::int64_t handle = calls_.open_file(path, "w");
  guarded(
      [&] {
        calls_.write_piece(handle, first);
        while (const std::optional<std::string> piece = command_.read_input()) {
          calls_.write_piece(handle, *piece);
          if (calls_.is_interrupted()) {
            throw Error(Errc::interrupted, fmt::format("{}: interrupted; the command was not started", calls_.place()));
          }
        }
      },
      [&] { calls_.close_file(handle); });
  calls_.close_file(handle);
}

CommandRun::Ending CommandRun::follow() {
  const Clock::time_point stream_from = Clock::now() + (command_.on_out || command_.on_err ? kStreamAfter : kLookAfter);
  milliseconds wait = kShortestWait;
  for (;;) {
    const AgentExecStatus status = calls_.exec_status(pid_);
    if (status.exited) {
      take_end(status);
      return Ending::exited;
    }
    if (const std::optional<Ending> reached = limit_reached()) return *reached;
    if (Clock::now() >= stream_from && read_spool(16)) {
      wait = kShortestWait;
      if (!out_.has_ended() || !err_.has_ended()) continue;
    }
    if (out_.has_ended() && err_.has_ended() && wait == kLongestWait) return Ending::left_daemon;
    wait_a_little(wait);
    wait = std::min(wait * 2, kLongestWait);
  }
}

std::optional<CommandRun::Ending> CommandRun::limit_reached() const {
  if (calls_.is_interrupted() && !is_after_interrupt_) return Ending::interrupted;
  if (Clock::now() >= deadline_) return Ending::timed_out;
  return std::nullopt;
}

// False while the script has not made its files yet.
bool CommandRun::open_spool() {
  if (out_handle_ && err_handle_) return true;
  std::vector<std::string> folders;
  if (!folder_.empty()) {
    folders.push_back(folder_);
  } else {
    for (const std::string_view parent : kSpoolParents)
      folders.push_back(fmt::format("{}/vmgraft-{}{}", parent, word_a_, word_b_));
  }
  for (const std::string& folder : folders) {
    try {
      if (!out_handle_) out_handle_ = calls_.open_file(folder + "/o", "r");
      folder_ = folder;
      err_handle_ = calls_.open_file(folder + "/e", "r");
      return true;
    } catch (const Error& error) {
      // A refusal is how the agent says that there is no such file; anything else is a failure.
      if (error.code() != Errc::other) throw;
    }
    if (out_handle_) return false;
  }
  return false;
}

// Pass on what has been written since, at most `most` pieces of each stream. False when there was nothing new.
bool CommandRun::read_spool(std::uint64_t most) {
  if (!open_spool()) return false;
  const bool new_out = read_stream(*out_handle_, out_, most);
  const bool new_err = read_stream(*err_handle_, err_, most);
  return new_out || new_err;
}

bool CommandRun::read_stream(std::int64_t handle, MarkedStream& stream, std::uint64_t most) {
  bool any = false;
  for (std::uint64_t count = 0; count < most && !stream.has_ended(); ++count) {
    const AgentPiece piece = calls_.read_piece(handle);
    stream.feed(piece.bytes);
    any = any || !piece.bytes.empty();
    if (piece.bytes.size() < kAgentPiece) break;
  }
  return any;
}

void CommandRun::take_end(const AgentExecStatus& status) {
  reaped_ = true;
  if (status.exit_code == 0) {
    pid_ = 0;
    feed_rest(out_, status.out);
    feed_rest(err_, status.err);
    folder_.clear();  // the script removed it
    close_spool();
    return;
  }
  if (status.exit_code == 3) {
    throw Error(
        Errc::other,
        fmt::format("{}: no temporary folder can be made in /var/tmp, /tmp or /run of the guest", calls_.place()),
        "is the guest's disk full or read-only?");
  }
  if (status.exit_code != 9) {
    throw Error(Errc::other, fmt::format("{}: the shell that ran the command was ended from outside", calls_.place()),
                "did the guest run out of memory?");
  }
  if (!open_spool()) {
    throw Error(Errc::other, fmt::format("{}: the command's output was removed in the guest", calls_.place()));
  }
  while (read_spool(16)) {
    if (calls_.is_interrupted()) {
      throw Error(Errc::interrupted, fmt::format("{}: interrupted; the command had ended", calls_.place()));
    }
  }
  close_spool();
  run_script(kCleanScript);
  pid_ = 0;
  folder_.clear();
}

// `whole` is the stream from its beginning; some of it may have been read from the file already.
void CommandRun::feed_rest(MarkedStream& stream, const std::string& whole) {
  if (stream.fed() < whole.size()) stream.feed(std::string_view(whole).substr(stream.fed()));
}

void CommandRun::close_spool() {
  for (std::optional<std::int64_t>* handle : {&out_handle_, &err_handle_}) {
    if (!*handle) continue;
    const std::int64_t open = **handle;
    handle->reset();
    calls_.close_file(open);
  }
}

// One of our own short scripts, to its end.
AgentExecStatus CommandRun::run_script(const char* script) {
  const std::int64_t pid =
      calls_.exec({"/bin/sh", {"-c", script, "vmgraft-tidy", word_a_, word_b_}, guest_environment(), {}});
  const Clock::time_point deadline = Clock::now() + kScriptPatience;
  milliseconds wait = kShortestWait;
  for (;;) {
    AgentExecStatus status = calls_.exec_status(pid);
    if (status.exited) return status;
    if (Clock::now() >= deadline) {
      throw Error(Errc::unreachable, fmt::format("{}: the guest did not finish a short script within {}s",
                                                 calls_.place(), kScriptPatience.count()));
    }
    wait_a_little(wait);
    wait = std::min(wait * 2, kLongestWait);
  }
}

// The agent keeps a process in its table until it has told that it ended. A killed script has ended in a moment.
void CommandRun::reap(std::int64_t pid) {
  if (pid == 0 || reaped_) return;
  milliseconds wait = kShortestWait;
  while (!calls_.exec_status(pid).exited && wait < kLongestWait) {
    wait_a_little(wait);
    wait *= 2;
  }
  reaped_ = true;
}

// Kill what runs, remove what was made. What cannot be done is in the Error's text.
void CommandRun::stop_in_guest() {
  if (pid_ == 0 && folder_.empty()) return;
  if (calls_.is_interrupted() && !calls_.tidies_up()) return;
  const std::int64_t pid = std::exchange(pid_, 0);
  try {
    run_script(kKillScript);
    close_spool();
    reap(pid);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("the command may still run in the guest, with its output in "
                                          "/var/tmp/vmgraft-{}{} ({})",
                                          word_a_, word_b_, error.what()));
  }
}

void CommandRun::throw_stopped(Ending ending) {
  std::string fate = "the command was killed in the guest";
  try {
    stop_in_guest();
  } catch (const Error& error) {
    fate = error.what();
  }
  if (ending == Ending::interrupted) {
    throw Error(Errc::interrupted, fmt::format("{}: interrupted{}", calls_.place(), calls_.tidies_up() ? "; " + fate : ""));
  }
  throw Error(Errc::unreachable,
              fmt::format("{}: timed out after {}s; {}", calls_.place(), command_.timeout->count(), fate),
              "give it more time with --timeout");
}

// What the verdict line says: the exit code, or why there is none.
int CommandRun::judge() {
  if (pid_ != 0) {  // a daemon that the command left behind holds its output; the script waits for nothing else
    const std::int64_t pid = std::exchange(pid_, 0);
    close_spool();
    run_script(kCleanScript);
    reap(pid);
  }
  const std::string& verdict = out_.verdict();
  if (verdict == "nocommand") {
    throw Error(Errc::not_found, fmt::format("{}: '{}' is not a command in the guest", calls_.place(),
                                             printable(command_.argv.front())));
  }
  if (verdict == "nouser") {
    throw Error(Errc::not_found,
                fmt::format("{}: there is no user '{}' in the guest", calls_.place(), printable(command_.user)));
  }
  int code = 0;
  const auto [end, problem] = std::from_chars(verdict.data(), verdict.data() + verdict.size(), code);
  if (!out_.has_ended() || !err_.has_ended() || problem != std::errc() || end != verdict.data() + verdict.size()) {
    throw Error(Errc::other, fmt::format("{}: the command's output could not be kept in the guest", calls_.place()),
                "is the guest's disk full? output is spooled in its /var/tmp");
  }
  return code;
}

}  // namespace vmgraft

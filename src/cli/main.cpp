// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <clocale>
#include <csignal>
#include <exception>
#include <string>
#include <vector>

#include <unistd.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"

namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch what is lock-free");

extern "C" void on_signal(int) {
  interrupted.store(true);
}

/// A signal only asks: the library undoes what is under way and throws. Nothing here ever ends the process at once,
/// however often Ctrl-C is pressed. No SA_RESTART: a blocked read or poll has to notice.
void install_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    // What the caller ignores (nohup) stays ignored.
    if (sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_IGN) continue;
    sigaction(signal, &action, nullptr);
  }
  // A reader of ours that goes away must not kill us in the middle of an operation.
  std::signal(SIGPIPE, SIG_IGN);
}

int run(vmgraft::cli::CommandLine& line, vmgraft::cli::Session& session, const std::vector<std::string>& words) {
  if (words.empty()) {
    static_cast<void>(vmgraft::cli::write_all(STDERR_FILENO, line.help()));
    return vmgraft::exit_code(vmgraft::Errc::usage);
  }
  const auto parsed = line.parse(words);
  if (parsed.help) {
    session.answer(vmgraft::cli::text_json("help", *parsed.help), *parsed.help);
    return 0;
  }
  return parsed.verb->run(session);
}

}  // namespace

/// Called by launch.cpp.
extern "C" [[gnu::visibility("default")]] int vmgraft_main(int argc, char** argv) {
  using namespace vmgraft;
  std::setlocale(LC_CTYPE, "");  // libsmartcols counts the columns of a character by it
  install_signals();
  const std::vector<std::string> words(argv + 1, argv + argc);
  int code = exit_code(Errc::other);
  cli::CommandLine line;
  cli::Session session(line.globals(), interrupted);
  // The one place that maps failures to exit codes, and the one that catches everything.
  try {
    code = run(line, session, words);
  } catch (const Error& error) {
    session.report(error);
  } catch (const std::exception& error) {
    session.report(Error(Errc::other, std::string("internal failure: ") + error.what()));
  }
  return session.finish(code);
}

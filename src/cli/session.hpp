// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <vmgraft/manager.hpp>

#include "cli/command_line.hpp"
#include "cli/progress.hpp"
#include "cli/terminal.hpp"

namespace vmgraft::cli {

/// One run of the program: the Manager, and the two ways out. stdout carries the result and nothing else: text as the
/// verb prints it, or with --json one record that finish() writes. stderr is for people.
class Session {
 public:
  Session(const Globals& globals, const std::atomic<bool>& interrupted);

  /// Made at first use: verbs that need no Manager pay for none.
  [[nodiscard]] Manager& manager();
  /// Let go of connection and locks, before another program takes our place.
  void close_manager() { manager_.reset(); }
  [[nodiscard]] const Globals& globals() const { return globals_; }
  [[nodiscard]] const Terminal& terminal() const { return terminal_; }
  /// \throws Error interrupted, once a signal has asked us to stop. \param before  what does not happen any more.
  void throw_if_interrupted(const std::string& before) const;

  /// The result in both forms; the one that was asked for is used.
  /// \param json  JSON text of the record's "result".
  void answer(std::string json, std::string_view text);
  /// The same for a document, which goes to a file or program as it is; on a terminal nothing in it steers that.
  void answer_document(std::string json, std::string_view text);
  /// Text on stdout at once, unless --json: for verbs that answer piece by piece.
  void print(std::string_view text);
  /// A line for people, unless --quiet.
  void notice(std::string_view text);
  /// Print a failure now; the first one decides the record and the exit code.
  void report(const Error& error);
  /// Write the record when --json. \returns the exit code: that of the first failure, else \p code.
  [[nodiscard]] int finish(int code);

  /// Refuse to go on without --yes when a person sits there and the VM runs.
  /// \param act  what it does to them: "deleting it powers it off"
  void require_yes(const std::string& vm, const std::string& act);

 private:
  [[nodiscard]] Options options();
  [[nodiscard]] int write_out(std::string_view text);

  const Globals& globals_;
  const std::atomic<bool>& interrupted_;
  Terminal terminal_;
  ProgressLine progress_;
  std::optional<Manager> manager_;
  std::string result_;
  std::optional<Error> first_failure_;
  int write_error_ = 0;
};

/// Do one thing for each name, going on after a failure; the answer is {plural: [...], "failed": [...]}.
/// \param act  returns what goes into the list, as JSON text.
void for_each_name(Session& session, const std::string& plural, const std::vector<std::string>& names,
                   const std::function<std::string(const std::string&)>& act);

/// "VM@SNAP" into its parts. \throws Error usage when either is missing.
[[nodiscard]] std::pair<std::string, std::string> require_snapshot_ref(const std::string& ref);

/// The failure as people read it: message, context, hint, leftovers; each line fit for a terminal.
[[nodiscard]] std::string failure_text(const Error& error, bool colour, bool verbose);

}  // namespace vmgraft::cli

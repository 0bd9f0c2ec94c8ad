// SPDX-License-Identifier: Apache-2.0
#include "cli/session.hpp"

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "cli/json.hpp"
#include "model/names.hpp"

namespace vmgraft::cli {

namespace {

/// Text that others wrote (a guest, libvirt, a file) may hold anything: longer than this it helps no one.
constexpr std::size_t kLongestLine = 2000;

/// `text` with every line but the first indented, each one fit to be printed.
std::string printable_lines(std::string_view text, std::string_view indent, std::size_t longest = kLongestLine) {
  std::string lines;
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  for (;;) {
    const std::size_t end = text.find('\n');
    lines += printable(text.substr(0, end), longest);
    lines += '\n';
    if (end == std::string_view::npos) return lines;
    text.remove_prefix(end + 1);
    lines += indent;
  }
}

}  // namespace

std::string failure_text(const Error& error, bool colour, bool verbose) {
  std::string text = colour ? "vmgraft: \033[1;31merror:\033[0m " : "vmgraft: error: ";
  text += printable_lines(error.what(), "  ");
  for (const std::string& frame : error.context()) text += "  " + printable_lines(frame, "    ");
  if (!error.hint().empty()) text += "  hint: " + printable_lines(error.hint(), "    ");
  for (const std::string& leftover : error.leftovers()) text += "  left over: " + printable_lines(leftover, "    ");
  if (verbose && error.libvirt()) {
    const LibvirtCause& cause = *error.libvirt();
    text += fmt::format("  libvirt: error {} of domain {}, level {}: ", cause.code, cause.domain, cause.level);
    text += printable_lines(cause.message, "    ");
  }
  return text;
}

Session::Session(const Globals& globals, const std::atomic<bool>& interrupted)
    : globals_(globals),
      interrupted_(interrupted),
      terminal_(look_at_terminal()),
      progress_(terminal_, globals.quiet, globals.verbose) {}

Options Session::options() {
  Options options;
  options.connect = globals_.connect;
  options.store = globals_.store;
  options.template_dirs.assign(globals_.template_dirs.begin(), globals_.template_dirs.end());
  options.on_progress = [this](const Progress& progress) { progress_.show(progress); };
  options.on_notice = [this](const std::string& text) { notice(text); };
  if (const char* root = std::getenv("VMGRAFT_HOST_ROOT"); root != nullptr) options.host_root = root;
  options.interrupted = &interrupted_;
  return options;
}

Manager& Session::manager() {
  if (!manager_) manager_.emplace(options());
  return *manager_;
}

void Session::throw_if_interrupted(const std::string& before) const {
  if (interrupted_) throw Error(Errc::interrupted, "interrupted before " + before);
}

int Session::write_out(std::string_view text) {
  progress_.clear();
  const int error = write_all(STDOUT_FILENO, text);
  if (write_error_ == 0) write_error_ = error;
  return error;
}

void Session::answer(std::string json, std::string_view text) {
  result_ = std::move(json);
  print(text);
}

void Session::answer_document(std::string json, std::string_view text) {
  answer(std::move(json), terminal_.out ? printable_lines(text, {}, text.size() + 1) : std::string(text));
}

void Session::print(std::string_view text) {
  if (!globals_.json) static_cast<void>(write_out(text));
}

void Session::notice(std::string_view text) {
  if (globals_.quiet || text.empty()) return;
  progress_.clear();
  static_cast<void>(write_all(STDERR_FILENO, printable_lines(text, "  ")));
}

void Session::report(const Error& error) {
  progress_.clear();
  static_cast<void>(write_all(STDERR_FILENO, failure_text(error, terminal_.colour_err, globals_.verbose)));
  if (!first_failure_) first_failure_ = error;
}

int Session::finish(int code) {
  progress_.clear();
  if (globals_.json) {
    const Error* failure = first_failure_ ? &*first_failure_ : nullptr;
    static_cast<void>(write_out(record_json(result_, failure, terminal_.out) + "\n"));
  }
  if (write_error_ != 0) {
    // A reader that has seen enough (head, a pager) is not worth a message.
    if (write_error_ != EPIPE) {
      report(Error(Errc::other, "cannot write to standard output: " + std::generic_category().message(write_error_)));
    }
    if (!first_failure_) return exit_code(Errc::other);
  }
  return first_failure_ ? exit_code(first_failure_->code()) : code;
}

void Session::require_yes(const std::string& vm, const std::string& act) {
  if (globals_.yes || globals_.dry_run || !terminal_.in || !terminal_.err) return;
  const VmState state = manager().show(vm).state;
  if (state != VmState::running && state != VmState::paused) return;
  throw Error(Errc::usage, fmt::format("VM '{}' is {}: {}", vm, to_string(state), act),
              "pass --yes to do it, or stop the VM first");
}

void for_each_name(Session& session, const std::string& plural, const std::vector<std::string>& names,
                   const std::function<std::string(const std::string&)>& act) {
  std::vector<std::string> done;
  std::vector<std::pair<std::string, Error>> failed;
  for (const std::string& name : names) {
    try {
      session.throw_if_interrupted("'" + name + "'");
      done.push_back(act(name));
    } catch (const Error& error) {
      session.report(error);
      failed.emplace_back(name, error);
      if (error.code() == Errc::interrupted) break;
    }
  }
  session.answer(many_json(plural, done, failed), "");
}

std::pair<std::string, std::string> require_snapshot_ref(const std::string& ref) {
  auto parts = split_ref(ref);
  if (parts.first.empty() || parts.second.empty()) {
    throw Error(Errc::usage, fmt::format("'{}' does not name a snapshot (want VM@SNAP)", printable(ref)),
                "`vmgraft snapshot list VM` lists the snapshots of a VM");
  }
  return parts;
}

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#include "image/programs.hpp"

#include <fmt/format.h>

#include <charconv>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft {

namespace {

/// The last lines that say something, as one line.
std::string last_words(const std::string& output) {
  const auto lines = lines_of(output);
  std::string words;
  const std::size_t first = lines.size() > 3 ? lines.size() - 3 : 0;
  for (std::size_t i = first; i < lines.size(); ++i) {
    words += words.empty() ? lines[i] : "; " + lines[i];
  }
  return words.empty() ? "it said nothing" : printable(words, 600);
}

}  // namespace

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  std::string line;
  for (const char c : text) {
    if (c == '\n' || c == '\r') {
      if (!line.empty()) lines.push_back(std::move(line));
      line.clear();
    } else {
      line += c;
    }
  }
  if (!line.empty()) lines.push_back(std::move(line));
  return lines;
}

std::filesystem::path need_program(Host& host, const std::string& name, const std::string& package) {
  auto path = host.find_program(name);
  if (path.empty()) {
    throw Error(Errc::host_unfit, fmt::format("the program '{}' is not installed", name),
                fmt::format("install it: apt-get install {}", package));
  }
  return path;
}

Error tool_error(const std::string& what, const std::string& output, const std::filesystem::path& folder) {
  if (output.find("No space left on device") != std::string::npos ||
      output.find("not enough free space") != std::string::npos) {
    return Error(
        Errc::other, fmt::format("cannot {}: no space left on device at '{}'", what, folder.string()),
        "free space there: delete snapshots, VMs or images that are no longer needed; or give another store with --store");
  }
  return Error(Errc::other, fmt::format("cannot {}: {}", what, last_words(output)));
}

void stop_if_interrupted(const ImageWork& work) {
  if (work.interrupted != nullptr && work.interrupted->load()) {
    throw Error(Errc::interrupted, "interrupted while making an image; nothing of it was kept");
  }
}

void tell(const ImageWork& work, std::string what, std::uint64_t done, std::uint64_t total) {
  if (work.on_progress) work.on_progress(Progress{std::move(what), done, total});
}

CommandResult run_tool(ImageWork& work, const ToolRun& run) {
  stop_if_interrupted(work);
  Command command;
  command.argv = run.argv;
  command.input = run.input;
  command.environment = run.environment;
  command.environment.emplace_back("LC_ALL=C");
  command.folder = run.folder;
  command.deadline = run.deadline;
  command.interrupted = work.interrupted;
  command.on_line = run.on_line;
  auto result = work.host.run(command);
  stop_if_interrupted(work);
  if (result.timed_out) {
    throw Error(Errc::other, fmt::format("cannot {}: '{}' did not finish within {}", run.what, run.argv.front(),
                                         format_duration(run.deadline)));
  }
  if (result.exit_code != 0 && !run.may_fail) {
    throw tool_error(run.what, result.err.empty() ? result.out : result.err, work.folder);
  }
  return result;
}

std::string error_at_close(const CommandResult& result) {
  constexpr std::string_view kName = "qemu-img: ";
  for (const std::string& line : lines_of(result.err)) {
    if (!line.starts_with(kName)) continue;
    const std::string said = line.substr(kName.size());
    if (!said.starts_with("warning: ") && !said.starts_with("info: ")) return said;
  }
  return {};
}

void convert_to_qcow2(ImageWork& work, const std::filesystem::path& source, const std::string& format,
                      const std::filesystem::path& target, const std::string& what) {
  const auto size = work.host.stat(source).value_or(FileInfo{}).size;
  const auto qemu_img = need_program(work.host, "qemu-img", "qemu-utils");
  tell(work, what);
  ToolRun run;
  run.what = fmt::format("convert '{}' to qcow2", source.string());
  run.argv = {qemu_img.string(), "convert", "-p", "-t", "writeback", "-f", format, "-O", "qcow2", "-W", "-m", "8", "--",
              source.string(),   target.string()};  // its own choice for -t never syncs
  run.deadline = std::chrono::hours(12);
  run.on_line = [&](std::string_view line) {
    // "    (12.34/100%)", ended by a carriage return
    const auto open = line.rfind('(');
    if (open == std::string_view::npos) return;
    unsigned percent = 0;
    const auto digits = line.substr(open + 1);
    if (std::from_chars(digits.data(), digits.data() + digits.size(), percent).ec == std::errc{} && percent <= 100) {
      tell(work, what, size / 100 * percent, size);
    }
  };
  if (const std::string error = error_at_close(run_tool(work, run)); !error.empty())
    throw tool_error(run.what, error, work.folder);
}

}  // namespace vmgraft

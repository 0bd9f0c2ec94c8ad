// SPDX-License-Identifier: Apache-2.0
// What the program takes, its man pages and its completions must not drift apart.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include <vmgraft/gpu.hpp>

#include "cli/run_binary.hpp"
#include "gpu/check_rows.hpp"
#include "support/catch.hpp"

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

std::string read_text(const fs::path& path) {
  const std::ifstream file(path);
  if (!file) return {};
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Words complete(const std::string& what, const std::string& prefix) {
  std::istringstream lines(run_vmgraft({"__complete", what, prefix}).out);
  Words words;
  for (std::string line; std::getline(lines, line);) words.push_back(line);
  return words;
}

/// A man page with its ways of writing "--" made one.
std::string man_page(const std::string& name) {
  std::string text = read_text(fs::path(VMGRAFT_REPOSITORY) / "man" / name);
  text = std::regex_replace(text, std::regex("\\\\-"), "-");
  return std::regex_replace(text, std::regex("Fl (Fl |-)"), "--");
}

bool has_option(const std::string& text, const std::string& option) {
  return std::regex_search(text, std::regex(option + "([^a-z-]|$)"));
}

/// The branch of a shell's `case` for a verb, from its label to ";;".
std::string branch(const std::string& script, const std::string& label) {
  const std::size_t start = script.find("\n    " + label + ")");
  return start == std::string::npos ? std::string{} : script.substr(start, script.find(";;", start) - start);
}

std::string first_word(const std::string& verb) {
  return verb.substr(0, verb.find(' '));
}

}  // namespace

TEST_CASE("each verb has a man page, and vmgraft(1) names it") {
  const std::string program = man_page("vmgraft.1");
  const Words verbs = complete("verbs", "");
  REQUIRE(verbs.size() > 20);
  for (const std::string& verb : verbs) {
    INFO(verb);
    CHECK(!man_page("vmgraft-" + first_word(verb) + ".1").empty());
    CHECK(program.find(".Xr vmgraft-" + first_word(verb) + " 1") != std::string::npos);
  }
}

TEST_CASE("each long option of each verb occurs in its man page") {
  for (const std::string& verb : complete("verbs", "")) {
    const std::string page = man_page("vmgraft-" + first_word(verb) + ".1");
    for (const std::string& option : complete("options", verb)) {
      INFO("vmgraft " << verb << " " << option);
      CHECK(has_option(page, option));
    }
  }
  const Words globals = complete("options", "");
  REQUIRE(!globals.empty());
  for (const std::string& option : globals) {
    INFO(option);
    CHECK(has_option(man_page("vmgraft.1"), option));
  }
}

TEST_CASE("the completions of bash, zsh and fish know each verb and each of its long options") {
  const fs::path folder = fs::path(VMGRAFT_REPOSITORY) / "completions";
  const std::string bash = read_text(folder / "vmgraft.bash");
  const std::string zsh = read_text(folder / "_vmgraft");
  const std::string fish = read_text(folder / "vmgraft.fish");
  for (const std::string& verb : complete("verbs", "")) {
    const bool is_group = verb.find(' ') != std::string::npos;
    const std::string in_bash = branch(bash, is_group ? '"' + verb + '"' : verb);
    std::string in_zsh = branch(zsh, is_group ? "'" + verb + "'" : verb);
    in_zsh = std::regex_replace(in_zsh, std::regex("\\$wait"), "--wait --timeout");
    INFO("vmgraft " << verb);
    CHECK(fish.find(" -a " + verb.substr(verb.find(' ') + 1) + " -d ") != std::string::npos);
    for (const std::string& option : complete("options", verb)) {
      INFO(option);
      CHECK(has_option(in_bash, option));
      CHECK(has_option(in_zsh, option));
      const std::string in_fish = "__vmgraft_is \"" + verb + "\"' -l " + option.substr(2) + " ";
      CHECK(fish.find(in_fish) != std::string::npos);
    }
  }
  for (const std::string& option : complete("options", "")) {
    INFO(option);
    CHECK(has_option(bash, option));
    CHECK(has_option(zsh, option));
    CHECK(fish.find("complete -c vmgraft -l " + option.substr(2) + " ") != std::string::npos);
  }
}

TEST_CASE("each kind of failure has its row in the exit table of vmgraft(1)") {
  using vmgraft::Errc;
  const std::string page = man_page("vmgraft.1");
  int rows = 0;
  for (int value = 0; value <= static_cast<int>(Errc::interrupted); ++value) {
    const auto code = static_cast<Errc>(value);
    const std::string row = ".It " + std::to_string(exit_code(code)) + " Ta " + std::string(to_string(code)) + " Ta ";
    INFO(row);
    CHECK(page.find(row) != std::string::npos);
    ++rows;
  }
  CHECK(rows == 9);
}

TEST_CASE("vmgraft-gpu(7) lists each check of GPUs once, and each state") {
  const std::string page = man_page("vmgraft-gpu.7");
  for (const vmgraft::CheckName& check : vmgraft::kCheckNames) {
    const std::string row = "\n.It Cm " + std::string(check.name) + "\n";
    INFO(check.name);
    const std::size_t first = page.find(row, page.find(".Sh CHECKS"));
    REQUIRE(first != std::string::npos);
    CHECK(page.find(row, first + 1) == std::string::npos);
  }
  for (int value = 0; value <= static_cast<int>(vmgraft::GpuState::quarantined); ++value) {
    const std::string state = to_string(static_cast<vmgraft::GpuState>(value));
    INFO(state);
    CHECK(page.find("\n.It Cm " + state + "\n") != std::string::npos);
  }
}

TEST_CASE("the man pages pass mandoc's lint") {
  vmgraft::LinuxHost host;
  if (host.find_program("mandoc").empty()) {
    std::puts("SKIPPED: man pages are not linted: mandoc is not installed");
    return;
  }
  vmgraft::Command command;
  command.argv = {"mandoc", "-Tlint", "-W", "warning"};
  for (const auto& entry : fs::directory_iterator(fs::path(VMGRAFT_REPOSITORY) / "man")) {
    command.argv.push_back(entry.path().string());
  }
  REQUIRE(command.argv.size() > 4);
  const auto result = host.run(command);
  INFO(result.out << result.err);
  CHECK(result.exit_code == 0);
}

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <vmgraft/requests.hpp>

#include "cli/verb.hpp"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace vmgraft::cli {

/// Options that every verb takes, before or after its name.
struct Globals {
  std::string connect;
  std::string store;
  std::vector<std::string> template_dirs;
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  bool dry_run = false;
  bool yes = false;
};

/// A line of a help text.
struct HelpLine {
  std::string left;  ///< "--count N"
  std::string right;
};

/// What a verb takes. A thin layer over CLI11, so that only command_line.cpp includes it and every value is checked
/// alike: an empty or malformed one is Error(usage) that names the argument.
class Arguments {
 public:
  explicit Arguments(CLI::App& app) : app_(app) {}

  // --- by place
  void required(const std::string& name, std::string& value, const std::string& help);
  void optional(const std::string& name, std::string& value, const std::string& help);
  /// One or more.
  void several(const std::string& name, std::vector<std::string>& values, const std::string& help);
  /// None or more.
  void any(const std::string& name, std::vector<std::string>& values, const std::string& help);
  /// What follows "--", word for word.
  void rest(const std::string& name, std::vector<std::string>& values, const std::string& help);
  /// Placeholder that may be empty, for the shells' completions.
  void raw(const std::string& name, std::string& value);

  // --- by name; `kind` stands for the value in the help text
  void flag(const std::string& option, bool& value, const std::string& help);
  void text(const std::string& option, const std::string& kind, std::string& value, const std::string& help);
  void texts(const std::string& option, const std::string& kind, std::vector<std::string>& values,
             const std::string& help);
  void count(const std::string& option, unsigned& value, const std::string& help);
  void duration(const std::string& option, std::optional<std::chrono::seconds>& value, const std::string& help);
  /// A duration, or "never": kForever.
  void life_time(const std::string& option, std::optional<std::chrono::seconds>& value, const std::string& help);
  /// One of \p words; value becomes its index.
  void choice(const std::string& option, const std::vector<std::string>& words, std::optional<std::size_t>& value,
              const std::string& help);
  /// --set K=V, repeatable.
  void parameters(ParameterValues& values);

  [[nodiscard]] const std::vector<HelpLine>& places() const { return places_; }
  [[nodiscard]] const std::vector<HelpLine>& options() const { return options_; }
  [[nodiscard]] std::vector<std::string>* rest_values() const { return rest_; }
  [[nodiscard]] const std::string& rest_name() const { return rest_name_; }
  [[nodiscard]] CLI::App& app() const { return app_; }

 private:
  CLI::App& app_;
  std::vector<HelpLine> places_;
  std::vector<HelpLine> options_;
  std::vector<std::string>* rest_ = nullptr;
  std::string rest_name_;
};

/// --wait and its kin: ready, agent, ssh and, with \p none, none.
void declare_wait(Arguments& args, const std::string& option, std::optional<std::size_t>& value, bool none,
                  const std::string& help);
[[nodiscard]] WaitFor to_wait_for(std::optional<std::size_t> value);

/// --ttl and --on-expire. \param on_expire  to be read by to_on_expire().
void declare_expiry(Arguments& args, std::optional<std::chrono::seconds>& ttl, std::optional<std::size_t>& on_expire);
[[nodiscard]] std::optional<OnExpire> to_on_expire(std::optional<std::size_t> value);

/// The whole grammar, built from the table of verbs.
class CommandLine {
 public:
  CommandLine();
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  struct Parsed {
    const VerbEntry* entry = nullptr;  ///< absent when only help was asked for
    Verb* verb = nullptr;
    std::optional<std::string> help;  ///< text to print instead of running
  };

  /// \param words  the command line without the program's name.
  /// \throws Error usage.
  [[nodiscard]] Parsed parse(const std::vector<std::string>& words);
  [[nodiscard]] const Globals& globals() const { return globals_; }
  /// The help of the program: what `vmgraft` alone prints.
  [[nodiscard]] std::string help() const;
  /// Long options of a verb, or the global ones for "".
  [[nodiscard]] std::vector<std::string> long_options(std::string_view path) const;

 private:
  struct Node;
  void declare_globals();
  void declare_verb(const VerbEntry& entry);
  [[nodiscard]] const Node* find(const CLI::App* app) const;
  [[nodiscard]] std::string verb_help(const Node& node) const;
  [[nodiscard]] std::string group_help(const std::string& group) const;
  [[noreturn]] void refuse(const std::string& why) const;
  [[noreturn]] void refuse_extra(const std::string& word) const;
  [[nodiscard]] std::string help_of(const CLI::App* app) const;

  Globals globals_;
  std::unique_ptr<CLI::App> app_;
  std::unique_ptr<Arguments> global_arguments_;
  std::vector<std::unique_ptr<Node>> nodes_;
  bool version_ = false;
};

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft::cli {

namespace {

constexpr unsigned kMostVms = 1000;

Error usage(const std::string& why, std::string hint = {}) {
  return {Errc::usage, why, std::move(hint)};
}

/// An empty argument is a slip of the caller's ("$UNSET"), never a wish for the default.
void require_text(const std::string& name, const std::string& value) {
  if (value.empty()) throw usage(fmt::format("{} is empty", name));
}

std::chrono::seconds to_duration(const std::string& name, const std::string& text,
                                 const std::string& hint = "write 90s, 5m, 8h, 2d or 1h30m") {
  if (text == "0") return std::chrono::seconds(0);
  const auto duration = parse_duration(text);
  if (!duration) throw usage(fmt::format("{}: '{}' is not a duration", name, printable(text)), hint);
  return *duration;
}

unsigned to_count(const std::string& name, const std::string& text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > kMostVms) {
    throw usage(fmt::format("{}: '{}' is not a number from 1 to {}", name, printable(text), kMostVms));
  }
  return value;
}

/// What CLI11 found wrong, in our words where its own are its types ("1 required TEXT missing").
std::string reason(const CLI::ParseError& error) {
  const std::string text = error.what();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) == nullptr) return text;
  if (const std::size_t end = text.find(" was given a disallowed flag override"); end != std::string::npos) {
    return "--" + text.substr(0, end) + " takes no value";
  }
  return text.substr(0, text.find(':')) + " takes one value, and once";
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{} or {}", fmt::join(words.begin(), words.end() - 1, ", "), words.back());
}

}  // namespace

// --- Arguments

void Arguments::required(const std::string& name, std::string& value, const std::string& help) {
  optional(name, value, help);
  app_.get_option(name)->required();
}

void Arguments::optional(const std::string& name, std::string& value, const std::string& help) {
  app_.add_option_function<std::string>(name, [name, &value](const std::string& text) {
    require_text(name, text);
    value = text;
  });
  places_.push_back({name, help});
}

void Arguments::several(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  app_.add_option_function<std::vector<std::string>>(name,
                                                     [name, &values](const std::vector<std::string>& texts) {
                                                       for (const std::string& text : texts) require_text(name, text);
                                                       values = texts;
                                                     })
      ->required();
  places_.push_back({name + "...", help});
}

void Arguments::any(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  app_.add_option_function<std::vector<std::string>>(name, [name, &values](const std::vector<std::string>& texts) {
    for (const std::string& text : texts) require_text(name, text);
    values = texts;
  });
  places_.push_back({"[" + name + "...]", help});
}

void Arguments::rest(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  rest_ = &values;
  rest_name_ = name;
  places_.push_back({"-- " + name, help});
}

void Arguments::raw(const std::string& name, std::string& value) {
  app_.add_option(name, value);
}

void Arguments::flag(const std::string& option, bool& value, const std::string& help) {
  app_.add_flag(option, value)->disable_flag_override();
  options_.push_back({option, help});
}

void Arguments::text(const std::string& option, const std::string& kind, std::string& value, const std::string& help) {
  app_.add_option_function<std::string>(option, [option, &value](const std::string& text) {
    require_text(option, text);
    value = text;
  });
  options_.push_back({option + " " + kind, help});
}

void Arguments::texts(const std::string& option, const std::string& kind, std::vector<std::string>& values,
                      const std::string& help) {
  app_.add_option_function<std::vector<std::string>>(option,
                                                     [option, &values](const std::vector<std::string>& texts) {
                                                       for (const std::string& text : texts) require_text(option, text);
                                                       values = texts;
                                                     })
      ->allow_extra_args(false);
  options_.push_back({option + " " + kind, help});
}

void Arguments::count(const std::string& option, unsigned& value, const std::string& help) {
  app_.add_option_function<std::string>(option,
                                        [option, &value](const std::string& text) { value = to_count(option, text); });
  options_.push_back({option + " N", help});
}

void Arguments::duration(const std::string& option, std::optional<std::chrono::seconds>& value,
                         const std::string& help) {
  app_.add_option_function<std::string>(
      option, [option, &value](const std::string& text) { value = to_duration(option, text); });
  options_.push_back({option + " DURATION", help});
}

void Arguments::life_time(const std::string& option, std::optional<std::chrono::seconds>& value,
                          const std::string& help) {
  app_.add_option_function<std::string>(option, [option, &value](const std::string& text) {
    value = text == "never" ? kForever : to_duration(option, text, "write 90s, 5m, 8h, 2d or 1h30m; or never");
  });
  options_.push_back({option + " DURATION|never", help});
}

void Arguments::choice(const std::string& option, const std::vector<std::string>& words,
                       std::optional<std::size_t>& value, const std::string& help) {
  app_.add_option_function<std::string>(option, [option, words, &value](const std::string& text) {
    const auto found = std::find(words.begin(), words.end(), text);
    if (found == words.end()) {
      throw usage(fmt::format("{}: '{}' is not {}", option, printable(text), joined(words)), did_you_mean(text, words));
    }
    value = static_cast<std::size_t>(found - words.begin());
  });
  options_.push_back({fmt::format("{} {}", option, fmt::join(words, "|")), help});
}

void Arguments::parameters(ParameterValues& values) {
  app_.add_option_function<std::vector<std::string>>(
          "--set",
          [&values](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) {
              const std::size_t equals = text.find('=');
              if (equals == std::string::npos || equals == 0) {
                throw usage(fmt::format("--set: '{}' is not PARAMETER=VALUE", printable(text)));
              }
              if (!values.emplace(text.substr(0, equals), text.substr(equals + 1)).second) {
                throw usage(fmt::format("--set: '{}' is set twice", printable(text.substr(0, equals))));
              }
            }
          })
      ->allow_extra_args(false);
  options_.push_back({"--set PARAMETER=VALUE", "a parameter of the template; may be given again for another"});
}

void declare_wait(Arguments& args, const std::string& option, std::optional<std::size_t>& value, bool none,
                  const std::string& help) {
  std::vector<std::string> words{"ready", "agent", "ssh"};
  if (none) words.emplace_back("none");
  args.choice(option, words, value, help);
}

WaitFor to_wait_for(std::optional<std::size_t> value) {
  static constexpr WaitFor kWords[] = {WaitFor::ready, WaitFor::agent, WaitFor::ssh, WaitFor::none};
  return kWords[value.value_or(0)];
}

void declare_expiry(Arguments& args, std::optional<std::chrono::seconds>& ttl, std::optional<std::size_t>& on_expire) {
  args.life_time("--ttl", ttl, "life time; without it as the template says");
  args.choice("--on-expire", {to_string(OnExpire::remove), to_string(OnExpire::stop)}, on_expire,
              "what gc does when it is over; without it as the template says");
}

std::optional<OnExpire> to_on_expire(std::optional<std::size_t> value) {
  if (!value) return std::nullopt;
  return *value == 0 ? OnExpire::remove : OnExpire::stop;
}

// --- CommandLine

struct CommandLine::Node {
  const VerbEntry* entry;
  std::unique_ptr<Verb> verb;
  Arguments args;
};

CommandLine::CommandLine() : app_(std::make_unique<CLI::App>()) {
  app_->name("vmgraft");
  // Verbs hand what they do not know up to the program, so that the global options may stand behind the verb. One verb
  // only: without the limit a VM called "list" would be taken for the verb.
  app_->fallthrough();
  app_->require_subcommand(0, 1);
  declare_globals();
  for (const VerbEntry& entry : verbs()) declare_verb(entry);
}

CommandLine::~CommandLine() = default;

void CommandLine::declare_globals() {
  global_arguments_ = std::make_unique<Arguments>(*app_);
  Arguments& args = *global_arguments_;
  args.text("--connect", "URI", globals_.connect, "libvirt to talk to; else LIBVIRT_DEFAULT_URI, system, session");
  args.text("--store", "DIR", globals_.store, "where layers and VMs are kept; else VMGRAFT_STORE, or by connection");
  args.texts("--templates", "DIR", globals_.template_dirs, "look for templates here first; may be given again");
  args.flag("--json", globals_.json, "one JSON record on stdout, success or failure");
  args.flag("--quiet", globals_.quiet, "no progress and no notices on stderr");
  args.flag("--verbose", globals_.verbose, "keep the lines of progress; say libvirt's part of a failure");
  args.flag("--dry-run", globals_.dry_run, "print the plan and change nothing");
  args.flag("--yes", globals_.yes, "do not refuse to power off a running VM on a terminal");
  app_->add_flag("--version", version_)->disable_flag_override();
}

void CommandLine::declare_verb(const VerbEntry& entry) {
  CLI::App* parent = app_.get();
  std::string name(entry.path);
  if (const std::size_t space = name.find(' '); space != std::string::npos) {
    const std::string group = name.substr(0, space);
    name.erase(0, space + 1);
    const auto known = app_->get_subcommands([&](const CLI::App* app) { return app->get_name() == group; });
    parent = known.empty() ? app_->add_subcommand(group) : known.front();
    parent->require_subcommand(0, 1);
  }
  CLI::App* app = parent->add_subcommand(name);
  nodes_.push_back(std::make_unique<Node>(Node{&entry, entry.make(), Arguments(*app)}));
  nodes_.back()->verb->declare(nodes_.back()->args);
}

const CommandLine::Node* CommandLine::find(const CLI::App* app) const {
  const auto found =
      std::find_if(nodes_.begin(), nodes_.end(), [app](const auto& node) { return &node->args.app() == app; });
  return found == nodes_.end() ? nullptr : found->get();
}

namespace {

const CLI::App* deepest(const CLI::App* app) {
  while (!app->get_subcommands().empty()) app = app->get_subcommands().back();
  return app;
}

/// "vmgraft snapshot create"
std::string full_name(const CLI::App* app) {
  return app->get_parent() == nullptr ? app->get_name() : full_name(app->get_parent()) + " " + app->get_name();
}

/// The verb as a message begins with it; nothing before a verb is known.
std::string where(const CLI::App* app) {
  return app->get_parent() == nullptr ? "" : full_name(app) + ": ";
}

std::vector<std::string> names_below(const CLI::App* app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app->get_subcommands({})) {
    if (sub->get_name().rfind("__", 0) != 0) names.push_back(sub->get_name());
  }
  return names;
}

std::string long_option(const std::string& left) {
  return left.substr(0, left.find(' '));
}

}  // namespace

void CommandLine::refuse(const std::string& why) const {
  const CLI::App* app = deepest(app_.get());
  throw usage(where(app) + why, fmt::format("`{} --help` shows how it is used", full_name(app)));
}

void CommandLine::refuse_extra(const std::string& word) const {
  const CLI::App* app = deepest(app_.get());
  const std::string help = fmt::format("`{} --help` shows how it is used", full_name(app));
  const Node* node = find(app);
  if (word.size() > 1 && word.front() == '-') {
    std::vector<std::string> options = long_options(node == nullptr ? "" : node->entry->path);
    for (const std::string& option : long_options("")) options.push_back(option);
    const std::string bare = word.substr(0, word.find('='));
    throw usage(fmt::format("{}unknown option '{}'", where(app), printable(word)), did_you_mean(bare, options, help));
  }
  if (node != nullptr)
    throw usage(fmt::format("{}: '{}' is one argument too many", full_name(app), printable(word)), help);
  const std::string verb = app->get_parent() == nullptr ? word : app->get_name() + " " + word;
  throw usage(fmt::format("unknown verb '{}'", printable(verb)), did_you_mean(word, names_below(app), help));
}

CommandLine::Parsed CommandLine::parse(const std::vector<std::string>& words) {
  // What follows "--" is the guest's: CLI11 never sees it, so that no word of it can be taken for ours.
  const auto dashes = std::find(words.begin(), words.end(), "--");
  // Known before parsing: a usage error is a record too.
  globals_.json = std::find(words.begin(), dashes, "--json") != dashes;
  const std::vector<std::string> rest(dashes == words.end() ? dashes : dashes + 1, words.end());
  try {
    app_->parse(std::vector<std::string>(std::make_reverse_iterator(dashes), words.rend()));
  } catch (const CLI::CallForHelp&) {
    return {nullptr, nullptr, help_of(deepest(app_.get()))};
  } catch (const CLI::ParseError& error) {
    // A misspelt option may also be why something required is missing: it is the better thing to say.
    if (const auto extras = app_->remaining(true); !extras.empty()) refuse_extra(extras.front());
    refuse(reason(error));
  }
  const CLI::App* app = deepest(app_.get());
  const Node* node = find(app);
  if (node == nullptr && version_) {
    const auto is_version = [](const auto& other) { return other->entry->path == "version"; };
    node = std::find_if(nodes_.begin(), nodes_.end(), is_version)->get();
  }
  if (node == nullptr) {
    throw usage(app == app_.get() ? "no verb was given"
                                  : fmt::format("{} needs a verb: {}", full_name(app), joined(names_below(app))),
                fmt::format("`{} --help` lists them", full_name(app)));
  }
  if (dashes != words.end()) {
    if (node->args.rest_values() == nullptr) refuse("'--' goes with exec and ssh only");
    *node->args.rest_values() = rest;
  }
  if (globals_.dry_run && node->entry->dry_run == DryRun::refused) {
    std::vector<std::string> planned;
    for (const VerbEntry& entry : verbs()) {
      if (entry.dry_run == DryRun::planned) planned.emplace_back(entry.path);
    }
    throw usage(fmt::format("{} has no plan to show: --dry-run does not go with it", full_name(app)),
                fmt::format("--dry-run goes with {}", joined(planned)));
  }
  return {node->entry, node->verb.get(), std::nullopt};
}

// --- help

namespace {

std::string lines_of(const std::vector<HelpLine>& lines) {
  std::size_t width = 0;
  for (const HelpLine& line : lines) width = std::max(width, line.left.size());
  std::string text;
  for (const HelpLine& line : lines) text += fmt::format("  {:<{}}  {}\n", line.left, width, line.right);
  return text;
}

}  // namespace

std::string CommandLine::help() const {
  std::vector<HelpLine> lines;
  for (const VerbEntry& entry : verbs()) {
    if (!entry.summary.empty()) lines.push_back({std::string(entry.path), std::string(entry.summary)});
  }
  return fmt::format(
      "usage: vmgraft VERB [ARGUMENTS] [OPTIONS]\n\n"
      "Virtual machines from templates, with snapshots and clones that copy nothing.\n\n"
      "verbs:\n{}\noptions of every verb, before or after it:\n{}\n"
      "example:\n  vmgraft create micro web && vmgraft exec web -- uname -a\n\n"
      "`vmgraft VERB --help` tells more, `man vmgraft` tells all.\n",
      lines_of(lines), lines_of(global_arguments_->options()));
}

std::string CommandLine::group_help(const std::string& group) const {
  std::vector<HelpLine> lines;
  for (const VerbEntry& entry : verbs()) {
    if (entry.path.rfind(group + " ", 0) == 0) lines.push_back({std::string(entry.path), std::string(entry.summary)});
  }
  return fmt::format("usage: vmgraft {} VERB [ARGUMENTS] [OPTIONS]\n\nverbs:\n{}", group, lines_of(lines));
}

std::string CommandLine::verb_help(const Node& node) const {
  std::string places;
  for (const HelpLine& place : node.args.places()) {
    const CLI::Option* option = node.args.app().get_option_no_throw(long_option(place.left));
    const bool is_optional = option != nullptr && !option->get_required();
    places += is_optional ? fmt::format(" [{}]", place.left) : " " + place.left;
  }
  const std::vector<HelpLine>& options = node.args.options();
  std::string text = fmt::format("usage: vmgraft {}{}{}\n\n{}.\n", node.entry->path, places,
                                 options.empty() ? "" : " [OPTIONS]", node.entry->summary);
  if (!node.args.places().empty()) text += "\n" + lines_of(node.args.places());
  if (!options.empty()) text += "\n" + lines_of(options);
  return text +
         fmt::format("\nexample:\n  {}\n\n`vmgraft --help` lists the options of every verb.\n", node.entry->example);
}

std::string CommandLine::help_of(const CLI::App* app) const {
  if (const Node* node = find(app)) return verb_help(*node);
  return app->get_parent() == nullptr ? help() : group_help(app->get_name());
}

std::vector<std::string> CommandLine::long_options(std::string_view path) const {
  std::vector<std::string> options;
  const std::vector<HelpLine>* lines = path.empty() ? &global_arguments_->options() : nullptr;
  for (const auto& node : nodes_) {
    if (node->entry->path == path) lines = &node->args.options();
  }
  if (lines == nullptr) return options;
  for (const HelpLine& line : *lines) options.push_back(long_option(line.left));
  return options;
}

}  // namespace vmgraft::cli

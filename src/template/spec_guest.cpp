// SPDX-License-Identifier: Apache-2.0
// The guest and lifecycle sections.
#include <regex>

#include "template/spec_reader.hpp"

namespace vmgraft {
namespace {

constexpr std::size_t kMostKeys = 256;
constexpr std::size_t kMostGuestFiles = 1024;
constexpr std::size_t kMostCommands = 1024;

using Why = std::optional<std::string>;

Why hostname_rule(const std::string& text) {
  if (text.empty()) return std::nullopt;
  const char* why = "is not a host name (want labels of a-z A-Z 0-9 -, joined by dots, each at most 63 long)";
  if (text.size() > 253) return why;
  std::size_t length = 0;
  char before = '.';
  for (const char c : text + ".") {
    const bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (c == '.') {
      if (length == 0 || length > 63 || before == '-') return why;
      length = 0;
    } else {
      if (!alnum && (c != '-' || length == 0)) return why;
      ++length;
    }
    before = c;
  }
  return std::nullopt;
}

bool matches(const std::string& text, const std::regex& pattern) {
  return text.size() <= 128 && std::regex_match(text, pattern);
}

Why user_rule(const std::string& text) {
  static const std::regex user("[a-z_][a-z0-9_-]{0,31}");
  if (text.empty() || matches(text, user)) return std::nullopt;
  return "is not a user name (want 1 to 32 of a-z 0-9 _ -, first a letter or _)";
}

Why owner_rule(const std::string& text) {
  static const std::regex owner("[a-z_][a-z0-9_-]{0,31}(:[a-z_][a-z0-9_-]{0,31})?");
  if (text.empty() || matches(text, owner)) return std::nullopt;
  return "is not an owner (want user or user:group)";
}

Why mode_rule(const std::string& text) {
  static const std::regex mode("0?[0-7]{3,4}");
  if (matches(text, mode)) return std::nullopt;
  return "is not a file mode (want octal, like 0644)";
}

Why path_rule(const std::string& text) {
  if (text.size() > 4096) return "is longer than 4096 bytes";
  if (text.size() < 2 || text[0] != '/' || text[1] == '/') return "is not an absolute path (want like /etc/motd)";
  if (text.back() == '/') return "is a folder (want the path of a file)";
  return std::nullopt;
}

Why key_rule(const std::string& text) {
  if (text.find_first_not_of(" \t") == std::string::npos) return "is empty (want a public key, or the path of one)";
  // A second line would be a second entry of authorized_keys that nobody looked at.
  if (text.find_first_of("\r\n") != std::string::npos) return "is more than one line (want one key an entry)";
  return std::nullopt;
}

Why command_rule(const std::string& text) {
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return "is empty (want a command)";
  return std::nullopt;
}

void read_file(Findings& findings, Value item, GuestSpec& guest) {
  TemplateFields file(findings, std::move(item), TemplateFields::Nulls::refused);
  GuestFile out;
  file.require("path", R"(write "path": "/etc/motd")");
  file.text("path", out.path, path_rule);
  file.require("content", R"(write "content": "")");
  file.text("content", out.content);
  file.text("mode", out.mode, mode_rule);
  file.text("owner", out.owner, owner_rule);
  file.finish();
  guest.files.push_back(std::move(out));
}

}  // namespace

void read_guest(Findings& findings, Value value, GuestSpec& guest) {
  TemplateFields fields(findings, std::move(value), TemplateFields::Nulls::remove);
  fields.text("hostname", guest.hostname, hostname_rule);
  fields.text("user", guest.user, user_rule);
  fields.texts("ssh_keys", kMostKeys, guest.ssh_keys, key_rule);
  fields.list("files", kMostGuestFiles, [&](Value item) { read_file(findings, std::move(item), guest); });
  fields.texts("run", kMostCommands, guest.run, command_rule);
  fields.finish();
}

void read_lifecycle(Findings& findings, Value value, LifecycleSpec& lifecycle) {
  using std::chrono::hours;
  using std::chrono::seconds;
  TemplateFields fields(findings, std::move(value), TemplateFields::Nulls::remove);
  if (seconds ttl{}; fields.duration("ttl", seconds(1), hours(24 * 3650), ttl)) lifecycle.ttl = ttl;
  fields.word<OnExpire>("on_expire", {{"delete", OnExpire::remove}, {"stop", OnExpire::stop}}, lifecycle.on_expire);
  fields.word<Ready>("ready", {{"agent", Ready::agent}, {"ssh", Ready::ssh}, {"none", Ready::none}}, lifecycle.ready);
  fields.duration("ready_timeout", seconds(1), hours(24 * 7), lifecycle.ready_timeout);
  fields.finish();
}

}  // namespace vmgraft

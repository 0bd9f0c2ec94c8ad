// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "guest/agent_calls.hpp"
#include "guest/provision.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

std::string trimmed(std::string_view text) {
  const std::size_t start = text.find_first_not_of(" \t\r\n");
  if (start == std::string_view::npos) return {};
  return std::string(text.substr(start, text.find_last_not_of(" \t\r\n") - start + 1));
}

// "ssh-ed25519", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com" ...
bool is_key_type(std::string_view word) {
  return word.rfind("ssh-", 0) == 0 || word.rfind("ecdsa-sha2-", 0) == 0 || word.rfind("sk-", 0) == 0;
}

// A key type followed by base64 that begins with the same type, length first (RFC 4253, 6.6); options may stand before.
bool is_public_key(std::string_view line) {
  std::size_t at = 0;
  std::string_view before;
  while (at < line.size()) {
    const std::size_t end = std::min(line.find(' ', at), line.size());
    const std::string_view word = line.substr(at, end - at);
    if (is_key_type(before)) {
      const std::optional<std::string> blob = parse_base64(word);
      const std::size_t length = before.size();
      return blob && blob->size() > 4 + length && static_cast<unsigned char>((*blob)[3]) == length &&
             blob->compare(4, length, before) == 0;
    }
    before = word;
    at = end + 1;
  }
  return false;
}

fs::path expanded(const std::string& path) {
  if (path != "~" && path.rfind("~/", 0) != 0) return fs::absolute(path);
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') {
    throw Error(Errc::invalid_template, fmt::format("guest: ssh key '{}': HOME is not set", printable(path)),
                "write the whole path");
  }
  return fs::path(home) / path.substr(std::min<std::size_t>(2, path.size()));
}

std::vector<std::string> read_key_file(Host& host, const std::string& path) {
  const auto refuse = [&path](const std::string& why, const std::string& hint) {
    throw Error(Errc::invalid_template, fmt::format("guest: ssh key '{}': {}", printable(path), why), hint);
  };
  const std::optional<std::string> text = host.read_file(expanded(path));
  if (!text) refuse("there is no such file", "make a key with ssh-keygen -t ed25519, or write the public key itself");
  if (text->find("PRIVATE KEY-----") != std::string::npos) {
    refuse("it holds a private key", fmt::format("name the public one: '{}.pub'", printable(path)));
  }
  std::vector<std::string> keys;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string line = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty() || line.front() == '#') continue;
    if (!is_public_key(line))
      refuse("it holds a line that is not a public key", "want lines like 'ssh-ed25519 AAAA...'");
    keys.push_back(line);
  }
  if (keys.empty()) refuse("it holds no public key", "want a line like 'ssh-ed25519 AAAA...'");
  return keys;
}

// ssh_config has no escape for these, so a value that holds one cannot be written.
void require_writable(const std::string& what, const std::string& value) {
  const auto harmful = [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == '"' || c == '\x7f' || c == '\\';
  };
  if (value.empty() || std::any_of(value.begin(), value.end(), harmful) || value.find("${") != std::string::npos) {
    throw Error(Errc::usage,
                fmt::format("ssh: the {} '{}' cannot stand in an ssh configuration", what, printable(value)));
  }
}

void require_word(const std::string& what, const std::string& value, std::string_view also) {
  const auto fits = [also](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || also.find(c) != std::string_view::npos;
  };
  if (value.empty() || value.front() == '-' || !std::all_of(value.begin(), value.end(), fits)) {
    throw Error(Errc::usage,
                fmt::format("ssh: the {} '{}' cannot stand in an ssh configuration", what, printable(value)));
  }
}

// "%" begins a token in values of ssh_config.
std::string escaped(const std::string& value) {
  std::string text;
  for (const char c : value) text += c == '%' ? std::string("%%") : std::string(1, c);
  return text;
}

}  // namespace

HostKey make_host_key(Host& host, const fs::path& scratch_folder) {
  const fs::path program = host.find_program("ssh-keygen");
  if (program.empty()) {
    throw Error(Errc::host_unfit, "ssh-keygen is not installed, so no SSH host key can be made",
                "apt-get install openssh-client");
  }
  const fs::path file = scratch_folder / ("hostkey-" + random_hex(8));
  const fs::path public_file = file.string() + ".pub";
  Command command;
  command.argv = {program.string(), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file.string()};
  command.deadline = std::chrono::seconds(60);
  const CommandResult result = host.run(command);
  const std::optional<std::string> private_text = host.read_file(file);
  const std::optional<std::string> public_text = host.read_file(public_file);
  host.remove(file);
  host.remove(public_file);
  if (result.exit_code != 0 || !private_text || !public_text) {
    throw Error(Errc::other, fmt::format("ssh-keygen failed with exit code {}: {}", result.exit_code,
                                         printable(trimmed(result.err))));
  }
  return {*private_text, trimmed(*public_text) + "\n"};
}

std::vector<std::string> read_ssh_keys(Host& host, const std::vector<std::string>& keys) {
  std::vector<std::string> all;
  for (const std::string& key : keys) {
    const std::string text = trimmed(key);
    // A path holds no key type before a blank; text that begins like a key but is none is a slip, not a path.
    const bool is_text = is_public_key(text) || is_key_type(text.substr(0, text.find(' ')));
    std::vector<std::string> found;
    if (!is_text) {
      found = read_key_file(host, key);
    } else if (is_public_key(text) && text.find('\n') == std::string::npos) {
      found = {text};
    } else {
      throw Error(Errc::invalid_template, fmt::format("guest: ssh key '{}' is not a public key", printable(text, 60)),
                  "want 'ssh-ed25519 AAAA...' on one line, or the path of a .pub file");
    }
    for (std::string& line : found) {
      if (std::find(all.begin(), all.end(), line) == all.end()) all.push_back(std::move(line));
    }
  }
  return all;
}

std::vector<std::string> ssh_argv(Host& host, const fs::path& folder, const std::string& vm_name,
                                  const std::string& user, const std::string& address, const HostKey& host_key,
                                  const std::vector<std::string>& arguments) {
  const fs::path config = folder / "ssh_config";
  const fs::path known_hosts = folder / "known_hosts";
  const std::string login = user.empty() ? "root" : user;
  const std::string key = trimmed(host_key.public_key);
  require_name("VM", vm_name);
  require_word("user", login, "._-@");
  require_word("address", address, ".:%-_");
  require_writable("path", known_hosts.string());
  if (!is_public_key(key) || key.find('\n') != std::string::npos) {
    throw Error(Errc::other, fmt::format("VM '{}': its SSH host key is not known", vm_name),
                "it is made when the VM is created by vmgraft with an image that runs an SSH server");
  }
  host.write_file(known_hosts, fmt::format("{} {}\n", vm_name, key), 0600);
  host.write_file(config,
                  fmt::format("Host {0}\n"
                              "  HostName {1}\n"
                              "  User {2}\n"
                              "  HostKeyAlias {0}\n"
                              "  UserKnownHostsFile \"{3}\"\n"
                              "  GlobalKnownHostsFile /dev/null\n"
                              "  StrictHostKeyChecking yes\n"
                              "  UpdateHostKeys no\n"
                              "  CheckHostIP no\n"
                              "  IdentitiesOnly no\n"
                              "  ConnectTimeout 20\n",
                              vm_name, escaped(address), login, escaped(known_hosts.string())),
                  0600);
  std::vector<std::string> argv{"ssh", "-F", config.string(), vm_name};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

}  // namespace vmgraft

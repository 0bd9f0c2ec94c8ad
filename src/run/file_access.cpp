// SPDX-License-Identifier: Apache-2.0
#include "run/file_access.hpp"

#include <charconv>
#include <string_view>
#include <vector>

#include <unistd.h>

namespace vmgraft {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

long to_id(std::string_view text) {
  long id = -1;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), id);
  return failure == std::errc{} && end == text.data() + text.size() ? id : -1;
}

void add_groups(Host& host, Account& account) {
  account.groups.insert(account.gid);
  const std::string text = host.read_file("/etc/group").value_or("");
  for (const std::string_view line : split(text, '\n')) {
    const auto fields = split(line, ':');  // name:x:gid:member,member
    if (fields.size() < 4 || to_id(fields[2]) < 0) continue;
    for (const std::string_view member : split(fields[3], ',')) {
      if (member == account.name) account.groups.insert(static_cast<gid_t>(to_id(fields[2])));
    }
  }
}

/// Owner's bits for the owner, else the group's for a member, else the rest's: the first that fits decides, as in the
/// kernel.
bool mode_allows(const Account& account, const FileInfo& file, Access access) {
  if (account.uid == 0) return true;
  const unsigned wanted = static_cast<unsigned>(access);
  unsigned mode = file.mode;
  if (file.uid == account.uid) {
    mode >>= 6;
  } else if (account.groups.count(file.gid) != 0) {
    mode >>= 3;
  }
  return (mode & wanted) == wanted;
}

}  // namespace

Account account_of(Host& host, uid_t uid, gid_t gid) {
  Account account{std::to_string(uid), uid, gid, {}};
  const std::string text = host.read_file("/etc/passwd").value_or("");
  for (const std::string_view line : split(text, '\n')) {
    const auto fields = split(line, ':');  // name:x:uid:gid:...
    if (fields.size() < 4 || to_id(fields[2]) != static_cast<long>(uid)) continue;
    account.name = fields[0];
    if (to_id(fields[3]) >= 0) account.groups.insert(static_cast<gid_t>(to_id(fields[3])));
    break;
  }
  add_groups(host, account);
  return account;
}

Account own_account(Host& host) {
  Account account = account_of(host, geteuid(), getegid());
  // What this process may is what it was given at login, not what the files say since then.
  std::vector<gid_t> groups(static_cast<std::size_t>(std::max(getgroups(0, nullptr), 0)));
  const int count = getgroups(static_cast<int>(groups.size()), groups.data());
  account.groups = {account.gid};
  for (int i = 0; i < count; ++i) account.groups.insert(groups[static_cast<std::size_t>(i)]);
  return account;
}

long group_id(Host& host, const std::string& name) {
  const std::string text = host.read_file("/etc/group").value_or("");
  for (const std::string_view line : split(text, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() >= 3 && fields[0] == name) return to_id(fields[2]);
  }
  return -1;
}

bool may_access(Host& host, const Account& account, const std::filesystem::path& path, Access access) {
  const auto file = host.stat(path);
  if (!file) return false;
  if (mode_allows(account, *file, access)) return true;
  if (geteuid() != 0 || account.uid == 0 || host.find_program("setpriv").empty()) return false;
  Command ask;
  ask.argv = {
      "setpriv", "--reuid", std::to_string(account.uid), "--regid", std::to_string(account.gid), "--init-groups",
      "--",      "test"};
  if (access == Access::search) {
    ask.argv.insert(ask.argv.end(), {"-x", path.string()});
  } else {
    ask.argv.insert(ask.argv.end(), {"-r", path.string(), "-a", "-w", path.string()});
  }
  ask.deadline = std::chrono::seconds(5);
  return host.run(ask).exit_code == 0;
}

}  // namespace vmgraft

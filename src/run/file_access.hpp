// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "host/host.hpp"

namespace vmgraft {

/// Somebody whose rights on files are asked for.
struct Account {
  std::string name;  ///< the number when the host knows no name
  uid_t uid = 0;
  gid_t gid = 0;
  std::set<gid_t> groups;  ///< the primary one included
};

/// By /etc/passwd and /etc/group.
[[nodiscard]] Account account_of(Host& host, uid_t uid, gid_t gid);
/// Who this process is.
[[nodiscard]] Account own_account(Host& host);

/// The id of a group by name, by /etc/group; -1 when there is none.
[[nodiscard]] long group_id(Host& host, const std::string& name);

enum class Access : unsigned { search = 1, read_write = 6 };

/// Whether owner, group and mode give \p account that access; and where they do not (an access list may), whether the
/// kernel does, when we are root and can ask it as that account.
[[nodiscard]] bool may_access(Host& host, const Account& account, const std::filesystem::path& path, Access access);

}  // namespace vmgraft

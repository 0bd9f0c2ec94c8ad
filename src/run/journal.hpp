// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "host/host.hpp"
#include "plan/steps.hpp"
#include "store/store.hpp"

namespace vmgraft {

/// An operation in flight, as it stands in journal/<id>.json until it is done.
/// Its owner holds the locks of plan.vms: who gets them all while the file is there knows that the owner is dead.
struct JournalEntry {
  std::string id;
  bool committed = false;      ///< finish it, do not undo it
  std::int64_t pid = 0;        ///< of the owner, to be told
  /// After its steps, layers that nothing names any more are to be merged and deleted. The journal stays until then,
  /// without steps: those could by now undo what others made of the names.
  bool tidy = false;
  Plan plan = {};
};

[[nodiscard]] std::string to_json_text(const JournalEntry& entry);
/// \throws Error other: not a journal of this version.
[[nodiscard]] JournalEntry journal_from_json(const std::string& text, const std::string& where);

/// Files of journals, in order of their names: not those that are being written, nor a folder of somebody's.
[[nodiscard]] std::vector<std::filesystem::path> list_journals(Host& host, const Store& store);

}  // namespace vmgraft

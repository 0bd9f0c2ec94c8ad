// SPDX-License-Identifier: Apache-2.0
#include "cli/gc_text.hpp"

#include <vector>

#include <fmt/format.h>

#include "cli/text.hpp"
#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft::cli {

namespace {

struct ActionWords {
  const char* done;
  const char* to_do;
};

ActionWords words_of(GcAction action) {
  switch (action) {
    case GcAction::remove:
      return {"removed", "would remove"};
    case GcAction::define:
      return {"defined", "would define"};
    case GcAction::stop:
      return {"stopped", "would stop"};
    case GcAction::recover:
      return {"recovered", "would recover"};
    case GcAction::keep:
      break;
  }
  return {"left", "would leave"};
}

std::string line_of(const char* kind, const GcEntry& entry, bool dry_run) {
  const ActionWords words = words_of(entry.action);
  const bool failed = !dry_run && !entry.done && entry.action != GcAction::keep;
  const std::string act = failed ? "failed" : dry_run ? words.to_do : words.done;
  std::string line = fmt::format("{} {} {}", act, kind, printable(entry.name, kLongestValue));
  if (!entry.what.empty()) line += ": " + printable(entry.what, kLongestValue);
  if (entry.size > 0) line += fmt::format(" ({})", format_size(entry.size));
  if (!entry.note.empty()) line += "; " + printable(entry.note, kLongestValue);
  return line + "\n";
}

}  // namespace

std::string gc_text(const GcResult& result) {
  const std::vector<std::pair<const char*, const std::vector<GcEntry>*>> lists{
      {"operation", &result.journals}, {"VM", &result.expired}, {"domain", &result.domains},
      {"domain of VM", &result.manifests}, {"file", &result.files}, {"layer", &result.layers}};
  std::string text;
  for (const auto& [kind, entries] : lists)
    for (const GcEntry& entry : *entries) text += line_of(kind, entry, result.dry_run);
  if (result.freed() == 0) return text;
  return text + fmt::format("{} {}\n", format_size(result.freed()), result.dry_run ? "would be freed" : "freed");
}

}  // namespace vmgraft::cli

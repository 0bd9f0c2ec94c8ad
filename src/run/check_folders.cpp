// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "run/check_facts.hpp"
#include "run/journal.hpp"
#include "run/store_trust.hpp"

namespace vmgraft {
namespace {

std::string shown(const std::filesystem::path& path) { return printable(path.native(), 4096); }

struct Folder {
  const char* name;
  unsigned most;  ///< permission bits at most
};

/// As Store::prepare() makes them.
constexpr std::array<Folder, 7> kFolders{{{"", 0755},
                                          {"layers", 0711},
                                          {"vms", 0711},
                                          {"images", 0700},
                                          {"journal", 0700},
                                          {"locks", 0700},
                                          {"tmp", 0700}}};

void check_folder(const CheckInput& input, const Folder& folder, StoreFindings& rows) {
  const bool is_root = *folder.name == '\0';
  const std::filesystem::path path = is_root ? input.store.root() : input.store.root() / folder.name;
  std::optional<FileInfo> info = input.host.stat(path);
  if (info && info->is_link) {
    if (!is_root) return;                 // told already
    info = input.host.stat(path / ".");  // where the store is, the user says
  }
  if (!info || !info->is_folder) {
    rows.fail("store-folder", "store", fmt::format("its folder {} is {}", shown(path), info ? "a file" : "missing"),
              fmt::format("sudo install -d -m {:o} {}, and put back what was in it", folder.most, shown(path)));
  } else if ((info->mode & 0022U & ~folder.most) != 0) {
    rows.fail("store-mode", "store", fmt::format("{} has mode {:04o}: others may write to it", shown(path), info->mode),
              fmt::format("chmod {:o} {}", folder.most, shown(path)));
  } else if ((info->mode & 0777U & ~folder.most) != 0) {
    rows.warn("store-mode", "store", fmt::format("{} has mode {:04o}: others may look into it", shown(path), info->mode),
              fmt::format("chmod {:o} {}", folder.most, shown(path)));
  }
}

/// "ID.qcow2", "ID.json", "ID.kernel", "ID.initrd" of a layer that has a record; or a temporary that is being written.
bool is_of_layer(const CheckFacts& facts, const std::string& file) {
  const std::size_t dot = file.find('.');
  const std::string end = dot == std::string::npos ? std::string{} : file.substr(dot);
  const bool is_known = end == ".qcow2" || end == ".json" || end == ".kernel" || end == ".initrd";
  return is_known && facts.layers.contains(file.substr(0, dot));
}

/// Links that no record or journal stands for: those the check of each tells.
void check_loose_links(const CheckInput& input, const CheckFacts& facts, StoreFindings& rows) {
  const Store& store = input.store;
  const auto look = [&](const std::filesystem::path& folder, const auto& is_told) {
    for (const std::string& name : input.host.list_folder(folder))
      if (!is_told(name) && is_link(input.host, folder / name))
        rows.fail("link", "store", link_text(input.host, folder / name), kLinkRemedy);
  };
  look(store.root(), [](const std::string& name) {
    return std::find(kStoreFolders.begin(), kStoreFolders.end(), name) != kStoreFolders.end();
  });
  look(store.layers_folder(), [&](const std::string& name) { return is_of_layer(facts, name); });
  look(store.images_folder(), [&](const std::string& name) {
    return name.ends_with(".json") && facts.images.contains(name.substr(0, name.size() - 5));
  });
  look(store.vms_folder(), [&](const std::string& name) { return facts.vms.contains(name); });
  look(store.journal_folder(), [](const std::string& name) { return name.ends_with(".json"); });
  for (const std::filesystem::path& folder : {store.locks_folder(), store.tmp_folder()})
    look(folder, [](const std::string&) { return false; });
}

void check_strays(const CheckInput& input, const CheckFacts& facts, StoreFindings& rows) {
  const Store& store = input.store;
  const auto stray = [&](const std::filesystem::path& path, const char* why) {
    if (is_link(input.host, path)) return;  // told as that
    rows.warn("stray", "store", fmt::format("{} {}", shown(path), why),
              "vmgraft gc removes what vmgraft left there; what is somebody else's, remove by hand when no domain uses it");
  };
  for (const std::string& file : input.host.list_folder(store.layers_folder()))
    if (!is_of_layer(facts, file)) stray(store.layers_folder() / file, "is of no layer");
  for (const std::string& file : input.host.list_folder(store.images_folder()))
    if (!file.ends_with(".json") || !facts.images.contains(file.substr(0, file.size() - 5)))
      stray(store.images_folder() / file, "is the record of no image");
  for (const std::string& file : input.host.list_folder(store.vms_folder()))
    if (!facts.vms.contains(file)) stray(store.vms_folder() / file, "is no VM's");
  for (const std::string& file : input.host.list_folder(store.tmp_folder()))
    if (file != "downloads") stray(store.tmp_folder() / file, "was left by a process that died");
}

}  // namespace

void check_linked_folders(const CheckInput& input, StoreFindings& rows) {
  for (const char* const name : kStoreFolders)
    if (const std::filesystem::path folder = input.store.root() / name; is_link(input.host, folder))
      rows.fail("store-folder", "store", link_text(input.host, folder), kNoLinkedFolder);
}

void check_folders(const CheckInput& input, const CheckFacts& facts, StoreFindings& rows) {
  for (const Folder& folder : kFolders) check_folder(input, folder, rows);
  check_loose_links(input, facts, rows);
  if (facts.is_busy) {
    std::string who;
    for (const auto& [name, holder] : facts.busy) who += (who.empty() ? "" : "; ") + holder;
    rows.ok("busy", "store", fmt::format("another vmgraft is at work{}: what it is making is not told", who.empty() ? "" : " (" + who + ")"));
  } else {
    check_strays(input, facts, rows);
  }
  if (!rows.has_findings("store")) rows.ok("store", "store", shown(input.store.root()));
}

void check_journal(const CheckInput& input, StoreFindings& rows) {
  const std::filesystem::path folder = input.store.journal_folder();
  for (const std::string& file : input.host.list_folder(folder)) {
    const std::string place = "journal/" + printable(file);
    const std::optional<FileInfo> info = input.host.stat(folder / file);
    if (!file.ends_with(".json") || (info && info->is_folder)) {
      // ".<id>.json.<pid>.<n>.tmp": its writer died before anything was done. A link is told as that.
      if (!file.ends_with(".tmp") && !(info && info->is_link))
        rows.warn("stray", "store", fmt::format("{} is no journal", shown(folder / file)), "remove it by hand");
      continue;
    }
    if (info && info->is_link) {
      rows.fail("journal", place, link_text(input.host, folder / file), kLinkRemedy);
      continue;
    }
    try {
      const std::optional<std::string> text = input.host.read_file(folder / file);
      if (!text) continue;  // finished meanwhile
      const JournalEntry entry = journal_from_json(*text, folder / file);
      require_own_journal(entry, (folder / file).stem(), input.store, input.tpm_folder);
      const std::string verb = printable(entry.plan.verb);
      if (input.host.stat(fmt::format("/proc/{}", entry.pid)))
        rows.ok("journal", place, fmt::format("'{}' is under way (pid {})", verb, entry.pid));
      else
        rows.warn("journal", place,
                  fmt::format("'{}' was cut short: its process (pid {}) died{}", verb, entry.pid,
                              input.unrecovered.empty() ? "" : ", and recovery failed: " + input.unrecovered),
                  fmt::format("the next vmgraft {} it, once nothing keeps it from that", entry.committed ? "finishes" : "undoes"));
    } catch (const Error& error) {
      rows.fail("journal", place, error.what(), error.hint().empty() ? "see the message" : error.hint());
    }
  }
}

}  // namespace vmgraft

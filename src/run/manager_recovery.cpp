// SPDX-License-Identifier: Apache-2.0
// What processes that died had begun: finished or undone.
#include <algorithm>

#include <fmt/format.h>

#include "run/fresh.hpp"
#include "run/journal.hpp"
#include "run/manager_impl.hpp"
#include "run/store_trust.hpp"

namespace vmgraft {

void Manager::Impl::recover(const std::vector<std::string>& ours) {
  // A journal whose writer died before it had its name: nothing was done yet.
  drop_unfinished_writes(store_->journal_folder());
  std::vector<Recovered> all;
  for (const std::filesystem::path& file : list_journals(host, *store_)) {
    if (std::optional<Recovered> one = recover_entry(file, ours)) all.push_back(std::move(*one));
  }
  // A merge or sweep that a process did for its verb's end is a part of that verb, not worth a line of its own.
  for (const Recovered& one : all)
    if (one.tidy || std::none_of(all.begin(), all.end(), [&](const Recovered& other) { return other.tidy && other.pid == one.pid; }))
      notice(one.line);
  if (ours.empty()) drop_dead_work();
}

void Manager::Impl::drop_unfinished_writes(const std::filesystem::path& folder) {
  for (const std::string& name : host.list_folder(folder))
    if (const std::string writer = writer_of(name); !writer.empty() && !host.stat("/proc/" + writer))
      host.remove(folder / name);
}

void Manager::Impl::drop_dead_work() {
  const std::string journals = journals_text();
  for (const std::string& name : host.list_folder(store_->tmp_folder())) {
    // What a journal names is seen to by who recovers that.
    if (!is_layer_id(name) || journals.find(name) != std::string::npos || !is_free(work_lock(name))) continue;
    const std::optional<FileInfo> info = host.stat(store_->tmp_folder() / name);
    if (!info || !info->is_folder) continue;  // its owner has just finished; or somebody's link
    host.remove(store_->tmp_folder() / name);
    host.remove(lock_file(*store_, work_lock(name)));
    notice(fmt::format("removed {}, which a process that died had left half done", (store_->tmp_folder() / name).string()));
  }
}

std::optional<Manager::Impl::Recovered> Manager::Impl::recover_entry(const std::filesystem::path& path,
                                                                     const std::vector<std::string>& ours) {
  const std::optional<std::string> text = host.read_file(path);
  if (!text) return std::nullopt;  // its owner has finished meanwhile
  const JournalEntry entry = own_journal(*text, path);
  const auto locks = try_lock_dead(entry, ours);
  if (!locks) return std::nullopt;
  const std::optional<std::string> again = host.read_file(path);
  if (!again) return std::nullopt;
  try {
    std::optional<std::string> line = recover_dead(own_journal(*again, path));
    if (!line) return std::nullopt;
    return Recovered{entry.pid, entry.tidy, std::move(*line)};
  } catch (const Error& error) {
    const bool is_ours = std::any_of(entry.plan.vms.begin(), entry.plan.vms.end(), [&](const std::string& name) {
      return std::find(ours.begin(), ours.end(), name) != ours.end();
    });
    if (is_ours || error.code() == Errc::interrupted) throw;
    // What cannot be finished now must not keep people from everything else in the store.
    std::string line = error.what();
    for (const std::string& leftover : error.leftovers()) line += "; " + leftover;
    return Recovered{entry.pid, true, line};
  }
}

JournalEntry Manager::Impl::own_journal(const std::string& text, const std::filesystem::path& path) {
  JournalEntry entry = journal_from_json(text, path);
  // Before a lock is taken: that is a file, too, named by the journal.
  require_own_journal(entry, path.stem(), *store_, tpm_folder());
  return entry;
}

std::optional<std::vector<FileLock>> Manager::Impl::try_lock_dead(const JournalEntry& entry, const std::vector<std::string>& ours) {
  if (std::find(entry.plan.vms.begin(), entry.plan.vms.end(), kGpuLock) != entry.plan.vms.end()) make_ledger_folder();
  std::vector<FileLock> locks;
  for (const std::string& name : entry.plan.vms) {
    if (std::find(ours.begin(), ours.end(), name) != ours.end()) continue;
    std::optional<FileLock> lock = FileLock::try_take(lock_file(*store_, name), FileLock::Kind::exclusive,
                                                      "recover " + entry.plan.verb);
    if (!lock) return std::nullopt;
    locks.push_back(std::move(*lock));
  }
  return locks;
}

std::optional<std::string> Manager::Impl::recover_dead(const JournalEntry& entry) {
  std::string line = Executor(world()).recover(entry);
  // What it was writing when it died, beside the files that it wrote to.
  std::vector<std::filesystem::path> folders{store_->layers_folder(), store_->images_folder()};
  for (const std::string& vm : entry.plan.vms) {
    if (vm.starts_with('@')) continue;
    const std::filesystem::path folder = store_->vm_folder(vm);
    folders.insert(folders.end(), {folder, store_->ssh_folder(vm)});
    for (const std::string& snapshot : host.list_folder(folder / "snapshots"))
      folders.push_back(folder / "snapshots" / snapshot);
  }
  for (const std::filesystem::path& folder : folders) drop_unfinished_writes(folder);
  const std::filesystem::path journal = store_->journal_folder() / (entry.id + ".json");
  if (!host.stat(journal)) return line;
  if (try_tidy(entry.plan.vms)) {
    host.remove(journal);
    return line;
  }
  // The next command does. On a store that is never quiet those are many, and each would say that it finished the same.
  if (entry.plan.steps.empty()) return std::nullopt;
  return line;
}

std::string Manager::Impl::journals_text() {
  std::string text;
  for (const std::filesystem::path& file : list_journals(host, *store_)) text += host.read_file(file).value_or("");
  return text;
}

}  // namespace vmgraft

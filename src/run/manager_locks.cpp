// SPDX-License-Identifier: Apache-2.0
// Who may touch what: the locks of VMs, of the sweep, and what goes with a lock file.
#include <algorithm>

#include "run/journal.hpp"
#include "run/manager_impl.hpp"

namespace vmgraft {
namespace {

/// Where those stand in line who want the sweep lock.
constexpr const char* kSweepTurn = "@sweep-turn";

}  // namespace

std::filesystem::path lock_file(const Store& store, const std::string& name) {
  if (name == kGpuLock) return std::filesystem::path(kGpuLedgerFolder) / "lock";
  return store.locks_folder() / (name.starts_with('@') ? name.substr(1) + ".lock" : "vm-" + name + ".lock");
}

FileLock Manager::Impl::take_lock(const std::string& name, FileLock::Kind kind, const std::string& purpose) {
  return FileLock::take(lock_file(*store_, name), kind, purpose, true, options.interrupted,
                        [this](const std::string& holder) { notice("waiting for " + holder); });
}

void Manager::Impl::share_sweep(Locks& locks) {
  // Never two: who wants the lock alone and waits for the first would hold up the second.
  if (const auto before = share_.lock()) before->reset();
  locks.share = std::make_shared<std::optional<FileLock>>();
  share_ = locks.share;
  // The kernel lets in who shares a lock before who wants it alone: where always somebody has a share, that one would wait
  // for ever. So all stand in one line for it; who is at its head waits only for those that have it.
  const FileLock turn = take_lock(kSweepTurn, FileLock::Kind::exclusive, locks.purpose);
  locks.share->emplace(take_lock(kSweepLock, FileLock::Kind::shared, locks.purpose));
}

FileLock Manager::Impl::lock_sweep(const std::string& purpose) {
  if (const auto ours = share_.lock()) ours->reset();
  static_cast<void>(store());
  const FileLock turn = take_lock(kSweepTurn, FileLock::Kind::exclusive, purpose);
  return take_lock(kSweepLock, FileLock::Kind::exclusive, purpose);
}

Locks Manager::Impl::lock_vms(const std::vector<std::string>& names, const std::string& purpose) {
  static_cast<void>(store());
  std::set<std::string> wanted(names.begin(), names.end());
  for (;;) {
    // Always in the same order, the sweep lock last: no two operations can wait for each other in a circle.
    Locks locks{{}, {}, purpose};
    for (const std::string& name : wanted) locks.vms.push_back(take_lock(name, FileLock::Kind::exclusive, purpose));
    recover({wanted.begin(), wanted.end()});
    std::set<std::string> more = half_done_with(wanted);
    if (more.erase(kGpuLock) != 0) {
      const FileLock gpus = lock_gpus(purpose);
      std::vector<std::string> held(wanted.begin(), wanted.end());
      held.emplace_back(kGpuLock);
      recover(held);
      more = half_done_with(wanted);
      more.erase(kGpuLock);
    }
    if (std::includes(wanted.begin(), wanted.end(), more.begin(), more.end())) {
      share_sweep(locks);
      return locks;
    }
    // Somebody is at work on another VM of it: to be waited for, but not while these are held.
    wanted.merge(more);
  }
}

std::optional<Locks> Manager::Impl::try_lock_for(const std::string& vm, const std::string& purpose) {
  std::optional<FileLock> lock = FileLock::try_take(lock_file(store(), vm), FileLock::Kind::exclusive, purpose);
  if (!lock) return std::nullopt;
  Locks locks{{}, {}, purpose};
  locks.vms.push_back(std::move(*lock));
  recover({vm});
  if (!half_done_with({vm}).empty()) return std::nullopt;
  share_sweep(locks);
  return locks;
}

std::set<std::string> Manager::Impl::half_done_with(const std::set<std::string>& vms) {
  std::set<std::string> named;
  for (const std::filesystem::path& file : list_journals(host, *store_)) {
    const std::optional<std::string> text = host.read_file(file);
    if (!text) continue;
    const JournalEntry entry = journal_from_json(*text, file);
    if (entry.plan.steps.empty()) continue;  // only layers that nothing names are left of it
    if (std::any_of(entry.plan.vms.begin(), entry.plan.vms.end(), [&](const std::string& vm) { return vms.contains(vm); }))
      named.insert(entry.plan.vms.begin(), entry.plan.vms.end());
  }
  return named;
}

bool Manager::Impl::is_free(const std::string& lock) { return FileLock::is_free(lock_file(*store_, lock)); }

void Manager::Impl::drop_idle_locks() {
  for (const std::string& file : host.list_folder(store_->locks_folder())) {
    const std::size_t dot = file.rfind(".lock");
    if (dot == std::string::npos) continue;
    const std::size_t dash = file.find('-') + 1;
    const std::string name = dash <= dot ? file.substr(dash, dot - dash) : std::string();
    if (name.empty()) continue;
    const bool is_idle = (file.starts_with("vm-") && !host.stat(store_->vms_folder() / name)) ||
                         (file.starts_with("work-") && !host.stat(store_->tmp_folder() / name));
    if (is_idle) FileLock::remove_if_free(store_->locks_folder() / file);
  }
}

}  // namespace vmgraft

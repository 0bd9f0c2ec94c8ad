// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "model/moment.hpp"
#include "plan/plan_gc.hpp"
#include "run/fresh.hpp"
#include "run/journal.hpp"
#include "run/manager_impl.hpp"
#include "run/step_effects.hpp"

namespace vmgraft {
namespace {

/// As vmgraft stop without --timeout.
constexpr std::chrono::seconds kStopTimeout{60};

/// Do one thing about an entry: what goes wrong is told with it, and holds nothing else up.
void attempt(GcEntry& entry, const std::function<void()>& act) {
  try {
    act();
    entry.done = true;
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    entry.note = error.what();
  }
}

/// One after the other and without a journal, for which a full disk has no room: garbage of which a part stays is
/// garbage.
void remove_each(Manager::Impl& impl, const GcFacts& facts, GcResult& result) {
  World world = impl.world();
  for (GcEntry& entry : result.files)
    if (entry.action == GcAction::remove) attempt(entry, [&] { apply_step(world, RemovePath{entry.name}); });
  std::set<std::string> stay;
  for (GcEntry& entry : result.layers) {  // children first
    if (entry.action != GcAction::remove) continue;
    if (reach(facts.refs.layers, stay).contains(entry.name)) {
      entry.note = "a layer that stays stands on it";
      continue;
    }
    attempt(entry, [&] { apply_step(world, DeleteLayer{entry.name}); });
    if (!entry.done) stay.insert(entry.name);
  }
}

void remove_found(Manager::Impl& impl, const GcFacts& facts, const Plan& removal, GcResult& result) {
  const auto drop_own_journals = [&] {
    for (const std::filesystem::path& file : list_journals(impl.host, impl.store())) {
      try {
        const JournalEntry entry = journal_from_json(impl.host.read_file(file).value_or(""), file);
        if (entry.pid == getpid() && entry.committed && entry.plan.verb == removal.verb) impl.host.remove(file);
      } catch (const Error&) {
        // Somebody else's, told with the journals.
      }
    }
  };
  try {
    impl.execute(removal);
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    drop_own_journals();  // what cannot be removed must not come up with every command from now on
    return remove_each(impl, facts, result);
  }
  for (auto* list : {&result.layers, &result.files})
    for (GcEntry& entry : *list) entry.done = entry.action == GcAction::remove;
}

std::vector<GcEntry> entries_of(const std::vector<GcItem>& items) {
  std::vector<GcEntry> entries;
  for (const GcItem& item : items) entries.push_back(item.entry);
  return entries;
}

}  // namespace

std::uint64_t GcResult::freed() const {
  std::uint64_t bytes = 0;
  for (const auto* list : {&layers, &files, &domains, &manifests, &journals, &expired})
    for (const GcEntry& entry : *list)
      if (entry.action == GcAction::remove && (dry_run || entry.done)) bytes += entry.size;
  return bytes;
}

std::vector<GcEntry> Manager::Impl::gc_journals(bool dry_run) {
  std::vector<GcEntry> entries;
  for (const std::filesystem::path& path : list_journals(host, store())) {
    const std::optional<std::string> text = host.read_file(path);
    if (!text) continue;
    GcEntry entry{path.stem(), "an operation that cannot be read", 0, GcAction::keep};
    try {
      const JournalEntry journal = own_journal(*text, path);
      const auto locks = try_lock_dead(journal, {});
      if (!locks || !host.stat(path)) continue;
      entry.what = fmt::format("'{}', which process {} left half done", journal.plan.verb, journal.pid);
      entry.action = GcAction::recover;
      if (!dry_run)
        attempt(entry, [&] {
          entry.note = recover_dead(own_journal(host.read_file(path).value(), path))
                           .value_or("its layers are swept when nobody is at work in the store");
        });
    } catch (const Error& error) {
      entry.note = error.what();
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::optional<Manager::Impl::Untidy> Manager::Impl::expire(GcEntry& entry) {
  const std::string vm = entry.name;
  std::optional<Locks> locks = try_lock_for(vm, "expire " + vm);
  if (!locks) {
    entry.action = GcAction::keep;
    entry.note = "somebody is at work on it: the next gc sees to it";
    return std::nullopt;
  }
  const std::optional<Manifest> manifest = store().find_manifest(vm);
  if (!manifest || !is_over(manifest->expires, now_rfc3339())) {
    entry.action = GcAction::keep;
    entry.note = manifest ? "it was extended meanwhile" : "it was deleted meanwhile";
    return std::nullopt;
  }
  std::string journal;
  locks->drop_share();  // a guest takes its time, and gc takes the sweep lock for itself alone
  attempt(entry, [&] {
    if (entry.action == GcAction::stop) return stop_locked(vm, kStopTimeout);
    journal = remove_untidy(*manifest);
  });
  if (journal.empty()) return std::nullopt;
  tidy_neighbours(*manifest);
  return Untidy{vm, std::move(journal), *std::move(locks)};
}

GcResult Manager::gc(const GcRequest& request) {
  Impl& impl = *impl_;
  GcResult result;
  result.dry_run = request.dry_run;
  // To make one and find it empty would tell nobody that its disk is not mounted.
  const std::filesystem::path root = impl.store_root();
  const std::optional<FileInfo> info = impl.host.stat(root);
  if (!info || (info->is_folder && impl.host.list_folder(root).empty())) {
    impl.notice(fmt::format("there is no store at {}", root.string()));
    return result;
  }
  impl.open_store();
  result.journals = impl.gc_journals(request.dry_run);
  std::vector<Impl::Untidy> untidy;
  if (!request.dry_run) {
    impl.reap_gpus();
    {
      const FileLock lock = impl.lock_sweep("gc");
      result.expired = plan_expiry(impl.gc_facts(lock), now_rfc3339());
    }
    for (GcEntry& entry : result.expired)
      if (entry.action != GcAction::keep)
        if (std::optional<Impl::Untidy> removed = impl.expire(entry)) untidy.push_back(*std::move(removed));
  }

  const FileLock lock = impl.lock_sweep("gc");
  GcFacts facts = impl.gc_facts(lock);
  if (request.dry_run) {
    result.expired = plan_expiry(facts, now_rfc3339());
    for (const GcEntry& entry : result.expired)
      if (entry.action == GcAction::remove) forget_vm(facts, entry.name);
  }
  GcPlan plan = plan_gc(facts);
  if (!request.dry_run) {
    for (GcItem& item : plan.domains) {
      if (item.plan.steps.empty()) continue;
      attempt(item.entry, [&] { impl.execute(item.plan); });
      if (item.entry.done) continue;
      // It stays, and what it stands on with it.
      for (GcDomain& domain : facts.domains)
        if (domain.name == item.entry.name) domain.stuck = item.entry.note;
    }
    for (GcItem& item : plan.manifests)
      if (!item.plan.steps.empty()) attempt(item.entry, [&] { impl.execute(item.plan); });
  }
  result.domains = entries_of(plan.domains);
  result.manifests = entries_of(plan.manifests);
  GcPlan rest = plan_gc(facts);
  result.layers = std::move(rest.layers);
  result.files = std::move(rest.files);
  if (request.dry_run) return result;
  remove_found(impl, facts, rest.removal, result);
  impl.drop_idle_locks();
  for (const Impl::Untidy& removed : untidy) {
    Executor(impl.world()).close(removed.journal);
    impl.forget_lock(removed.vm);
  }
  return result;
}

VmInfo Manager::extend(const ExtendRequest& request) {
  Impl& impl = *impl_;
  static_cast<void>(impl.store().manifest(request.vm));
  {
    const Locks locks = impl.lock_vms({request.vm}, "extend " + request.vm);
    const Manifest before = impl.store().manifest(request.vm);
    Manifest manifest = before;
    const std::chrono::sys_seconds now = this_second();
    // Never shorter than it was, and counted from now when there is nothing to count from.
    const auto from = std::max(parse_rfc3339(before.expires).value_or(now), now);
    manifest.expires = request.by ? to_rfc3339(from + *request.by) : std::string();
    if (request.by && !parse_rfc3339(manifest.expires))
      throw Error(Errc::usage, fmt::format("VM '{}' cannot live that long: years have four digits", request.vm),
                  fmt::format("vmgraft extend {} never", request.vm));
    if (manifest == before) return impl.vm_info(manifest);
    impl.execute({fmt::format("extend {}", request.vm),
                  {request.vm},
                  {WriteFile{impl.store().manifest_file(request.vm), to_json_text(manifest), 0600, true, to_json_text(before)}}});
  }
  return show(request.vm);
}

}  // namespace vmgraft

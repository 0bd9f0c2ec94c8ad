// SPDX-License-Identifier: Apache-2.0
#include "run/executor.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <unistd.h>

#include "domain/hostdev_xml.hpp"
#include "plan/plan_snapshot.hpp"
#include "run/fresh.hpp"
#include "run/step_effects.hpp"
#include "run/store_trust.hpp"
#include "store/gpu_ledger.hpp"

namespace vmgraft {
namespace {

bool is_commit(const Step& step) { return std::holds_alternative<Commit>(step); }

/// A live switch of disks cannot be taken back: it commits by itself.
bool commits(const Step& step) { return is_commit(step) || std::holds_alternative<SwitchDisks>(step); }

/// It frees room, or takes hardly any.
bool is_for_full_disks(const Plan& plan) {
  return std::all_of(plan.steps.begin(), plan.steps.end(), [](const Step& step) {
    return std::holds_alternative<Commit>(step) || std::holds_alternative<PowerOff>(step) ||
           std::holds_alternative<UndefineDomain>(step) || std::holds_alternative<RemovePath>(step) ||
           std::holds_alternative<DeleteLayer>(step) || std::holds_alternative<WriteFile>(step);
  });
}

/// A device that does not go in again must not keep the VM from being stopped: it is left out, and released as one that a VM
/// let go.
Error left_out(Error error, const Step& step) {
  const AttachDevice& device = std::get<AttachDevice>(step);
  error.add_leftover(fmt::format("{} is not in VM '{}' any more: {}; the next command releases it", host_device_of(device.xml),
                                 device.name, error.what()));
  return error;
}

}  // namespace

void Executor::apply(const Step& step) {
  std::visit([&](const auto& alternative) { apply_step(world_, alternative); }, step);
}

void Executor::undo(const Step& step) {
  std::visit([&](const auto& alternative) { undo_step(world_, alternative); }, step);
}

std::string Executor::journal_path(const std::string& id) const {
  return world_.store.journal_folder() / (id + ".json");
}

/// Drivers are bound until the host boots, and no store may say which: a journal about devices is believed as long as
/// its mark stands beside the ledger, where only root writes and which goes at boot.
std::filesystem::path Executor::device_mark(const std::string& id) const {
  return std::filesystem::path(kGpuLedgerFolder) / ("journal-" + id);
}

void Executor::write_journal(const JournalEntry& entry) {
  world_.host.write_file(journal_path(entry.id), to_json_text(entry), 0600);
  if (touches_devices(entry.plan) && !world_.host.stat(device_mark(entry.id))) {
    for (const auto& folder : {device_mark(entry.id).parent_path().parent_path(), device_mark(entry.id).parent_path()})
      if (!world_.host.stat(folder)) world_.host.make_folder(folder, 0755);
    world_.host.write_file(device_mark(entry.id), "", 0600);
  }
}

void Executor::remove_journal(const std::string& id) {
  // The mark first: a journal about devices without it is one of which all is done.
  if (world_.host.stat(device_mark(id))) world_.host.remove(device_mark(id));
  world_.host.remove(journal_path(id));
}

std::vector<std::string> Executor::undo_all(const std::vector<Step>& steps, std::size_t count) {
  std::vector<std::string> leftovers;
  for (std::size_t i = count; i-- > 0;) {
    // What a step could not put back may be kept by an earlier one: that stays as well, for the next command.
    if (!leftovers.empty()) {
      leftovers.push_back(fmt::format("still to be undone: {}", describe(steps[i])));
      continue;
    }
    try {
      undo(steps[i]);
    } catch (const Error& error) {
      leftovers.push_back(fmt::format("could not undo \"{}\": {}", describe(steps[i]), error.what()));
    }
  }
  return leftovers;
}

std::optional<Error> Executor::finish(const JournalEntry& entry, std::size_t from) {
  std::optional<Error> unplugged;
  for (std::size_t i = from; i < entry.plan.steps.size(); ++i) {
    try {
      apply(entry.plan.steps[i]);
    } catch (Error& error) {
      error.add_context(fmt::format("while doing \"{}\" of {}", describe(entry.plan.steps[i]), entry.plan.verb));
      if (std::holds_alternative<AttachDevice>(entry.plan.steps[i])) {
        unplugged = left_out(error, entry.plan.steps[i]);
        continue;
      }
      for (std::size_t k = i; k < entry.plan.steps.size(); ++k)
        error.add_leftover(fmt::format("still to be done: {}", describe(entry.plan.steps[k])));
      throw;
    }
  }
  return unplugged;
}

void Executor::execute(const Plan& plan) {
  if (plan.steps.empty()) return;
  JournalEntry entry{fresh_layer_id(), is_commit(plan.steps.front()), getpid(), false, plan};
  run(entry);
}

std::string Executor::execute_untidy(const Plan& plan) {
  JournalEntry entry{fresh_layer_id(), is_commit(plan.steps.front()), getpid(), true, plan};
  run(entry);
  return entry.id;
}

void Executor::close(const std::string& id) {
  remove_journal(id);
}

void Executor::end(JournalEntry& entry) {
  if (!entry.tidy) return close(entry.id);
  entry.committed = true;
  entry.plan.steps.clear();
  write_journal(entry);
}

void Executor::run(JournalEntry& entry) {
  const Plan plan = entry.plan;
  require_own_targets(plan, world_.store, world_.tpm_folder);
  try {
    if (is_for_full_disks(plan)) world_.store.spend_reserve();
    write_journal(entry);
  } catch (const Error&) {
    // It may have its name all the same, when the disk failed to sync the folder: nothing was done, so it says nothing.
    try {
      close(entry.id);
    } catch (const Error&) {
      // The first error counts.
    }
    throw;
  }
  if (world_.on_journalled) world_.on_journalled();
  std::optional<Error> unplugged;
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    try {
      if (world_.interrupted != nullptr && world_.interrupted->load() && !entry.committed)
        throw Error(Errc::interrupted, fmt::format("{}: interrupted", plan.verb));
      if (is_commit(plan.steps[i]) && !entry.committed) {
        entry.committed = true;
        write_journal(entry);
      }
      apply(plan.steps[i]);
    } catch (const FreezeFailed&) {
      // Nothing of this step was done: the caller plans again without a freeze.
      if (undo_all(plan.steps, i).empty()) remove_journal(entry.id);
      throw;
    } catch (Error& error) {
      error.add_context(fmt::format("while doing \"{}\" of {}", describe(plan.steps[i]), plan.verb));
      if (is_past_return(entry)) {
        if (std::holds_alternative<AttachDevice>(plan.steps[i])) {
          unplugged = left_out(error, plan.steps[i]);
          continue;
        }
        for (std::size_t k = i; k < plan.steps.size(); ++k)
          error.add_leftover(fmt::format("still to be done: {}", describe(plan.steps[k])));
        throw;  // the journal stays: the next command goes on from it
      }
      const std::vector<std::string> leftovers = undo_all(plan.steps, i + 1);
      for (const std::string& leftover : leftovers) error.add_leftover(leftover);
      if (leftovers.empty()) remove_journal(entry.id);
      throw;
    }
    if (commits(plan.steps[i])) entry.committed = true;
  }
  try {
    end(entry);
  } catch (Error& error) {
    error.add_leftover(fmt::format("the journal of '{}', all of whose steps are done: the next command {} it", plan.verb,
                                   entry.committed ? "finishes" : "undoes"));
    throw;
  }
  if (unplugged) throw *unplugged;
}

bool Executor::is_past_return(const JournalEntry& entry) {
  if (entry.committed) return true;
  for (const Step& step : entry.plan.steps)
    if (const auto* move = std::get_if<SwitchDisks>(&step))
      return has_switched(world_, *move) && !has_missed_memory(world_, *move);
  return false;
}

std::string Executor::recover(JournalEntry entry) {
  std::string who = fmt::format("'{}', which process {} had left half done", entry.plan.verb, entry.pid);
  require_own_journal(entry, entry.id, world_.store, world_.tpm_folder);
  if (touches_devices(entry.plan) && !world_.host.stat(device_mark(entry.id))) {
    remove_journal(entry.id);
    return fmt::format("forgot {}: it was over, or the host has booted since", who);
  }
  require_own_domains(world_, entry);
  // libvirt goes on with what the dead process had asked of it: a snapshot of memory takes long, and what is to be done about
  // it is known when the disks have been switched, or not.
  for (const std::string& uuid : domains_of(entry.plan, world_.tpm_folder)) world_.hypervisor().settle(uuid, world_.interrupted);
  // The VM may have run on the new layers since: they are kept.
  const auto moves = std::find_if(entry.plan.steps.begin(), entry.plan.steps.end(),
                                  [](const Step& step) { return std::holds_alternative<SwitchDisks>(step); });
  if (moves != entry.plan.steps.end() && has_missed_memory(world_, std::get<SwitchDisks>(*moves))) {
    entry.plan = without_memory(entry.plan);
    who += ", without a memory: the VM had gone off before it was written";
  }
  if (is_past_return(entry)) {
    std::size_t from = 0;
    // What stands before the point of no return was done by the dead process.
    for (std::size_t i = 0; i < entry.plan.steps.size(); ++i)
      if (commits(entry.plan.steps[i])) {
        from = i;
        break;
      }
    const std::optional<Error> unplugged = finish(entry, from);
    end(entry);
    return unplugged ? fmt::format("finished {}, but: {}", who, unplugged->leftovers().front()) : fmt::format("finished {}", who);
  }
  const std::vector<std::string> leftovers = undo_all(entry.plan.steps, entry.plan.steps.size());
  if (!leftovers.empty()) {
    Error error(Errc::incomplete, fmt::format("cannot undo {}", who));
    for (const std::string& leftover : leftovers) error.add_leftover(leftover);
    throw error;
  }
  remove_journal(entry.id);
  return fmt::format("undid {}", who);
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <vmgraft/error.hpp>
#include <vmgraft/manager.hpp>

#include "host/host.hpp"
#include "libvirt/hypervisor.hpp"
#include "plan/steps.hpp"
#include "run/journal.hpp"
#include "store/store.hpp"

namespace vmgraft {

/// The guest's file systems could not be frozen; nothing has changed. The caller may try again without.
class FreezeFailed : public Error {
 public:
  explicit FreezeFailed(const std::string& why) : Error(Errc::unreachable, why) {}
};

/// What the executor works on.
struct World {
  Host& host;
  const Store& store;
  std::function<Hypervisor&()> hypervisor;          ///< connects at the first step that needs it
  const std::atomic<bool>* interrupted = nullptr;
  std::function<void(const Progress&)> on_progress; ///< may be empty
  std::filesystem::path tpm_folder;                 ///< where libvirt keeps TPM states, one folder a UUID
  std::function<void()> on_journalled;              ///< the plan stands in its journal, nothing of it is done; may be empty
};

/// Carries plans out: journal, apply, undo. The caller holds the locks of plan.vms.
class Executor {
 public:
  explicit Executor(World world) : world_(std::move(world)) {}

  /// Apply the plan, all or nothing. What it changes must lie in the store: \throws Error other, before anything is
  /// done. \throws Error  the first failure, everything undone; incomplete when something could not be undone, or when
  /// it failed
  ///                after its Commit: then the journal stays and the next command goes on with it.
  void execute(const Plan& plan);

  /// The same for a plan that takes names away. The journal stays, so that a process that dies before it has tidied up is
  /// known by it: the caller merges and sweeps, then closes it. Returns the journal's id.
  [[nodiscard]] std::string execute_untidy(const Plan& plan);
  void close(const std::string& id);

  /// Finish or undo what a dead process left, if it is what vmgraft leaves: see store_trust.hpp. Returns one line about
  /// it. What is to be tidied up keeps its journal, for the caller to do so and to close it.
  std::string recover(JournalEntry entry);

 private:
  void apply(const Step& step);
  void undo(const Step& step);
  [[nodiscard]] bool is_past_return(const JournalEntry& entry);
  /// Undo steps [0, count) backwards, up to the first that cannot be; what is left is told.
  [[nodiscard]] std::vector<std::string> undo_all(const std::vector<Step>& steps, std::size_t count);
  [[nodiscard]] std::string journal_path(const std::string& id) const;
  /// \returns  why a device could not be plugged in again, which holds nothing else up.
  std::optional<Error> finish(const JournalEntry& entry, std::size_t from);
  void write_journal(const JournalEntry& entry);
  void remove_journal(const std::string& id);
  [[nodiscard]] std::filesystem::path device_mark(const std::string& id) const;
  void run(JournalEntry& entry);
  /// All steps are done.
  void end(JournalEntry& entry);

  World world_;
};

}  // namespace vmgraft

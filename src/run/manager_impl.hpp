// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <vmgraft/manager.hpp>

#include "domain/domain_xml.hpp"
#include "domain/placement.hpp"
#include "gpu/choose.hpp"
#include "gpu/place.hpp"
#include "guest/agent.hpp"
#include "guest/provision.hpp"
#include "host/file_lock.hpp"
#include "host/linux_host.hpp"
#include "libvirt/libvirt_hypervisor.hpp"
#include "plan/facts.hpp"
#include "plan/outside_change.hpp"
#include "plan/plan_clone.hpp"
#include "plan/plan_create.hpp"
#include "plan/plan_gc.hpp"
#include "plan/plan_sweep.hpp"
#include "plan/plan_gpu.hpp"
#include "run/executor.hpp"
#include "run/gpu_reset.hpp"
#include "store/store.hpp"
#include "template/template.hpp"

namespace vmgraft {

/// Locks of an operation, given back at its end.
struct Locks {
  std::vector<FileLock> vms;
  /// A share of the sweep lock, from before the first facts are read until the plan stands in its journal: from there on
  /// the journal keeps its layers from being swept, and nobody waits for what is done.
  std::shared_ptr<std::optional<FileLock>> share;
  std::string purpose = {};  ///< what others are told who wait

  void drop_share() {
    if (share) share->reset();
  }
};

/// What the verbs share: connection and store made at first use, facts, locks, carrying out. One method, one thought;
/// the verbs themselves are in manager_<theme>.cpp.
class WorkFolder;

struct Manager::Impl {
  explicit Impl(Options given);

  // --- made at first use
  Hypervisor& hypervisor();
  /// The store; its folders are made when they are missing, and what dead processes left is finished or undone.
  Store& store();
  /// The store as it is found: nothing is finished or undone.
  Store& open_store();
  [[nodiscard]] StoreAccess store_access();
  [[nodiscard]] std::string uri() const { return uri_; }
  [[nodiscard]] const HostFacts& host_facts();
  [[nodiscard]] std::filesystem::path store_root();
  [[nodiscard]] std::vector<std::filesystem::path> template_folders() const;

  // --- locks and carrying out
  /// The VMs' locks, and a share of the sweep lock: layers that we have read as alive stay so until a plan is executed. What
  /// a dead process had begun on one of them is finished or undone by then.
  Locks lock_vms(const std::vector<std::string>& names, const std::string& purpose);
  /// The same when the VM's lock is free; nothing when somebody is at work on it.
  std::optional<Locks> try_lock_for(const std::string& vm, const std::string& purpose);
  /// A share of the sweep lock, for \p locks and for the next plan to give back. An operation of two plans takes it again
  /// for the second: who sweeps has read the journals before that one is in its own, and would take what it makes for
  /// garbage.
  void share_sweep(Locks& locks);
  void execute(const Plan& plan);
  /// The same for a plan that takes names away, with what follows from it: \p tidying merges and sweeps, under the VMs'
  /// locks, the share of the sweep lock given back. A process that dies before its end has left
  /// a journal, so that the next command tidies up.
  void execute_untidy(const Plan& plan, Locks& locks, const std::function<void()>& tidying);
  /// The second half of it.
  void tidy_up(const std::string& journal, Locks& locks, const std::function<void()>& tidying);
  /// Finish or undo the operations of processes that died, as far as their locks are free (or \p ours).
  void recover(const std::vector<std::string>& ours = {});
  /// Delete layers that nothing reaches. Returns their ids.
  std::vector<std::string> sweep();
  /// The sweep lock, alone: nobody reads facts of the store to plan by them.
  [[nodiscard]] FileLock lock_sweep(const std::string& purpose);
  /// Merge inner layers of a VM that nothing names; the VM's lock is held. Returns merged and deferred layers.
  MergePlan merge(const std::string& vm);
  /// After refs went: merge where a VM's chain became longer than it needs, then sweep.
  void tidy_neighbours(const Manifest& gone);
  /// Do \p act with a freeze when the agent is there; again without when it fails. Returns whether it was frozen, and why not.
  struct FreezeResult {
    Consistency consistency = Consistency::clean;
    std::string note;
  };
  FreezeResult with_freeze(const VmFacts& vm, Locks& locks, const std::function<void(bool freeze)>& act);
  [[nodiscard]] World world();
  void notice(const std::string& line) const;
  void progress(const std::string& what) const;
  [[nodiscard]] bool is_interrupted() const;

  // --- facts
  [[nodiscard]] VmFacts vm_facts(const Manifest& manifest);
  [[nodiscard]] StoreFacts store_facts();
  /// The same; nothing, and a notice, when a record cannot be read: what it names cannot be known to be unused.
  [[nodiscard]] std::optional<StoreFacts> try_store_facts(const std::string& what_is_left);
  /// The domain of a VM of ours, fit for \p act. \throws Error conflict: it is gone, of another store, or was changed by
  /// other means.
  [[nodiscard]] DomainState domain_of(const Manifest& manifest, Act act);
  /// What other programs did to the VM; content with layers that cannot be read.
  [[nodiscard]] std::vector<OutsideChange> changes_of(const Manifest& manifest);
  [[nodiscard]] std::vector<OutsideChange> changes_of(const Manifest& manifest, const DomainSight& sight);
  /// Whether there is a domain to remove with the VM. \throws Error conflict: it is not ours.
  [[nodiscard]] bool has_own_domain(const Manifest& manifest);
  /// \throws Error other, conflict: a layer from \p layer down is missing, or its file is not what its record says.
  void require_whole_chain(const std::string& layer);
  /// What the domain uses of the store are files, not links to others. \throws Error conflict: one is a link.
  void require_own_files(const std::string& xml);
  void tell_lost_nvram(const Manifest& manifest, const std::string& nvram);
  /// What a snapshot keeps beside its disks, and its disks, are there. \throws Error conflict, other: something is not.
  void require_kept(const Manifest& manifest, const SnapshotRecord& snapshot);
  /// Layers that domains of libvirt use and no ref names: an older manifest was put back, or one was deleted by hand.
  [[nodiscard]] std::set<std::string> layers_in_use(const StoreFacts& facts, const std::set<std::string>& dead);
  /// The domain, which must run. \throws Error conflict: not running, with the verb that starts it.
  [[nodiscard]] DomainState running_domain(const Manifest& manifest);
  void require_free_name(const std::string& name);
  [[nodiscard]] std::filesystem::path tpm_folder();
  [[nodiscard]] std::string tpm_home(const std::string& uuid);
  /// \throws Error other: it is missing. conflict: it reaches more of the host than the VM does.
  [[nodiscard]] std::string snapshot_xml(const std::string& vm, const std::string& snapshot);
  /// \throws Error not_found, with the nearest name.
  void require_snapshot(const Manifest& manifest, const std::string& snapshot);

  // --- create
  struct Creation {
    CreateFacts facts;
    std::vector<NewVm> vms;
  };
  /// \param seeds  where NoCloud seeds are made; null: they are only named.
  [[nodiscard]] Creation prepare_create(const CreateRequest& request, WorkFolder* seeds);
  [[nodiscard]] LayerRecord root_layer(const Manifest& manifest);
  void ensure_networks(const std::string& domain_xml);
  std::string write_seed(const std::string& scratch, const std::string& vm, const VmSpec& spec,
                         const std::vector<std::string>& keys, const std::vector<std::string>& macs,
                         const LayerRecord& image);

  // --- life
  void start_domain(const Manifest& manifest, bool explain);
  /// Start when needed, wait for what \p wait says, provision what is still to be provisioned.
  /// \param tidy_time  for the guest, after an interrupt; none: the VM goes with it.
  void bring_up(const std::string& vm, WaitFor wait, std::optional<std::chrono::seconds> timeout, bool explain = false,
                std::chrono::milliseconds tidy_time = kTidyTime);
  void wait_ready(const Manifest& manifest, Ready ready, std::chrono::seconds timeout);
  void provision_guest(const std::string& vm, std::chrono::milliseconds tidy_time);
  DeleteResult remove_vm(const std::string& vm);
  // Under the VM's lock:
  void stop_locked(const std::string& vm, std::chrono::seconds timeout);
  /// \param locks  of lock_vms or try_lock_for; the share of the sweep lock is given back.
  DeleteResult remove_locked(const std::string& vm, Locks& locks);
  /// The same, without its layers. \returns  the journal that stays open until those are gone.
  [[nodiscard]] std::string remove_untidy(const Manifest& manifest);
  void forget_lock(const std::string& vm);
  [[nodiscard]] HostKey host_key(const std::string& vm);

  // --- memory
  /// Returns the snapshot's name.
  std::string snapshot_with_memory(const VmFacts& vm, const SnapshotRequest& request);
  /// Start the VM, which stands on the snapshot, in its saved memory.
  void wake(const Manifest& manifest, const std::string& snapshot);

  // --- GPUs: what is taken is on vfio-pci and leased in the ledger; every method here but owns_gpus(), gpu_facts() and
  //     lock_gpus() needs the VM's lock, which is taken before the GPUs'
  /// list: devices, leases, running domains. check: who uses what and the host's settings besides; both are content without
  /// libvirt. whole: the same, and nothing may be missing.
  enum class GpuDepth { list, check, whole };
  struct Hold {
    std::vector<std::string> addresses;
    Placement placement;
    PlugPlan plug;    ///< into a running VM
    std::string xml;  ///< of a VM that is to be started with them
  };
  /// Whether we may hand GPUs over: root, on the system connection of this very host.
  [[nodiscard]] bool owns_gpus();
  void require_gpu_host();
  [[nodiscard]] GpuLedger ledger() { return {host, kGpuLedgerFolder}; }
  /// /run is empty after a boot.
  void make_ledger_folder();
  /// Refuse what cannot be started, before anything is made for it.
  void require_gpus(const VmSpec& spec);
  [[nodiscard]] FileLock lock_gpus(const std::string& purpose);
  [[nodiscard]] HostDevices host_devices();
  [[nodiscard]] GpuFacts gpu_facts(GpuDepth depth);
  [[nodiscard]] std::vector<DomainUse> domain_uses(bool with_stopped);
  /// For a VM that is to be made on this host; nothing, and it is said why, where libvirt does not tell.
  [[nodiscard]] std::optional<PlaceFor> try_place_for(const VmSpec& spec);
  void load_vfio();
  /// Choose, check, lease and bind. What fails has changed nothing.
  /// \param is_running  they are to be plugged in; else the VM is to be started with them.
  Hold take_gpus(const Manifest& manifest, const VmSpec& spec, bool is_running, bool explain);
  [[nodiscard]] GpuChoice choose(GpuFacts& facts, const VmSpec& spec, const CheckFor& wanted);
  void start_with_gpus(const Manifest& manifest, const VmSpec& spec, bool explain);
  /// What the VM is to be, its GPUs with the cards that they were.
  [[nodiscard]] VmSpec spec_of(const Manifest& manifest);
  /// The cards at addresses that its request names, where none was seen yet.
  void remember_gpus(const Manifest& manifest, const VmSpec& spec);
  /// Into the running VM. Returns their addresses.
  std::vector<std::string> plug_gpus(const Manifest& manifest, const VmSpec& spec, bool explain);
  /// Steps that take host devices out of the running VM. \param only  addresses; null: all.
  [[nodiscard]] std::vector<DetachDevice> detach_steps(const Manifest& manifest, std::chrono::seconds timeout,
                                                       const std::vector<std::string>* only);
  /// Reset and give back what the VM was leased and does not hold any more. Returns the method of the last reset.
  std::string release_gpus(const Manifest& manifest);
  std::string release_leases(const Manifest& manifest);   ///< the same, under the GPUs' lock
  std::string release_gpu(const GpuFacts& facts, const Gpu& gpu, const GpuRecord& record);
  /// Remove the mediated devices that were made for the VM and that it does not have any more.
  void release_mdevs(const Manifest& manifest);
  [[nodiscard]] std::optional<FileLock> try_lock_vm(const std::string& vm);
  /// \throws Error conflict: a process has the GPU's VFIO group open: an unbind would wait for it for ever.
  void require_unopened(const GpuFacts& facts, const Gpu& gpu);
  /// Remove the virtual functions that vmgraft made and that nobody has; the GPUs' lock is held.
  void remove_idle_vfs();
  /// Release what VMs of this store held that are gone, whatever way they went.
  void reap_gpus();
  /// Whether the GPUs of a running VM that its guest lets go are plugged in again by reap_gpus(), or released.
  void expect_gpus_back(const Manifest& manifest, bool returns);
  /// What its running VM has let go of it. \returns false when it could not be.
  bool plug_again(const GpuRecord& record);
  /// The same where only looking is asked for: without libvirt it is not done, and that is said.
  void try_reap();
  /// Undo after a failure; what fails in it is a leftover of the first one.
  void after_failure(Error& error, const std::function<void()>& clean_up);

  // --- gc
  /// \param lock  of the sweep: what is read here stays so as long as it is held.
  [[nodiscard]] GcFacts gc_facts(const FileLock& lock);
  [[nodiscard]] std::vector<GcEntry> gc_journals(bool dry_run);
  /// A VM that gc removed. Its journal stays open, and its lock is held, until its layers are gone too.
  struct Untidy {
    std::string vm;
    std::string journal;
    Locks locks;
  };
  [[nodiscard]] std::optional<Untidy> expire(GcEntry& entry);
  /// Nobody holds that lock: its process is dead. It is not made by asking.
  [[nodiscard]] bool is_free(const std::string& lock);
  /// Remove lock files of what is not there: who waited for a VM that was deleted has made a new one.
  void drop_idle_locks();

  // --- show
  [[nodiscard]] VmInfo vm_info(const Manifest& manifest);
  [[nodiscard]] std::vector<SnapshotInfo> snapshot_infos(const Manifest& manifest);
  /// Fill in what stands on the layer. Returns what is wrong with it: then size and depth stay 0 where they are not known.
  std::vector<std::string> describe_layer(DiskInfo& disk, const std::string& layer);

  // --- images
  ImageInfo adopt_image(const std::string& name, bool force, const std::function<struct MadeImage(struct ImageWork&)>& make);
  [[nodiscard]] ImageInfo image_info(const ImageRecord& record, const StoreFacts* refs);

  Options options;
  LinuxHost host;

  /// A journal, read and found to be what vmgraft writes. \throws Error other: it is not.
  [[nodiscard]] JournalEntry own_journal(const std::string& text, const std::filesystem::path& path);
  /// The locks of a journalled operation; nothing while its process lives or another one recovers it.
  [[nodiscard]] std::optional<std::vector<FileLock>> try_lock_dead(const JournalEntry& entry, const std::vector<std::string>& ours);
  /// Finish or undo it, under those locks. Returns one line about it; nothing when all is still to be done that was: its steps
  /// are over, and others are at work, so that its layers cannot be swept.
  std::optional<std::string> recover_dead(const JournalEntry& entry);

 private:
  /// Wait for a lock; who holds it is told.
  [[nodiscard]] FileLock take_lock(const std::string& name, FileLock::Kind kind, const std::string& purpose);
  /// What the journals name together with one of these VMs, whose locks are held: a dead process has begun something on it
  /// that is still to be finished or undone.
  [[nodiscard]] std::set<std::string> half_done_with(const std::set<std::string>& vms);
  struct Recovered;
  std::optional<Recovered> recover_entry(const std::filesystem::path& path, const std::vector<std::string>& ours);
  void drop_unfinished_writes(const std::filesystem::path& folder);
  void drop_dead_work();
  /// Merge and sweep for a dead process. \p held: VMs whose locks we have. Returns false when others are at work.
  bool try_tidy(const std::vector<std::string>& held);
  std::vector<std::string> sweep_locked();
  [[nodiscard]] std::string journals_text();

  struct Recovered {
    std::int64_t pid = 0;
    bool tidy = false;
    std::string line;
  };

  std::string uri_;
  std::unique_ptr<Hypervisor> hypervisor_;
  std::unique_ptr<Store> store_;
  std::optional<HostFacts> host_facts_;
  std::weak_ptr<std::optional<FileLock>> share_;  ///< of the operation that is under way
};

/// A folder under the store's tmp/, made when it is needed, that goes when this goes. It has a lock, taken before it is
/// made: one whose lock is free was left by a killed process and belongs to nobody.
class WorkFolder {
 public:
  WorkFolder(Host& host, const Store& store);
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  /// Where it is, or would be.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& make();

 private:
  Host& host_;
  std::filesystem::path path_;
  std::filesystem::path lock_file_;
  std::optional<FileLock> lock_;
};

/// '@' marks what is locked but is not a VM; it cannot begin a name. The GPUs are the host's, not a store's.
[[nodiscard]] std::filesystem::path lock_file(const Store& store, const std::string& name);
/// The lock of a work folder of that name.
[[nodiscard]] std::string work_lock(const std::string& folder);
[[nodiscard]] PlanText plan_text(const Plan& plan);
/// libvirt's domain type for what a template asks for. \throws Error host_unfit: it insists on KVM, and there is none.
[[nodiscard]] std::string virt_type_for(Host& host, const HostFacts& facts, Accel wanted);
/// Of who runs us.
[[nodiscard]] std::string login_name();
/// NAME, or NAME-1 .. NAME-N.
[[nodiscard]] std::vector<std::string> numbered(const std::string& name, unsigned count);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <vmgraft/manager.hpp>

#include "domain/domain_xml.hpp"
#include "guest/agent.hpp"
#include "guest/provision.hpp"
#include "host/file_lock.hpp"
#include "host/linux_host.hpp"
#include "libvirt/libvirt_hypervisor.hpp"
#include "plan/facts.hpp"
#include "plan/plan_clone.hpp"
#include "plan/plan_create.hpp"
#include "plan/plan_sweep.hpp"
#include "run/executor.hpp"
#include "store/store.hpp"
#include "template/template.hpp"

namespace vmgraft {

/// Locks of an operation, given back at its end.
using Locks = std::vector<FileLock>;

/// What the verbs share: connection and store made at first use, facts, locks, carrying out. One method, one thought;
/// the verbs themselves are in manager_<theme>.cpp.
struct Manager::Impl {
  explicit Impl(Options given);

  // --- made at first use
  Hypervisor& hypervisor();
  /// The store; its folders are made when they are missing, and what dead processes left is finished or undone.
  Store& store();
  [[nodiscard]] std::string uri() const { return uri_; }
  [[nodiscard]] const HostFacts& host_facts();
  [[nodiscard]] std::filesystem::path store_root();
  [[nodiscard]] std::vector<std::filesystem::path> template_folders() const;

  // --- locks and carrying out
  /// The VMs' locks, and a share of the sweep lock: layers that we have read as alive stay so.
  Locks lock_vms(std::vector<std::string> names, const std::string& purpose);
  void execute(const Plan& plan);
  /// Finish or undo the operations of processes that died, as far as their locks are free (or \p ours).
  void recover(const std::vector<std::string>& ours = {});
  /// Delete layers that nothing reaches. Returns their ids.
  std::vector<std::string> sweep();
  /// Merge inner layers of a VM that nothing names; the VM's lock is held. Returns merged and deferred layers.
  MergePlan merge(const std::string& vm);
  /// After refs went: merge where a VM's chain became longer than it needs, then sweep.
  void tidy_neighbours(const Manifest& gone);
  /// Do \p act with a freeze when the agent is there; again without when it fails. Returns whether it was frozen, and why not.
  struct FreezeResult {
    Consistency consistency = Consistency::clean;
    std::string note;
  };
  FreezeResult with_freeze(const VmFacts& vm, const std::function<void(bool freeze)>& act);
  [[nodiscard]] World world();
  void notice(const std::string& line) const;
  void progress(const std::string& what) const;
  [[nodiscard]] bool is_interrupted() const;

  // --- facts
  [[nodiscard]] VmFacts vm_facts(const Manifest& manifest);
  [[nodiscard]] StoreFacts store_facts();
  /// The domain of a VM of ours. \throws Error conflict: it is gone, or of another store.
  [[nodiscard]] DomainState domain_of(const Manifest& manifest);
  /// The domain, which must run. \throws Error conflict: not running, with the verb that starts it.
  [[nodiscard]] DomainState running_domain(const Manifest& manifest);
  void require_free_name(const std::string& name);
  [[nodiscard]] std::string tpm_home(const std::string& uuid);
  [[nodiscard]] std::string snapshot_xml(const std::string& vm, const std::string& snapshot);
  /// \throws Error not_found, with the nearest name.
  void require_snapshot(const Manifest& manifest, const std::string& snapshot);

  // --- create
  struct Creation {
    CreateFacts facts;
    std::vector<NewVm> vms;
  };
  [[nodiscard]] Creation prepare_create(const CreateRequest& request, bool with_seeds, const std::string& scratch);
  [[nodiscard]] LayerRecord root_layer(const Manifest& manifest);
  void ensure_networks(const std::string& domain_xml);
  std::string write_seed(const std::string& scratch, const std::string& vm, const VmSpec& spec,
                         const std::vector<std::string>& keys, const std::vector<std::string>& macs,
                         const LayerRecord& image);

  // --- life
  void start_domain(const Manifest& manifest);
  /// Start when needed, wait for what \p wait says, provision what is still to be provisioned.
  void bring_up(const std::string& vm, WaitFor wait, std::optional<std::chrono::seconds> timeout);
  void wait_ready(const Manifest& manifest, Ready ready, std::chrono::seconds timeout);
  void provision_guest(const std::string& vm);
  DeleteResult remove_vm(const std::string& vm);
  [[nodiscard]] HostKey host_key(const std::string& vm);

  // --- show
  [[nodiscard]] VmInfo vm_info(const Manifest& manifest);
  [[nodiscard]] std::vector<SnapshotInfo> snapshot_infos(const Manifest& manifest);

  // --- images
  ImageInfo adopt_image(const std::string& name, bool force, const std::function<struct MadeImage(struct ImageWork&)>& make);
  [[nodiscard]] ImageInfo image_info(const ImageRecord& record, const StoreFacts* refs);

  Options options;
  LinuxHost host;

 private:
  void recover_entry(const std::string& file, const std::vector<std::string>& ours);

  std::string uri_;
  std::unique_ptr<Hypervisor> hypervisor_;
  std::unique_ptr<Store> store_;
  std::optional<HostFacts> host_facts_;
};

/// A folder under the store's tmp/ that goes when this goes; what a killed process leaves there belongs to nobody.
class WorkFolder {
 public:
  WorkFolder(Host& host, const Store& store);
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  Host& host_;
  std::filesystem::path path_;
};

[[nodiscard]] PlanText plan_text(const Plan& plan);
/// Of who runs us.
[[nodiscard]] std::string login_name();
/// NAME, or NAME-1 .. NAME-N.
[[nodiscard]] std::vector<std::string> numbered(const std::string& name, unsigned count);

}  // namespace vmgraft

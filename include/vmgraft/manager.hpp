// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <vmgraft/check.hpp>
#include <vmgraft/doctor.hpp>
#include <vmgraft/error.hpp>
#include <vmgraft/gc.hpp>
#include <vmgraft/gpu.hpp>
#include <vmgraft/image.hpp>
#include <vmgraft/progress.hpp>
#include <vmgraft/requests.hpp>
#include <vmgraft/template.hpp>
#include <vmgraft/vm.hpp>

namespace vmgraft {

struct Options {
  std::string connect;                               ///< libvirt URI; empty: LIBVIRT_DEFAULT_URI, then system, then session
  std::filesystem::path store;                       ///< empty: VMGRAFT_STORE, else by the connection
  std::vector<std::filesystem::path> template_dirs;  ///< searched first, before VMGRAFT_TEMPLATES and the installed ones
  std::function<void(const Progress&)> on_progress;  ///< may be empty
  /// One line worth telling that is not a failure; may be empty. Who holds a lock that is waited for is told from another
  /// thread, while the calling one waits.
  std::function<void(const std::string&)> on_notice;
  std::filesystem::path host_root;                   ///< host facts (/sys, /proc, /etc) are read below it: a recorded host; empty: this one
  const std::atomic<bool>* interrupted = nullptr;    ///< when it turns true: undo what is under way, throw interrupted
};

/// The outcome of an act on one VM that can be frozen or not.
struct SnapshotResult {
  std::string vm;
  SnapshotInfo snapshot;
  std::string note;             ///< why it is only crash-consistent; empty otherwise
};

struct CloneResult {
  std::vector<VmInfo> vms;
  Consistency consistency = Consistency::clean;
  std::string note;
};

struct RevertResult {
  VmInfo vm;
  std::string undo;             ///< the snapshot that names the state before: revert to it undoes this
};

struct SnapshotDeleteResult {
  std::vector<std::string> removed_layers;
  std::vector<std::string> merged_layers;
  std::string note;             ///< what is left for the next stop, and why; empty otherwise
};

struct DeleteResult {
  std::string name;
  std::vector<std::string> removed_layers;
};

struct ExecResult {
  int exit_code = 0;            ///< 128 + signal when a signal ended it
};

/// A plan in words, as --dry-run prints it: one line a step.
struct PlanText {
  std::vector<std::string> steps;
};

/// Every verb of vmgraft, over one libvirt connection and one store.
/// All methods throw Error. Connecting is done at the first method that needs it. Not thread-safe: one Manager per thread.
/// A program that is to outlive a libvirtd that dies ignores SIGPIPE, as vmgraft's own does: libvirt's client raises it.
class Manager {
 public:
  explicit Manager(Options options);
  ~Manager();
  Manager(Manager&&) noexcept;
  Manager& operator=(Manager&&) noexcept;

  // --- life
  /// Make VMs from a template, start them, provision them, wait until ready.
  /// \throws Error  not_found: template or image. conflict: name taken. invalid_template. host_unfit. other: a guest step failed.
  [[nodiscard]] std::vector<VmInfo> create(const CreateRequest& request);
  [[nodiscard]] PlanText plan_create(const CreateRequest& request);
  /// The domain XML that create would define.
  [[nodiscard]] std::string create_xml(const CreateRequest& request);
  VmInfo start(const StartRequest& request);
  VmInfo stop(const StopRequest& request);
  VmInfo restart(const StopRequest& stop, const StartRequest& start);
  /// Power off and remove a VM with its snapshots. Layers that another ref reaches stay.
  DeleteResult remove(const std::string& vm);
  [[nodiscard]] PlanText plan_remove(const std::string& vm);
  [[nodiscard]] std::vector<VmSummary> list();
  [[nodiscard]] VmInfo show(const std::string& vm);
  /// Wait until the VM is ready, and return it.
  VmInfo wait(const std::string& vm, WaitFor condition, std::chrono::seconds timeout);

  // --- time
  SnapshotResult snapshot(const SnapshotRequest& request);
  [[nodiscard]] PlanText plan_snapshot(const SnapshotRequest& request);
  [[nodiscard]] std::vector<SnapshotInfo> snapshots(const std::string& vm);
  SnapshotDeleteResult snapshot_delete(const std::string& vm, const std::string& snapshot);
  [[nodiscard]] PlanText plan_snapshot_delete(const std::string& vm, const std::string& snapshot);
  RevertResult revert(const RevertRequest& request);
  [[nodiscard]] PlanText plan_revert(const RevertRequest& request);
  CloneResult clone(const CloneRequest& request);
  [[nodiscard]] PlanText plan_clone(const CloneRequest& request);
  [[nodiscard]] std::string clone_xml(const CloneRequest& request);

  // --- inside
  ExecResult exec(const ExecRequest& request);
  CopyResult copy(const CopyRequest& request);
  /// Join a terminal to the VM's serial console until Ctrl-] or the end of the VM.
  void console(const std::string& vm, int in_fd, int out_fd);
  /// argv of an ssh client that reaches the VM with a verified host key.
  [[nodiscard]] std::vector<std::string> ssh_command(const std::string& vm, const std::vector<std::string>& arguments);

  // --- images
  [[nodiscard]] std::vector<ImageInfo> images();
  [[nodiscard]] std::vector<CatalogueEntry> catalogue() const;
  ImageInfo image_build(const ImageBuildRequest& request);
  ImageInfo image_import(const ImageImportRequest& request);
  ImageInfo image_pull(const ImagePullRequest& request);
  /// Remove the name; layers that VMs stand on stay. Returns the layers removed.
  std::vector<std::string> image_delete(const std::string& name);

  // --- templates
  [[nodiscard]] std::vector<TemplateInfo> templates() const;
  /// The template as it resolves with these parameters, as JSON text.
  [[nodiscard]] std::string template_show(const std::string& name, const ParameterValues& parameters) const;
  /// \throws TemplateError  the first thing that is wrong, the others as its context.
  TemplateInfo template_check(const std::string& name) const;

  // --- GPUs
  /// Every GPU of the host, by address. Needs neither libvirt nor root, but without libvirt VMs are not known.
  [[nodiscard]] std::vector<GpuInfo> gpus();
  /// The pre-flight report: rows of the host, then of each GPU asked about. \throws Error not_found: no such GPU.
  [[nodiscard]] std::vector<GpuCheck> gpu_check(const GpuCheckRequest& request);
  /// Change what a VM asks for, from its next start on. An address means the card that stands there now.
  VmInfo gpu_request(const GpuRequest& request);
  /// Plug GPUs into a running VM, for this run of it. Returns those that were chosen.
  std::vector<GpuChange> gpu_attach(const GpuAttachRequest& request);
  /// Ask the guest to let a GPU go, then release it.
  /// \throws Error conflict: the guest refused. unreachable: it did not answer in time; the GPU stays where it is.
  GpuChange gpu_detach(const GpuDetachRequest& request);
  /// Take a GPU from the host's driver and keep it for VMs. \param force_console  even when it drives the host's screen.
  GpuChange gpu_lend(const std::string& address, bool force_console = false);
  /// Give it back to the driver it came from. \param force  lifts a quarantine.
  GpuChange gpu_return(const std::string& address, bool force = false);

  // --- upkeep
  /// Find what nobody needs any more, and remove it (or only tell it): layers that nothing reaches, what killed processes
  /// left, domains and manifests of this store that lost each other, VMs beyond their time. What is in use by a living
  /// process, or not provably of this store, stays. An entry that could not be seen to has `done` false and a note.
  /// \throws Error  other: a record of the store cannot be read, so nothing was touched. unreachable: no libvirt.
  GcResult gc(const GcRequest& request);
  /// Move a VM's expiry, or lift it. \throws Error not_found.
  VmInfo extend(const ExtendRequest& request);

  // --- host
  [[nodiscard]] std::vector<DoctorRow> doctor();
  /// Look whether the store is whole and agrees with libvirt. Changes nothing but that it finishes or undoes first what
  /// dead processes left, as every verb does; where that fails it is a row, as all that is wrong.
  /// \throws Error  not_found: no VM and no image of that name, nor anything left of one; no store there.
  [[nodiscard]] std::vector<CheckRow> check(const CheckRequest& request);
  /// The store in use. Connects when the choice depends on the connection.
  [[nodiscard]] std::filesystem::path store_path();

  struct Impl;  ///< ours alone; public so that its files can name it

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <vmgraft/vm.hpp>

namespace vmgraft {

/// A domain as listed: no call per domain is needed to know this.
struct DomainState {
  std::string name;
  std::string uuid;
  VmState state = VmState::shut_off;
  bool persistent = true;
  bool saved = false;  ///< libvirt keeps a memory of it, in which it starts next. Source: virDomainHasManagedSaveImage
};

/// Whether it has a QEMU, and a live definition.
[[nodiscard]] inline bool is_active(const std::optional<DomainState>& domain) {
  return domain && (domain->state == VmState::running || domain->state == VmState::paused);
}

struct HypervisorInfo {
  std::string uri;                       ///< "qemu:///system"
  std::uint32_t libvirt_version = 0;     ///< major * 1000000 + minor * 1000 + release
  std::uint32_t hypervisor_version = 0;  ///< of QEMU, the same way; 0 when libvirt cannot tell
  bool is_session = false;               ///< unprivileged
};

/// Whether pull_into_active() may be used. QEMU before 8.2 aborts, and the VM with it, when it streams into a qcow2
/// file with extended L2, which our layers have: "Assertion `skip_bytes < pnum' failed" (seen on 7.2 at nearly every
/// try; files stay whole). There, layers are merged when the VM is off. Source: QEMU commit "block/io: align requests
/// to subcluster_size".
[[nodiscard]] constexpr bool can_merge_live(const HypervisorInfo& info) {
  return info.hypervisor_version >= 8002000;
}

/// One disk of a live snapshot: the guest's disk goes on writing to `overlay`.
struct OverlayTarget {
  std::string target;      ///< "vda"
  std::string overlay;     ///< path of a prepared qcow2 overlay
  bool own_label = false;  ///< file access is set by us: libvirt must not relabel it
};

/// Whether libvirt checks a definition by its schema, which costs it some 12 ms: what it told us itself, with other names
/// and paths in it, it need not.
enum class Schema { checked, known };

enum class FreezeOutcome { frozen, no_agent, failed };

/// What a guest answered to a request to let a device go.
enum class DetachOutcome { removed, refused, timed_out, interrupted, vm_gone };

/// Where a stop or agent event is waited for.
enum class WaitOutcome { happened, timed_out, interrupted, vm_gone };

/// How long calls that nothing can end are still waited for once somebody asked us to stop. All that is asked from then on
/// shares it; what has not answered at its end goes on without us.
struct GracePeriod {
  const std::atomic<bool>* interrupted = nullptr;  ///< nullptr: never
  std::chrono::milliseconds length{0};
  std::optional<std::chrono::steady_clock::time_point> end = {};  ///< absent: nobody has asked us yet

  [[nodiscard]] bool has_begun() const { return interrupted != nullptr && interrupted->load(); }
  bool is_over() {
    const auto now = std::chrono::steady_clock::now();
    if (!end && has_begun()) end = now + length;
    return end && now >= *end;
  }
};

/// What vmgraft asks of libvirt, in our own types. Domains are named by UUID once they exist.
/// All methods throw Error with the libvirt cause: unreachable when the connection is gone, not_found where a domain
/// must be there.
class Hypervisor {
 public:
  Hypervisor() = default;
  Hypervisor(const Hypervisor&) = delete;
  Hypervisor& operator=(const Hypervisor&) = delete;
  virtual ~Hypervisor() = default;

  // --- the host
  [[nodiscard]] virtual HypervisorInfo info() = 0;
  [[nodiscard]] virtual std::string capabilities_xml() = 0;
  /// \param virt_type  "kvm" or "qemu". Source: virConnectGetDomainCapabilities.
  [[nodiscard]] virtual std::string domain_capabilities_xml(const std::string& machine,
                                                            const std::string& virt_type) = 0;

  // --- domains
  [[nodiscard]] virtual std::vector<DomainState> domains() = 0;
  [[nodiscard]] virtual std::optional<DomainState> find_by_name(const std::string& name) = 0;
  [[nodiscard]] virtual std::optional<DomainState> find_by_uuid(const std::string& uuid) = 0;
  /// \param inactive  the persistent definition, else the live one. Secrets are never included.
  [[nodiscard]] virtual std::string domain_xml(const std::string& uuid, bool inactive) = 0;
  /// The persistent definition with its secrets, to be defined again and kept nowhere else; empty when there is none.
  [[nodiscard]] virtual std::string secure_definition(const std::string& uuid) = 0;
  /// Wait until what was asked of the running domain before is done: libvirt goes on with it when who asked has died. Not
  /// running, or not there, is fine. Source: virDomainGetJobInfo.
  /// \throws Error conflict: it is not done after minutes; interrupted.
  virtual void settle(const std::string& uuid, const std::atomic<bool>* interrupted) = 0;
  /// Define or redefine. Trap: libvirt 9.0 does it in the middle of a snapshot of that domain as well, and the snapshot then
  /// writes to freed memory: settle() first. Source: virDomainDefineXMLFlags, with VALIDATE where the schema is to be asked.
  virtual void define(const std::string& xml, Schema schema) = 0;
  /// Remove the definition of a shut off domain, with its NVRAM record and, where \p keep_tpm is false, its TPM state.
  /// Absent is fine.
  virtual void undefine(const std::string& uuid, bool keep_tpm) = 0;
  virtual void start(const std::string& uuid) = 0;
  /// Start a defined, shut off domain by another definition, for this run alone: its own is what it has again afterwards.
  /// Source: virDomainCreateXML(VALIDATE).
  virtual void start_as(const std::string& xml) = 0;
  /// Power off at once. Not running is fine.
  virtual void power_off(const std::string& uuid) = 0;
  /// Ask the guest: through the agent when it is connected, else ACPI.
  virtual void request_shutdown(const std::string& uuid) = 0;

  // --- disks of a running domain
  /// Freeze the guest's file systems (agent), to be thawed by thaw(). Source: virDomainFSFreeze.
  virtual FreezeOutcome freeze(const std::string& uuid, std::string& why_not) = 0;
  virtual void thaw(const std::string& uuid) = 0;
  /// Switch the disks to their overlays, all at one instant or none. Source: virDomainSnapshotCreateXML.
  virtual void switch_to_overlays(const std::string& uuid, const std::vector<OverlayTarget>& disks,
                                  const std::vector<std::string>& untouched_targets) = 0;
  /// Copy everything between the active layer of \p target and \p base (a path of its chain) into the active layer,
  /// which then stands on \p base. Empty: copy everything. Waits for the end. Source: virDomainBlockRebase.
  /// \throws Error host_unfit: can_merge_live() is false. conflict: the VM is off or stops, or another job runs on the
  /// disk.
  ///                interrupted: the job was cancelled; what was copied stays and is harmless.
  virtual void pull_into_active(const std::string& uuid, const std::string& target, const std::string& base,
                                const std::atomic<bool>* interrupted) = 0;

  // --- devices of a running domain
  /// Plug in a device for this run. Source: virDomainAttachDeviceFlags(LIVE).
  virtual void attach_device(const std::string& uuid, const std::string& xml) = 0;
  /// Ask the guest to let the device go, and wait for its answer. Source: virDomainDetachDeviceAlias, DEVICE_REMOVED and
  /// DEVICE_REMOVAL_FAILED. A device that is not there (any more) is removed.
  virtual DetachOutcome detach_device(const std::string& uuid, const std::string& alias, std::chrono::milliseconds timeout,
                                      const std::atomic<bool>* interrupted) = 0;

  // --- memory of a running domain
  /// Write its memory and device state to \p file and switch its disks to their overlays, all of one instant; it runs on
  /// afterwards. \p file must not exist; it is gone when this fails. Source: virDomainSnapshotCreateXML with <memory>.
  virtual void save_memory(const std::string& uuid, const std::string& file, const std::vector<OverlayTarget>& disks,
                           const std::vector<std::string>& untouched_targets) = 0;
  /// The definition inside such a file. Source: virDomainSaveImageGetXMLDesc.
  [[nodiscard]] virtual std::string saved_memory_xml(const std::string& file) = 0;
  /// Start the shut off domain from such a file; only paths in \p xml may differ from what is inside.
  /// Source: virDomainRestoreFlags(RUNNING).
  virtual void restore_memory(const std::string& file, const std::string& xml) = 0;

  // --- waiting, by event
  virtual WaitOutcome wait_shut_off(const std::string& uuid, std::chrono::milliseconds timeout,
                                    const std::atomic<bool>* interrupted) = 0;
  /// Until the agent's channel is connected and answers a ping.
  virtual WaitOutcome wait_agent(const std::string& uuid, std::chrono::milliseconds timeout,
                                 const std::atomic<bool>* interrupted) = 0;

  // --- the guest
  /// One guest agent command (JSON) and its reply (JSON, the whole {"return":...} record).
  /// \throws Error unreachable: no agent, or no answer within \p timeout. other: the agent refused (its text).
  ///                interrupted: it was left.
  virtual std::string agent_command(const std::string& uuid, const std::string& json, std::chrono::seconds timeout,
                                    GracePeriod& grace) = 0;
  /// Guest addresses by MAC: from DHCP leases, else the agent. Empty when nobody knows.
  [[nodiscard]] virtual std::vector<NicInfo> addresses(const std::string& uuid) = 0;
  /// Join fds to the serial console until Ctrl-] or the end of the domain.
  virtual void console(const std::string& uuid, int in_fd, int out_fd, const std::atomic<bool>* interrupted) = 0;

  // --- networks (system connection)
  /// Make sure the network exists and runs; \p xml defines it when it does not exist (empty: it must exist).
  virtual void ensure_network(const std::string& name, const std::string& xml) = 0;
};

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "libvirt/checked.hpp"
#include "libvirt/connection.hpp"
#include "libvirt/handles.hpp"
#include "libvirt/hypervisor.hpp"

namespace vmgraft {

/// Hypervisor over one libvirt connection. Not thread-safe.
/// Its methods stand by subject: libvirt_domains.cpp, libvirt_disks.cpp, libvirt_devices.cpp,
/// libvirt_memory.cpp, libvirt_wait.cpp, libvirt_agent.cpp, libvirt_console.cpp, libvirt_network.cpp.
class LibvirtHypervisor final : public Hypervisor {
 public:
  explicit LibvirtHypervisor(const std::string& uri) : connection_(uri) {}

  HypervisorInfo info() override;
  std::string capabilities_xml() override;
  std::string domain_capabilities_xml(const std::string& machine, const std::string& virt_type) override;

  std::vector<DomainState> domains() override;
  std::optional<DomainState> find_by_name(const std::string& name) override;
  std::optional<DomainState> find_by_uuid(const std::string& uuid) override;
  std::string domain_xml(const std::string& uuid, bool inactive) override;
  std::string secure_definition(const std::string& uuid) override;
  void settle(const std::string& uuid, const std::atomic<bool>* interrupted) override;
  void define(const std::string& xml, Schema schema) override;
  void undefine(const std::string& uuid, bool keep_tpm) override;
  void start(const std::string& uuid) override;
  void start_as(const std::string& xml) override;
  void power_off(const std::string& uuid) override;
  void request_shutdown(const std::string& uuid) override;

  FreezeOutcome freeze(const std::string& uuid, std::string& why_not) override;
  void thaw(const std::string& uuid) override;
  void switch_to_overlays(const std::string& uuid, const std::vector<OverlayTarget>& disks,
                          const std::vector<std::string>& untouched_targets) override;
  void pull_into_active(const std::string& uuid, const std::string& target, const std::string& base,
                        const std::atomic<bool>* interrupted) override;

  void attach_device(const std::string& uuid, const std::string& xml) override;
  DetachOutcome detach_device(const std::string& uuid, const std::string& alias, std::chrono::milliseconds timeout,
                              const std::atomic<bool>* interrupted) override;

  void save_memory(const std::string& uuid, const std::string& file, const std::vector<OverlayTarget>& disks,
                   const std::vector<std::string>& untouched_targets) override;
  std::string saved_memory_xml(const std::string& file) override;
  void restore_memory(const std::string& file, const std::string& xml) override;

  WaitOutcome wait_shut_off(const std::string& uuid, std::chrono::milliseconds timeout,
                            const std::atomic<bool>* interrupted) override;
  WaitOutcome wait_agent(const std::string& uuid, std::chrono::milliseconds timeout,
                         const std::atomic<bool>* interrupted) override;

  std::string agent_command(const std::string& uuid, const std::string& json, std::chrono::seconds timeout,
                            GracePeriod& grace) override;
  std::vector<NicInfo> addresses(const std::string& uuid) override;
  void console(const std::string& uuid, int in_fd, int out_fd, const std::atomic<bool>* interrupted) override;

  void ensure_network(const std::string& name, const std::string& xml) override;

 private:
  /// \throws Error not_found.
  [[nodiscard]] DomainHandle domain(const std::string& uuid);

  Connection connection_;
  std::optional<HypervisorInfo> info_;   ///< it does not change while we are connected
};

/// virDomainState now. \throws Error not_found: the domain is gone.
[[nodiscard]] int state_of(virDomain* domain);
/// Nothing runs: shut off or crashed.
[[nodiscard]] bool is_off(int state) noexcept;
/// A domain that is off, or no longer there.
[[nodiscard]] bool has_stopped(virDomain* domain);
/// is_off() of a domain now, for the moment after a failed call: false too when libvirt cannot say.
[[nodiscard]] bool is_off_now(virDomain* domain) noexcept;

/// errno of the system call that failed within libvirt's last failed call, 0 when the failure was none.
[[nodiscard]] int errno_of_last_error();
/// What a failed start or restore says: host_unfit where QEMU may not open a file. \param system_error  from
/// errno_of_last_error(), before last_cause().
[[nodiscard]] Error start_error(LibvirtCause cause, int system_error, const std::string& act);
/// conflict: "cannot ACT: the VM does not run".
[[nodiscard]] Error not_running(virDomain* domain, const std::string& act, LibvirtCause cause);

}  // namespace vmgraft

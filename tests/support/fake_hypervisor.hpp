// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "libvirt/hypervisor.hpp"
#include "support/fake_host.hpp"

namespace vmgraft {

/// A libvirt whose domains are files of a FakeHost (/libvirt/<uuid>: state, frozen or not, XML; and the live XML, where
/// a running domain has another one). So one world holds both:
/// compared, copied, counted and made to fail together; each act here is exactly one effect there.
/// Throws std::logic_error on what it does not model.
class FakeHypervisor final : public Hypervisor {
 public:
  explicit FakeHypervisor(FakeHost& host);

  /// No effect: the guest's agent answers from now on (or not), at every running domain.
  void set_agent(bool connected) { agent_ = connected; }
  /// No effect: the agent refuses to freeze.
  void refuse_freeze(bool refuse) { refuse_freeze_ = refuse; }
  /// No effect: whether guests let a device go that they are asked for, and what comes of it when they do not.
  void set_guest_lets_go(bool lets_go, DetachOutcome otherwise = DetachOutcome::timed_out) {
    lets_go_ = lets_go;
    otherwise_ = otherwise;
  }
  /// No effect: libvirt is still at that, for a process that died, and has done it when it is waited for the \p nth time.
  void leave_at_work(std::function<void()> work, unsigned nth = 1) {
    at_work_ = std::move(work);
    waits_left_ = nth;
  }
  /// No effect: the VM goes off when its memory is asked for; libvirt takes its disks alone, and says that all is done.
  void lose_power_when_memory_is_saved() { loses_power_ = true; }
  /// No effect: as if the guest had been started and written to its disks.
  void set_running(const std::string& uuid, bool running);
  /// No effect: it runs by another XML than its definition.
  void set_live(const std::string& uuid, const std::string& xml);
  [[nodiscard]] bool is_frozen(const std::string& uuid) const;

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
  struct Domain {
    bool running = false;
    bool frozen = false;
    std::string xml;                  ///< the definition
    std::optional<std::string> live;  ///< of this run alone; nothing: the definition, as it now is

    [[nodiscard]] const std::string& now() const { return live ? *live : xml; }
  };
  [[nodiscard]] std::optional<Domain> find(const std::string& uuid) const;
  [[nodiscard]] Domain must_find(const std::string& uuid) const;
  void save(const std::string& uuid, const Domain& domain);
  /// A domain that is defined and off, from its XML. \throws Error not_found, conflict.
  [[nodiscard]] Domain must_be_off(const std::string& xml) const;
  [[nodiscard]] Domain must_run(const std::string& uuid) const;
  /// Passed PCI functions must be on vfio-pci, where the host has them at all. \throws Error host_unfit.
  void require_vfio(const std::string& xml) const;

  FakeHost& host_;
  bool agent_ = true;
  bool refuse_freeze_ = false;
  bool loses_power_ = false;
  std::function<void()> at_work_;
  unsigned waits_left_ = 0;
  bool lets_go_ = true;
  DetachOutcome otherwise_ = DetachOutcome::timed_out;
};

/// qcow2 files of the fake host point at another backing file: what `qemu-img rebase` and a block pull do to them.
void fake_rebase(FakeHost& host, const std::filesystem::path& file, const std::string& backing);

}  // namespace vmgraft

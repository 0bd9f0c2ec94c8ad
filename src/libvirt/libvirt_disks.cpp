// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <fmt/format.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "libvirt/checked.hpp"
#include "libvirt/domain_events.hpp"
#include "libvirt/libvirt_hypervisor_impl.hpp"
#include "libvirt/snapshot_xml.hpp"

namespace vmgraft {

void LibvirtHypervisor::switch_to_overlays(const std::string& uuid, const std::vector<OverlayTarget>& disks,
                                           const std::vector<std::string>& untouched_targets) {
  const DomainHandle handle = domain(uuid);
  const std::string xml = overlay_snapshot_xml(disks, untouched_targets);
  // NO_METADATA: the record of snapshots is ours (DESIGN.md 1). REUSE_EXT: the overlays are made already.
  constexpr unsigned kFlags = VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC |
                              VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT | VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA;
  const SnapshotHandle done(checked(virDomainSnapshotCreateXML(handle.get(), xml.c_str(), kFlags),
                                    "give new layers to the disks of", handle.get()));
}

namespace {

void start_pull(virDomain* handle, const std::string& target, const std::string& base, const std::string& act) {
  if (base.empty()) {
    checked(virDomainBlockPull(handle, target.c_str(), 0, 0), act);
    return;
  }
  // RELATIVE keeps the store movable: the new backing name stays relative when the names between were. A chain with an
  // absolute name in it is refused so; then the absolute name it is.
  if (virDomainBlockRebase(handle, target.c_str(), base.c_str(), 0, VIR_DOMAIN_BLOCK_REBASE_RELATIVE) == 0) return;
  LibvirtCause cause = last_cause();
  if (cause.code != VIR_ERR_OPERATION_INVALID) throw to_error(std::move(cause), act);
  checked(virDomainBlockRebase(handle, target.c_str(), base.c_str(), 0, 0), act);
}

bool has_block_job(virDomain* handle, const std::string& target, const std::string& act) {
  virDomainBlockJobInfo info{};
  return checked(virDomainGetBlockJobInfo(handle, target.c_str(), &info, 0), act) == 1;
}

}  // namespace

void LibvirtHypervisor::pull_into_active(const std::string& uuid, const std::string& target, const std::string& base,
                                         const std::atomic<bool>* interrupted) {
  const DomainHandle handle = domain(uuid);
  const std::string act = fmt::format("merge the layers of disk '{}' of {}", target, called(handle.get()));
  if (!can_merge_live(info())) {
    throw Error(Errc::host_unfit, fmt::format("cannot {} while it runs: QEMU before 8.2 would crash", act),
                fmt::format("stop the VM first: vmgraft stop {}", virDomainGetName(handle.get())));
  }
  DomainEvents events(connection_, handle.get());
  events.watch_block_job(target);
  start_pull(handle.get(), target, base, act);

  const auto ended = [](const DomainNews& news) { return news.block_job_end.has_value() || news.stopped; };
  // The event says how it ended. Should it never come, the job's absence is seen at the next look, and one more look
  // later (an event may be on its way) the outcome is called unknown.
  constexpr std::chrono::seconds kLook{2};
  for (bool absent = false;;) {
    const Wake wake = events.wait(deadline_after(kLook), interrupted, ended);
    const DomainNews news = events.news();
    if (news.block_job_end == VIR_DOMAIN_BLOCK_JOB_COMPLETED) return;
    if (news.stopped) throw Error(Errc::conflict, fmt::format("cannot {}: the VM stopped meanwhile", act), "try again");
    if (news.block_job_end == VIR_DOMAIN_BLOCK_JOB_CANCELED) {
      throw Error(Errc::conflict, fmt::format("cannot {}: somebody cancelled the job", act), "try again");
    }
    if (news.block_job_end.has_value()) {
      throw Error(Errc::other, fmt::format("cannot {}: QEMU reports that the copy failed", act),
                  "see free space of the store, and /var/log/libvirt/qemu");
    }
    if (wake == Wake::interrupted) {
      // Returns when the job is gone. What was copied stays in the active layer: harmless, it is the same data.
      static_cast<void>(virDomainBlockJobAbort(handle.get(), target.c_str(), 0));
      throw Error(Errc::interrupted, fmt::format("interrupted: did not {}", act));
    }
    if (has_block_job(handle.get(), target, act)) {
      absent = false;
    } else if (absent) {
      throw Error(Errc::other, fmt::format("cannot {}: the job ended and libvirt did not say how", act), "try again");
    } else {
      absent = true;
    }
  }
}

}  // namespace vmgraft

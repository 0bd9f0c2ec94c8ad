// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>

#include <fmt/format.h>
#include <libvirt/libvirt.h>

#include "libvirt/checked.hpp"
#include "libvirt/libvirt_hypervisor_impl.hpp"
#include "libvirt/snapshot_xml.hpp"
#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft {
namespace {

std::string shown(const std::string& file) {
  return fmt::format("'{}'", printable(file, 4096));
}

/// What to do where the memory may not have fit; empty: it would. libvirt tells a full disk in words alone.
std::string hint_for_room(virDomainPtr domain, const std::string& file) {
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  std::error_code unknown;
  const std::filesystem::space_info space = std::filesystem::space(folder, unknown);
  virDomainInfo info{};
  if (unknown || virDomainGetInfo(domain, &info) != 0) return {};
  const std::uint64_t most = std::uint64_t{info.memory} * 1024;
  if (space.available >= most) return {};
  return fmt::format("its memory may take {}, and {} are free in the folder {}: free space there, or take the snapshot without "
                     "--memory",
                     format_size(most), format_size(space.available), shown(folder));
}

}  // namespace

void LibvirtHypervisor::save_memory(const std::string& uuid, const std::string& file,
                                    const std::vector<OverlayTarget>& disks,
                                    const std::vector<std::string>& untouched_targets) {
  const DomainHandle handle = domain(uuid);
  const std::string act = fmt::format("save the memory of {} to {}", called(handle.get()), shown(file));
  std::error_code unknown;
  if (std::filesystem::exists(std::filesystem::symlink_status(file, unknown))) {
    // libvirt writes over it, and would leave it there when the save fails.
    throw Error(Errc::conflict, fmt::format("cannot {}: the file exists already", act), "choose another name");
  }
  const std::string xml = memory_snapshot_xml(file, disks, untouched_targets);
  // As in switch_to_overlays. Without LIVE the guest stands still meanwhile, and the file holds each page once.
  constexpr unsigned kFlags =
      VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC | VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT | VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA;
  const SnapshotHandle done(virDomainSnapshotCreateXML(handle.get(), xml.c_str(), kFlags));
  if (done) return;
  const int system_error = errno_of_last_error();
  LibvirtCause cause = last_cause();
  if (is_off_now(handle.get())) throw not_running(handle.get(), act, std::move(cause));
  Error error = start_error(std::move(cause), system_error, act);
  // libvirt removes it itself but where it failed early. Over a lost connection nobody knows whether it still writes.
  if (error.code() == Errc::unreachable) throw error;
  std::filesystem::remove(file, unknown);
  const std::string hint = hint_for_room(handle.get(), file);
  if (hint.empty() || !error.hint().empty() || !error.libvirt()) throw error;
  throw Error(error.code(), error.what(), hint).set_libvirt(*error.libvirt());
}

std::string LibvirtHypervisor::saved_memory_xml(const std::string& file) {
  return TextHandle(checked(virDomainSaveImageGetXMLDesc(connection_.get(), file.c_str(), 0),
                            "read the definition in the saved memory " + shown(file)))
      .get();
}

void LibvirtHypervisor::restore_memory(const std::string& file, const std::string& xml) {
  if (virDomainRestoreFlags(connection_.get(), file.c_str(), xml.c_str(), VIR_DOMAIN_SAVE_RUNNING) == 0) return;
  const int system_error = errno_of_last_error();
  throw start_error(last_cause(), system_error, "start the VM from the saved memory " + shown(file));
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "libvirt/checked.hpp"
#include "libvirt/domain_events.hpp"
#include "libvirt/libvirt_hypervisor_impl.hpp"
#include "libvirt/snapshot_xml.hpp"

namespace vmgraft {
namespace {

enum class Presence { there, not_there, vm_gone };

/// Whether the running domain has a device of that alias, from the live definition as libvirt writes it.
Presence look_for(virDomain* handle, const std::string& alias) {
  const std::string element = fmt::format("<alias name='{}'/>", escape_attribute(alias));
  const TextHandle xml(virDomainGetXMLDesc(handle, 0));
  if (!xml) {
    LibvirtCause cause = last_cause();
    if (cause.code == VIR_ERR_NO_DOMAIN) return Presence::vm_gone;
    throw to_error(std::move(cause), "read the definition of " + called(handle));
  }
  // Asked after: what was read of a domain that is off is its persistent definition, which has none of its devices.
  if (has_stopped(handle)) return Presence::vm_gone;
  return std::string_view(xml.get()).find(element) == std::string_view::npos ? Presence::not_there : Presence::there;
}

bool is_plain(const std::string& alias) {
  return std::all_of(alias.begin(), alias.end(), [](unsigned char letter) {
    return std::isalnum(letter) != 0 || letter == '-' || letter == '_';
  });
}

/// libvirt asks for no device that shares its guest slot with another ("cannot hot unplug multifunction PCI device"). QEMU
/// does: the guest gives the slot back with all that is in it, and libvirt follows QEMU's events.
bool request_of_qemu(virDomain* handle, const LibvirtCause& cause, const std::string& alias) {
  if (cause.message.find("multifunction") == std::string::npos || !is_plain(alias)) return false;
  const std::string command = fmt::format(R"({{"execute":"device_del","arguments":{{"id":"{}"}}}})", alias);
  char* text = nullptr;
  if (virDomainQemuMonitorCommand(handle, command.c_str(), &text, VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT) < 0) return false;
  const TextHandle reply(text);
  return std::string_view(reply.get()).find("\"error\"") == std::string_view::npos;
}

/// By alias: that call comes back as soon as QEMU has passed the request on, virDomainDetachDeviceFlags waits itself.
/// \returns  why libvirt did not ask; nothing when the guest was asked.
std::optional<LibvirtCause> request_detach(virDomain* handle, const std::string& alias) {
  if (virDomainDetachDeviceAlias(handle, alias.c_str(), VIR_DOMAIN_AFFECT_LIVE) == 0) return std::nullopt;
  LibvirtCause cause = last_cause();
  if (request_of_qemu(handle, cause, alias)) return std::nullopt;
  return cause;
}

}  // namespace

void LibvirtHypervisor::attach_device(const std::string& uuid, const std::string& xml) {
  const DomainHandle handle = domain(uuid);
  if (virDomainAttachDeviceFlags(handle.get(), xml.c_str(), VIR_DOMAIN_AFFECT_LIVE) == 0) return;
  const int system_error = errno_of_last_error();
  LibvirtCause cause = last_cause();
  const std::string act = "attach a device to " + called(handle.get());
  if (is_off_now(handle.get())) throw not_running(handle.get(), act, std::move(cause));
  throw start_error(std::move(cause), system_error, act);
}

DetachOutcome LibvirtHypervisor::detach_device(const std::string& uuid, const std::string& alias,
                                               std::chrono::milliseconds timeout,
                                               const std::atomic<bool>* interrupted) {
  const auto deadline = deadline_after(timeout);
  const DomainHandle handle = domain(uuid);
  DomainEvents events(connection_, handle.get());
  events.watch_device(alias);
  switch (look_for(handle.get(), alias)) {
    case Presence::there:
      break;
    case Presence::not_there:
      return DetachOutcome::removed;
    case Presence::vm_gone:
      return DetachOutcome::vm_gone;
  }

  if (std::optional<LibvirtCause> cause = request_detach(handle.get(), alias)) {
    const std::string act = fmt::format("ask {} to let device '{}' go", called(handle.get()), alias);
    switch (look_for(handle.get(), alias)) {
      case Presence::there:
        throw to_error(std::move(*cause), act);
      case Presence::not_there:
        return DetachOutcome::removed;
      case Presence::vm_gone:
        return DetachOutcome::vm_gone;
    }
  }

  const auto answered = [](const DomainNews& news) {
    return news.device_removed || news.device_refused || news.stopped;
  };
  const Wake wake = events.wait(deadline, interrupted, answered);
  // The definition is the truth, and may have changed after the last event that we saw.
  switch (look_for(handle.get(), alias)) {
    case Presence::not_there:
      return DetachOutcome::removed;
    case Presence::vm_gone:
      return DetachOutcome::vm_gone;
    case Presence::there:
      break;
  }
  if (events.news().device_refused) return DetachOutcome::refused;
  return wake == Wake::interrupted ? DetachOutcome::interrupted : DetachOutcome::timed_out;
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "libvirt/checked.hpp"

#include <utility>

#include <fmt/format.h>

namespace vmgraft {

namespace {

// libvirt passes on what QEMU and parsers say, line breaks and drawings included; ours is one line.
std::string one_line(const char* text) {
  std::string out;
  for (; *text != '\0'; ++text) {
    const char c = *text == '\n' || *text == '\r' || *text == '\t' ? ' ' : *text;
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

LibvirtCause last_cause() {
  const virError* error = virGetLastError();
  if (error == nullptr) return {VIR_ERR_INTERNAL_ERROR, VIR_FROM_NONE, VIR_ERR_ERROR, "no reason given"};
  return {error->code, error->domain, static_cast<int>(error->level),
          error->message != nullptr ? one_line(error->message) : "no reason given"};
}

namespace {

// A lost connection has no number of its own: the client side reports it from the RPC layer as one of these.
bool is_connection_loss(const LibvirtCause& cause) noexcept {
  if (cause.domain != VIR_FROM_RPC && cause.domain != VIR_FROM_REMOTE) return false;
  return cause.code == VIR_ERR_SYSTEM_ERROR || cause.code == VIR_ERR_INTERNAL_ERROR || cause.code == VIR_ERR_RPC;
}

std::string hint_of(const LibvirtCause& cause) {
  if (is_connection_loss(cause))
    return "the connection to libvirt broke: see that libvirtd (or virtqemud) runs, then try again";
  switch (cause.code) {
    case VIR_ERR_AUTH_FAILED:
    case VIR_ERR_AUTH_CANCELLED:
    case VIR_ERR_AUTH_UNAVAILABLE:
    case VIR_ERR_ACCESS_DENIED:
      return "libvirt refuses this user: see its polkit rules, or join the group 'libvirt'";
    case VIR_ERR_AGENT_UNRESPONSIVE:
    case VIR_ERR_AGENT_UNSYNCED:
    case kAgentCommandTimeout:
      return "the guest needs a running qemu-guest-agent: wait for it (vmgraft wait), or install and start it in the "
             "guest";
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_NO_SUPPORT:
      return "run vmgraft doctor: this host's libvirt or QEMU lacks it";
    case VIR_ERR_OPERATION_TIMEOUT:
      return "another libvirt job holds this VM: try again when it is done";
    default:
      return {};
  }
}

}  // namespace

Errc errc_of(const LibvirtCause& cause) noexcept {
  if (is_connection_loss(cause)) return Errc::unreachable;
  switch (cause.code) {
    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_NO_NETWORK:
    case VIR_ERR_NO_DOMAIN_SNAPSHOT:
    case VIR_ERR_NO_NODE_DEVICE:
      return Errc::not_found;
    case VIR_ERR_RPC:
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_INVALID_CONN:
    case VIR_ERR_AUTH_FAILED:
    case VIR_ERR_AUTH_CANCELLED:
    case VIR_ERR_AUTH_UNAVAILABLE:
    case VIR_ERR_ACCESS_DENIED:
    case VIR_ERR_OPERATION_DENIED:
    case VIR_ERR_AGENT_UNRESPONSIVE:
    case VIR_ERR_AGENT_UNSYNCED:
    case kAgentCommandTimeout:
    case VIR_ERR_OPERATION_TIMEOUT:
      return Errc::unreachable;
    case VIR_ERR_OPERATION_INVALID:
    case VIR_ERR_DOM_EXIST:
    case VIR_ERR_NETWORK_EXIST:
    case VIR_ERR_BLOCK_COPY_ACTIVE:
    case VIR_ERR_RESOURCE_BUSY:
      return Errc::conflict;
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_NO_SUPPORT:
    case VIR_ERR_OPERATION_UNSUPPORTED:
    case VIR_ERR_ARGUMENT_UNSUPPORTED:
      return Errc::host_unfit;
    default:
      return Errc::other;
  }
}

std::string called(virDomain* domain) {
  return fmt::format("VM '{}'", virDomainGetName(domain));
}

Error to_error(LibvirtCause cause, const std::string& act) {
  Error error(errc_of(cause), fmt::format("cannot {}: {}", act, cause.message), hint_of(cause));
  error.set_libvirt(std::move(cause));
  return error;
}

}  // namespace vmgraft

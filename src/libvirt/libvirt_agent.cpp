// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "libvirt/checked.hpp"
#include "libvirt/domain_events.hpp"
#include "libvirt/libvirt_hypervisor_impl.hpp"

namespace vmgraft {
namespace {

constexpr const char* kInstallAgent =
    "wait until the guest is up (vmgraft wait), or install and start qemu-guest-agent in it";

bool is_agent_missing(const LibvirtCause& cause) {
  // ARGUMENT_UNSUPPORTED: the definition has no agent channel.
  return cause.code == VIR_ERR_AGENT_UNRESPONSIVE || cause.code == kAgentCommandTimeout ||
         cause.code == VIR_ERR_ARGUMENT_UNSUPPORTED;
}

std::string agent_silent(const LibvirtCause& cause) {
  return fmt::format("the guest agent does not answer ({})", cause.message);
}

Error not_running_error(virDomain* handle, LibvirtCause cause) {
  Error error(Errc::conflict, called(handle) + " is not running",
              fmt::format("vmgraft start {}", virDomainGetName(handle)));
  error.set_libvirt(std::move(cause));
  return error;
}

/// Add what one source knows; an address that is there already is not added twice.
void collect(virDomain* handle, unsigned source, std::vector<NicInfo>& nics) {
  virDomainInterfacePtr* list = nullptr;
  const int count = virDomainInterfaceAddresses(handle, &list, source, 0);
  for (int i = 0; i < count; ++i) {
    const virDomainInterface& from = *list[i];
    const bool is_loopback = from.name != nullptr && std::string_view(from.name) == "lo";
    if (from.hwaddr != nullptr && !is_loopback) {
      const std::string mac = from.hwaddr;
      auto nic = std::find_if(nics.begin(), nics.end(), [&](const NicInfo& one) { return one.mac == mac; });
      if (nic == nics.end()) nic = nics.insert(nics.end(), NicInfo{{}, mac, {}});
      for (unsigned k = 0; k < from.naddrs; ++k) {
        const std::string address = from.addrs[k].addr != nullptr ? from.addrs[k].addr : "";
        // Link-local addresses reach nobody without naming the host's interface too.
        if (address.empty() || address.rfind("fe80:", 0) == 0) continue;
        auto& known = nic->addresses;
        if (std::find(known.begin(), known.end(), address) == known.end()) known.push_back(address);
      }
    }
    virDomainInterfaceFree(list[i]);
  }
  std::free(list);
}

struct AgentReply {
  std::optional<std::string> text;  ///< absent: it failed
  LibvirtCause cause;
};

AgentReply ask_agent(virDomain* handle, const std::string& json, int seconds) {
  const TextHandle reply(virDomainQemuAgentCommand(handle, json.c_str(), seconds, 0));
  if (reply) return {reply.get(), {}};
  return {std::nullopt, last_cause()};
}

/// As ask_agent(), on a thread that is left when nobody waits any more: libvirt has no way to end the call.
/// \returns nothing when it was left.
std::optional<AgentReply> ask_agent(virDomain* handle, const std::string& json, int seconds, GracePeriod& grace) {
  using Clock = std::chrono::steady_clock;
  struct Call {
    DomainHandle domain;
    std::string json;
    std::mutex mutex;
    std::condition_variable answered;
    std::optional<AgentReply> reply;
  };
  checked(virDomainRef(handle), "refer to", handle);
  const auto call = std::make_shared<Call>();
  call->domain = DomainHandle(handle);
  call->json = json;
  std::thread([call, seconds] {
    AgentReply reply = ask_agent(call->domain.get(), call->json, seconds);
    const std::lock_guard<std::mutex> lock(call->mutex);
    call->reply = std::move(reply);
    call->answered.notify_all();
  }).detach();
  std::unique_lock<std::mutex> lock(call->mutex);
  while (!call->reply && !grace.is_over()) {
    call->answered.wait_until(lock, std::min(Clock::now() + kLookAtFlag, grace.end.value_or(Clock::time_point::max())));
  }
  return std::move(call->reply);
}

}  // namespace

FreezeOutcome LibvirtHypervisor::freeze(const std::string& uuid, std::string& why_not) {
  const DomainHandle handle = domain(uuid);
  why_not.clear();
  // Asked first, because a failed freeze is answered with a thaw: somebody else's freeze is not ours to end.
  const TextHandle status(virDomainQemuAgentCommand(handle.get(), R"({"execute":"guest-fsfreeze-status"})", 5, 0));
  if (status && std::string_view(status.get()).find("\"frozen\"") != std::string_view::npos) {
    why_not = "its file systems are frozen already, by somebody else";
    return FreezeOutcome::failed;
  }
  if (!status) {
    LibvirtCause cause = last_cause();
    if (is_agent_missing(cause)) {
      why_not = agent_silent(cause);
      return FreezeOutcome::no_agent;
    }
  }
  if (virDomainFSFreeze(handle.get(), nullptr, 0, 0) >= 0) return FreezeOutcome::frozen;
  LibvirtCause cause = last_cause();
  if (cause.code == VIR_ERR_OPERATION_INVALID && is_off_now(handle.get())) {
    throw not_running_error(handle.get(), std::move(cause));
  }
  const Errc kind = errc_of(cause);
  if (kind == Errc::not_found ||
      (kind == Errc::unreachable && !is_agent_missing(cause) && cause.domain == VIR_FROM_RPC)) {
    throw to_error(std::move(cause), "freeze the file systems of " + called(handle.get()));
  }
  // The guest may have frozen some before it failed, or after we stopped waiting. Thawing what is not frozen does
  // nothing.
  static_cast<void>(virDomainFSThaw(handle.get(), nullptr, 0, 0));
  if (is_agent_missing(cause)) {
    why_not = agent_silent(cause);
    return FreezeOutcome::no_agent;
  }
  why_not = fmt::format("the guest could not freeze its file systems: {}", cause.message);
  return FreezeOutcome::failed;
}

void LibvirtHypervisor::thaw(const std::string& uuid) {
  const DomainHandle handle = domain(uuid);
  checked(virDomainFSThaw(handle.get(), nullptr, 0, 0), "thaw the file systems of", handle.get());
}

std::string LibvirtHypervisor::agent_command(const std::string& uuid, const std::string& json,
                                             std::chrono::seconds timeout, GracePeriod& grace) {
  const DomainHandle handle = domain(uuid);
  // Zero and negative numbers are libvirt's words for "do not wait" and "for ever".
  const int seconds = static_cast<int>(std::clamp<std::chrono::seconds::rep>(timeout.count(), 1, 24 * 3600));
  std::optional<AgentReply> reply = grace.interrupted == nullptr ? ask_agent(handle.get(), json, seconds)
                                                                 : ask_agent(handle.get(), json, seconds, grace);
  if (!reply) {
    throw Error(Errc::interrupted,
                fmt::format("interrupted before the guest agent of {} answered", called(handle.get())));
  }
  if (reply->text) return std::move(*reply->text);
  LibvirtCause cause = std::move(reply->cause);
  if (cause.code == VIR_ERR_OPERATION_INVALID && is_off_now(handle.get())) {
    throw not_running_error(handle.get(), std::move(cause));
  }
  if (is_agent_missing(cause)) {
    Error error(Errc::unreachable,
                fmt::format("the guest agent of {} does not answer: {}", called(handle.get()), cause.message),
                kInstallAgent);
    throw error.set_libvirt(std::move(cause));
  }
  if (errc_of(cause) == Errc::other) {
    Error error(Errc::other, fmt::format("the guest agent of {} refused: {}", called(handle.get()), cause.message));
    throw error.set_libvirt(std::move(cause));
  }
  throw to_error(std::move(cause), "ask the guest agent of " + called(handle.get()));
}

std::vector<NicInfo> LibvirtHypervisor::addresses(const std::string& uuid) {
  const DomainHandle handle = domain(uuid);
  std::vector<NicInfo> nics;
  if (is_off(state_of(handle.get()))) return nics;
  // Each source knows NICs that the other does not (a bridge has no lease of ours, a young guest no agent), and either
  // may fail.
  collect(handle.get(), VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, nics);
  collect(handle.get(), VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, nics);
  return nics;
}

}  // namespace vmgraft

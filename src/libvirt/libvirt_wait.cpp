// SPDX-License-Identifier: Apache-2.0
#include <chrono>
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

bool has_stopped(virDomain* domain) {
  int state = 0;
  if (virDomainGetState(domain, &state, nullptr, 0) == 0) return is_off(state);
  LibvirtCause cause = last_cause();
  if (cause.code == VIR_ERR_NO_DOMAIN) return true;
  throw to_error(std::move(cause), "read the state of " + called(domain));
}

namespace {

/// Whether the agent answers. libvirt first makes sure that it does (guest-sync, at most 5 s); without a connected
/// agent this fails at once.
bool answers_ping(virDomain* handle) {
  const TextHandle reply(virDomainQemuAgentCommand(handle, R"({"execute":"guest-ping"})", 2, 0));
  if (reply) return true;
  LibvirtCause cause = last_cause();
  const Errc kind = errc_of(cause);
  const bool is_about_agent = cause.code == VIR_ERR_AGENT_UNRESPONSIVE || cause.code == VIR_ERR_AGENT_UNSYNCED ||
                              cause.code == kAgentCommandTimeout ||
                              cause.code == VIR_ERR_OPERATION_TIMEOUT;
  if (cause.code == VIR_ERR_ARGUMENT_UNSUPPORTED) {
    Error error(Errc::conflict,
                called(handle) + " has no guest agent channel in its definition: no agent can ever answer",
                "wait for something else (--wait none), or define it from a template of vmgraft");
    throw error.set_libvirt(std::move(cause));
  }
  // Gone or shut off: the caller sees it in the state. Anything else an agent says is an answer that was spoilt: ask
  // again.
  if (is_about_agent || kind == Errc::not_found || kind == Errc::conflict || kind == Errc::other) return false;
  throw to_error(std::move(cause), "ask the guest agent of " + called(handle));
}

}  // namespace

void LibvirtHypervisor::settle(const std::string& uuid, const std::atomic<bool>* interrupted) {
  const DomainHandle handle(virDomainLookupByUUIDString(connection_.get(), uuid.c_str()));
  if (!handle) return;
  constexpr std::chrono::minutes kLongest{2};  // libvirt itself gives up a call after 30 s of waiting for another one
  constexpr std::chrono::milliseconds kLook{100};
  for (const auto end = std::chrono::steady_clock::now() + kLongest;;) {
    // Most of what changes a domain lets no question through: then it is the call that waits. What does let it through
    // (a save of memory) is told by it.
    virDomainJobInfo job{};
    if (virDomainGetJobInfo(handle.get(), &job) == 0) {
      if (job.type == VIR_DOMAIN_JOB_NONE) return;
    } else if (last_cause().code != VIR_ERR_OPERATION_TIMEOUT) {
      return;  // it is off; or a driver without jobs
    }
    if (std::chrono::steady_clock::now() > end)
      throw Error(Errc::conflict, fmt::format("libvirt is still at work on {}, for somebody who may be dead", called(handle.get())),
                  fmt::format("see virsh domjobinfo {0}, and virsh domjobabort {0}", virDomainGetName(handle.get())));
    if (interrupted != nullptr && interrupted->load())
      throw Error(Errc::interrupted, fmt::format("interrupted while libvirt is still at work on {}", called(handle.get())));
    std::this_thread::sleep_for(kLook);
  }
}

WaitOutcome LibvirtHypervisor::wait_shut_off(const std::string& uuid, std::chrono::milliseconds timeout,
                                             const std::atomic<bool>* interrupted) {
  const auto deadline = deadline_after(timeout);
  const DomainHandle handle = domain(uuid);
  DomainEvents events(connection_, handle.get());
  if (has_stopped(handle.get())) return WaitOutcome::happened;
  switch (events.wait(deadline, interrupted, [](const DomainNews& news) { return news.stopped; })) {
    case Wake::news:
      return WaitOutcome::happened;
    case Wake::interrupted:
      return WaitOutcome::interrupted;
    case Wake::timed_out:
      break;
  }
  return WaitOutcome::timed_out;
}

WaitOutcome LibvirtHypervisor::wait_agent(const std::string& uuid, std::chrono::milliseconds timeout,
                                          const std::atomic<bool>* interrupted) {
  const auto deadline = deadline_after(timeout);
  const DomainHandle handle = domain(uuid);
  DomainEvents events(connection_, handle.get());
  events.watch_agent();
  // A connected agent that does not answer yet (a paused or very busy guest) sends no event when it does: ask again
  // this often.
  constexpr std::chrono::seconds kAskAgain{2};
  for (;;) {
    const unsigned connects = events.news().agent_connects;
    if (has_stopped(handle.get())) return WaitOutcome::vm_gone;
    if (answers_ping(handle.get())) return WaitOutcome::happened;
    const auto changed = [&](const DomainNews& news) { return news.stopped || news.agent_connects != connects; };
    switch (events.wait(std::min(deadline, deadline_after(kAskAgain)), interrupted, changed)) {
      case Wake::news:
        if (events.news().stopped) return WaitOutcome::vm_gone;
        break;
      case Wake::interrupted:
        return WaitOutcome::interrupted;
      case Wake::timed_out:
        if (DomainEvents::Clock::now() >= deadline) return WaitOutcome::timed_out;
        break;
    }
  }
}

}  // namespace vmgraft

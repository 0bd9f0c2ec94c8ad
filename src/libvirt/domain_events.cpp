// SPDX-License-Identifier: Apache-2.0
#include "libvirt/domain_events.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "libvirt/checked.hpp"

namespace vmgraft {
namespace {

using State = DomainEvents::State;

/// Change the news from a callback of libvirt, through which no exception may pass.
template <typename Change>
void tell(void* opaque, Change change) noexcept {
  try {
    State& state = **static_cast<std::shared_ptr<State>*>(opaque);
    {
      const std::lock_guard<std::mutex> lock(state.mutex);
      change(state);
    }
    state.changed.notify_all();
  } catch (...) {
    // Locking failed: the waiter still has its deadline.
  }
}

int on_lifecycle(virConnect*, virDomain*, int event, int, void* opaque) {
  if (event == VIR_DOMAIN_EVENT_STOPPED || event == VIR_DOMAIN_EVENT_CRASHED) {
    tell(opaque, [](State& state) { state.news.stopped = true; });
  }
  return 0;
}

void on_agent(virConnect*, virDomain*, int agent, int, void* opaque) {
  if (agent == VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED) {
    tell(opaque, [](State& state) { ++state.news.agent_connects; });
  }
}

void on_block_job(virConnect*, virDomain*, const char* disk, int, int status, void* opaque) {
  if (disk == nullptr || status == VIR_DOMAIN_BLOCK_JOB_READY) return;
  tell(opaque, [&](State& state) {
    if (state.target == disk) state.news.block_job_end = status;
  });
}

void on_device_removed(virConnect*, virDomain*, const char* alias, void* opaque) {
  if (alias == nullptr) return;
  tell(opaque, [&](State& state) { state.news.device_removed |= state.alias == alias; });
}

void on_device_removal_failed(virConnect*, virDomain*, const char* alias, void* opaque) {
  if (alias == nullptr) return;
  tell(opaque, [&](State& state) { state.news.device_refused |= state.alias == alias; });
}

}  // namespace

DomainEvents::DomainEvents(const Connection& connection, virDomain* domain)
    : connection_(connection), domain_(domain), state_(std::make_shared<State>()) {
  watch(VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle));
}

DomainEvents::~DomainEvents() {
  for (const int watch : watches_) static_cast<void>(virConnectDomainEventDeregisterAny(connection_.get(), watch));
}

void DomainEvents::watch(int event, virConnectDomainEventGenericCallback callback) {
  auto opaque = std::make_unique<std::shared_ptr<State>>(state_);
  const auto release = [](void* shared) { delete static_cast<std::shared_ptr<State>*>(shared); };
  watches_.reserve(watches_.size() + 1);
  const int id = virConnectDomainEventRegisterAny(connection_.get(), domain_, event, callback, opaque.get(), release);
  checked(id, "watch", domain_);
  static_cast<void>(opaque.release());  // libvirt's now
  watches_.push_back(id);
}

void DomainEvents::watch_agent() {
  watch(VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_agent));
}

void DomainEvents::watch_block_job(const std::string& target) {
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->target = target;
  }
  watch(VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, VIR_DOMAIN_EVENT_CALLBACK(on_block_job));
}

void DomainEvents::watch_device(const std::string& alias) {
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->alias = alias;
  }
  watch(VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device_removed));
  watch(VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, VIR_DOMAIN_EVENT_CALLBACK(on_device_removal_failed));
}

DomainNews DomainEvents::news() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->news;
}

Wake DomainEvents::wait(Clock::time_point deadline, const std::atomic<bool>* interrupted,
                        const std::function<bool(const DomainNews&)>& is_enough) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  for (;;) {
    if (is_enough(state_->news)) return Wake::news;
    if (interrupted != nullptr && interrupted->load()) return Wake::interrupted;
    if (connection_.lost().load()) {
      throw Error(Errc::unreachable,
                  fmt::format("lost the connection to libvirt while waiting for VM '{}'", virDomainGetName(domain_)),
                  "see that libvirtd (or virtqemud) runs, then try again");
    }
    const auto now = Clock::now();
    if (now >= deadline) return Wake::timed_out;
    state_->changed.wait_until(lock, std::min(deadline, now + kLookAtFlag));
  }
}

DomainEvents::Clock::time_point deadline_after(std::chrono::milliseconds timeout) {
  return DomainEvents::Clock::now() + std::min<std::chrono::milliseconds>(timeout, std::chrono::hours(24 * 365 * 10));
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "libvirt/connection.hpp"
#include "libvirt/handles.hpp"

namespace vmgraft {

/// What libvirt told of one domain since the watch began.
struct DomainNews {
  bool stopped = false;              ///< shut off or crashed
  unsigned agent_connects = 0;       ///< how often the guest agent's channel was connected
  bool device_removed = false;       ///< the watched device left the domain
  bool device_refused = false;       ///< the guest did not let the watched device go
  std::optional<int> block_job_end;  ///< virConnectDomainEventBlockJobStatus: COMPLETED, FAILED, CANCELED
};

/// A signal handler can only set a flag, so it is looked at this often while we wait.
inline constexpr std::chrono::milliseconds kLookAtFlag{100};

enum class Wake { news, timed_out, interrupted };

/// Events of one domain, for as long as this object lives. Begin to watch *before* looking at the present state.
/// Not thread-safe but for the callbacks, which libvirt's event loop runs.
class DomainEvents {
 public:
  using Clock = std::chrono::steady_clock;

  DomainEvents(const Connection& connection, virDomain* domain);
  DomainEvents(const DomainEvents&) = delete;
  DomainEvents& operator=(const DomainEvents&) = delete;
  ~DomainEvents();

  void watch_agent();
  /// Ends of jobs on the disk \p target ("vda").
  void watch_block_job(const std::string& target);
  /// What becomes of the device of that alias.
  void watch_device(const std::string& alias);

  [[nodiscard]] DomainNews news() const;
  /// Until \p is_enough says so of the news. \throws Error unreachable: the connection is gone.
  [[nodiscard]] Wake wait(Clock::time_point deadline, const std::atomic<bool>* interrupted,
                          const std::function<bool(const DomainNews&)>& is_enough);

  /// Shared with callbacks that libvirt may still be running when this object is gone.
  struct State {
    mutable std::mutex mutex;
    std::condition_variable changed;
    DomainNews news;
    std::string target;
    std::string alias;
  };

 private:
  void watch(int event, virConnectDomainEventGenericCallback callback);

  const Connection& connection_;
  virDomain* domain_;
  std::shared_ptr<State> state_;
  std::vector<int> watches_;
};

/// now + \p timeout without overflow.
[[nodiscard]] DomainEvents::Clock::time_point deadline_after(std::chrono::milliseconds timeout);

}  // namespace vmgraft

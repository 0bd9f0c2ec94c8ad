// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <thread>

namespace vmgraft {

/// The one thread of the process that runs libvirt's default event loop. It runs while anybody holds it: each
/// connection does, because libvirtd cuts off a client that does not answer its keepalive pings for half a minute.
class EventLoop {
 public:
  /// The running loop, started when nobody held it. libvirt wants its loop registered before virConnectOpen: so hold
  /// this first. \throws Error other: libvirt refused, or no thread could be made.
  [[nodiscard]] static std::shared_ptr<EventLoop> hold();

  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  /// Stops the thread; the last holder must not be the loop's own thread.
  ~EventLoop();

 private:
  EventLoop();
  std::atomic<bool> stop_{false};
  int wake_timer_ = -1;
  std::thread thread_;
};

}  // namespace vmgraft

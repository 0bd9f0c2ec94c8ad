// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "libvirt/event_loop.hpp"
#include "libvirt/handles.hpp"

namespace vmgraft {

/// An open connection with events: the loop runs, and a lost connection is noticed while something waits.
class Connection {
 public:
  /// \throws Error unreachable: what to start, or which group to join, as hint.
  explicit Connection(const std::string& uri);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  [[nodiscard]] virConnect* get() const noexcept { return handle_.get(); }
  /// True once libvirt said that the connection is gone.
  [[nodiscard]] const std::atomic<bool>& lost() const noexcept { return lost_; }

 private:
  std::shared_ptr<EventLoop> loop_;  // outlives the handle
  std::atomic<bool> lost_{false};
  ConnectHandle handle_;
  bool watches_close_ = false;
};

/// Whether a server listens on a Unix socket that we may write to: 0 when so, else errno (ENOENT, EACCES, ECONNREFUSED
/// ...). Never really connects, so the server sees nothing. Source: unix(7).
[[nodiscard]] int probe_unix_socket(const std::string& path);

}  // namespace vmgraft

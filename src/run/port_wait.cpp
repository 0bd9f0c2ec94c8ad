// SPDX-License-Identifier: Apache-2.0
#include "run/port_wait.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include <vmgraft/error.hpp>

namespace vmgraft {
namespace {

constexpr int kSliceMs = 200;

/// One try of at most a slice. A port that is refused at once uses up its slice too, so that the loop does not spin.
bool try_connect(const addrinfo& where) {
  const int fd = socket(where.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  bool is_open = connect(fd, where.ai_addr, where.ai_addrlen) == 0;
  if (!is_open) {
    pollfd wait{fd, POLLOUT, 0};
    if (poll(&wait, 1, kSliceMs) == 1) {
      int error = 0;
      socklen_t length = sizeof error;
      is_open = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
    }
  }
  close(fd);
  if (!is_open) poll(nullptr, 0, kSliceMs);  // the guest gives no event when its server comes up
  return is_open;
}

}  // namespace

bool wait_for_port(const std::string& address, std::uint16_t port, std::chrono::steady_clock::time_point deadline,
                   const std::atomic<bool>* interrupted) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return false;
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> list(found, &freeaddrinfo);
  do {
    if (interrupted != nullptr && interrupted->load())
      throw Error(Errc::interrupted, "interrupted while waiting for the SSH server");
    if (try_connect(*list)) return true;
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

}  // namespace vmgraft

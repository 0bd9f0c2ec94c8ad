// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal.hpp"

#include <cerrno>
#include <cstdlib>

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace vmgraft::cli {

namespace {

std::size_t columns(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

bool colours_welcome() {
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* term = std::getenv("TERM");
  return term != nullptr && std::string_view(term) != "dumb";
}

}  // namespace

Terminal look_at_terminal() {
  Terminal terminal;
  terminal.in = ::isatty(STDIN_FILENO) == 1;
  terminal.out = ::isatty(STDOUT_FILENO) == 1;
  terminal.err = ::isatty(STDERR_FILENO) == 1;
  const bool colours = colours_welcome();
  terminal.colour_out = terminal.out && colours;
  terminal.colour_err = terminal.err && colours;
  if (terminal.out) terminal.width = columns(STDOUT_FILENO);
  if (terminal.err && columns(STDERR_FILENO) > 0) terminal.width_err = columns(STDERR_FILENO);
  return terminal;
}

int write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      // A peer that shares our terminal may have made it non-blocking.
      pollfd wanted{fd, POLLOUT, 0};
      if (::poll(&wanted, 1, -1) < 0 && errno != EINTR) return errno;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace vmgraft::cli

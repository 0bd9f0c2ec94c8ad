// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include "libvirt/checked.hpp"
#include "libvirt/libvirt_hypervisor_impl.hpp"

namespace vmgraft {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kLeave = 0x1d;  // Ctrl-]
constexpr std::size_t kBuffer = 64 * 1024;
// A serial line has no end of output. Once input that is no terminal has ended, this long without a byte counts as one.
constexpr std::chrono::milliseconds kQuiet{1000};
// How soon a flag set by a signal handler is seen.
constexpr int kLookMs = 100;

Error io_error(const char* act) {
  return Error(Errc::other, fmt::format("cannot {}: {}", act, std::strerror(errno)));
}

/// A terminal in raw mode until the end of the scope, whatever ends it.
class RawTerminal {
 public:
  explicit RawTerminal(int fd) : fd_(fd) {
    if (isatty(fd) == 0) return;
    if (tcgetattr(fd, &before_) != 0) throw io_error("read the terminal's mode");
    termios raw = before_;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSANOW, &raw) != 0) throw io_error("set the terminal's mode");
    is_raw_ = true;
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal() {
    if (is_raw_) static_cast<void>(tcsetattr(fd_, TCSANOW, &before_));
  }
  [[nodiscard]] bool is_terminal() const { return is_raw_; }

 private:
  int fd_;
  bool is_raw_ = false;
  termios before_{};
};

/// How libvirt's event loop wakes the thread that moves the bytes. Shared with the callback, which may outlive the
/// stream's use.
class Bell {
 public:
  Bell() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (fd_ < 0) throw io_error("make an eventfd");
  }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;
  ~Bell() { close(fd_); }
  void ring() noexcept { static_cast<void>(eventfd_write(fd_, 1)); }
  void clear() noexcept {
    eventfd_t count = 0;
    static_cast<void>(eventfd_read(fd_, &count));
  }
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  int fd_;
};

void on_stream(virStream* stream, int, void* opaque) {
  // Once told is enough: readiness would be reported again and again until the other thread has acted on it.
  static_cast<void>(virStreamEventUpdateCallback(stream, 0));
  (*static_cast<std::shared_ptr<Bell>*>(opaque))->ring();
}

/// Bytes on their way in one direction.
class Pending {
 public:
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  [[nodiscard]] std::string_view view() const { return bytes_; }
  void add(const char* data, std::size_t size) { bytes_.append(data, size); }
  void drop(std::size_t size) { bytes_.erase(0, size); }

 private:
  std::string bytes_;
};

/// One sitting at a console.
class Session {
 public:
  Session(virStream* stream, std::shared_ptr<Bell> bell, int in_fd, int out_fd, bool in_is_terminal)
      : stream_(stream), bell_(std::move(bell)), in_fd_(in_fd), out_fd_(out_fd), in_is_terminal_(in_is_terminal) {}

  void run(const std::atomic<bool>* interrupted) {
    last_output_ = Clock::now();
    while (!is_over()) {
      if (interrupted != nullptr && interrupted->load()) throw Error(Errc::interrupted, "interrupted at the console");
      from_guest();
      to_guest();
      listen();
      wait();
    }
  }

 private:
  [[nodiscard]] bool is_over() const {
    if (left_ && to_guest_.empty()) return true;
    if (guest_ended_) return to_out_.empty();
    return in_ended_ && to_guest_.empty() && to_out_.empty() && Clock::now() - last_output_ >= kQuiet;
  }

  void from_guest() {
    while (!guest_ended_ && to_out_.view().size() < kBuffer) {
      const int got = virStreamRecv(stream_, buffer_.data(), buffer_.size());
      if (got == -2) return;  // nothing now
      if (got <= 0) {         // 0: its end; an error too is how a domain that dies looks
        guest_ended_ = true;
        return;
      }
      to_out_.add(buffer_.data(), static_cast<std::size_t>(got));
      last_output_ = Clock::now();
    }
  }

  void to_guest() {
    while (!guest_ended_ && !to_guest_.empty()) {
      const std::string_view bytes = to_guest_.view();
      const int sent = virStreamSend(stream_, bytes.data(), bytes.size());
      if (sent == -2) return;
      if (sent < 0) {
        guest_ended_ = true;
        return;
      }
      to_guest_.drop(static_cast<std::size_t>(sent));
      last_output_ = Clock::now();  // an answer may follow
    }
  }

  // Ask to be told of what we could do next; readiness that is there already is told at once.
  void listen() {
    if (guest_ended_) return;
    int events = 0;
    if (to_out_.view().size() < kBuffer) events |= VIR_STREAM_EVENT_READABLE;
    if (!to_guest_.empty()) events |= VIR_STREAM_EVENT_WRITABLE;
    events |= VIR_STREAM_EVENT_HANGUP | VIR_STREAM_EVENT_ERROR;
    static_cast<void>(virStreamEventUpdateCallback(stream_, events));
  }

  void wait() {
    std::array<pollfd, 3> fds{};
    fds[0] = {bell_->fd(), POLLIN, 0};
    // A negative fd is skipped.
    fds[1] = {!in_ended_ && !left_ && to_guest_.view().size() < kBuffer ? in_fd_ : -1, POLLIN, 0};
    fds[2] = {to_out_.empty() ? -1 : out_fd_, POLLOUT, 0};
    if (guest_ended_ && to_out_.empty()) return;
    if (poll(fds.data(), fds.size(), kLookMs) < 0) {
      if (errno == EINTR) return;
      throw io_error("wait at the console");
    }
    if (fds[0].revents != 0) bell_->clear();
    if (fds[1].revents != 0) read_in();
    if (fds[2].revents != 0) write_out();
  }

  void read_in() {
    const ssize_t got = read(in_fd_, buffer_.data(), buffer_.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) {
      // A terminal that hangs up is gone; another input that ends still wants the answer to what it sent.
      (in_is_terminal_ ? left_ : in_ended_) = true;
      return;
    }
    std::string_view bytes(buffer_.data(), static_cast<std::size_t>(got));
    if (in_is_terminal_) {
      if (const auto key = bytes.find(kLeave); key != std::string_view::npos) {
        bytes = bytes.substr(0, key);
        left_ = true;
      }
    }
    to_guest_.add(bytes.data(), bytes.size());
  }

  void write_out() {
    const std::string_view bytes = to_out_.view();
    // In pieces that a pipe takes without blocking once it is writable (PIPE_BUF).
    const ssize_t put = write(out_fd_, bytes.data(), std::min<std::size_t>(bytes.size(), 4096));
    if (put < 0) {
      if (errno == EINTR || errno == EAGAIN) return;
      throw io_error("write the console's output");
    }
    to_out_.drop(static_cast<std::size_t>(put));
  }

  virStream* stream_;
  std::shared_ptr<Bell> bell_;
  int in_fd_;
  int out_fd_;
  bool in_is_terminal_;
  bool in_ended_ = false;
  bool left_ = false;
  bool guest_ended_ = false;
  Pending to_guest_;
  Pending to_out_;
  Clock::time_point last_output_;
  std::array<char, 16 * 1024> buffer_{};
};

/// Ends the use of a stream: no callback afterwards, and the server frees the console for the next.
class StreamUse {
 public:
  StreamUse(virStream* stream, const std::shared_ptr<Bell>& bell) : stream_(stream) {
    auto opaque = std::make_unique<std::shared_ptr<Bell>>(bell);
    const auto release = [](void* shared) { delete static_cast<std::shared_ptr<Bell>*>(shared); };
    checked(virStreamEventAddCallback(stream, 0, on_stream, opaque.get(), release), "listen to the console");
    static_cast<void>(opaque.release());  // libvirt's now
  }
  StreamUse(const StreamUse&) = delete;
  StreamUse& operator=(const StreamUse&) = delete;
  ~StreamUse() {
    static_cast<void>(virStreamEventRemoveCallback(stream_));
    static_cast<void>(virStreamAbort(stream_));
  }

 private:
  virStream* stream_;
};

void open_console(virDomain* handle, virStream* stream) {
  if (virDomainOpenConsole(handle, nullptr, stream, VIR_DOMAIN_CONSOLE_SAFE) == 0) return;
  LibvirtCause cause = last_cause();
  if (cause.code == VIR_ERR_OPERATION_FAILED) {
    Error error(Errc::conflict, fmt::format("the console of {} is in use: {}", called(handle), cause.message),
                "leave it there first (Ctrl-]), or end that virsh or vmgraft console");
    throw error.set_libvirt(std::move(cause));
  }
  if (cause.code == VIR_ERR_OPERATION_INVALID && is_off_now(handle)) {
    Error error(Errc::conflict, called(handle) + " is not running",
                fmt::format("vmgraft start {}", virDomainGetName(handle)));
    throw error.set_libvirt(std::move(cause));
  }
  throw to_error(std::move(cause), "open the console of " + called(handle));
}

}  // namespace

void LibvirtHypervisor::console(const std::string& uuid, int in_fd, int out_fd, const std::atomic<bool>* interrupted) {
  const DomainHandle handle = domain(uuid);
  const auto bell = std::make_shared<Bell>();
  const StreamHandle stream(checked(virStreamNew(connection_.get(), VIR_STREAM_NONBLOCK), "make a stream"));
  open_console(handle.get(), stream.get());
  const StreamUse use(stream.get(), bell);
  const RawTerminal terminal(in_fd);
  Session(stream.get(), bell, in_fd, out_fd, terminal.is_terminal()).run(interrupted);
}

}  // namespace vmgraft

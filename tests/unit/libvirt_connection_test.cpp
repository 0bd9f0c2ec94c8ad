// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <string>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libvirt/connection.hpp"
#include "libvirt/libvirt_hypervisor.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;

namespace {

/// A Unix socket at a path, listening until the end of the scope or stop().
class Listener {
 public:
  explicit Listener(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    REQUIRE(bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    REQUIRE(listen(fd_, 1) == 0);
  }
  ~Listener() { stop(); }
  void stop() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  /// Whether somebody has connected.
  [[nodiscard]] bool was_disturbed() const {
    const int peer = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK);
    if (peer >= 0) close(peer);
    return peer >= 0;
  }
  void set_nonblocking() const { REQUIRE(setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &kNow, sizeof(kNow)) == 0); }

 private:
  static constexpr timeval kNow{0, 1000};
  int fd_;
};

/// An environment variable set for a scope.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    value != nullptr ? setenv(name, value, 1) : unsetenv(name);
  }
  ~Variable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

}  // namespace

TEST_CASE("a socket is probed without its server noticing") {
  const TempFolder folder;
  const std::string path = folder / "sock";
  CHECK(probe_unix_socket(path) == ENOENT);
  Listener listener(path);
  listener.set_nonblocking();
  CHECK(probe_unix_socket(path) == 0);
  CHECK_FALSE(listener.was_disturbed());
  listener.stop();
  CHECK(probe_unix_socket(path) == ECONNREFUSED);
  CHECK(probe_unix_socket(std::string(200, 'x')) == ENAMETOOLONG);
}

TEST_CASE("the asked address comes before the environment's, which comes before the default") {
  const Variable environment("LIBVIRT_DEFAULT_URI", "test:///default");
  CHECK(choose_uri("qemu:///session") == "qemu:///session");
  CHECK(choose_uri("") == "test:///default");
}

TEST_CASE("without a wish root gets the system's libvirt, another user one of the two that can be used") {
  const Variable environment("LIBVIRT_DEFAULT_URI", nullptr);
  const std::string uri = choose_uri("");
  if (geteuid() == 0) {
    CHECK(uri == "qemu:///system");
  } else {
    CHECK((uri == "qemu:///system" || uri == "qemu:///session"));
  }
}

TEST_CASE("an address that no driver takes is one clear error") {
  const Error error = error_of([] { static_cast<void>(connect_libvirt("nosuch:///x")); });
  CHECK(error.code() == Errc::unreachable);
  CHECK(std::string(error.what()).rfind("cannot connect to libvirt at 'nosuch:///x': ", 0) == 0);
  CHECK(error.hint() == "see what --connect and LIBVIRT_DEFAULT_URI name");
  CHECK(error.libvirt().has_value());
}

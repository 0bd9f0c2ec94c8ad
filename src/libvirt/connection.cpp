// SPDX-License-Identifier: Apache-2.0
#include "libvirt/connection.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "libvirt/checked.hpp"
#include "libvirt/libvirt_hypervisor.hpp"
#include "libvirt/libvirt_hypervisor_impl.hpp"

namespace vmgraft {
namespace {

constexpr const char* kSystemUri = "qemu:///system";
constexpr const char* kSessionUri = "qemu:///session";
// The monolithic daemon's socket, then the modular one's.
constexpr std::array kSystemSockets = {"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"};

/// The best news about the system daemon's sockets.
struct SystemSocket {
  int error = ENOENT;
  std::string path;
};

SystemSocket system_socket() {
  SystemSocket best{ENOENT, kSystemSockets.front()};
  for (const char* path : kSystemSockets) {
    const int error = probe_unix_socket(path);
    if (error == 0) return {0, path};
    if (best.error == ENOENT) best = {error, path};
  }
  return best;
}

std::string user_name() {
  const passwd* entry = getpwuid(geteuid());
  return entry != nullptr ? entry->pw_name : std::to_string(geteuid());
}

// Never asks anybody: the library does not prompt.
virConnect* open_quietly(const std::string& uri) {
  virConnectAuth auth{nullptr, 0, nullptr, nullptr};
  return virConnectOpenAuth(uri.c_str(), &auth, 0);
}

/// A socket that everybody may write to leaves the choice to polkit: only trying tells.
bool is_refused_by_polkit(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0 || (info.st_mode & S_IWOTH) == 0) return false;
  try {
    const auto loop = EventLoop::hold();
    return ConnectHandle(open_quietly(kSystemUri)) == nullptr;
  } catch (const Error&) {
    return true;
  }
}

Error connect_error(const std::string& uri, LibvirtCause cause) {
  std::string what = fmt::format("cannot connect to libvirt at '{}': {}", uri, cause.message);
  std::string hint;
  const std::string join_group = fmt::format("sudo adduser {} libvirt, then log in again", user_name());
  if (uri == kSystemUri) {
    const SystemSocket socket = system_socket();
    if (socket.error == EACCES || socket.error == EPERM) {
      what = fmt::format("cannot connect to libvirt at '{}': user '{}' may not use {}", uri, user_name(), socket.path);
      hint = join_group;
    } else if (socket.error != 0) {
      what = fmt::format("cannot connect to libvirt at '{}': libvirt is not running ({}: {})", uri, socket.path,
                         std::strerror(socket.error));
      hint =
          "sudo systemctl start libvirtd (or virtqemud); without systemd: sudo virtlogd -d; sudo libvirtd -d; "
          "not installed: sudo apt-get install libvirt-daemon-system";
    } else if (geteuid() != 0) {
      // The daemon listens and did not take us: polkit said no, or was not there to be asked.
      what = fmt::format("cannot connect to libvirt at '{}' as user '{}': {}", uri, user_name(), cause.message);
      hint = join_group;
    }
  } else if (uri == kSessionUri) {
    hint =
        "libvirt starts a session daemon by itself when libvirtd (package libvirt-daemon) is installed and "
        "XDG_RUNTIME_DIR is a folder of yours";
  }
  if (hint.empty()) hint = "see what --connect and LIBVIRT_DEFAULT_URI name";
  Error error(Errc::unreachable, what, hint);
  error.set_libvirt(std::move(cause));
  return error;
}

void on_close(virConnect*, int, void* opaque) {
  static_cast<std::atomic<bool>*>(opaque)->store(true);
}

}  // namespace

int probe_unix_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return ENAMETOOLONG;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  // The kernel looks for a listener, then for permission, then compares the socket's type. A datagram socket against a
  // stream listener ends there with EPROTOTYPE; a stream one would make the daemon log an error for each probe that
  // hangs up.
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int result = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = result == 0 ? 0 : errno;
  close(fd);
  return error == EPROTOTYPE ? 0 : error;
}

Connection::Connection(const std::string& uri) : loop_(EventLoop::hold()) {
  handle_.reset(open_quietly(uri));
  if (!handle_) throw connect_error(uri, last_cause());
  // Both are nothing to drivers that need no server (test:///), which have no connection to lose. The flag is not given
  // a release function: those drivers would never call it.
  static_cast<void>(virConnectSetKeepAlive(handle_.get(), 5, 5));
  watches_close_ = virConnectRegisterCloseCallback(handle_.get(), on_close, &lost_, nullptr) == 0;
}

Connection::~Connection() {
  // The registration holds a reference of the connection, which would never close. libvirt calls back under the lock
  // that this takes: nobody touches lost_ afterwards.
  if (watches_close_) static_cast<void>(virConnectUnregisterCloseCallback(handle_.get(), on_close));
}

std::string choose_uri(const std::string& asked) {
  if (!asked.empty()) return asked;
  if (const char* uri = std::getenv("LIBVIRT_DEFAULT_URI"); uri != nullptr && *uri != '\0') return uri;
  // For root a session of its own is never what is meant: a daemon that is down must be said, not hidden.
  if (geteuid() == 0) return kSystemUri;
  const SystemSocket socket = system_socket();
  if (socket.error != 0 || is_refused_by_polkit(socket.path)) return kSessionUri;
  return kSystemUri;
}

std::unique_ptr<Hypervisor> connect_libvirt(const std::string& uri) {
  return std::make_unique<LibvirtHypervisor>(uri);
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
// LinuxHost::write_attribute. Unbinding a driver from a device in use can keep the writer in the kernel for ever.
#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "host/helper_process.hpp"
#include "host/linux_host.hpp"
#include "host/posix.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

/// In the helper: async-signal-safe calls only.
HelperReport write_once(const char* path, std::string_view value) {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return {0, errno, 0};
  const ssize_t done = ::write(fd, value.data(), value.size());
  if (done < 0) return {0, errno, 0};
  // An attribute takes one write as one command: the rest must not be sent as another.
  return {0, done == static_cast<ssize_t>(value.size()) ? 0 : EIO, 0};
}

std::string shown(std::string_view value) {
  while (!value.empty() && value.back() == '\n') value.remove_suffix(1);
  return "'" + printable(std::string(value), 200) + "'";
}

}  // namespace

void LinuxHost::write_attribute(const std::filesystem::path& path, std::string_view value,
                                std::chrono::seconds deadline) {
  refuse_recorded();
  const std::string target = shown(value) + " to '" + printable(path.native(), 4096) + "'";
  const std::string name = path.native();
  const HelperEnd end = run_helper([&] { return write_once(name.c_str(), value); }, deadline, "write " + target);
  if (end.kind != HelperEnd::Kind::reported) fail_left_behind("writing " + target, end, deadline);
  const int number = end.report.number;
  if (number == 0) return;
  if (number == EACCES || number == EPERM) posix::fail("write " + shown(value) + " to", path, number);
  throw Error(
      Errc::other, "cannot write " + target + ": " + std::generic_category().message(number),
      number == EROFS ? "it is mounted read-only here: run vmgraft on the host itself, not in a container" : "");
}

}  // namespace vmgraft

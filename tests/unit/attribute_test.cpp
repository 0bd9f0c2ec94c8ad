// SPDX-License-Identifier: Apache-2.0
// LinuxHost::write_attribute and what of hot_reset shows without VFIO; the rest of it is tested in the vfio lab.
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/helper_process.hpp"
#include "host/linux_host.hpp"
#include "host/posix.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;
using std::chrono::seconds;

namespace {

constexpr seconds kLong{60};

std::string what_of(const std::function<void()>& act) {
  return error_of(act).what();
}

/// Everything up to the end of file. \param fd  may block.
std::string read_all(int fd) {
  std::string text;
  std::array<char, 256> buffer{};
  for (ssize_t got = 0; (got = ::read(fd, buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(got));
  return text;
}

/// The number after "helper pid " in a message.
pid_t helper_in(const std::string& message) {
  const std::string mark = "(helper pid ";
  const std::size_t at = message.find(mark);
  return at == std::string::npos ? 0 : static_cast<pid_t>(std::stol(message.substr(at + mark.size())));
}

}  // namespace

TEST_CASE("an attribute is written as it is given, at the first try, and no child stays") {
  LinuxHost host;
  const TempFolder folder;
  host.write_file(folder / "driver_override", "", 0644);
  host.write_attribute(folder / "driver_override", "vfio-pci\n", kLong);
  CHECK(host.read_file(folder / "driver_override") == "vfio-pci\n");
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
}

TEST_CASE("an attribute that is not there is not made, and the message says what, where and why") {
  LinuxHost host;
  const TempFolder folder;
  const std::string path = folder / "unbind";
  const Error error = error_of([&] { host.write_attribute(path, "0000:41:00.0\n", kLong); });
  CHECK(error.code() == Errc::other);
  CHECK(std::string(error.what()) == "cannot write '0000:41:00.0' to '" + path + "': No such file or directory");
  CHECK_FALSE(host.stat(path));
}

TEST_CASE("a value that the kernel refuses is an error with its reason") {
  LinuxHost host;
  CHECK(what_of([&] { host.write_attribute("/proc/self/oom_score_adj", "no\1number", kLong); }) ==
        "cannot write 'no\\x01number' to '/proc/self/oom_score_adj': Invalid argument");
}

TEST_CASE("an attribute that we may not write says who may") {
  const TempFolder folder;
  LinuxHost().write_file(folder / "reset", "", 0400);
  LinuxHost().set_mode(folder.path(), 0755);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(3);
    try {
      LinuxHost().write_attribute(folder / "reset", "1", kLong);
    } catch (const Error& error) {
      const bool is_right = error.code() == Errc::other &&
                            std::string(error.what()).starts_with("cannot write '1' to '") &&
                            std::string(error.what()).find("permission denied for user") != std::string::npos &&
                            error.hint().starts_with("run vmgraft as root (sudo)");
      ::_exit(is_right ? 0 : 1);
    }
    ::_exit(2);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a write that does not come back is left behind, without our descriptors and session, and goes on") {
  LinuxHost host;
  const TempFolder folder;
  const std::string path = folder / "unbind";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  std::array<int, 2> ours{};
  REQUIRE(::pipe2(ours.data(), O_NONBLOCK) == 0);
  const posix::Fd our_read_end(ours[0]);
  posix::Fd our_write_end(ours[1]);

  const Error error = error_of([&] { host.write_attribute(path, "0000:41:00.0", seconds(3)); });
  CHECK(error.code() == Errc::unreachable);
  const pid_t helper = helper_in(error.what());
  REQUIRE(helper > 1);
  CHECK(std::string(error.what()) == "writing '0000:41:00.0' to '" + path +
                                         "' has not come back within 3 s (helper pid " + std::to_string(helper) + ")");
  CHECK(error.hint().find("must be rebooted") != std::string::npos);

  CHECK(::kill(helper, 0) == 0);
  CHECK(::getsid(helper) != ::getsid(0));
  CHECK(::waitpid(helper, nullptr, WNOHANG) == -1);  // nothing of ours to wait for
  CHECK(errno == ECHILD);
  our_write_end.close();
  char byte = 0;
  CHECK(::read(our_read_end.get(), &byte, 1) == 0);  // the end: the helper does not hold it open

  const posix::Fd reader = posix::try_open(path, O_RDONLY);
  REQUIRE(reader);
  CHECK(read_all(reader.get()) == "0000:41:00.0");
}

TEST_CASE("a helper that somebody kills is an error, not a success") {
  const auto killed = [] {
    static_cast<void>(::raise(SIGKILL));
    return HelperReport{};
  };
  const HelperEnd end = run_helper(killed, kLong, "write");
  CHECK(end.kind == HelperEnd::Kind::died);
  CHECK(end.pid > 1);
  const Error error = error_of([&] { fail_left_behind("writing '1'", end, kLong); });
  CHECK(error.code() == Errc::other);
  CHECK(std::string(error.what()) ==
        "writing '1': the helper process (pid " + std::to_string(end.pid) + ") ended without an answer");
}

TEST_CASE("attributes are written where SIGCHLD is ignored, too") {
  LinuxHost host;
  const TempFolder folder;
  host.write_file(folder / "reset", "", 0644);
  const auto before = ::signal(SIGCHLD, SIG_IGN);
  host.write_attribute(folder / "reset", "1", kLong);
  ::signal(SIGCHLD, before);
  CHECK(host.read_file(folder / "reset") == "1");
}

TEST_CASE("a deadline of for ever is not one of the past") {
  LinuxHost host;
  const TempFolder folder;
  host.write_file(folder / "reset", "", 0644);
  host.write_attribute(folder / "reset", "1", seconds::max());
  CHECK(host.read_file(folder / "reset") == "1");
}

TEST_CASE("a hot reset is refused before any device is touched when a function is none") {
  LinuxHost host;
  for (const std::string wrong :
       {"41:00.0", "0000:41:00", "0000:41:00.8", "0000:41:20.0", "0x00:41:00.0", "../../etc", ""}) {
    INFO(wrong);
    const Error error = error_of([&] { host.hot_reset({wrong}, kLong); });
    CHECK(error.code() == Errc::usage);
    CHECK(std::string(error.what()) ==
          "cannot reset PCI function '" + wrong + "': that is no PCI address (want dddd:bb:dd.f)");
  }
  const Error absent = error_of([&] { host.hot_reset({"ffff:ff:1f.7"}, kLong); });
  CHECK(absent.code() == Errc::not_found);
  CHECK(std::string(absent.what()) == "cannot reset PCI function 'ffff:ff:1f.7': the host has no such function");
  host.hot_reset({}, kLong);
}

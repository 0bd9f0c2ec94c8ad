// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <csignal>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/linux_host.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;

namespace {

Command shell(const std::string& script) {
  Command command;
  command.argv = {"sh", "-c", script};
  return command;
}

}  // namespace

TEST_CASE("a program's exit code and its two streams are kept apart") {
  LinuxHost host;
  const CommandResult result = host.run(shell("echo out; echo err >&2; exit 3"));
  CHECK(result.exit_code == 3);
  CHECK(result.out == "out\n");
  CHECK(result.err == "err\n");
  CHECK_FALSE(result.timed_out);
}

TEST_CASE("arguments reach the program as they are, through no shell") {
  LinuxHost host;
  Command command;
  command.argv = {"printf", "%s|", "a b", "$HOME", "`id`", "*", ""};
  CHECK(host.run(command).out == "a b|$HOME|`id`|*||");
}

TEST_CASE("input larger than a pipe reaches the program whole, and an empty one is the end of file") {
  LinuxHost host;
  Command command = shell("wc -c");
  command.input = std::string(3 << 20, 'x');
  CHECK(std::stoi(host.run(command).out) == 3 << 20);
  CHECK(std::stoi(host.run(shell("wc -c")).out) == 0);
}

TEST_CASE("a program that does not read its input does no harm") {
  LinuxHost host;
  Command command = shell("exit 0");
  command.input = std::string(3 << 20, 'x');
  CHECK(host.run(command).exit_code == 0);
}

TEST_CASE("only the last bytes of long output are kept") {
  LinuxHost host;
  Command command = shell("head -c 1000000 /dev/zero | tr '\\0' a; echo end");
  command.output_cap = 10;
  CHECK(host.run(command).out == "aaaaaaend\n");
}

TEST_CASE("lines that are not empty are passed on as they come, also those that rewrite each other, or end in nothing") {
  LinuxHost host;
  Command command = shell("printf 'one\\r\\ntwo\\n\\n10%%\\r20%%\\r'; printf three");
  std::vector<std::string> lines;
  command.on_line = [&](std::string_view line) { lines.emplace_back(line); };
  CHECK(host.run(command).exit_code == 0);
  CHECK(lines == std::vector<std::string>{"one", "two", "10%", "20%", "three"});
}

TEST_CASE("an exception in the line callback ends the program and passes") {
  LinuxHost host;
  const TempFolder folder;
  Command command = shell("echo x; exec sleep 1000");
  command.on_line = [](std::string_view) { throw std::runtime_error("enough"); };
  CHECK_THROWS_AS(host.run(command), std::runtime_error);
}

TEST_CASE("the program's words are English whatever our language, and its environment can be added to") {
  LinuxHost host;
  Command command = shell("echo $LC_ALL $VMGRAFT_X $PATH");
  command.environment = {"VMGRAFT_X=1", "PATH=/bin"};
  CHECK(host.run(command).out == "C 1 /bin\n");
}

TEST_CASE("the working folder is the one asked for, and a missing one is said") {
  LinuxHost host;
  const TempFolder folder;
  Command command = shell("pwd -P");
  command.folder = folder.path();
  CHECK(host.run(command).out == std::filesystem::canonical(folder.path()).native() + "\n");
  command.folder = folder / "none";
  CHECK(std::string(error_of([&] { (void)host.run(command); }).what()).find("none") != std::string::npos);
}

TEST_CASE("a program that is not there makes the host unfit") {
  LinuxHost host;
  Command command;
  command.argv = {"vmgraft-no-such-program"};
  const Error error = error_of([&] { (void)host.run(command); });
  CHECK(error.code() == Errc::host_unfit);
  CHECK(std::string(error.what()) == "program 'vmgraft-no-such-program' is not installed");
}

TEST_CASE("a script whose interpreter is missing makes the host unfit") {
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
  std::puts("SKIPPED: under ThreadSanitizer vfork() is fork(), and the child cannot tell why it did not start");
  std::fflush(stdout);  // else each process that a later test forks says it once more
  return;
#endif
#endif
  LinuxHost host;
  const TempFolder folder;
  std::ofstream(folder / "script") << "#!/no/such/interpreter\n" << std::flush;
  REQUIRE(::chmod((folder / "script").c_str(), 0755) == 0);
  Command command;
  command.argv = {folder / "script"};
  CHECK(error_of([&] { (void)host.run(command); }).code() == Errc::host_unfit);
}

TEST_CASE("the exit code of a program that a signal ended is 128 and the signal") {
  LinuxHost host;
  CHECK(host.run(shell("kill -KILL $$")).exit_code == 128 + SIGKILL);
}

TEST_CASE("a deadline ends the program and what it started") {
  LinuxHost host;
  Command command = shell("sleep 1000 & wait");
  command.deadline = std::chrono::seconds(1);
  const CommandResult result = host.run(command);
  CHECK(result.timed_out);
  CHECK(result.exit_code == 128 + SIGTERM);
}

TEST_CASE("a program that writes without end is still ended in time") {
  LinuxHost host;
  Command command = shell("exec yes");
  command.deadline = std::chrono::seconds(3);
  command.output_cap = 100;
  const CommandResult result = host.run(command);
  CHECK(result.timed_out);
  CHECK(result.out.size() == 100);
}

TEST_CASE("a daemon left behind with our pipes does not hold us up") {
  LinuxHost host;
  Command command = shell("sleep 30 & echo $!");
  command.deadline = std::chrono::seconds(20);
  const CommandResult result = host.run(command);
  CHECK_FALSE(result.timed_out);
  CHECK(result.exit_code == 0);
  ::kill(static_cast<pid_t>(std::stol(result.out)), SIGKILL);
}

TEST_CASE("an interruption ends the program") {
  LinuxHost host;
  std::atomic<bool> interrupted{false};
  Command command = shell("echo ready; exec sleep 1000");
  command.interrupted = &interrupted;
  command.on_line = [&](std::string_view) { interrupted = true; };
  CHECK(error_of([&] { (void)host.run(command); }).code() == Errc::interrupted);
  CHECK(error_of([&] { (void)host.run(command); }).code() == Errc::interrupted);  // and is not even started
}

// Ctrl-C was held up for 5 s by a program that did not care.
TEST_CASE("a program that ignores SIGTERM does not hold up an interruption for long") {
  LinuxHost host;
  std::atomic<bool> interrupted{false};
  Command command = shell("trap '' TERM; echo ready; for i in 1 2 3 4; do sleep 1; echo alive; done; sleep 1000");
  command.interrupted = &interrupted;
  int alive = 0;
  command.on_line = [&](std::string_view line) {
    interrupted = true;
    alive += line == "alive" ? 1 : 0;
  };
  CHECK(error_of([&] { (void)host.run(command); }).code() == Errc::interrupted);
  CHECK(alive < 4);  // its own clock: a loaded machine delays both
}

// A qemu-img whose vmgraft was killed went on writing to a layer that the next command was about to remove or to
// finish.
TEST_CASE("a program ends with the process that runs it, however that dies") {
  const TempFolder folder;
  const std::filesystem::path fifo = folder.path() / "alive";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  const pid_t runner = ::fork();
  if (runner == 0) {
    LinuxHost host;
    static_cast<void>(host.run(shell("exec sleep 600 >" + fifo.string())));
    ::_exit(0);
  }
  const int alive = ::open(fifo.c_str(), O_RDONLY | O_CLOEXEC);  // returns when the program has it
  REQUIRE(::kill(runner, SIGKILL) == 0);
  REQUIRE(::waitpid(runner, nullptr, 0) == runner);
  pollfd end{alive, POLLIN, 0};
  REQUIRE(::poll(&end, 1, 20000) == 1);
  char byte = 0;
  CHECK(::read(alive, &byte, 1) == 0);
  ::close(alive);
}

TEST_CASE("signals that we ignore or block are as usual in the program") {
  LinuxHost host;
  struct sigaction before {};
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  REQUIRE(::sigaction(SIGPIPE, &ignore, &before) == 0);
  const CommandResult result = host.run(shell("kill -PIPE $$"));
  ::sigaction(SIGPIPE, &before, nullptr);
  CHECK(result.exit_code == 128 + SIGPIPE);
}

TEST_CASE("the program inherits no other file of ours") {
  LinuxHost host;
  const int leaked = ::dup(0);  // without O_CLOEXEC
  const CommandResult result = host.run(shell("ls /proc/self/fd | wc -l"));
  ::close(leaked);
  CHECK(std::stoi(result.out) == 4);  // 0, 1, 2 and that of ls itself
}

TEST_CASE("programs are found in PATH and in the folders of system programs") {
  LinuxHost host;
  CHECK(host.find_program("sh").filename() == "sh");
  CHECK(host.find_program("vmgraft-no-such-program").empty());
  CHECK(host.find_program("").empty());
  CHECK(host.find_program("/bin/sh") == "/bin/sh");
  CHECK(host.find_program("/etc/passwd").empty());
  CHECK(host.find_program("/bin").empty());
}

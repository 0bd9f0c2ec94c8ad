// SPDX-License-Identifier: Apache-2.0
#include "guest/agent.hpp"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "guest/agent_calls.hpp"
#include "guest/exec_scripts.hpp"
#include "guest/marked_stream.hpp"
#include "guest/output_tail.hpp"
#include "support/catch.hpp"
#include "support/fake_agent.hpp"

using namespace vmgraft;
namespace fs = std::filesystem;

namespace {

struct Guest {
  std::chrono::milliseconds tidy_time = std::chrono::minutes(1);  // not to be missed by a slow machine
  FakeAgent fake{};
  std::atomic<bool> interrupted{false};
  GuestAgent agent{fake, "a", "uuid", {&interrupted, tidy_time}};

  GuestCommandResult run(std::vector<std::string> argv) {
    GuestCommand command;
    command.argv = std::move(argv);
    return agent.run(command);
  }
};

std::function<std::optional<std::string>()> pieces_of(std::string text, std::size_t size = 50000) {
  return [text = std::move(text), at = std::size_t{0}, size]() mutable -> std::optional<std::string> {
    if (at >= text.size()) return std::nullopt;
    std::string piece = text.substr(at, size);
    at += piece.size();
    return piece;
  };
}

std::string many_bytes(std::size_t count) {
  std::string bytes;
  unsigned state = 12345;
  while (bytes.size() < count) {
    state = state * 1103515245u + 12345u;
    bytes += static_cast<char>(state >> 16);
  }
  return bytes;
}

// Folders that the agent's commands made in this guest and left there.
std::vector<fs::path> left_behind(const FakeAgent& fake) {
  std::vector<fs::path> left;
  for (const std::vector<std::string>& words : fake.started) {
    REQUIRE(words.size() >= 6);  // sh -c SCRIPT NAME A B
    for (const std::string_view parent : kSpoolParents) {
      const fs::path folder = fs::path(parent) / ("vmgraft-" + words[4] + words[5]);
      if (fs::exists(folder)) left.push_back(folder);
    }
  }
  return left;
}

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("a command's stdout, stderr and exit code arrive apart") {
  Guest guest;
  const GuestCommandResult result = guest.run({"sh", "-c", "echo out; echo err >&2; exit 3"});
  CHECK(result.exit_code == 3);
  CHECK(result.out == "out\n");
  CHECK(result.err == "err\n");
  CHECK(left_behind(guest.fake).empty());
  CHECK(guest.fake.unreaped() == 0);
}

TEST_CASE("arguments reach the command as they are") {
  Guest guest;
  const std::string nasty = "$(touch /tmp/x) `id` \"'\\ * \n ; -- ";
  CHECK(guest.run({"printf", "%s|", nasty, "", "-n"}).out == nasty + "||-n|");
}

TEST_CASE("a command that ends at once opens no file") {
  Guest guest;
  guest.fake.patient = true;
  guest.run({"true"});
  CHECK(guest.fake.log.size() == 2);
  for (const std::string& command : guest.fake.log) {
    CHECK((command == "guest-exec" || command == "guest-exec-status"));
  }
}

TEST_CASE("a command ended by a signal gives 128 and the signal") {
  Guest guest;
  CHECK(guest.run({"sh", "-c", "kill -9 $$"}).exit_code == 137);
  CHECK(guest.run({"sh", "-c", "kill -TERM $$"}).exit_code == 143);
}

TEST_CASE("a command may itself exit with 127") {
  Guest guest;
  CHECK(guest.run({"sh", "-c", "exit 127"}).exit_code == 127);
}

TEST_CASE("a command that is not there is not found") {
  Guest guest;
  for (const char* name : {"vmgraft-no-such", "/usr/bin/vmgraft-no-such", "cd", "if"}) {
    const Error error = error_of([&] { guest.run({name}); });
    CHECK(error.code() == Errc::not_found);
    CHECK(std::string(error.what()) == std::string("VM 'a': '") + name + "' is not a command in the guest");
  }
  const Error empty = error_of([&] { guest.run({""}); });
  CHECK(empty.code() == Errc::usage);
}

TEST_CASE("an unknown user is not found") {
  Guest guest;
  GuestCommand command;
  command.argv = {"id"};
  command.user = "vmgraft-nobody";
  const Error error = error_of([&] { guest.agent.run(command); });
  CHECK(error.code() == Errc::not_found);
  CHECK(std::string(error.what()) == "VM 'a': there is no user 'vmgraft-nobody' in the guest");
}

TEST_CASE("a command runs as the user that was asked for, with that user's environment") {
  if (::geteuid() != 0) {
    WARN("SKIPPED: changing the user needs root");
    return;
  }
  Guest guest;
  GuestCommand command;
  command.argv = {"sh", "-c", "id -un; echo $USER $LOGNAME; kill -KILL $$"};
  command.user = "nobody";
  const GuestCommandResult result = guest.agent.run(command);
  CHECK(result.out == "nobody\nnobody nobody\n");
  CHECK(result.exit_code == 137);
}

TEST_CASE("output far beyond the agent's limit arrives whole, both streams") {
  Guest guest;
  std::size_t out = 0;
  std::size_t err = 0;
  GuestCommand command;
  command.argv = {"sh", "-c", "head -c 5000000 /dev/zero & head -c 700000 /dev/zero >&2; wait; exit 5"};
  command.on_out = [&](std::string_view bytes) { out += bytes.size(); };
  command.on_err = [&](std::string_view bytes) { err += bytes.size(); };
  CHECK(guest.agent.run(command).exit_code == 5);
  CHECK(out == 5000000);
  CHECK(err == 700000);
  CHECK(left_behind(guest.fake).empty());
  CHECK(guest.fake.open_files() == 0);
  CHECK(guest.fake.unreaped() == 0);
}

TEST_CASE("output is handed on while the command still runs") {
  const ScratchFolder folder;
  const fs::path seen = folder.path() / "seen";
  Guest guest;
  GuestCommand command;
  // The command ends only once we have seen its first line.
  command.argv = {"sh", "-c", "echo first; while [ ! -e \"$1\" ]; do sleep 0.01; done; echo last", "sh", seen.string()};
  command.timeout = std::chrono::seconds(20);
  std::string out;
  command.on_out = [&](std::string_view bytes) {
    out += bytes;
    std::ofstream(seen).put('x');
  };
  CHECK(guest.agent.run(command).exit_code == 0);
  CHECK(out == "first\nlast\n");
  CHECK(guest.fake.open_files() == 0);
}

TEST_CASE("a command that opens its stderr anew loses nothing") {
  Guest guest;
  const GuestCommandResult result = guest.run({"sh", "-c", "echo one >&2; echo two >/dev/stderr; echo three >&2"});
  CHECK(result.err == "one\ntwo\nthree\n");
}

TEST_CASE("a command that lists processes and temporary files does not end its own output") {
  Guest guest;
  const GuestCommandResult result = guest.run(
      {"sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; ls -d /var/tmp/vm* /tmp/vm*; echo; echo END"});
  CHECK(result.out.find("vmgraft-run") != std::string::npos);
  CHECK(result.out.substr(result.out.size() - 5) == "\nEND\n");
}

TEST_CASE("a command that kills its process group does not kill the agent's") {
  Guest guest;
  CHECK(guest.run({"sh", "-c", "echo going; kill 0; sleep 5"}).exit_code == 143);
}

TEST_CASE("a daemon that a command leaves behind holds nothing up and is not hurt") {
  const ScratchFolder folder;
  Guest guest;
  const GuestCommandResult result =
      guest.run({"sh", "-c",
                 "setsid sh -c 'echo $$ >\"$1\"; sleep 100' sh \"$1\" & while [ ! -s \"$1\" ]; do sleep 0.01; "
                 "done; echo started; exit 4",
                 "sh", (folder.path() / "pid").string()});
  CHECK(result.exit_code == 4);
  CHECK(result.out == "started\n");
  const pid_t daemon = static_cast<pid_t>(std::stoi(content_of(folder.path() / "pid")));
  CHECK(::kill(daemon, 0) == 0);
  ::kill(-daemon, SIGKILL);
  CHECK(guest.fake.open_files() == 0);
  CHECK(guest.fake.unreaped() == 0);
  CHECK(left_behind(guest.fake).empty());
}

TEST_CASE("stdin of any length reaches the command") {
  const std::size_t size = GENERATE(std::size_t{0}, std::size_t{5}, std::size_t{49152}, std::size_t{700001});
  Guest guest;
  const std::string input = many_bytes(size);
  GuestCommand command;
  command.argv = {"cat"};
  command.read_input = pieces_of(input);
  const GuestCommandResult result = guest.agent.run(command);
  CHECK(result.exit_code == 0);
  CHECK(result.out == input);
  CHECK(guest.fake.open_files() == 0);
}

TEST_CASE("a command need not read its stdin") {
  Guest guest;
  GuestCommand command;
  command.argv = {"true"};
  command.read_input = pieces_of(many_bytes(400000));
  CHECK(guest.agent.run(command).exit_code == 0);
}

TEST_CASE("a command that takes too long is killed with its children") {
  const ScratchFolder folder;
  Guest guest;
  GuestCommand command;
  command.argv = {"sh", "-c", "sleep 1000 & echo $! >\"$1\"; wait", "sh", (folder.path() / "pid").string()};
  command.timeout = std::chrono::seconds(1);
  const Error error = error_of([&] { guest.agent.run(command); });
  CHECK(error.code() == Errc::unreachable);
  CHECK(std::string(error.what()) == "VM 'a': timed out after 1s; the command was killed in the guest");
  CHECK(error.context().empty());
  // On a slow machine its second is over before it has a child.
  if (const std::string child = content_of(folder.path() / "pid"); !child.empty()) {
    const std::string state = content_of("/proc/" + std::to_string(std::stoi(child)) + "/stat");
    CHECK((state.empty() || state.find(") Z") != std::string::npos));
  }
  CHECK(left_behind(guest.fake).empty());
  CHECK(guest.fake.unreaped() == 0);
  CHECK(guest.fake.open_files() == 0);
}

TEST_CASE("an interrupted command is killed") {
  Guest guest;
  GuestCommand command;
  command.argv = {"sh", "-c", "echo up; exec sleep 1000"};
  command.on_out = [&](std::string_view) { guest.interrupted = true; };
  const Error error = error_of([&] { guest.agent.run(command); });
  CHECK(error.code() == Errc::interrupted);
  CHECK(std::string(error.what()) == "VM 'a': interrupted; the command was killed in the guest");
  CHECK(left_behind(guest.fake).empty());
  CHECK(guest.fake.unreaped() == 0);
}

TEST_CASE("after an interrupt an agent that hangs is left once, and asked nothing more") {
  Guest guest{std::chrono::milliseconds(20)};
  std::size_t asked = 0;
  guest.fake.on_command = [&](const std::string&) {
    // As libvirt's call, which is left when its time is over.
    if (!guest.interrupted) return;
    ++asked;
    REQUIRE(guest.fake.grace != nullptr);
    while (!guest.fake.grace->is_over()) std::this_thread::yield();
    throw Error(Errc::interrupted, "interrupted before the guest agent of VM 'a' answered");
  };
  GuestCommand command;
  command.argv = {"sh", "-c", "echo up; exec sleep 10"};
  command.on_out = [&](std::string_view) { guest.interrupted = true; };
  const Error error = error_of([&] { guest.agent.run(command); });
  CHECK(error.code() == Errc::interrupted);
  CHECK(asked == 1);
  const std::string told = fmt::format("{} {}", error.what(), fmt::join(error.context(), " "));
  INFO(told);
  CHECK(told.find("the command may still run in the guest") != std::string::npos);
  CHECK(error_of([&] { guest.run({"true"}); }).code() == Errc::interrupted);
  CHECK(asked == 1);
  guest.fake.on_command = nullptr;
  guest.interrupted = false;
  std::error_code ignored;
  for (const fs::path& folder : left_behind(guest.fake)) fs::remove_all(folder, ignored);
}

TEST_CASE("after an interrupt a guest that goes anyway is asked nothing more") {
  Guest guest{std::chrono::milliseconds(0)};
  GuestCommand command;
  command.argv = {"sh", "-c", "echo up; exec sleep 10"};
  command.on_out = [&](std::string_view) { guest.interrupted = true; };
  const Error error = error_of([&] { guest.agent.run(command); });
  CHECK(error.code() == Errc::interrupted);
  CHECK(std::string(error.what()) == "VM 'a': interrupted");
  CHECK(error.context().empty());
  CHECK(guest.fake.unreaped() == 1);  // what the test's own end kills
  guest.interrupted = false;
  std::error_code ignored;
  for (const fs::path& folder : left_behind(guest.fake)) fs::remove_all(folder, ignored);
}

TEST_CASE("when output has nowhere to go the command is killed and the failure passes") {
  Guest guest;
  GuestCommand command;
  command.argv = {"sh", "-c", "echo up; exec sleep 1000"};
  command.on_out = [](std::string_view) { throw Error(Errc::other, "cannot write to stdout: Broken pipe"); };
  const Error error = error_of([&] { guest.agent.run(command); });
  CHECK(std::string(error.what()) == "cannot write to stdout: Broken pipe");
  CHECK(left_behind(guest.fake).empty());
  CHECK(guest.fake.unreaped() == 0);
}

TEST_CASE("an agent that stops answering is unreachable, and what may remain is told") {
  Guest guest;
  unsigned statuses = 0;
  guest.fake.on_command = [&](const std::string& command) {
    if (command == "guest-exec-status" || statuses > 0) ++statuses;
    if (statuses > 0) throw Error(Errc::unreachable, "VM 'a': the guest agent does not answer");
  };
  const Error error = error_of([&] { guest.run({"sleep", "0"}); });
  CHECK(error.code() == Errc::unreachable);
  CHECK(std::string(error.what()) == "VM 'a': the guest agent does not answer");
  REQUIRE(error.context().size() == 1);
  CHECK(error.context()[0].find("the command may still run in the guest") == 0);
  guest.fake.on_command = nullptr;
  // The fake's guest is this host, and what runs in it may be at work in there.
  std::error_code ignored;
  for (const fs::path& folder : left_behind(guest.fake)) fs::remove_all(folder, ignored);
}

TEST_CASE("arguments that the agent's JSON cannot carry are refused") {
  Guest guest;
  CHECK(error_of([&] { guest.run({"echo", "\xff\xfe"}); }).code() == Errc::usage);
  CHECK(error_of([&] { guest.run({"echo", std::string("a\0b", 3)}); }).code() == Errc::usage);
  CHECK(error_of([&] { guest.run({"echo", std::string(200000, 'x')}); }).code() == Errc::usage);
  CHECK(guest.fake.log.empty());
}

TEST_CASE("a shell script gives its output, and its failure its last words") {
  Guest guest;
  CHECK(guest.agent.shell("printf %s \"$2\"", {"x", "y z"}) == "y z");
  const Error error = error_of([&] { guest.agent.shell("echo first >&2; echo 'no space' >&2; exit 9"); });
  CHECK(error.code() == Errc::other);
  CHECK(std::string(error.what()) == "VM 'a': a command in the guest failed with exit code 9: no space");
}

TEST_CASE("files are written whole, with mode, and nothing is left beside them") {
  const std::size_t size = GENERATE(std::size_t{0}, std::size_t{10}, std::size_t{40960}, std::size_t{500000});
  const ScratchFolder folder;
  Guest guest;
  const std::string content = many_bytes(size);
  const fs::path path = folder.path() / "a file";
  std::ofstream(path) << "old";
  guest.agent.write_file(path.string(), content, 0640);
  CHECK(content_of(path) == content);
  struct stat seen {};
  REQUIRE(::stat(path.c_str(), &seen) == 0);
  CHECK((seen.st_mode & 07777) == 0640);
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
  CHECK(guest.fake.open_files() == 0);
  std::string back;
  guest.agent.read_file(path.string(), [&](std::string_view bytes) { back += bytes; });
  CHECK(back == content);
}

TEST_CASE("a file whose source fails half way leaves the old file and nothing else") {
  const ScratchFolder folder;
  Guest guest;
  const fs::path path = folder.path() / "f";
  std::ofstream(path) << "old";
  unsigned calls = 0;
  const Error error = error_of([&] {
    guest.agent.write_file(
        path.string(),
        [&]() -> std::optional<std::string> {
          if (++calls == 4) throw Error(Errc::other, "the source broke");
          return std::string(60000, 'x');
        },
        0644);
  });
  CHECK(std::string(error.what()) == "the source broke");
  CHECK(content_of(path) == "old");
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
  CHECK(guest.fake.open_files() == 0);
}

TEST_CASE("writing names what is wrong with the path") {
  const ScratchFolder folder;
  Guest guest;
  const std::string missing = (folder.path() / "no").string();
  const Error parent = error_of([&] { guest.agent.write_file(missing + "/f", "x", 0644); });
  CHECK(parent.code() == Errc::not_found);
  CHECK(std::string(parent.what()) == "VM 'a': there is no folder '" + missing + "' in the guest");
  const Error is_folder = error_of([&] { guest.agent.write_file(folder.path().string(), "x", 0644); });
  CHECK(is_folder.code() == Errc::conflict);
  CHECK(error_of([&] { guest.agent.write_file("etc/motd", "x", 0644); }).code() == Errc::usage);
  const Error owner =
      error_of([&] { guest.agent.write_file((folder.path() / "f").string(), "x", 0644, "vmgraft-nobody"); });
  CHECK(owner.code() == Errc::other);
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("reading names what is wrong with the path") {
  const ScratchFolder folder;
  Guest guest;
  const auto read = [&](const std::string& path) {
    return error_of([&] { guest.agent.read_file(path, [](std::string_view) {}); });
  };
  CHECK(read((folder.path() / "no").string()).code() == Errc::not_found);
  CHECK(read(folder.path().string()).code() == Errc::conflict);
  CHECK(read("/dev/zero").code() == Errc::conflict);
  CHECK(guest.agent.has_file(folder.path().string()));
  CHECK_FALSE(guest.agent.has_file((folder.path() / "no").string()));
}

TEST_CASE("files of /proc are read to their end") {
  Guest guest;
  std::string text;
  guest.agent.read_file("/proc/self/status", [&](std::string_view bytes) { text += bytes; });
  CHECK(text.find("Pid:") != std::string::npos);
}

TEST_CASE("the end of a stream is found wherever the pieces are cut") {
  const std::string whole = "abc TOK TOKE\nTOKEN 42\nlate";
  for (std::size_t size = 1; size <= whole.size(); ++size) {
    std::string passed;
    MarkedStream stream("TOKEN", [&](std::string_view bytes) { passed += bytes; });
    for (std::size_t at = 0; at < whole.size(); at += size) stream.feed(whole.substr(at, size));
    CHECK(passed == "abc TOK TOKE\n");
    CHECK(stream.has_ended());
    CHECK(stream.verdict() == "42");
    CHECK(stream.fed() == whole.size());
  }
}

TEST_CASE("what cannot be the end of a stream is passed on at once") {
  std::string passed;
  MarkedStream stream("TOKEN", [&](std::string_view bytes) { passed += bytes; });
  stream.feed("Password: ");
  CHECK(passed == "Password: ");
  stream.feed("TO");
  CHECK(passed == "Password: ");
  stream.feed("P");
  CHECK(passed == "Password: TOP");
  CHECK_FALSE(stream.has_ended());
}

TEST_CASE("the tail of an output keeps its last lines as they were seen") {
  OutputTail tail;
  tail.add("one\n\n10%\r20%\r100%\n");
  tail.add("three\x1b[31m\nlast");
  const std::vector<std::string> lines = tail.lines(3);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == "100%");
  CHECK(lines[1].find('\x1b') == std::string::npos);
  CHECK(lines[2] == "last");
  CHECK(last_line(" \n") == "no output");
}

TEST_CASE("base64 goes both ways and malformed text is noticed") {
  for (const std::string text : {"", "a", "ab", "abc", "abcd"}) CHECK(parse_base64(to_base64(text)) == text);
  CHECK(to_base64("any carnal pleas") == "YW55IGNhcm5hbCBwbGVhcw==");
  CHECK_FALSE(parse_base64("abc").has_value());
  CHECK_FALSE(parse_base64("ab!=").has_value());
}

TEST_CASE("white space and padding inside base64 are refused, where they became NULs") {
  for (const char* text : {"aGk=    ", "    aGk=", "aG=k", "a===", "====", "aGk=aGk=", "aGk\n"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_base64(text).has_value());
  }
  CHECK(parse_base64("aGk=") == "hi");
  CHECK(parse_base64("aA==") == "h");
}

namespace {

/// A guest that answers everything with the same.
struct OneAnswer final : FakeAgent {
  explicit OneAnswer(std::string text) : answer(std::move(text)) {}
  std::string agent_command(const std::string&, const std::string&, std::chrono::seconds, GracePeriod&) override { return answer; }
  std::string answer;
};

}  // namespace

TEST_CASE("numbers of a guest's agent that are none are refused, where they were taken as others") {
  const auto exit_code = [](const std::string& number) {
    OneAnswer guest(R"({"return": {"exited": true, "exitcode": )" + number + "}}");
    return AgentCalls(guest, "a", "uuid").exec_status(1).exit_code;
  };
  CHECK(exit_code("-1") == -1);
  CHECK(exit_code("255") == 255);
  for (const char* number : {"1e300", "1.5", "4294967296", "-2147483649", "18446744073709551615", "true", "\"1\""}) {
    CAPTURE(number);
    const Error error = error_of([&] { static_cast<void>(exit_code(number)); });
    CHECK(error.code() == Errc::unreachable);
    CHECK(error.what() == std::string("VM 'a': the guest agent gave an answer that makes no sense"));
  }
  for (const char* number : {"1e300", "9223372036854775808", "1.5"}) {
    CAPTURE(number);
    OneAnswer guest(R"({"return": )" + std::string(number) + "}");
    CHECK(error_of([&] { static_cast<void>(AgentCalls(guest, "a", "uuid").open_file("/a", "r")); }).code() ==
          Errc::unreachable);
  }
  OneAnswer writer(R"({"return": {"count": -1}})");
  CHECK(error_of([&] { AgentCalls(writer, "a", "uuid").write_piece(1, "bytes"); }).code() == Errc::unreachable);
}

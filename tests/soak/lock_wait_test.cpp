// SPDX-License-Identifier: Apache-2.0
#include <condition_variable>
#include <csignal>
#include <deque>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <fmt/format.h>

#include "host/file_lock.hpp"
#include "run/journal.hpp"
#include "soak/soak_lab.hpp"
#include "support/catch.hpp"

using namespace vmgraft;

namespace {

/// A vmgraft that has the lock of a VM and waits for the store's sweep lock, which the test has: so it can be stopped
/// or killed at a known place.
class Halted {
 public:
  Halted(SoakLab& lab, const std::string& vm, std::vector<std::string> arguments)
      : file_(lab.world().store() / "locks" / ("vm-" + vm + ".lock")) {
    const int watch = ::inotify_init1(IN_CLOEXEC);
    REQUIRE(watch >= 0);
    static_cast<void>(FileLock::try_take(file_, FileLock::Kind::exclusive, "make the file"));
    REQUIRE(::inotify_add_watch(watch, file_.c_str(), IN_MODIFY) >= 0);
    std::optional<FileLock> sweep =
        FileLock::try_take(lab.world().store() / "locks/sweep.lock", FileLock::Kind::exclusive, "the test");
    REQUIRE(sweep);
    ended_ = std::async(std::launch::async, [&lab, arguments = std::move(arguments)] { return lab.run(arguments); });
    while (pid_ == 0) {
      char event[4096];
      REQUIRE(::read(watch, event, sizeof(event)) > 0);
      std::ifstream text(file_);
      std::string word;
      if (text >> word >> pid_ && word != "pid") pid_ = 0;
    }
    ::close(watch);
    REQUIRE(::kill(pid_, SIGSTOP) == 0);
    sweep.reset();
  }
  Halted(const Halted&) = delete;
  Halted& operator=(const Halted&) = delete;
  ~Halted() {
    if (ended_.valid()) static_cast<void>(end(SIGKILL));
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  SoakRun end(int signal) {
    ::kill(pid_, signal);
    return ended_.get();
  }

 private:
  std::filesystem::path file_;
  pid_t pid_ = 0;
  std::future<SoakRun> ended_;
};

std::string read_all(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// One that waits; said() is when it has said so once more, and nothing when it has ended.
class Waiter {
 public:
  Waiter(SoakLab& lab, const std::vector<std::string>& arguments) {
    Command command;
    command.argv = lab.world().command(arguments);
    command.deadline = std::chrono::minutes(2);
    command.on_line = [this](std::string_view line) {
      if (line.starts_with("waiting ")) say(std::string(line));
    };
    ended_ = std::async(std::launch::async, [this, command] {
      CommandResult result = LinuxHost().run(command);
      say("");
      return result;
    });
  }
  std::string said() {
    std::unique_lock<std::mutex> lock(mutex_);
    is_said_.wait(lock, [this] { return !lines_.empty(); });
    std::string line = lines_.front();
    lines_.pop_front();
    return line;
  }
  CommandResult end() { return ended_.get(); }

 private:
  void say(std::string line) {
    const std::lock_guard<std::mutex> lock(mutex_);
    lines_.push_back(std::move(line));
    is_said_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable is_said_;
  std::deque<std::string> lines_;
  std::future<CommandResult> ended_;
};

/// Carry out a verb that has two plans, and stand between them: for the second it must wait for its share of the sweep lock
/// again.
void expect_two_shares(SoakLab& lab, const std::vector<std::string>& verb, const std::function<bool()>& is_there) {
  const auto take = [&](const char* file) {
    return FileLock::take(lab.world().store() / "locks" / file, FileLock::Kind::exclusive, "the test", true, nullptr);
  };
  std::optional<FileLock> sweep = take("sweep.lock");
  Waiter waiter(lab, verb);
  const std::string test = fmt::format("waiting for pid {}: the test", ::getpid());
  CHECK(waiter.said() == test);
  sweep.reset();
  // The turn is given on when it has its share, and the lock when its first plan stands in the journal.
  std::optional<FileLock> turn = take("sweep-turn.lock");
  sweep = take("sweep.lock");
  CHECK(waiter.said() == test);
  CHECK_FALSE(is_there());
  sweep.reset();
  turn.reset();
  const CommandResult ended = waiter.end();
  INFO(ended.err);
  CHECK(ended.exit_code == 0);
  CHECK(is_there());
}

}  // namespace

TEST_CASE("who waits for a VM is told which process has it, and what that does", "[lock]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("a");
  REQUIRE(lab.run({"create", "soak", vm, "--no-start"}).result.exit_code == 0);
  Halted holder(lab, vm, {"snapshot", "create", vm, "s1"});
  Waiter waiter(lab, {"snapshot", "create", vm, "s2"});
  CHECK(waiter.said() == fmt::format("waiting for pid {}: snapshot {}", holder.pid(), vm));
  CHECK(holder.end(SIGCONT).result.exit_code == 0);
  const CommandResult ended = waiter.end();
  INFO(ended.err);
  CHECK(ended.exit_code == 0);
  CHECK(lab.snapshots(vm) == std::set<std::string>{"s1", "s2"});
}

TEST_CASE("the lock of a process that is killed goes to who waits for it", "[lock]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("a");
  REQUIRE(lab.run({"create", "soak", vm, "--no-start"}).result.exit_code == 0);
  Halted holder(lab, vm, {"snapshot", "create", vm, "s1"});
  Waiter waiter(lab, {"snapshot", "create", vm, "s2"});
  CHECK(waiter.said().starts_with(fmt::format("waiting for pid {}", holder.pid())));
  CHECK(holder.end(SIGKILL).result.exit_code == 128 + SIGKILL);
  const CommandResult ended = waiter.end();
  INFO(ended.err);
  CHECK(ended.exit_code == 0);
  CHECK(lab.snapshots(vm) == std::set<std::string>{"s2"});
}

TEST_CASE("who waits to sweep is told who is at work in the store, even when others have finished meanwhile",
          "[lock]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("a");
  const std::string other = lab.name("b");
  REQUIRE(lab.run({"create", "soak", vm, "--no-start"}).result.exit_code == 0);
  // It shares the sweep lock, and so do others that come and go: the last of them must not take its name away.
  const std::filesystem::path sweep = lab.world().store() / "locks/sweep.lock";
  std::optional<FileLock> share = FileLock::try_take(sweep, FileLock::Kind::shared, "the test");
  REQUIRE(share);
  REQUIRE(lab.run({"create", "soak", other, "--no-start"}).result.exit_code == 0);
  Waiter waiter(lab, {"delete", "--yes", vm});
  const std::string said = waiter.said();
  INFO(said);
  CHECK(said.starts_with(fmt::format("waiting for pid {}", ::getpid())));
  share.reset();
  const CommandResult ended = waiter.end();
  INFO(ended.err);
  CHECK(ended.exit_code == 0);
}

// Who had a share of the sweep lock was let in before who wanted it alone: under many processes a delete waited for
// minutes.
TEST_CASE("who comes after one that waits to sweep stands in line behind it", "[lock]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("a");
  const std::string other = lab.name("b");
  REQUIRE(lab.run({"create", "soak", vm, "--no-start"}).result.exit_code == 0);
  std::optional<FileLock> share =
      FileLock::try_take(lab.world().store() / "locks/sweep.lock", FileLock::Kind::shared, "the test");
  REQUIRE(share);
  Waiter sweeper(lab, {"delete", "--yes", vm});
  CHECK(sweeper.said().starts_with(fmt::format("waiting for pid {}: ", ::getpid())));
  Waiter next(lab, {"create", "soak", other, "--no-start"});
  const std::string said = next.said();
  CHECK(said.ends_with(": sweep"));
  share.reset();
  CHECK(sweeper.end().exit_code == 0);
  CHECK(next.end().exit_code == 0);
  CHECK_FALSE(lab.has_vm(vm));
  CHECK(lab.has_vm(other));
}

// A sweep that had begun between the two plans of a clone took what the second made for garbage: of one of a thousand VMs
// everything was gone, and the clone had succeeded.
TEST_CASE("a clone of a running VM has its share of the sweep lock again for what it makes after the snapshot", "[lock]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("a");
  const std::string copy = lab.name("b");
  REQUIRE(lab.run({"create", "soak", vm, "--wait", "none"}).result.exit_code == 0);
  expect_two_shares(lab, {"clone", vm, copy}, [&] { return lab.has_vm(copy); });
  CHECK(lab.run({"stop", vm, "--timeout", "0"}).result.exit_code == 0);
}

TEST_CASE("a snapshot whose guest could not freeze has its share of the sweep lock again for its second plan", "[lock]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("a");
  REQUIRE(lab.run({"create", "soak", vm, "--wait", "agent"}).result.exit_code == 0);
  // Frozen by somebody else, which is not for vmgraft to end.
  REQUIRE(lab.program({"virsh", "-c", "qemu:///system", "domfsfreeze", vm}).result.exit_code == 0);
  expect_two_shares(lab, {"snapshot", "create", vm, "s1"}, [&] { return lab.snapshots(vm).value_or(std::set<std::string>{}).contains("s1"); });
  CHECK(lab.run({"stop", vm, "--timeout", "0"}).result.exit_code == 0);
}

// It kept a share of the sweep lock while it waited for its guest: every delete in the store waited with it.
TEST_CASE("a stop that waits for its guest holds up no delete of another VM", "[lock]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("a");
  const std::string other = lab.name("b");
  REQUIRE(lab.run({"create", "deaf", vm, "--wait", "none"}).result.exit_code == 0);
  REQUIRE(lab.run({"create", "soak", other, "--no-start"}).result.exit_code == 0);
  REQUIRE(lab.world().qemus().size() == 1);
  Waiter stop(lab, {"stop", vm, "--timeout", "10m"});
  while (lab.lock_line(vm).find("stop ") == std::string::npos) std::this_thread::yield();
  CHECK(lab.run({"delete", "--yes", other}).result.exit_code == 0);
  CHECK(lab.lock_line(vm).find("stop ") != std::string::npos);  // it waits still
  CHECK(lab.program({"virsh", "-c", "qemu:///system", "destroy", vm}).result.exit_code == 0);
  CHECK(stop.end().exit_code == 0);
}

// What was half done was undone later, over what had been done meanwhile.
TEST_CASE("what a dead process had begun on two VMs is undone before one of them changes, even when the other is busy",
          "[lock]") {
  SoakLab lab;
  lab.begin();
  const std::string vm = lab.name("a");
  const std::string other = lab.name("b");
  REQUIRE(lab.run({"create", "soak", vm, "--no-start"}).result.exit_code == 0);
  const std::filesystem::path manifest = lab.world().store() / "vms" / vm / "vm.json";
  const std::string before = read_all(manifest);
  // A process id that no process can have.
  JournalEntry entry{
      "00000000000000000000000000000001",
      false,
      (1 << 22) + 1,
      false,
      {fmt::format("clone {} to {}", vm, other), {vm, other}, {WriteFile{manifest, before, 0600, true, before}}}};
  std::optional<FileLock> busy = FileLock::try_take(lab.world().store() / "locks" / ("vm-" + other + ".lock"),
                                                    FileLock::Kind::exclusive, "the test");
  REQUIRE(busy);
  std::ofstream(lab.world().store() / "journal" / (entry.id + ".json")) << to_json_text(entry);
  Waiter waiter(lab, {"snapshot", "create", vm, "s1"});
  CHECK(waiter.said() == fmt::format("waiting for pid {}: the test", ::getpid()));
  CHECK(lab.snapshots(vm) == std::set<std::string>{});
  busy.reset();
  CHECK(waiter.end().exit_code == 0);
  CHECK(lab.run({"list"}).result.exit_code == 0);
  CHECK(lab.world().journals() == 0);
  CHECK(lab.snapshots(vm) == std::set<std::string>{"s1"});
}

// SPDX-License-Identifier: Apache-2.0
#include "host/file_lock.hpp"

#include <csignal>
#include <filesystem>
#include <thread>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;
using Kind = FileLock::Kind;

namespace {

/// Another process that holds a lock until told to go.
class Holder {
 public:
  Holder(const std::filesystem::path& file, Kind kind, const std::string& purpose) {
    int ready[2];
    int go[2];
    REQUIRE(::pipe(ready) == 0);
    REQUIRE(::pipe(go) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(go[1]);
      try {
        const auto lock = FileLock::take(file, kind, purpose, true, nullptr);
        char byte = 'x';
        if (::write(ready[1], &byte, 1) == 1) (void)!::read(go[0], &byte, 1);  // until the other end closes
      } catch (...) {
      }
      ::_exit(0);  // without the destructor: the kernel lets the lock go
    }
    ::close(ready[1]);
    ::close(go[0]);
    char byte = 0;
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    ::close(ready[0]);
    go_ = go[1];
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() { let_go(); }

  void let_go() {
    if (pid_ < 0) return;
    ::close(go_);
    ::waitpid(pid_, nullptr, 0);
    was_ = std::exchange(pid_, -1);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] pid_t first_pid() const { return pid_ < 0 ? was_ : pid_; }

 private:
  pid_t pid_ = -1;
  pid_t was_ = -1;
  int go_ = -1;
};

std::atomic<bool> stop_asked{false};

}  // namespace

TEST_CASE("a lock held elsewhere is a conflict that names its holder") {
  const TempFolder folder;
  Holder holder(folder / "l", Kind::exclusive, "clone base");
  const Error error =
      error_of([&] { (void)FileLock::take(folder / "l", Kind::exclusive, "start ci-7", false, nullptr); });
  CHECK(error.code() == Errc::conflict);
  CHECK(std::string(error.what()) ==
        "'start ci-7' must wait: locked by pid " + std::to_string(holder.pid()) + ": clone base");
  CHECK_FALSE(FileLock::try_take(folder / "l", Kind::exclusive, "x").has_value());
  CHECK_FALSE(FileLock::try_take(folder / "l", Kind::shared, "x").has_value());
}

TEST_CASE("a lock is free again when its holder is gone, whatever the file still says") {
  const TempFolder folder;
  Holder holder(folder / "l", Kind::exclusive, "clone base");
  holder.let_go();
  CHECK(FileLock::try_take(folder / "l", Kind::exclusive, "x").has_value());
}

TEST_CASE("shared locks stand beside each other and exclude an exclusive one") {
  const TempFolder folder;
  Holder holder(folder / "l", Kind::shared, "list");
  CHECK(FileLock::try_take(folder / "l", Kind::shared, "show").has_value());
  CHECK_FALSE(FileLock::try_take(folder / "l", Kind::exclusive, "gc").has_value());
}

TEST_CASE("who waits for a lock is told which process holds it, and what that does") {
  const TempFolder folder;
  Holder holder(folder / "l", Kind::exclusive, "clone base");
  std::string told;
  {
    const auto lock = FileLock::take(folder / "l", Kind::exclusive, "start", true, nullptr, [&](const std::string& by) {
      told = by;
      holder.let_go();
    });
  }
  CHECK(told == "pid " + std::to_string(holder.first_pid()) + ": clone base");
}

// The last of several sharers wrote its name over the others', and took it away when it went: nobody was told of those left.
TEST_CASE("who shares a lock and lets go of it does not take away the name of the one that still has it") {
  const TempFolder folder;
  Holder holder(folder / "l", Kind::shared, "clone base");
  { const auto lock = FileLock::take(folder / "l", Kind::shared, "list", true, nullptr); }
  const Error error = error_of([&] { (void)FileLock::take(folder / "l", Kind::exclusive, "sweep", false, nullptr); });
  CHECK(std::string(error.what()).find("locked by pid " + std::to_string(holder.pid()) + ": ") != std::string::npos);
}

// gc and recovery made a lock file anew when its owner had just removed it: it stayed for ever.
TEST_CASE("to ask whether a lock is free neither makes its file nor takes it from who waits for it") {
  const TempFolder folder;
  CHECK(FileLock::is_free(folder / "l"));
  CHECK_FALSE(std::filesystem::exists(folder / "l"));
  {
    Holder holder(folder / "l", Kind::exclusive, "clone base");
    CHECK_FALSE(FileLock::is_free(folder / "l"));
    FileLock::remove_if_free(folder / "l");
    CHECK(std::filesystem::exists(folder / "l"));
  }
  CHECK(FileLock::is_free(folder / "l"));
  FileLock::remove_if_free(folder / "l");
  CHECK_FALSE(std::filesystem::exists(folder / "l"));
  FileLock::remove_if_free(folder / "l");
}

TEST_CASE("within one process as well a lock excludes, moves, and ends with its owner") {
  const TempFolder folder;
  {
    FileLock first = FileLock::take(folder / "l", Kind::exclusive, "a", true, nullptr);
    CHECK_FALSE(FileLock::try_take(folder / "l", Kind::exclusive, "b").has_value());
    const FileLock second = std::move(first);
    CHECK_FALSE(FileLock::try_take(folder / "l", Kind::exclusive, "b").has_value());
  }
  CHECK(FileLock::try_take(folder / "l", Kind::exclusive, "b").has_value());
}

TEST_CASE("a lock that is waited for comes when its holder goes") {
  const TempFolder folder;
  Holder holder(folder / "l", Kind::exclusive, "clone base");
  std::atomic<bool> got{false};
  std::thread waiter([&] {
    const auto lock = FileLock::take(folder / "l", Kind::exclusive, "start", true, nullptr);
    got = true;
  });
  CHECK_FALSE(got);
  holder.let_go();
  waiter.join();
  CHECK(got);
}

TEST_CASE("waiting for a lock is ended by a signal that asks us to stop") {
  const TempFolder folder;
  Holder holder(folder / "l", Kind::exclusive, "clone base");
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) { stop_asked = true; };  // no SA_RESTART
  REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
  stop_asked = false;
  std::atomic<bool> done{false};
  const pthread_t waiting = ::pthread_self();
  // Again and again: a signal that comes before flock() is entered is noticed only with the next.
  std::thread sender([&] {
    while (!done) {
      ::pthread_kill(waiting, SIGUSR1);
      std::this_thread::yield();
    }
  });
  const Error error =
      error_of([&] { (void)FileLock::take(folder / "l", Kind::exclusive, "start", true, &stop_asked); });
  done = true;
  sender.join();
  ::sigaction(SIGUSR1, &before, nullptr);
  CHECK(error.code() == Errc::interrupted);
}

TEST_CASE("who waited for a lock file that was deleted locks the new file, not the old one") {
  const TempFolder folder;
  auto first = FileLock::try_take(folder / "l", Kind::exclusive, "delete");
  std::filesystem::remove(folder / "l");
  CHECK(FileLock::try_take(folder / "l", Kind::exclusive, "create").has_value());
}

TEST_CASE("a lock in a folder that is not there is an error that names the file") {
  const TempFolder folder;
  const Error error = error_of([&] { (void)FileLock::try_take(folder / "none/l", Kind::exclusive, "x"); });
  CHECK(error.code() == Errc::other);
  CHECK(std::string(error.what()).find("none/l") != std::string::npos);
}

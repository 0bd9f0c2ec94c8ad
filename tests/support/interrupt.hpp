// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include <sys/types.h>

#include "host/linux_host.hpp"

/// A program that is sent SIGINT, as Ctrl-C does, when something has happened.
class Interruption {
 public:
  /// Run it to its end. \param at  interrupt it when a line that it says holds this; empty: somebody else calls send().
  /// \param before  done before that.
  vmgraft::CommandResult run(const std::vector<std::string>& argv, const std::string& at = {},
                             const std::vector<std::string>& environment = {}, const std::function<void()>& before = {}) {
    vmgraft::Command command;
    // exec keeps the number that the shell tells.
    command.argv = {"sh", "-c", "echo $$; exec \"$@\"", "sh"};
    command.argv.insert(command.argv.end(), argv.begin(), argv.end());
    command.environment = environment;
    command.on_line = [&](std::string_view line) {
      if (pid_ == 0) {
        pid_t pid = 0;
        std::from_chars(line.data(), line.data() + line.size(), pid);
        pid_ = pid;
      } else if (!at.empty() && !is_sent_ && line.find(at) != std::string_view::npos) {
        if (before) before();
        send();
      }
    };
    vmgraft::LinuxHost host;
    vmgraft::CommandResult result = host.run(command);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - sent_.load());
    // Not asserted: a loaded machine may take its time.
    if (is_sent_) std::cout << "ended " << took.count() << " ms after its interrupt\n";
    return result;
  }
  void send() {
    sent_ = Clock::now();
    is_sent_ = true;
    if (pid_ > 0) ::kill(pid_, SIGINT);
  }
  [[nodiscard]] bool is_sent() const { return is_sent_; }

 private:
  using Clock = std::chrono::steady_clock;

  std::atomic<pid_t> pid_ = 0;
  std::atomic<bool> is_sent_ = false;
  std::atomic<Clock::time_point> sent_ = Clock::time_point{};
};

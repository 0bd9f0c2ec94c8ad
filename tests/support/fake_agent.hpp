// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include <vmgraft/error.hpp>

#include "guest/agent_calls.hpp"
#include "libvirt/hypervisor.hpp"

namespace vmgraft {

/// A folder of this test alone, removed at its end.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "vmgraft-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = std::filesystem::canonical(pattern);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A QEMU guest agent whose guest is this host: guest-exec starts real processes, guest-file-* opens real files, so the
/// shell scripts are tested as they are. With a root folder each process runs in it, with mounts, host name and
/// process table of its own: that takes root.
class FakeAgent : public Hypervisor {
 public:
  explicit FakeAgent(std::filesystem::path root = {}) : root_(std::move(root)) {}
  ~FakeAgent() override {
    for (auto& [pid, process] : processes_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
      for (const int fd : process.pipes) ::close(fd);
    }
    for (const auto& [handle, file] : files_) std::fclose(file);
  }

  /// Names of the commands asked, in order.
  std::vector<std::string> log;
  /// What guest-exec started: path and arguments.
  std::vector<std::vector<std::string>> started;
  /// Called before each command; may throw to fail it.
  std::function<void(const std::string& command)> on_command;

  /// That of the command being asked.
  GracePeriod* grace = nullptr;
  /// What guest-set-time set; the host's clock is left alone.
  std::int64_t clock = 0;
  /// Answer guest-exec-status only when the process has ended.
  bool patient = false;

  [[nodiscard]] std::size_t open_files() const { return files_.size(); }
  [[nodiscard]] std::size_t unreaped() const { return processes_.size(); }

  std::string agent_command(const std::string&, const std::string& json, std::chrono::seconds, GracePeriod& its_grace) override {
    grace = &its_grace;
    const Json request = Json::parse(json);
    const std::string command = request.at("execute");
    log.push_back(command);
    if (on_command) on_command(command);
    const Json arguments = request.value("arguments", Json::object());
    return Json{{"return", answer(command, arguments)}}.dump();
  }

  HypervisorInfo info() override { not_modelled(); }
  std::string capabilities_xml() override { not_modelled(); }
  std::string domain_capabilities_xml(const std::string&, const std::string&) override { not_modelled(); }
  std::vector<DomainState> domains() override { not_modelled(); }
  std::optional<DomainState> find_by_name(const std::string&) override { not_modelled(); }
  std::optional<DomainState> find_by_uuid(const std::string&) override { not_modelled(); }
  std::string domain_xml(const std::string&, bool) override { not_modelled(); }
  std::string secure_definition(const std::string&) override { not_modelled(); }
  void settle(const std::string&, const std::atomic<bool>*) override { not_modelled(); }
  void define(const std::string&, Schema) override { not_modelled(); }
  void undefine(const std::string&, bool) override { not_modelled(); }
  void start(const std::string&) override { not_modelled(); }
  void start_as(const std::string&) override { not_modelled(); }
  void attach_device(const std::string&, const std::string&) override { not_modelled(); }
  DetachOutcome detach_device(const std::string&, const std::string&, std::chrono::milliseconds,
                              const std::atomic<bool>*) override {
    not_modelled();
  }
  void save_memory(const std::string&, const std::string&, const std::vector<OverlayTarget>&,
                   const std::vector<std::string>&) override {
    not_modelled();
  }
  std::string saved_memory_xml(const std::string&) override { not_modelled(); }
  void restore_memory(const std::string&, const std::string&) override { not_modelled(); }
  void power_off(const std::string&) override { not_modelled(); }
  void request_shutdown(const std::string&) override { not_modelled(); }
  FreezeOutcome freeze(const std::string&, std::string&) override { not_modelled(); }
  void thaw(const std::string&) override { not_modelled(); }
  void switch_to_overlays(const std::string&, const std::vector<OverlayTarget>&,
                          const std::vector<std::string>&) override {
    not_modelled();
  }
  void pull_into_active(const std::string&, const std::string&, const std::string&, const std::atomic<bool>*) override {
    not_modelled();
  }
  WaitOutcome wait_shut_off(const std::string&, std::chrono::milliseconds, const std::atomic<bool>*) override {
    not_modelled();
  }
  WaitOutcome wait_agent(const std::string&, std::chrono::milliseconds, const std::atomic<bool>*) override {
    not_modelled();
  }
  std::vector<NicInfo> addresses(const std::string&) override { not_modelled(); }
  void console(const std::string&, int, int, const std::atomic<bool>*) override { not_modelled(); }
  void ensure_network(const std::string&, const std::string&) override { not_modelled(); }

 private:
  using Json = nlohmann::json;

  struct Process {
    std::array<int, 2> pipes{-1, -1};  // our ends of its stdout and stderr; -1 once closed
    std::array<std::string, 2> output;
    std::optional<int> status;
  };

  [[noreturn]] static void not_modelled() { throw std::logic_error("FakeAgent models the guest agent only"); }
  [[noreturn]] static void refuse(const std::string& why) {
    throw Error(Errc::other, "the guest agent refused: " + why);
  }

  Json answer(const std::string& command, const Json& arguments) {
    if (command == "guest-exec") return exec(arguments);
    if (command == "guest-exec-status") return exec_status(arguments.at("pid").get<int>());
    if (command == "guest-file-open") return open_file(arguments.at("path"), arguments.at("mode"));
    if (command == "guest-file-read") return read_piece(file(arguments), arguments.at("count").get<std::size_t>());
    if (command == "guest-file-write") return write_piece(file(arguments), arguments.at("buf-b64"));
    if (command == "guest-file-close") {
      const bool closed = std::fclose(file(arguments)) == 0;
      files_.erase(arguments.at("handle").get<std::int64_t>());
      if (!closed) refuse(std::strerror(errno));
      return Json::object();
    }
    if (command == "guest-set-time") {
      clock = arguments.at("time").get<std::int64_t>();
      return Json::object();
    }
    throw std::logic_error("FakeAgent does not model " + command);
  }

  std::FILE* file(const Json& arguments) {
    const auto found = files_.find(arguments.at("handle").get<std::int64_t>());
    if (found == files_.end()) refuse("no such handle");
    return found->second;
  }

  std::int64_t open_file(const std::string& path, const std::string& mode) {
    std::FILE* opened = std::fopen((root_.string() + path).c_str(), (mode + "e").c_str());
    if (opened == nullptr) refuse("failed to open file '" + path + "': " + std::strerror(errno));
    files_[++last_handle_] = opened;
    return last_handle_;
  }

  static Json read_piece(std::FILE* file, std::size_t count) {
    std::string bytes(count, '\0');
    bytes.resize(std::fread(bytes.data(), 1, count, file));
    const bool end = std::feof(file) != 0;
    if (std::ferror(file) != 0) refuse("failed to read file");
    std::clearerr(file);
    return {{"count", bytes.size()}, {"buf-b64", to_base64(bytes)}, {"eof", end}};
  }

  static Json write_piece(std::FILE* file, const std::string& text) {
    const std::string bytes = parse_base64(text).value();
    if (std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size()) refuse(std::strerror(errno));
    return {{"count", bytes.size()}, {"eof", false}};
  }

  // Between fork and exec: its own mounts, host name, processes and root. Scripts that look through /proc and send
  // signals must not see the host's. A process enters its own process namespace only by another fork, which goes on;
  // the one before passes on how it ended.
  bool enter_root() const {
    if (root_.empty()) return true;
    if (::unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID) != 0) return false;
    const pid_t inner = ::fork();
    if (inner < 0) return false;
    if (inner > 0) {
      int status = 0;
      ::waitpid(inner, &status, 0);
      if (WIFSIGNALED(status)) ::kill(::getpid(), WTERMSIG(status));
      ::_exit(WEXITSTATUS(status));
    }
    return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           ::mount("/dev", (root_.string() + "/dev").c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0 &&
           ::mount("proc", (root_.string() + "/proc").c_str(), "proc", 0, nullptr) == 0 &&
           ::chroot(root_.c_str()) == 0 && ::chdir("/") == 0;
  }

  Json exec(const Json& arguments) {
    const std::string path = arguments.at("path");
    std::vector<std::string> words{path};
    for (const Json& word : arguments.value("arg", Json::array())) words.push_back(word);
    started.push_back(words);
    std::vector<std::string> environment;
    for (const Json& word : arguments.value("env", Json::array())) environment.push_back(word);
    const auto pointers = [](std::vector<std::string>& from) {
      std::vector<char*> to;
      for (std::string& word : from) to.push_back(word.data());
      to.push_back(nullptr);
      return to;
    };
    const std::vector<char*> argv = pointers(words);
    const std::vector<char*> envp = pointers(environment);
    // Input goes through a file without a name, so that no writer is needed while the process runs.
    std::FILE* input = std::tmpfile();
    const std::string bytes = parse_base64(arguments.value("input-data", std::string())).value();
    if (input == nullptr || std::fwrite(bytes.data(), 1, bytes.size(), input) != bytes.size()) refuse("no input");
    std::rewind(input);
    int out[2];
    int err[2];
    if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0) refuse("no pipe");
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::dup2(::fileno(input), 0);
      ::dup2(out[1], 1);
      ::dup2(err[1], 2);
      ::signal(SIGPIPE, SIG_DFL);
      if (enter_root()) ::execve(path.c_str(), argv.data(), envp.data());
      ::_exit(125);
    }
    std::fclose(input);
    ::close(out[1]);
    ::close(err[1]);
    if (pid < 0) refuse("no process");
    for (const int fd : {out[0], err[0]}) ::fcntl(fd, F_SETFL, O_NONBLOCK);
    processes_[pid].pipes = {out[0], err[0]};
    return {{"pid", pid}};
  }

  static void drain(int& fd, std::string& output) {
    std::array<char, 65536> buffer;
    while (fd >= 0) {
      const ssize_t got = ::read(fd, buffer.data(), buffer.size());
      if (got < 0) return;
      if (got == 0) {
        ::close(fd);
        fd = -1;
        return;
      }
      output.append(buffer.data(), static_cast<std::size_t>(got));
    }
  }

  // As the real one: a process has exited when it is reaped and both its pipes are closed; then it is forgotten.
  Json exec_status(int pid) {
    const auto found = processes_.find(pid);
    if (found == processes_.end()) refuse("PID " + std::to_string(pid) + " does not exist");
    Process& process = found->second;
    if (patient && !process.status) {
      for (const int fd : process.pipes) ::fcntl(fd, F_SETFL, 0);
      for (std::size_t i : {0u, 1u}) drain(process.pipes[i], process.output[i]);
      int ended = 0;
      ::waitpid(pid, &ended, 0);
      process.status = ended;
    }
    for (std::size_t i : {0u, 1u}) drain(process.pipes[i], process.output[i]);
    int status = 0;
    if (!process.status && ::waitpid(pid, &status, WNOHANG) == pid) process.status = status;
    if (!process.status || process.pipes[0] >= 0 || process.pipes[1] >= 0) return {{"exited", false}};
    Json reply{{"exited", true}};
    if (WIFEXITED(*process.status)) reply["exitcode"] = WEXITSTATUS(*process.status);
    if (WIFSIGNALED(*process.status)) reply["signal"] = WTERMSIG(*process.status);
    if (!process.output[0].empty()) reply["out-data"] = to_base64(process.output[0]);
    if (!process.output[1].empty()) reply["err-data"] = to_base64(process.output[1]);
    processes_.erase(found);
    return reply;
  }

  std::filesystem::path root_;
  std::map<pid_t, Process> processes_;
  std::map<std::int64_t, std::FILE*> files_;
  std::int64_t last_handle_ = 1000;
};

}  // namespace vmgraft

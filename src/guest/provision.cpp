// SPDX-License-Identifier: Apache-2.0
#include "guest/provision.hpp"

#include <chrono>
#include <utility>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "guest/agent_calls.hpp"
#include "guest/guest_scripts.hpp"
#include "guest/output_tail.hpp"
#include "guest/provision_rules.hpp"
#include "model/names.hpp"

namespace vmgraft {

namespace {

constexpr std::size_t kLinesTold = 20;

void tell(const GuestAgent& agent, const ProvisionRequest& request, const std::string& step) {
  if (request.on_step) request.on_step(step);
  agent.stop_when_interrupted("its guest was provisioned");
}

std::string first_line(const std::string& text) {
  const std::size_t start = text.find_first_not_of(" \t\r\n");
  if (start == std::string::npos) return {};
  return printable(text.substr(start, text.find('\n', start) - start));
}

// Add the last lines of an output to the failure it explains, the oldest first.
Error with_output(Error error, const OutputTail& tail) {
  for (const std::string& line : tail.lines(kLinesTold)) error.add_context("output: " + line);
  return error;
}

void wait_for_cloud_init(GuestAgent& agent, const ProvisionRequest& request) {
  tell(agent, request, "wait for cloud-init");
  GuestCommand command;
  command.argv = {"/bin/sh", "-c",
                  "command -v cloud-init >/dev/null || exit 0; cloud-init status --wait --long; r=$?; "
                  "[ $r = 0 ] || tail -n 20 /var/log/cloud-init-output.log; exit $r"};
  OutputTail tail;
  command.on_out = command.on_err = [&tail](std::string_view bytes) { tail.add(bytes); };
  const int code = agent.run(command).exit_code;
  if (code == 0 || code == 2) return;  // 2: done, with warnings (cloud-init 23.4 and later)
  throw with_output(Error(Errc::other, fmt::format("{}: cloud-init failed on the first boot", agent.place()),
                          "see /var/log/cloud-init.log in the guest"),
                    tail);
}

void install_host_key(GuestAgent& agent, const HostKey& key) {
  if (key.private_key.empty()) return;
  agent.shell(kFolderScript, {"/etc/ssh"});
  agent.write_file("/etc/ssh/ssh_host_ed25519_key", key.private_key, 0600);
  agent.write_file("/etc/ssh/ssh_host_ed25519_key.pub", key.public_key, 0644);
}

void write_files(GuestAgent& agent, const ProvisionRequest& request) {
  for (const GuestFile& file : request.guest.files) {
    tell(agent, request, fmt::format("file {}", file.path));
    const std::size_t slash = file.path.find_last_of('/');
    if (slash != std::string::npos && slash != 0) agent.shell(kFolderScript, {file.path.substr(0, slash)});
    agent.write_file(file.path, file.content, parse_mode(file.mode), file.owner);
  }
}

void run_steps(GuestAgent& agent, const ProvisionRequest& request) {
  const std::vector<std::string>& steps = request.guest.run;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const std::string line = first_line(steps[i]);
    tell(agent, request, fmt::format("run {}/{}: {}", i + 1, steps.size(), line));
    GuestCommand command;
    // Nobody is there to answer a package's questions.
    command.argv = {"env", "DEBIAN_FRONTEND=noninteractive", "/bin/sh", "-c", steps[i]};
    OutputTail tail;
    command.on_out = command.on_err = [&tail](std::string_view bytes) { tail.add(bytes); };
    const int code = agent.run(command).exit_code;
    if (code == 0) continue;
    throw with_output(Error(Errc::other,
                            fmt::format("{}: guest step {} of {} failed with exit code {}: {}", agent.place(), i + 1,
                                        steps.size(), code, line),
                            "try the step by hand in a VM kept with --keep"),
                      tail);
  }
}

}  // namespace

void provision(GuestAgent& agent, const ProvisionRequest& request) {
  const std::string hostname = request.guest.hostname.empty() ? agent.vm_name() : request.guest.hostname;
  const std::string& user = request.guest.user;
  // All that can be refused is refused before the guest is touched.
  require_hostname(hostname);
  if (!user.empty()) require_user(user);
  for (const GuestFile& file : request.guest.files) static_cast<void>(parse_mode(file.mode));

  if (request.wait_cloud_init) wait_for_cloud_init(agent, request);
  tell(agent, request, fmt::format("host name {}", hostname));
  agent.shell(kHostnameScript, {hostname});
  if (!user.empty()) {
    tell(agent, request, fmt::format("user {}", user));
    agent.shell(kUserScript, {user});
  }
  if (!request.ssh_keys.empty()) {
    tell(agent, request, "SSH keys");
    std::vector<std::string> arguments{user.empty() ? "root" : user};
    arguments.insert(arguments.end(), request.ssh_keys.begin(), request.ssh_keys.end());
    agent.shell(kKeysScript, arguments);
  }
  if (!request.host_key.private_key.empty()) {
    tell(agent, request, "SSH host key");
    install_host_key(agent, request.host_key);
    agent.shell(kReloadSshScript);
  }
  write_files(agent, request);
  run_steps(agent, request);
  agent.shell("sync");  // a snapshot or a power cut after this must find it on the disk
}

void renew_identity(GuestAgent& agent, const std::string& hostname, const HostKey& host_key) {
  require_hostname(hostname);
  GuestCommand entropy;
  entropy.argv = {"/bin/sh", "-c", kEntropyScript};
  entropy.read_input = [given = false]() mutable -> std::optional<std::string> {
    if (std::exchange(given, true)) return std::nullopt;
    return random_bytes(512);
  };
  // First: what comes after may make keys and numbers of its own.
  const GuestCommandResult mixed = agent.run(entropy);
  if (mixed.exit_code != 0) {
    throw Error(Errc::other,
                fmt::format("{}: the guest took no fresh randomness: {}", agent.place(), last_line(mixed.err)));
  }
  try {
    agent.set_clock(std::chrono::system_clock::now());
  } catch (const Error& error) {
    // Refused where the guest has no hardware clock to set as well.
    if (error.code() != Errc::other) throw;
    const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
    agent.shell("date -u -s \"@$1\"", {std::to_string(now)});
  }
  agent.shell(kHostnameScript, {hostname});
  agent.shell(kMachineIdScript, {random_hex(16)});
  if (!host_key.private_key.empty()) {
    // The other kinds of key would stay those of the source; sshd does with the one.
    agent.shell("rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub");
    install_host_key(agent, host_key);
    agent.shell(kReloadSshScript);
  }
  agent.shell(kDhcpScript);
  agent.shell("sync");
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "host/linux_host.hpp"

/// The built program, run as a user would, with an environment that no test machine can change.
inline vmgraft::CommandResult run_vmgraft(const std::vector<std::string>& arguments,
                                          const std::vector<std::string>& environment = {}) {
  const char* binary = std::getenv("VMGRAFT_BINARY");
  if (binary == nullptr) throw std::runtime_error("VMGRAFT_BINARY does not name the built program");
  vmgraft::Command command;
  command.argv = {binary};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  command.environment = {"VMGRAFT_STORE=", "VMGRAFT_TEMPLATES=", "LIBVIRT_DEFAULT_URI=", "LC_ALL=C.UTF-8",
                         "VMGRAFT_HOST_ROOT=", "VMGRAFT_GPU_CONFIG="};
  command.environment.insert(command.environment.end(), environment.begin(), environment.end());
  command.deadline = std::chrono::seconds(60);
  vmgraft::LinuxHost host;
  return host.run(command);
}

/// The one record on stdout; throws when there is not exactly one line of JSON.
inline nlohmann::json record_of(const vmgraft::CommandResult& result) {
  if (result.out.empty() || result.out.find('\n') != result.out.size() - 1) {
    throw std::runtime_error("not one line: " + result.out);
  }
  return nlohmann::json::parse(result.out);
}

/// A libvirt that cannot be there.
inline const std::string kNoLibvirt = "qemu+unix:///system?socket=/nonexistent/libvirt-sock";

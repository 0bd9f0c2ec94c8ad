// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "qemu/lab.hpp"

template <>
struct Catch::StringMaker<std::map<std::string, std::string>> {
  static std::string convert(const std::map<std::string, std::string>& map) {
    std::string text;
    for (const auto& [key, value] : map) text += key + " " + value + "\n";
    return text;
  }
};

namespace vmgraft {

// The functions of the virtual GPU server: lab.sh has the whole table.
inline constexpr const char* kConsole = "0000:00:05.0";  ///< it booted on this one
inline constexpr const char* kGpu = "0000:41:00.0";      ///< with an audio function beside it
inline constexpr const char* kCompanion = "0000:41:00.1";
inline constexpr const char* kNvme = "0000:42:00.0";        ///< can make virtual functions
inline constexpr const char* kFarGpu = "0000:81:00.0";      ///< alone, on the other node
inline constexpr const char* kSharingGpu = "0000:83:01.0";  ///< its group holds a NIC of the host
inline constexpr const char* kStranger = "0000:83:02.0";

/// What the server's kernel says of a PCI function, read without vmgraft.
[[nodiscard]] std::filesystem::path pci_folder(const std::string& address);
/// Driver bound now; empty: none.
[[nodiscard]] std::string driver_of(const std::string& address);
/// Driver of each function of the table.
[[nodiscard]] std::map<std::string, std::string> drivers();
/// Those of a server that vmgraft has not touched.
[[nodiscard]] const std::map<std::string, std::string>& host_drivers();

using FailedChecks = std::set<std::string>;
/// The rows of a report that fail, by address; "" for the host. Checks each row's form.
[[nodiscard]] std::map<std::string, FailedChecks> failed_checks(const nlohmann::json& checks);

/// The program on the virtual GPU server.
class GpuLab : public Lab {
 public:
  /// Templates "micro" and "idle"; the latter holds devices and never answers. Every function is on its host driver.
  GpuLab();

  /// A GPU of `gpu list`.
  [[nodiscard]] nlohmann::json gpu(const std::string& address);
  /// "result" of a verb that answers with one GPU: "gpus", of which there must be one.
  [[nodiscard]] nlohmann::json one_gpu(std::vector<std::string> arguments);
  /// Addresses that `show` says the VM holds.
  [[nodiscard]] std::vector<std::string> gpus_of(const std::string& vm);
  /// Addresses that libvirt says the VM has, "0000:41:00.0"; \p inactive: of its definition.
  [[nodiscard]] std::set<std::string> hostdevs(const std::string& vm, bool inactive = false);
  /// The program with its store and libvirt, and then \p arguments.
  [[nodiscard]] std::vector<std::string> command_line(const std::vector<std::string>& arguments);
  /// The same program, not waited for nicely: its exit code, nothing required. May be called by several threads.
  CommandResult try_vmgraft(const std::vector<std::string>& arguments, std::vector<std::string> before = {});
  /// A command in which the guest has a part; it must succeed. When it does not, an exec tells whether the guest lives
  /// at all: that it died of the emulator is known by this.
  CommandResult ask_guest(const std::string& vm, const std::vector<std::string>& arguments);
  /// \p how ends the VM's QEMU without vmgraft; libvirt has seen it.
  void end_qemu(const std::string& vm, const std::function<void()>& how);
  /// The same by kill -9.
  void kill_qemu(const std::string& vm);
  /// Records of the ledger by address, as JSON.
  [[nodiscard]] std::map<std::string, nlohmann::json> ledger();
  /// Operations that are under way or were cut off.
  [[nodiscard]] std::vector<std::string> journals();
  /// How often a host driver has started a function since the server was switched on.
  [[nodiscard]] std::size_t driver_starts();
};

/// Its class is a disk's; it can what a GPU with virtual functions can.
inline constexpr const char* kNvmeIsGpu = R"({"version": 1, "also": ["1b36:0010"]})";

/// To everyone who reads its configuration space through sysfs the function does not answer, until the end of the
/// scope.
class DeadGpu {
 public:
  explicit DeadGpu(const std::string& address);
  DeadGpu(const DeadGpu&) = delete;
  DeadGpu& operator=(const DeadGpu&) = delete;
  ~DeadGpu();

 private:
  std::filesystem::path config_;
};

/// The host's configuration of GPUs, until the end of the scope.
class GpuConfigured {
 public:
  GpuConfigured(const std::filesystem::path& file, const std::string& text);
  GpuConfigured(const GpuConfigured&) = delete;
  GpuConfigured& operator=(const GpuConfigured&) = delete;
  ~GpuConfigured();
};

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "vfio-lab/gpu_lab.hpp"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>

#include <poll.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <unistd.h>

namespace vmgraft {
namespace {

constexpr std::chrono::seconds kPatience{60};

std::vector<std::string> words_after(const std::string& text, const std::string& mark) {
  std::vector<std::string> words;
  for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at)) {
    at += mark.size();
    words.push_back(text.substr(at, text.find('\'', at) - at));
  }
  return words;
}

}  // namespace

std::filesystem::path pci_folder(const std::string& address) {
  return std::filesystem::path("/sys/bus/pci/devices") / address;
}

std::string driver_of(const std::string& address) {
  std::error_code none;
  return std::filesystem::read_symlink(pci_folder(address) / "driver", none).filename();
}

std::map<std::string, std::string> drivers() {
  std::map<std::string, std::string> found;
  for (const auto& [address, driver] : host_drivers()) found[address] = driver_of(address);
  return found;
}

const std::map<std::string, std::string>& host_drivers() {
  static const std::map<std::string, std::string> drivers{
      {kConsole, "bochs-drm"}, {kGpu, "bochs-drm"},        {kCompanion, "snd_hda_intel"}, {kNvme, "nvme"},
      {kFarGpu, "bochs-drm"},  {kSharingGpu, "bochs-drm"}, {kStranger, "e1000"}};
  return drivers;
}

std::map<std::string, FailedChecks> failed_checks(const nlohmann::json& checks) {
  std::map<std::string, FailedChecks> found;
  for (const nlohmann::json& row : checks) {
    CHECK_FALSE(row.at("seen").get<std::string>().empty());
    CHECK(row.at("remedy").is_null() == (row.at("health") == "ok"));
    const std::string address = row.at("address").is_null() ? "" : row.at("address");
    found.try_emplace(address);
    if (row.at("health") == "fail") found[address].insert(row.at("id"));
  }
  return found;
}

GpuLab::GpuLab() {
  if (drivers() != host_drivers()) {
    // A test that failed left something behind, which is not to fail this one.
    try_vmgraft({"list"});
    for (const auto& record : ledger()) try_vmgraft({"gpu", "return", "--force", record.first});
  }
  REQUIRE(drivers() == host_drivers());
}

DeadGpu::DeadGpu(const std::string& address) : config_(std::filesystem::canonical(pci_folder(address)) / "config") {
  const std::filesystem::path file = "/run/dead-" + address;
  std::ofstream(file, std::ios::binary) << std::string(4096, '\xff');
  REQUIRE(::mount(file.c_str(), config_.c_str(), nullptr, MS_BIND, nullptr) == 0);
}

DeadGpu::~DeadGpu() {
  ::umount2(config_.c_str(), MNT_DETACH);
}

GpuConfigured::GpuConfigured(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file) << text;
  ::setenv("VMGRAFT_GPU_CONFIG", file.c_str(), 1);
}

GpuConfigured::~GpuConfigured() {
  ::unsetenv("VMGRAFT_GPU_CONFIG");
}

nlohmann::json GpuLab::gpu(const std::string& address) {
  const nlohmann::json gpus = json({"gpu", "list"}).at("gpus");
  for (const nlohmann::json& each : gpus)
    if (each.at("address") == address) return each;
  FAIL("gpu list does not have " << address);
  return {};
}

nlohmann::json GpuLab::one_gpu(std::vector<std::string> arguments) {
  const nlohmann::json gpus = json(std::move(arguments)).at("gpus");
  REQUIRE(gpus.size() == 1);
  return gpus.front();
}

std::vector<std::string> GpuLab::gpus_of(const std::string& vm) {
  return json({"show", vm}).at("vm").at("gpus");
}

std::set<std::string> GpuLab::hostdevs(const std::string& vm, bool inactive) {
  std::vector<std::string> arguments{"dumpxml", vm};
  if (inactive) arguments.emplace_back("--inactive");
  const std::string xml = virsh(arguments);
  std::set<std::string> found;
  // <hostdev ...> <source> <address domain='0x0000' bus='0x41' slot='0x00' function='0x0'/>
  for (std::size_t at = xml.find("<hostdev"); at != std::string::npos; at = xml.find("<hostdev", at + 1)) {
    const std::size_t source = xml.find("<source>", at);
    const std::string text = xml.substr(source, xml.find("</source>", source) - source);
    const auto part = [&](const char* name, std::size_t width) {
      const std::string hex = words_after(text, std::string(name) + "='0x").at(0);
      return std::string(width - hex.size(), '0') + hex;
    };
    found.insert(part("domain", 4) + ":" + part("bus", 2) + ":" + part("slot", 2) + "." + part("function", 1));
  }
  return found;
}

std::vector<std::string> GpuLab::command_line(const std::vector<std::string>& arguments) {
  std::vector<std::string> words{program("vmgraft"), "--connect", uri(), "--store", store()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

CommandResult GpuLab::try_vmgraft(const std::vector<std::string>& arguments, std::vector<std::string> before) {
  Command command;
  command.argv = std::move(before);
  const std::vector<std::string> words = command_line(arguments);
  command.argv.insert(command.argv.end(), words.begin(), words.end());
  command.deadline = std::chrono::minutes(5);
  return LinuxHost().run(command);
}

CommandResult GpuLab::ask_guest(const std::string& vm, const std::vector<std::string>& arguments) {
  CommandResult result = try_vmgraft(arguments);
  INFO(result.out << result.err);
  if (result.exit_code != 0) guest(vm, "true");
  REQUIRE(result.exit_code == 0);
  return result;
}

void GpuLab::end_qemu(const std::string& vm, const std::function<void()>& how) {
  // libvirt removes the file when it has seen QEMU's end.
  const std::filesystem::path file = "/run/libvirt/qemu/" + vm + ".pid";
  const int watch = ::inotify_init1(IN_CLOEXEC);
  REQUIRE(::inotify_add_watch(watch, file.parent_path().c_str(), IN_DELETE) >= 0);
  REQUIRE(std::filesystem::exists(file));
  how();
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (char events[4096]; std::filesystem::exists(file) && std::chrono::steady_clock::now() < deadline;) {
    pollfd wait{watch, POLLIN, 0};
    if (::poll(&wait, 1, 1000) > 0) REQUIRE(::read(watch, events, sizeof events) > 0);
  }
  ::close(watch);
  REQUIRE_FALSE(std::filesystem::exists(file));
}

void GpuLab::kill_qemu(const std::string& vm) {
  end_qemu(vm, [&] { REQUIRE(::kill(std::stoi(read("/run/libvirt/qemu/" + vm + ".pid")), SIGKILL) == 0); });
}

std::map<std::string, nlohmann::json> GpuLab::ledger() {
  std::map<std::string, nlohmann::json> records;
  if (!std::filesystem::exists("/run/vmgraft/gpus")) return records;
  for (const auto& entry : std::filesystem::directory_iterator("/run/vmgraft/gpus"))
    if (entry.path().extension() == ".json") records[entry.path().stem()] = nlohmann::json::parse(read(entry.path()));
  return records;
}

std::vector<std::string> GpuLab::journals() {
  std::vector<std::string> names;
  if (!std::filesystem::exists(store() / "journal")) return names;
  for (const auto& entry : std::filesystem::directory_iterator(store() / "journal"))
    if (entry.path().extension() == ".json")
      names.push_back(entry.path().filename());  // not one that was being written
  return names;
}

std::size_t GpuLab::driver_starts() {
  const std::string log = run({"dmesg"}).out;
  std::size_t count = 0;
  for (std::size_t at = log.find("Initialized bochs-drm"); at != std::string::npos; ++count)
    at = log.find("Initialized bochs-drm", at + 1);
  return count;
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
// LinuxHost::hot_reset, as linux/vfio.h describes VFIO_DEVICE_PCI_HOT_RESET.
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <optional>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

#include <vmgraft/error.hpp>

#include "host/helper_process.hpp"
#include "host/linux_host.hpp"
#include "model/names.hpp"
#include "model/pci_address.hpp"

namespace vmgraft {
namespace {

constexpr const char* kDevices = "/sys/bus/pci/devices/";
constexpr const char* kContainer = "/dev/vfio/vfio";

/// A PCI address as a number: segment, bus, and devfn as in the kernel.
std::uint64_t packed(unsigned segment, unsigned bus, unsigned devfn) {
  return (std::uint64_t{segment} << 16) | (std::uint64_t{bus} << 8) | devfn;
}

std::string to_address(std::uint64_t number) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%04x:%02x:%02x.%o", static_cast<unsigned>(number >> 16),
                static_cast<unsigned>(number >> 8) & 0xffU, (static_cast<unsigned>(number) >> 3) & 0x1fU,
                static_cast<unsigned>(number) & 7U);
  return text.data();
}

std::optional<std::uint64_t> parse_address(const std::string& text) {
  if (parse_pci_address(text) != text) return std::nullopt;
  unsigned segment = 0;
  unsigned bus = 0;
  unsigned slot = 0;
  unsigned function = 0;
  std::sscanf(text.c_str(), "%x:%x:%x.%o", &segment, &bus, &slot, &function);
  return packed(segment, bus, (slot << 3) | function);
}

enum class Step {
  open_container,
  check_container,
  open_group,
  check_group,
  join_container,
  set_iommu,
  open_device,
  ask_affected,
  check_affected,
  reset,
  done,
};

struct Function {
  std::string address;
  std::uint64_t number = 0;
  std::size_t group = 0;  ///< index into Work::groups
  int fd = -1;
  bool is_reset = false;
};

struct Group {
  unsigned number = 0;
  std::string node;  ///< "/dev/vfio/7"
  int fd = -1;
};

/// All that the helper needs, made before the fork: it may not allocate.
struct Work {
  std::vector<Function> functions;
  std::vector<Group> groups;
  std::vector<std::uint64_t> harmless;  ///< of the groups: bridges, and functions without a driver
  std::vector<std::uint64_t> info;      ///< room for vfio_pci_hot_reset_info
  std::vector<std::uint64_t> request;   ///< room for vfio_pci_hot_reset
  int container = -1;

  explicit Work(std::size_t most_affected)
      : info((sizeof(vfio_pci_hot_reset_info) + most_affected * sizeof(vfio_pci_dependent_device)) / 8 + 1) {}
};

/// A bus has 256 functions at most; what is behind bridges on it comes on top.
constexpr std::size_t kMostAffected = 4096;

// --- in the helper: async-signal-safe calls only

HelperReport at(Step step, int number, std::uint64_t subject = 0) {
  return {static_cast<int>(step), number, subject};
}

HelperReport open_group(Group& group, int container, std::uint64_t subject) {
  group.fd = ::open(group.node.c_str(), O_RDWR | O_CLOEXEC);
  if (group.fd < 0) return at(Step::open_group, errno, subject);
  vfio_group_status status{};
  status.argsz = sizeof(status);
  if (::ioctl(group.fd, VFIO_GROUP_GET_STATUS, &status) < 0) return at(Step::check_group, errno, subject);
  if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0) return at(Step::check_group, 0, subject);
  if (::ioctl(group.fd, VFIO_GROUP_SET_CONTAINER, &container) < 0) return at(Step::join_container, errno, subject);
  return at(Step::done, 0);
}

HelperReport open_all(Work& work) {
  work.container = ::open(kContainer, O_RDWR | O_CLOEXEC);
  if (work.container < 0) return at(Step::open_container, errno);
  if (::ioctl(work.container, VFIO_GET_API_VERSION) != VFIO_API_VERSION) return at(Step::check_container, 0);
  for (std::size_t i = 0; i < work.groups.size(); ++i) {
    const HelperReport report = open_group(work.groups[i], work.container, i);
    if (report.step != static_cast<int>(Step::done)) return report;
  }
  if (::ioctl(work.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0 &&
      ::ioctl(work.container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) < 0) {
    return at(Step::set_iommu, errno);
  }
  for (std::size_t i = 0; i < work.functions.size(); ++i) {
    Function& one = work.functions[i];
    one.fd = ::ioctl(work.groups[one.group].fd, VFIO_GROUP_GET_DEVICE_FD, one.address.c_str());
    if (one.fd < 0) return at(Step::open_device, errno, i);
  }
  return at(Step::done, 0);
}

Function* find(Work& work, std::uint64_t number) {
  for (Function& one : work.functions)
    if (one.number == number) return &one;
  return nullptr;
}

/// Reset one function and all that its slot or bus takes along.
HelperReport reset_with_neighbours(Work& work, std::size_t index) {
  Function& function = work.functions[index];
  auto* info = reinterpret_cast<vfio_pci_hot_reset_info*>(work.info.data());
  info->argsz = static_cast<std::uint32_t>(work.info.size() * sizeof(std::uint64_t));
  if (::ioctl(function.fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info) < 0) return at(Step::ask_affected, errno, index);

  auto* request = reinterpret_cast<vfio_pci_hot_reset*>(work.request.data());
  request->count = 0;
  const auto name_group = [&](int fd) {
    for (std::uint32_t k = 0; k < request->count; ++k)
      if (request->group_fds[k] == fd) return;
    request->group_fds[request->count++] = fd;
  };
  for (std::uint32_t i = 0; i < info->count; ++i) {
    const vfio_pci_dependent_device& device = info->devices[i];
    const std::uint64_t number = packed(device.segment, device.bus, device.devfn);
    if (Function* known = find(work, number)) {
      known->is_reset = true;
      name_group(work.groups[known->group].fd);
    } else if (std::find(work.harmless.begin(), work.harmless.end(), number) == work.harmless.end()) {
      return at(Step::check_affected, 0, number);
    }
  }
  // Only the groups of what is affected: the kernel refuses more descriptors than there are affected functions.
  request->argsz = static_cast<std::uint32_t>(sizeof(*request) + request->count * sizeof(std::int32_t));
  request->flags = 0;
  if (::ioctl(function.fd, VFIO_DEVICE_PCI_HOT_RESET, request) < 0) return at(Step::reset, errno, index);
  function.is_reset = true;
  return at(Step::done, 0);
}

/// At its last close the kernel resets a function once more, if it can alone, and puts its state back; until then the group is
/// busy. Who is told before that finds it so.
void close_all(const Work& work) {
  for (const Function& one : work.functions) ::close(one.fd);
  for (const Group& group : work.groups) ::close(group.fd);
  ::close(work.container);
}

HelperReport reset_all(Work& work) {
  HelperReport report = open_all(work);
  for (std::size_t i = 0; i < work.functions.size() && report.step == static_cast<int>(Step::done); ++i) {
    if (!work.functions[i].is_reset) report = reset_with_neighbours(work, i);
  }
  close_all(work);
  return report;
}

// --- on our side

std::string name_of(const std::optional<std::string>& link) {
  return link ? std::filesystem::path(*link).filename().native() : std::string();
}

bool is_bridge(Host& host, const std::string& folder) {
  return host.read_file(folder + "/class").value_or("").starts_with("0x0604");
}

/// Bridges and functions without a driver among the members of a group.
void add_harmless(Host& host, unsigned group, std::vector<std::uint64_t>& harmless) {
  const std::string members = "/sys/kernel/iommu_groups/" + std::to_string(group) + "/devices";
  for (const std::string& member : host.list_folder(members)) {
    const std::string folder = kDevices + member;
    if (host.read_link(folder + "/driver") && !is_bridge(host, folder)) continue;
    if (const auto number = parse_address(member)) harmless.push_back(*number);
  }
}

std::size_t group_index(Work& work, unsigned number) {
  for (std::size_t i = 0; i < work.groups.size(); ++i)
    if (work.groups[i].number == number) return i;
  work.groups.push_back({number, "/dev/vfio/" + std::to_string(number), -1});
  return work.groups.size() - 1;
}

Work make_work(Host& host, const std::vector<std::string>& addresses) {
  Work work(kMostAffected);
  for (const std::string& address : addresses) {
    const std::string called = "cannot reset PCI function '" + printable(address, 64) + "': ";
    const auto number = parse_address(address);
    if (!number) throw Error(Errc::usage, called + "that is no PCI address (want dddd:bb:dd.f)");
    const std::string folder = kDevices + address;
    if (!host.read_file(folder + "/vendor")) {
      throw Error(Errc::not_found, called + "the host has no such function", "look for it with lspci -D");
    }
    const std::string driver = name_of(host.read_link(folder + "/driver"));
    if (driver.empty()) {
      throw Error(Errc::host_unfit, called + "it has no driver, and the reset is asked of vfio-pci",
                  "bind it to vfio-pci first");
    }
    const std::string group = name_of(host.read_link(folder + "/iommu_group"));
    unsigned group_number = 0;
    const auto parsed = std::from_chars(group.data(), group.data() + group.size(), group_number);
    if (group.empty() || parsed.ec != std::errc() || parsed.ptr != group.data() + group.size()) {
      throw Error(Errc::host_unfit, called + "it is in no IOMMU group",
                  "switch the IOMMU on in the firmware, and boot with intel_iommu=on or amd_iommu=on");
    }
    if (find(work, *number) == nullptr) {
      work.functions.push_back({address, *number, group_index(work, group_number), -1, false});
    }
  }
  for (const Group& group : work.groups) add_harmless(host, group.number, work.harmless);
  work.request.resize((sizeof(vfio_pci_hot_reset) + work.groups.size() * sizeof(std::int32_t)) / 8 + 1);
  return work;
}

[[noreturn]] void fail(const Work& work, const HelperReport& report, const std::string& act) {
  const std::string start = "cannot " + act + ": ";
  const std::string why = std::generic_category().message(report.number);
  const auto group = [&]() -> const Group& { return work.groups.at(report.subject); };
  const auto function = [&]() -> const std::string& { return work.functions.at(report.subject).address; };
  switch (static_cast<Step>(report.step)) {
    case Step::open_container:
      throw Error(Errc::host_unfit, start + "cannot open '" + kContainer + "': " + why,
                  report.number == EACCES || report.number == EPERM ? "run vmgraft as root (sudo)"
                                                                    : "load the module: modprobe vfio-pci");
    case Step::check_container:
      throw Error(Errc::host_unfit, start + "'" + kContainer + "' speaks another version of VFIO",
                  "see that the kernel is a released one");
    case Step::open_group:
      if (report.number == EBUSY) {
        throw Error(Errc::conflict, start + "'" + group().node + "' is in use by another process",
                    "end it first; fuser -v " + group().node + " names it");
      }
      throw Error(
          Errc::host_unfit, start + "cannot open '" + group().node + "': " + why,
          report.number == ENOENT ? "bind the group's functions to vfio-pci first" : "run vmgraft as root (sudo)");
    case Step::check_group:
      throw Error(
          Errc::host_unfit,
          start + "IOMMU group " + std::to_string(group().number) + " is not viable: a host driver has part of it",
          "bind every function of the group to vfio-pci, or unbind it");
    case Step::join_container:
    case Step::set_iommu:
      throw Error(Errc::host_unfit, start + "VFIO gives no IOMMU: " + why,
                  "look in dmesg; without interrupt remapping the kernel refuses");
    case Step::open_device:
      throw Error(Errc::host_unfit, start + "VFIO does not give function " + function() + ": " + why,
                  "see that it is on vfio-pci and answers (lspci -vs " + function() + ")");
    case Step::ask_affected:
      throw Error(Errc::host_unfit,
                  start + (report.number == ENODEV
                               ? "function " + function() + " can be reset neither by its slot nor by its bus"
                               : "VFIO does not say what the reset of " + function() + " touches: " + why),
                  "another reset method may do: see 'reset_method' of the function in /sys");
    case Step::check_affected:
      throw Error(Errc::host_unfit, start + "the reset would touch " + to_address(report.subject) + " as well",
                  "only functions that share slot or bus with nothing else in use can be reset so");
    case Step::reset:
      throw Error(Errc::other, start + "the kernel refuses at " + function() + ": " + why,
                  "every function on its slot or bus must be on vfio-pci and used by nobody else; see dmesg");
    case Step::done:
      break;
  }
  throw Error(Errc::other, start + "the helper process answered nonsense");
}

}  // namespace

void LinuxHost::hot_reset(const std::vector<std::string>& addresses, std::chrono::seconds deadline) {
  refuse_recorded();
  if (addresses.empty()) return;
  Work work = make_work(*this, addresses);
  std::string list;
  for (const Function& one : work.functions) list += (list.empty() ? "" : ", ") + one.address;
  const HelperEnd end = run_helper([&] { return reset_all(work); }, deadline, "reset " + list);
  if (end.kind != HelperEnd::Kind::reported) fail_left_behind("resetting " + list, end, deadline);
  if (end.report.step != static_cast<int>(Step::done)) fail(work, end.report, "reset " + list);
}

}  // namespace vmgraft

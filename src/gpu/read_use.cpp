// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include <vmgraft/error.hpp>

#include "gpu/capabilities.hpp"
#include "gpu/choose.hpp"
#include "gpu/devices.hpp"
#include "gpu/sysfs.hpp"

namespace vmgraft {
namespace {

/// Device nodes and group nodes of functions.
struct Nodes {
  std::map<std::string, std::string, std::less<>> functions;  ///< node -> the function it stands for
  std::map<std::uint64_t, std::string> numbers;  ///< device number -> node: it may be open under another name
};

void add_node(Host& host, const std::string& node, const std::string& address, Nodes& nodes) {
  nodes.functions.emplace(node, address);
  if (const std::optional<std::uint64_t> number = host.device_number(node)) nodes.numbers.emplace(*number, node);
}

Nodes nodes_of(Host& host, const HostDevices& devices, const std::vector<std::string>& addresses) {
  Nodes nodes;
  for (const std::string& address : addresses) {
    const PciFunction* function = devices.find(address);
    if (function == nullptr) continue;
    for (const std::string& node : function->nodes) add_node(host, node, address, nodes);
    // Of a group's functions the first stands for it: the GPU, before its companions.
    if (function->is_bridge() || !function->iommu_group) continue;
    add_node(host, "/dev/vfio/" + std::to_string(*function->iommu_group), address, nodes);
  }
  return nodes;
}

// --- processes

/// The node that a file of a process is: by its name, or, in a container or under another name, by its device's number.
/// \param file  link below /proc that leads to it; empty: the name is enough
void add_held(Host& host, const std::string& name, const std::string& file, const Nodes& nodes,
              std::set<std::string>& held) {
  if (const auto node = nodes.functions.find(name); node != nodes.functions.end()) {
    held.insert(node->first);
    return;
  }
  if (file.empty() || !name.starts_with('/') || nodes.numbers.empty()) return;
  const std::optional<std::uint64_t> number = host.device_number(file);
  if (!number) return;
  if (const auto node = nodes.numbers.find(*number); node != nodes.numbers.end()) held.insert(node->second);
}

/// What a process has mapped stays in use after it closed the file.
void add_mapped(Host& host, const std::string& process, const Nodes& nodes, std::set<std::string>& held) {
  const std::string maps = sysfs::text(host, process + "/maps").value_or("");
  for (const std::string_view line : sysfs::lines(maps)) {
    // 7f2c00000000-7f2c00010000 rw-s 00000000 00:06 412  /dev/dri/card1
    const std::size_t path = line.find('/');
    if (path == std::string_view::npos) continue;
    const std::size_t range = line.find(' ');
    // Programs and libraries, which are many, are private.
    const bool is_shared = line.substr(range + 1, 4).ends_with('s');
    add_held(host, std::string(line.substr(path)),
             is_shared ? process + "/map_files/" + std::string(line.substr(0, range)) : std::string(), nodes, held);
  }
}

std::optional<std::string> link_text(Host& host, const std::string& link) {
  try {
    return host.read_link(link);
  } catch (const Error&) {  // another user's process, or one that has ended
    return std::nullopt;
  }
}

std::set<std::string> nodes_held(Host& host, const std::string& process, const Nodes& nodes) {
  std::set<std::string> held;
  const std::vector<std::string> files = sysfs::names(host, process + "/fd");
  for (const std::string& file : files) {
    const std::string link = process + "/fd/" + file;
    if (const std::optional<std::string> target = link_text(host, link)) add_held(host, *target, link, nodes, held);
  }
  add_mapped(host, process, nodes, held);
  return held;
}

std::vector<DeviceUser> find_users(Host& host, const Nodes& nodes) {
  std::vector<DeviceUser> users;
  if (nodes.functions.empty()) return users;
  std::set<int> pids;
  for (const std::string& name : sysfs::names(host, "/proc")) {
    if (const auto pid = sysfs::number(name)) pids.insert(static_cast<int>(*pid));
  }
  for (const int pid : pids) {
    const std::string process = "/proc/" + std::to_string(pid);
    const std::set<std::string> held = nodes_held(host, process, nodes);
    if (held.empty()) continue;
    const std::string command = sysfs::text(host, process + "/comm").value_or("");
    const std::string status = sysfs::text(host, process + "/status").value_or("");
    const std::string ids = sysfs::field(status, "Uid").value_or("");
    const std::vector<std::string_view> words = sysfs::words(ids);
    const std::uint64_t uid = words.empty() ? 0 : sysfs::number(words[0]).value_or(0);
    for (const std::string& node : held) {
      users.push_back({nodes.functions.at(node), pid, command, static_cast<unsigned>(uid), node});
    }
  }
  return users;
}

bool has_fabric_manager(Host& host, const HostDevices& devices) {
  const auto& functions = devices.functions;
  if (std::none_of(functions.begin(), functions.end(), [](const PciFunction& each) { return each.is_nvswitch(); }))
    return false;
  constexpr std::string_view kCommand = "nv-fabricmanager";
  for (const std::string& name : sysfs::names(host, "/proc"))  // comm has 15 characters
    if (sysfs::number(name) && sysfs::text(host, "/proc/" + name + "/comm") == kCommand.substr(0, 15)) return true;
  return false;
}

// --- disks

/// "\040" of /proc/mounts to the character it stands for.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto code = text[i] == '\\' && i + 3 < text.size() ? sysfs::number(text.substr(i + 1, 3), 8) : std::nullopt;
    plain += code ? static_cast<char>(*code) : text[i];
    if (code) i += 3;
  }
  return plain;
}

/// Finds the functions that a block device or a NIC stands on: below sysfs, its own folder lies in theirs; what is made
/// of others (dm, md, bridges, bonds, several paths to one disk) names them.
class Origins {
 public:
  Origins(Host& host, const std::vector<std::string>& addresses) : host_(host), addresses_(addresses) {}

  std::set<std::string> of_block(const std::string& name) {
    std::set<std::string> found, seen;
    add_block(name, found, seen);
    return found;
  }

  std::set<std::string> of_nic(const std::string& name) {
    std::set<std::string> found, seen;
    add_nic(name, found, seen);
    return found;
  }

 private:
  /// The last function of a path is the device itself; those before it are bridges.
  void add_path(const std::string& path, std::set<std::string>& found) {
    const std::vector<std::string> functions = sysfs::addresses_in(path);
    if (functions.empty()) return;
    if (std::find(addresses_.begin(), addresses_.end(), functions.back()) != addresses_.end()) {
      found.insert(functions.back());
    }
  }

  void add_block(const std::string& name, std::set<std::string>& found, std::set<std::string>& seen) {
    if (!seen.insert(name).second) return;
    const std::string folder = sysfs::followed(host_, "/sys/class/block/" + name);
    add_path(folder, found);
    for (const std::string& slave : sysfs::names(host_, folder + "/slaves")) add_block(slave, found, seen);
    // A multipath NVMe disk, or a partition of one: its subsystem links to the controllers.
    constexpr std::string_view kSubsystems = "/sys/devices/virtual/nvme-subsystem/";
    if (!folder.starts_with(kSubsystems)) return;
    const std::string above = folder.substr(0, folder.find('/', kSubsystems.size()));
    for (const std::string& controller : sysfs::names(host_, above)) {
      if (controller.starts_with("nvme")) add_path(sysfs::followed(host_, above + "/" + controller), found);
    }
  }

  void add_nic(const std::string& name, std::set<std::string>& found, std::set<std::string>& seen) {
    if (!seen.insert(name).second) return;
    const std::string folder = sysfs::followed(host_, "/sys/class/net/" + name);
    add_path(folder, found);
    constexpr std::string_view kLower = "lower_";
    for (const std::string& entry : sysfs::names(host_, folder)) {
      if (entry.starts_with(kLower)) add_nic(entry.substr(kLower.size()), found, seen);
    }
  }

  Host& host_;
  const std::vector<std::string>& addresses_;
};

/// "dm-0" of "/dev/mapper/vg-root", "nvme0n1p2" of "/dev/disk/by-uuid/...".
std::string block_name(Host& host, const std::string& node) {
  return sysfs::base_name(sysfs::followed(host, node));
}

std::map<std::string, std::string> find_mounted(Host& host, const std::vector<std::string>& addresses) {
  std::map<std::string, std::string> mounted;
  Origins origins(host, addresses);
  std::set<std::string> seen;
  const auto add = [&](std::string_view node, const std::string& use) {
    if (!node.starts_with("/dev/")) return;
    const std::string name = block_name(host, unescaped(node));
    if (!seen.insert(name).second) return;  // the first mount of a disk tells it
    for (const std::string& address : origins.of_block(name)) mounted.emplace(address, use + " (" + name + ")");
  };
  const std::string mounts = sysfs::text(host, "/proc/mounts").value_or("");
  for (const std::string_view line : sysfs::lines(mounts)) {
    const std::vector<std::string_view> words = sysfs::words(line);
    if (words.size() > 1) add(words[0], unescaped(words[1]));
  }
  const std::string swaps = sysfs::text(host, "/proc/swaps").value_or("");
  for (const std::string_view line : sysfs::lines(swaps)) {
    const std::vector<std::string_view> words = sysfs::words(line);
    if (!words.empty()) add(words[0], "swap");
  }
  return mounted;
}

// --- network

bool is_zero(std::string_view hex) {
  return hex.find_first_not_of('0') == std::string_view::npos;
}

std::set<std::string> default_nics(Host& host) {
  std::set<std::string> nics;
  // Iface Destination Gateway Flags RefCnt Use Metric Mask ...
  const std::string routes = sysfs::text(host, "/proc/net/route").value_or("");
  for (const std::string_view line : sysfs::lines(routes)) {
    const std::vector<std::string_view> words = sysfs::words(line);
    if (words.size() >= 8 && is_zero(words[1]) && is_zero(words[7])) nics.emplace(words[0]);
  }
  // Destination length source length next-hop metric refcnt use flags Iface; "lo" refuses what no other route takes.
  const std::string routes6 = sysfs::text(host, "/proc/net/ipv6_route").value_or("");
  for (const std::string_view line : sysfs::lines(routes6)) {
    const std::vector<std::string_view> words = sysfs::words(line);
    if (words.size() == 10 && is_zero(words[0]) && is_zero(words[1]) && words[9] != "lo") nics.emplace(words[9]);
  }
  return nics;
}

std::map<std::string, std::string> find_default_routes(Host& host, const std::vector<std::string>& addresses) {
  std::map<std::string, std::string> routes;
  Origins origins(host, addresses);
  for (const std::string& nic : default_nics(host)) {
    for (const std::string& address : origins.of_nic(nic)) routes.emplace(address, nic);
  }
  return routes;
}

// --- screens

/// Start and owner of "  c0000000-c0ffffff : BOOTFB": memory that a framebuffer of the firmware claims.
std::optional<std::pair<std::uint64_t, std::string>> framebuffer_in(std::string_view line) {
  constexpr std::array kOwners{"BOOTFB", "efifb", "simplefb", "simple-framebuffer", "simpledrm", "vesafb"};
  const std::vector<std::string_view> words = sysfs::words(line);
  if (words.size() < 3) return std::nullopt;
  const std::string_view owner = words[2].substr(0, words[2].find('.'));  // "simple-framebuffer.0"
  if (std::find(kOwners.begin(), kOwners.end(), owner) == kOwners.end()) return std::nullopt;
  const auto start = sysfs::number(words[0].substr(0, words[0].find('-')), 16);
  if (!start || *start == 0) return std::nullopt;  // hidden from those who are not root
  return std::pair(*start, std::string(owner));
}

std::map<std::string, std::string> find_framebuffers(Host& host, const HostDevices& devices,
                                                     const std::vector<std::string>& addresses) {
  std::map<std::string, std::string> framebuffers;
  const std::string ranges = sysfs::text(host, "/proc/iomem").value_or("");
  for (const std::string_view line : sysfs::lines(ranges)) {
    const auto framebuffer = framebuffer_in(line);
    if (!framebuffer) continue;
    const auto& [start, owner] = *framebuffer;
    const auto holds = [at = start](const PciBar& bar) {
      return bar.is_memory && at >= bar.start && at - bar.start < bar.size;
    };
    for (const std::string& address : addresses) {
      const PciFunction* function = devices.find(address);
      if (function != nullptr && std::any_of(function->bars.begin(), function->bars.end(), holds)) {
        framebuffers.emplace(address, owner);
      }
    }
  }
  return framebuffers;
}

/// The connector of a card that drives a screen now: "HDMI-A-1"; empty: none. A virtual one, which is always connected and
/// takes the host's text console when nobody asks, shows nobody anything.
std::string active_connector(Host& host, const std::string& card) {
  const std::string start = sysfs::base_name(card) + "-";
  for (const std::string& name : sysfs::names(host, card)) {
    if (!name.starts_with(start) || name.starts_with(start + "Virtual-")) continue;
    if (sysfs::text(host, card + "/" + name + "/status") == "connected" &&
        sysfs::text(host, card + "/" + name + "/enabled") == "enabled") {
      return name.substr(start.size());
    }
  }
  return {};
}

std::map<std::string, std::string> find_consoles(Host& host, const HostDevices& devices,
                                                 const std::vector<std::string>& addresses) {
  constexpr std::string_view kCard = "/dev/dri/card";
  std::map<std::string, std::string> consoles;
  for (const std::string& address : addresses) {
    const PciFunction* function = devices.find(address);
    if (function == nullptr) continue;
    for (const std::string& node : function->nodes) {
      if (!node.starts_with(kCard)) continue;
      const std::string folder = sysfs::function_folder(host, address) + "/drm/" + sysfs::base_name(node);
      const std::string connector = active_connector(host, folder);
      if (!connector.empty()) consoles.emplace(address, connector);
    }
  }
  return consoles;
}

/// Of GPUs that have another one below the same switch.
void read_switches(Host& host, const HostDevices& devices, HostUse& use) {
  std::set<std::string> ports;
  for (const std::string& address : devices.gpus) {
    const PciFunction& gpu = *devices.find(address);
    if (gpu.power_state == "D3cold" || gpu.path.size() < 2) continue;
    const bool has_peer = std::any_of(devices.gpus.begin(), devices.gpus.end(), [&](const std::string& other) {
      return other != address && have_switch_between(gpu, *devices.find(other));
    });
    if (!has_peer) continue;
    if (has_ats(host, address)) use.with_ats.insert(address);
    ports.insert(gpu.path.begin() + 1, gpu.path.end());
  }
  for (const std::string& port : ports)
    if (redirects_peers(host, port)) use.redirecting.insert(port);
}

}  // namespace

std::vector<DeviceUser> read_users(Host& host, const PciFunction& function) {
  Nodes nodes;
  for (const std::string& node : function.nodes) add_node(host, node, function.address, nodes);
  return find_users(host, nodes);
}

HostUse read_use(Host& host, const HostDevices& devices, const std::vector<std::string>& addresses) {
  std::vector<std::string> sorted = addresses;
  std::sort(sorted.begin(), sorted.end());
  HostUse use;
  use.users = find_users(host, nodes_of(host, devices, sorted));
  use.has_fabric_manager = has_fabric_manager(host, devices);
  use.mounted = find_mounted(host, sorted);
  use.default_route = find_default_routes(host, sorted);
  use.framebuffers = find_framebuffers(host, devices, sorted);
  use.consoles = find_consoles(host, devices, sorted);
  read_switches(host, devices, use);
  return use;
}

}  // namespace vmgraft

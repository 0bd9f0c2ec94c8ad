// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <sstream>

#include "gpu/devices.hpp"
#include "gpu/sysfs.hpp"

namespace vmgraft {
namespace {

bool has_word_starting(const std::string& text, std::string_view start) {
  const std::vector<std::string_view> words = sysfs::words(text);
  return std::any_of(words.begin(), words.end(), [start](std::string_view word) { return word.starts_with(start); });
}

bool is_set(Host& host, const std::string& parameter) {
  return sysfs::text(host, "/sys/module/" + parameter) == "Y";
}

/// Loaded or built in, it has a folder; else its module can be loaded when it is there for this kernel.
bool has_vfio(Host& host, const std::string& kernel) {
  if (host.stat("/sys/bus/pci/drivers/vfio-pci")) return true;
  const std::string module = "/lib/modules/" + kernel + "/kernel/drivers/vfio/pci/vfio-pci.ko";
  for (const char* packed : {"", ".xz", ".zst", ".gz"}) {
    if (host.stat(module + packed)) return true;
  }
  return false;
}

/// Whether a line of modprobe.d loads nothing in place of the module: "install vfio-pci /bin/false". A blacklist does not
/// concern one that is asked for by its name.
bool forbids(std::string_view line, std::string_view module) {
  const std::vector<std::string_view> words = sysfs::words(line);
  if (words.size() < 3 || words[0] != "install") return false;
  std::string name(words[1]);
  std::replace(name.begin(), name.end(), '_', '-');
  const std::string_view program = words.back().substr(words.back().rfind('/') + 1);
  return name == module && (program == "false" || program == "true");
}

/// "/etc/modprobe.d/no.conf:3: install vfio-pci /bin/false"; empty: nothing keeps the driver, or it is loaded already.
/// Source: modprobe.d(5); a file hides those of its name in the folders after it.
std::string vfio_forbidden(Host& host) {
  if (host.stat("/sys/bus/pci/drivers/vfio-pci")) return {};
  const bool has_core = host.stat("/sys/module/vfio").has_value();
  std::set<std::string> seen;
  for (const char* folder : {"/etc/modprobe.d", "/run/modprobe.d", "/lib/modprobe.d"}) {
    for (const std::string& name : sysfs::names(host, folder)) {
      if (!name.ends_with(".conf") || !seen.insert(name).second) continue;
      const std::string file = std::string(folder) + "/" + name;
      std::istringstream lines(sysfs::text(host, file).value_or(""));
      std::size_t number = 1;
      for (std::string line; std::getline(lines, line); ++number)
        if (forbids(line, "vfio-pci") || (!has_core && forbids(line, "vfio")))
          return file + ":" + std::to_string(number) + ": " + line;
    }
  }
  return {};
}

/// A kernel that has vfio shows the node in its /dev; a container has the nodes that it was given.
std::optional<bool> has_vfio_node(Host& host) {
  if (!host.stat("/sys/bus/pci/drivers/vfio-pci") || !host.stat("/dev/null")) return std::nullopt;
  return host.stat("/dev/vfio/vfio").has_value();
}

/// What libvirt's system daemon is told, "user" of `user = "+0"`; empty: nothing, or only root may read it.
std::string qemu_setting(const std::string& config, std::string_view key) {
  for (const std::string_view line : sysfs::lines(config)) {
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const std::vector<std::string_view> name = sysfs::words(line.substr(0, equals));
    const std::vector<std::string_view> value = sysfs::words(line.substr(equals + 1));
    if (name.size() != 1 || name[0] != key || value.empty()) continue;
    std::string text(value[0]);
    std::erase_if(text, [](char each) { return each == '"' || each == '\''; });
    return text;
  }
  return {};
}

/// Source: systemd.unit(5), "masked".
bool is_masked(Host& host, const std::string& unit) {
  for (const char* folder : {"/etc/systemd/system/", "/run/systemd/system/"})
    if (sysfs::followed(host, folder + unit) == "/dev/null") return true;
  return false;
}

/// "[none] integrity confidentiality": the one in brackets.
std::string lockdown(Host& host) {
  const std::string text = sysfs::text(host, "/sys/kernel/security/lockdown").value_or("");
  const std::size_t from = text.find('['), to = text.find(']');
  return from < to && to != std::string::npos ? text.substr(from + 1, to - from - 1) : std::string();
}

/// "address sizes : 46 bits physical, 48 bits virtual". Only the first CPU's lines are read: the kernel asks every core
/// for its clock to write the others.
std::optional<unsigned> physical_bits(Host& host) {
  const std::string start = sysfs::start_of(host, "/proc/cpuinfo", 4096);
  const std::optional<std::string> sizes = sysfs::field(start, "address sizes");
  if (!sizes) return std::nullopt;
  const std::vector<std::string_view> words = sysfs::words(*sizes);
  const auto bits = words.size() >= 3 && words[2].starts_with("physical") ? sysfs::number(words[0]) : std::nullopt;
  return bits && *bits > 0 && *bits <= 64 ? std::optional(static_cast<unsigned>(*bits)) : std::nullopt;
}

/// Intel tells the widest guest address in bits 21:16 of the capability register, less one; AMD tells none in sysfs.
/// Source: VT-d specification, CAP_REG.MGAW.
std::optional<unsigned> iommu_bits(Host& host) {
  std::optional<unsigned> narrowest;
  for (const std::string& unit : sysfs::names(host, "/sys/devices/virtual/iommu")) {
    const auto text = sysfs::text(host, "/sys/devices/virtual/iommu/" + unit + "/intel-iommu/cap");
    const auto cap = text ? sysfs::number(*text, 16) : std::nullopt;
    if (!cap) continue;
    const unsigned bits = static_cast<unsigned>((*cap >> 16) & 0x3f) + 1;
    narrowest = std::min(narrowest.value_or(bits), bits);
  }
  return narrowest;
}

/// libvirt runs what is executable. Source: virHookCall.
std::vector<std::string> qemu_hooks(Host& host) {
  const std::string folder = "/etc/libvirt/hooks/";
  std::vector<std::string> files{folder + "qemu"};
  for (const std::string& name : sysfs::names(host, folder + "qemu.d")) files.push_back(folder + "qemu.d/" + name);
  std::erase_if(files, [&host](const std::string& file) {
    const std::optional<FileInfo> info = host.stat(file);
    return !info || info->is_folder || (info->mode & 0111) == 0;
  });
  return files;
}

bool is_root(Host& host) {
  const std::string status = sysfs::text(host, "/proc/self/status").value_or("");
  const std::optional<std::string> ids = sysfs::field(status, "Uid");
  if (!ids) return true;
  const std::vector<std::string_view> words = sysfs::words(*ids);  // real, effective, saved, of files
  return words.size() < 2 || words[1] == "0";
}

// --- NUMA nodes

std::vector<HugePages> huge_pages(Host& host, const std::string& folder) {
  constexpr std::string_view kStart = "hugepages-";
  std::vector<HugePages> pools;
  for (const std::string& name : sysfs::names(host, folder)) {
    if (!name.starts_with(kStart) || !name.ends_with("kB")) continue;
    const auto size = sysfs::number(std::string_view(name).substr(kStart.size(), name.size() - kStart.size() - 2));
    if (!size || *size == 0) continue;
    const std::string pool = folder + "/" + name;
    const auto free = sysfs::number(sysfs::text(host, pool + "/free_hugepages").value_or(""));
    const auto total = sysfs::number(sysfs::text(host, pool + "/nr_hugepages").value_or(""));
    pools.push_back({*size * 1024, free.value_or(0), total.value_or(0)});
  }
  std::sort(pools.begin(), pools.end(),
            [](const HugePages& a, const HugePages& b) { return a.page_size > b.page_size; });
  return pools;
}

/// \param start  "Node 0 " in a node's own file, nothing in /proc/meminfo.
void read_memory(HostNode& node, const std::string& text, const std::string& start) {
  const auto bytes = [&](const char* key) { return sysfs::kilobytes(sysfs::field(text, start + key).value_or("")); };
  node.memory = bytes("MemTotal");
  // What only caches files is given up at once. A node has no MemAvailable.
  node.free_memory = bytes("MemFree") + bytes("Active(file)") + bytes("Inactive(file)");
}

std::vector<std::vector<unsigned>> cores_of(Host& host, const std::vector<unsigned>& cpus) {
  std::vector<std::vector<unsigned>> cores;
  std::set<unsigned> left(cpus.begin(), cpus.end());
  while (!left.empty()) {
    const unsigned cpu = *left.begin();
    const std::string file = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list";
    std::vector<unsigned> core;
    for (const unsigned sibling : parse_cpu_list(sysfs::text(host, file).value_or(""))) {
      if (left.contains(sibling)) core.push_back(sibling);
    }
    if (std::find(core.begin(), core.end(), cpu) == core.end()) core = {cpu};
    for (const unsigned sibling : core) left.erase(sibling);
    cores.push_back(std::move(core));
  }
  return cores;
}

std::vector<HostNode> read_nodes(Host& host, const std::string& meminfo) {
  constexpr std::string_view kStart = "node";
  const std::string folder = "/sys/devices/system/node";
  std::vector<HostNode> nodes;
  for (const std::string& name : sysfs::names(host, folder)) {
    const auto number = name.starts_with(kStart) ? sysfs::number(name.substr(kStart.size())) : std::nullopt;
    if (!number) continue;
    const std::string here = folder + "/" + name;
    HostNode node;
    node.number = static_cast<unsigned>(*number);
    node.cpus = parse_cpu_list(sysfs::text(host, here + "/cpulist").value_or(""));
    read_memory(node, sysfs::text(host, here + "/meminfo").value_or(""), "Node " + std::to_string(*number) + " ");
    node.huge_pages = huge_pages(host, here + "/hugepages");
    nodes.push_back(std::move(node));
  }
  if (nodes.empty()) {  // a kernel without NUMA
    HostNode& node = nodes.emplace_back();
    node.cpus = parse_cpu_list(sysfs::text(host, "/sys/devices/system/cpu/online").value_or(""));
    read_memory(node, meminfo, "");
    node.huge_pages = huge_pages(host, "/sys/kernel/mm/hugepages");
  }
  for (HostNode& node : nodes) node.cores = cores_of(host, node.cpus);
  std::sort(nodes.begin(), nodes.end(), [](const HostNode& a, const HostNode& b) { return a.number < b.number; });
  return nodes;
}

}  // namespace

HostSettings read_settings(Host& host) {
  HostSettings settings;
  settings.is_root = is_root(host);
  settings.command_line = sysfs::text(host, "/proc/cmdline").value_or("");
  settings.acs_override = has_word_starting(settings.command_line, "pcie_acs_override=");
  settings.unsafe_interrupts = is_set(host, "vfio_iommu_type1/parameters/allow_unsafe_interrupts");
  settings.noiommu = is_set(host, "vfio/parameters/enable_unsafe_noiommu_mode");
  settings.kernel = sysfs::text(host, "/proc/sys/kernel/osrelease").value_or("");
  settings.has_vfio = has_vfio(host, settings.kernel);
  settings.vfio_forbidden = vfio_forbidden(host);
  settings.has_vfio_node = has_vfio_node(host);
  if (settings.has_vfio_node.value_or(false)) settings.vfio_node = host.stat("/dev/vfio/vfio");
  const std::string qemu = sysfs::text(host, "/etc/libvirt/qemu.conf").value_or("");
  settings.qemu_user = qemu_setting(qemu, "user");
  settings.has_dynamic_ownership = qemu_setting(qemu, "dynamic_ownership") != "0";
  settings.sleep_states = sysfs::text(host, "/sys/power/state").value_or("");
  settings.is_sleep_masked = is_masked(host, "sleep.target");
  settings.lockdown = lockdown(host);
  settings.physical_bits = physical_bits(host);
  settings.iommu_bits = iommu_bits(host);
  settings.hooks = qemu_hooks(host);
  const std::string meminfo = sysfs::text(host, "/proc/meminfo").value_or("");
  settings.memory = sysfs::kilobytes(sysfs::field(meminfo, "MemTotal").value_or(""));
  settings.nodes = read_nodes(host, meminfo);
  return settings;
}

}  // namespace vmgraft

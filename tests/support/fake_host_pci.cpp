// SPDX-License-Identifier: Apache-2.0
// FakeHost's PCI functions: what the kernel does when their attributes are written to.
// Source: the kernel's drivers/pci/pci-sysfs.c, drivers/base/bus.c, drivers/pci/iov.c, drivers/vfio/mdev.
#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

#include <vmgraft/error.hpp>

#include "support/fake_host.hpp"

namespace vmgraft {
namespace {

using std::filesystem::path;

const std::string kDevices = "/sys/bus/pci/devices/";
const std::string kDrivers = "/sys/bus/pci/drivers/";
const std::string kGroups = "/sys/kernel/iommu_groups/";
const std::string kMdevs = "/sys/bus/mdev/devices/";
const std::string kVfio = "/dev/vfio/";

std::string trimmed(std::string_view text) {
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  return std::string(text);
}

/// What a link at \p link says to lead to \p target.
std::string relative(const std::string& link, const std::string& target) {
  return path(target).lexically_relative(path(link).parent_path()).native();
}

bool is_vfio(const std::string& driver) {
  return driver == "vfio-pci" || driver.ends_with("_vfio_pci");
}

bool is_address(const std::string& name) {
  return name.size() == 12 && name[4] == ':' && name[7] == ':' && name[10] == '.';
}

bool is_uuid(const std::string& name) {
  return name.size() == 36 && name[8] == '-' && name[13] == '-' && name[18] == '-' && name[23] == '-';
}

/// Attributes that only remember what was written.
bool is_plain(const std::string& name) {
  const std::set<std::string> names = {"bind", "control", "current_vgpu_type", "d3cold_allowed",
                                       "sriov_drivers_autoprobe"};
  return names.contains(name);
}

}  // namespace

// --- making a world

void FakeHost::add_pci_function(const std::string& address, unsigned group, const std::string& bridges) {
  const std::string folder = "/sys/devices/" + bridges + "/" + address;
  add_file(folder + "/class", "0x030200\n", 0444);
  add_file(folder + "/vendor", "0x10de\n", 0444);
  add_file(folder + "/device", "0x2330\n", 0444);
  add_file(folder + "/config", std::string("\xde\x10\x30\x23", 4) + std::string(252, '\0'));
  add_file(folder + "/numa_node", "0\n");
  add_file(folder + "/power_state", "D0\n", 0444);
  add_file(folder + "/d3cold_allowed", "1\n");
  add_file(folder + "/power/control", "auto\n");
  add_file(folder + "/driver_override", "(null)\n");
  add_file(folder + "/reset", "", 0200);
  add_file(folder + "/reset_method", "flr bus\n");
  add_link(kDevices + address, relative(kDevices + address, folder));
  const std::string group_folder = kGroups + std::to_string(group);
  add_file(group_folder + "/type", "DMA-FQ\n");
  add_link(group_folder + "/devices/" + address, relative(group_folder + "/devices/" + address, folder));
  add_link(folder + "/iommu_group", relative(folder + "/iommu_group", group_folder));
  add_folder(kDrivers + "vfio-pci");
  add_file(kVfio + "vfio", "", 0666);
}

void FakeHost::add_pci_driver(const std::string& address, const std::string& driver) {
  add_folder(kDrivers + driver);
  own_drivers_[address] = driver;
  if (pci_driver(address).empty()) bind(address, driver);
}

void FakeHost::add_virtual_function(const std::string& physical, const std::string& address, unsigned group,
                                    const std::string& driver) {
  possible_vfs_[physical].push_back({address, group});
  if (!driver.empty()) {
    add_folder(kDrivers + driver);
    own_drivers_[address] = driver;
  }
  const std::string folder = pci_folder(physical);
  add_file(folder + "/sriov_totalvfs", std::to_string(possible_vfs_[physical].size()) + "\n", 0444);
  if (!exists(folder + "/sriov_numvfs")) add_file(folder + "/sriov_numvfs", "0\n");
  if (!exists(folder + "/sriov_drivers_autoprobe")) add_file(folder + "/sriov_drivers_autoprobe", "1\n");
}

void FakeHost::add_mdev_type(const std::string& address, const std::string& type, unsigned instances) {
  const std::string folder = pci_folder(address) + "/mdev_supported_types/" + type;
  add_file(folder + "/name", type + "\n", 0444);
  add_file(folder + "/available_instances", std::to_string(instances) + "\n", 0444);
  add_file(folder + "/device_api", "vfio-pci\n", 0444);
  add_file(folder + "/create", "", 0200);
  add_folder(folder + "/devices");
  add_folder(path(kMdevs).parent_path());
}

std::string FakeHost::pci_folder(const std::string& address) const {
  if (find(kDevices + address) == nullptr) throw std::logic_error("FakeHost: no PCI function '" + address + "'");
  return followed(kDevices + address, true);
}

std::string FakeHost::pci_driver(const std::string& address) const {
  const Node* link = find(pci_folder(address) + "/driver");
  return link == nullptr ? "" : path(link->target).filename().native();
}

// --- the effects

void FakeHost::write_attribute(const path& file, std::string_view value, std::chrono::seconds deadline) {
  const std::string text = trimmed(value);
  effect("write_attribute " + file.native() + " " + text, file, [&] {
    if (hanging_.contains(file.native())) {
      throw Error(Errc::unreachable, "writing '" + text + "' to '" + file.native() + "' has not come back within " +
                                         std::to_string(deadline.count()) + " s (helper pid 1)");
    }
    change_attribute(file, text);
  });
}

void FakeHost::hot_reset(const std::vector<std::string>& addresses, std::chrono::seconds) {
  std::string list;
  for (const std::string& address : addresses) list += " " + address;
  effect("hot_reset" + list, "/", [&] {
    for (const std::string& address : addresses) {
      if (!exists(kDevices + address)) throw Error(Errc::not_found, "the host has no function " + address);
      if (!is_vfio(pci_driver(address))) throw Error(Errc::host_unfit, address + " is not on vfio-pci");
      for (const std::string& other : list_folder(kDevices)) {
        const bool shares_slot = other.substr(0, other.size() - 1) == address.substr(0, address.size() - 1);
        const bool is_asked = std::find(addresses.begin(), addresses.end(), other) != addresses.end();
        if (shares_slot && !is_asked) throw Error(Errc::host_unfit, "the reset would touch " + other + " as well");
      }
    }
    for (const std::string& address : addresses) was_reset(address);
  });
}

void FakeHost::change_attribute(const path& file, const std::string& value) {
  const auto refuse = [&](int number) {
    throw Error(Errc::other,
                "cannot write '" + value + "' to '" + file.native() + "': " + std::generic_category().message(number));
  };
  const path whole = followed(file, false);
  const std::string name = whole.filename();
  const std::string folder = whole.parent_path();
  if (find(folder) == nullptr) refuse(ENOENT);
  if (whole == "/sys/bus/pci/drivers_probe") {
    if (!exists(kDevices + value)) refuse(ENODEV);
    return probe(value);
  }
  if (name == "unbind" && folder.starts_with(kDrivers)) {
    const std::string driver = path(folder).filename();
    if (!exists(kDevices + value) || pci_driver(value) != driver) refuse(ENODEV);
    return unbind(value);
  }
  if (find(whole) == nullptr) refuse(ENOENT);
  if (name == "create" && path(folder).parent_path().filename() == "mdev_supported_types")
    return create_mdev(folder, value, refuse);
  if (name == "remove" && is_uuid(path(folder).filename())) return remove_mdev(folder);
  if (is_plain(name)) return set_text(whole, value + "\n");
  if (!is_address(path(folder).filename()) || !change_of_device(folder, name, value, refuse))
    throw std::logic_error("FakeHost: does not model writing to '" + file.native() + "'");
}

bool FakeHost::change_of_device(const std::string& folder, const std::string& name, const std::string& value,
                                const std::function<void(int)>& refuse) {
  const std::string address = path(folder).filename();
  if (name == "driver_override") {
    set_text(folder + "/driver_override", (value.empty() ? "(null)" : value) + "\n");
  } else if (name == "reset") {
    if (value != "1") refuse(EINVAL);
    if (trimmed(text(folder + "/reset_method")).empty()) refuse(ENOTTY);
    was_reset(address);
  } else if (name == "reset_method") {
    set_reset_methods(folder, value, refuse);
  } else if (name == "sriov_numvfs") {
    set_vfs(address, value, refuse);
  } else {
    return false;
  }
  return true;
}

// --- files

std::string FakeHost::text(const std::string& file) const {
  const Node* node = find(file);
  return node == nullptr ? "" : node->bytes(0, static_cast<std::size_t>(node->size));
}

void FakeHost::set_text(const std::string& file, const std::string& content) {
  Node& node = must_find(file, "write");
  node.size = content.size();
  node.extents = {{0, content}};
}

// --- drivers

std::string FakeHost::group_of(const std::string& address) const {
  const Node* link = find(pci_folder(address) + "/iommu_group");
  return link == nullptr ? "" : path(link->target).filename().native();
}

std::vector<std::string> FakeHost::group_members(const std::string& group) const {
  std::vector<std::string> members;
  for (const std::string& name : below(kGroups + group + "/devices")) members.push_back(path(name).filename());
  return members;
}

void FakeHost::bind(const std::string& address, const std::string& driver) {
  const std::string link = pci_folder(address) + "/driver";
  add_link(link, relative(link, kDrivers + driver));
  const std::string group = group_of(address);
  if (is_vfio(driver) && !group.empty() && !exists(kVfio + group)) add_file(kVfio + group, "", 0600);
}

void FakeHost::unbind(const std::string& address) {
  erase(pci_folder(address) + "/driver");
  const std::vector<std::string> members = group_members(group_of(address));
  const bool is_held =
      std::any_of(members.begin(), members.end(), [&](const auto& member) { return is_vfio(pci_driver(member)); });
  if (!is_held && !members.empty()) erase(kVfio + group_of(address));
}

void FakeHost::probe(const std::string& address) {
  if (!pci_driver(address).empty()) return;
  std::string driver = trimmed(text(pci_folder(address) + "/driver_override"));
  if (driver.empty() || driver == "(null)") driver = own_drivers_[address];
  // An override that names no loaded driver is no error: the function stays without one.
  if (!driver.empty() && exists(kDrivers + driver)) bind(address, driver);
}

// --- resets

void FakeHost::set_reset_methods(const std::string& folder, const std::string& value,
                                 const std::function<void(int)>& refuse) {
  const std::string first = first_methods_.try_emplace(folder, text(folder + "/reset_method")).first->second;
  if (value == "default") return set_text(folder + "/reset_method", first);
  const std::string known = " " + trimmed(first) + " ";
  for (std::string_view rest = value; !rest.empty();) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    if (known.find(" " + std::string(rest.substr(0, end)) + " ") == std::string::npos) refuse(EINVAL);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  set_text(folder + "/reset_method", value + "\n");
}

void FakeHost::was_reset(const std::string& address) {
  if (breaking_.erase(address) == 0) return;
  const std::string config = pci_folder(address) + "/config";
  set_text(config, std::string(text(config).size(), '\xff'));
}

// --- functions that are made and removed

void FakeHost::remove_pci_function(const std::string& address) {
  if (!pci_driver(address).empty()) unbind(address);
  const std::string group = group_of(address);
  erase(pci_folder(address));
  erase(kDevices + address);
  erase(kGroups + group + "/devices/" + address);
  if (group_members(group).empty()) erase(kGroups + group);
}

void FakeHost::set_vfs(const std::string& physical, const std::string& value, const std::function<void(int)>& refuse) {
  const std::string folder = pci_folder(physical);
  const std::vector<VirtualFunction>& possible = possible_vfs_[physical];
  if (value.empty() || value.find_first_not_of("0123456789") != std::string::npos) refuse(EINVAL);
  const std::size_t now = std::stoul(text(folder + "/sriov_numvfs"));
  const std::size_t wanted = std::stoul(value);
  if (wanted > possible.size()) refuse(ERANGE);
  if (wanted == now) return;
  if (wanted != 0 && now != 0) refuse(EBUSY);
  for (std::size_t i = 0; i < now; ++i) {
    remove_pci_function(possible[i].address);
    erase(folder + "/virtfn" + std::to_string(i));
  }
  const std::string bridges = path(folder).parent_path().lexically_relative("/sys/devices").native();
  for (std::size_t i = 0; i < wanted; ++i) {
    const VirtualFunction& made = possible[i];
    add_pci_function(made.address, made.group, bridges);
    const std::string its = pci_folder(made.address);
    for (const std::string same : {"/class", "/vendor", "/device"}) set_text(its + same, text(folder + same));
    set_text(its + "/reset_method", "flr\n");
    add_link(its + "/physfn", "../" + physical);
    add_link(folder + "/virtfn" + std::to_string(i), "../" + made.address);
    if (trimmed(text(folder + "/sriov_drivers_autoprobe")) != "0") probe(made.address);
  }
  set_text(folder + "/sriov_numvfs", value + "\n");
}

void FakeHost::create_mdev(const std::string& type_folder, const std::string& uuid,
                           const std::function<void(int)>& refuse) {
  if (!is_uuid(uuid)) refuse(EINVAL);
  if (exists(kMdevs + uuid)) refuse(EEXIST);
  const std::size_t left = std::stoul(text(type_folder + "/available_instances"));
  if (left == 0) refuse(EUSERS);
  set_text(type_folder + "/available_instances", std::to_string(left - 1) + "\n");
  const std::string folder = path(type_folder).parent_path().parent_path() / uuid;
  add_file(folder + "/remove", "", 0200);
  add_link(folder + "/mdev_type", relative(folder + "/mdev_type", type_folder));
  add_link(type_folder + "/devices/" + uuid, relative(type_folder + "/devices/" + uuid, folder));
  add_link(kMdevs + uuid, relative(kMdevs + uuid, folder));
}

void FakeHost::remove_mdev(const std::string& folder) {
  const std::string uuid = path(folder).filename();
  const std::string type_folder = followed(folder + "/mdev_type", true);
  const std::size_t left = std::stoul(text(type_folder + "/available_instances"));
  set_text(type_folder + "/available_instances", std::to_string(left + 1) + "\n");
  erase(type_folder + "/devices/" + uuid);
  erase(kMdevs + uuid);
  erase(folder);
}

}  // namespace vmgraft

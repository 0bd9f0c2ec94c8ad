// SPDX-License-Identifier: Apache-2.0
// Formats of the attributes: Documentation/ABI/testing/sysfs-bus-pci of the kernel.
#include <algorithm>
#include <cctype>
#include <limits>

#include "gpu/devices.hpp"
#include "gpu/sysfs.hpp"
#include "model/pci_address.hpp"

namespace vmgraft {
namespace {

const std::string kDevices = "/sys/bus/pci/devices/";
const std::string kGroups = "/sys/kernel/iommu_groups/";

bool is_gpu_class(std::uint32_t class_code) {
  return class_code >> 16 == 0x03 || class_code >> 8 == 0x1200;
}

template <typename Number>
Number number_at(Host& host, const std::string& file, int base, Number otherwise) {
  const std::optional<std::string> text = sysfs::text(host, file);
  if (!text) return otherwise;
  const std::optional<std::uint64_t> value = sysfs::number(*text, base);
  return value && *value <= std::numeric_limits<Number>::max() ? static_cast<Number>(*value) : otherwise;
}

/// "start end flags", a line a resource; those beyond the sixth are ROM, bridge windows and BARs of VFs.
std::vector<PciBar> parse_bars(std::string_view text) {
  constexpr std::uint64_t kMemory = 0x200, kPrefetch = 0x2000, k64Bit = 0x100000;
  std::vector<PciBar> bars;
  unsigned index = 0;
  for (const std::string_view line : sysfs::lines(text)) {
    if (index == 6) break;
    const unsigned here = index++;
    const std::vector<std::string_view> words = sysfs::words(line);
    if (words.size() != 3) continue;
    const auto start = sysfs::number(words[0], 16), end = sysfs::number(words[1], 16),
               flags = sysfs::number(words[2], 16);
    if (!start || !end || !flags || *end <= *start) continue;
    bars.push_back(
        {here, *start, *end - *start + 1, (*flags & kMemory) != 0, (*flags & k64Bit) != 0, (*flags & kPrefetch) != 0});
  }
  return bars;
}

/// "nvme0n1" of "nvme0c2n1": what is one path of several has no node of its own.
std::string without_path(std::string name) {
  const std::size_t path = name.find('c');
  if (path != std::string::npos) name.erase(path, name.find('n', path) - path);
  return name;
}

/// One function's attributes. A single look at its folder says which are there: what is absent costs no call.
class FunctionReader {
 public:
  FunctionReader(Host& host, std::string address, std::string folder)
      : host_(host), folder_(std::move(folder)), names_(sysfs::names(host, folder_)) {
    function_.address = std::move(address);
  }

  /// Nothing when the function has vanished.
  std::optional<PciFunction> read() {
    if (!has("class")) return std::nullopt;
    read_identity();
    read_place();
    if (!function_.is_bridge()) {  // of which no more is asked: a host has many, and each attribute is a file
      read_state();
      function_.bars = parse_bars(text("resource"));
      function_.boot_vga = text("boot_vga") == "1";
      const std::string methods = text("reset_method");
      for (const std::string_view method : sysfs::words(methods)) function_.reset_methods.emplace_back(method);
      read_sharing();
      read_nodes();
      function_.answers = answers();
    }
    // What went meanwhile is half read: its attributes look absent.
    if (!host_.stat(at("class"))) return std::nullopt;
    return std::move(function_);
  }

 private:
  [[nodiscard]] bool has(std::string_view name) const {
    return std::binary_search(names_.begin(), names_.end(), name, std::less<>());
  }
  [[nodiscard]] std::string at(std::string_view name) const { return folder_ + "/" + std::string(name); }
  [[nodiscard]] std::string text(std::string_view name) {
    return has(name) ? sysfs::text(host_, at(name)).value_or("") : std::string();
  }
  [[nodiscard]] std::string link(std::string_view name) {
    return has(name) ? sysfs::link_name(host_, at(name)) : std::string();
  }
  [[nodiscard]] std::vector<std::string> list(std::string_view name) {
    return has(name) ? sysfs::names(host_, at(name)) : std::vector<std::string>();
  }
  template <typename Number>
  [[nodiscard]] Number number(std::string_view name, int base) {
    return has(name) ? number_at<Number>(host_, at(name), base, 0) : Number{0};
  }

  void read_identity() {
    function_.class_code = number<std::uint32_t>("class", 16);
    function_.vendor = number<std::uint16_t>("vendor", 16);
    function_.device = number<std::uint16_t>("device", 16);
    function_.driver = link("driver");
  }

  void read_place() {
    if (const auto group = sysfs::number(link("iommu_group"))) function_.iommu_group = static_cast<unsigned>(*group);
    function_.path = sysfs::addresses_in(folder_);
    if (!function_.path.empty()) function_.path.pop_back();
  }

  void read_state() {
    function_.subsystem_vendor = number<std::uint16_t>("subsystem_vendor", 16);
    function_.subsystem_device = number<std::uint16_t>("subsystem_device", 16);
    function_.driver_override = text("driver_override");
    if (function_.driver_override == "(null)") function_.driver_override.clear();
    if (const auto node = sysfs::number(text("numa_node")); node && *node < 4096) {
      function_.numa_node = static_cast<int>(*node);
    }
    function_.link = {speed("current_link_speed"), speed("max_link_speed"), number<unsigned>("current_link_width", 10),
                      number<unsigned>("max_link_width", 10)};
    function_.power_state = text("power_state");
    function_.d3cold_allowed = text("d3cold_allowed");
    if (has("power")) function_.power_control = sysfs::text(host_, at("power/control")).value_or("");
  }

  std::string speed(std::string_view name) {
    std::string told = text(name);
    return told.starts_with("Unknown") ? std::string() : told;
  }

  void read_sharing() {
    function_.most_vfs = number<unsigned>("sriov_totalvfs", 10);
    function_.vfs = number<unsigned>("sriov_numvfs", 10);
    function_.physical_function = link("physfn");
    std::map<std::uint64_t, std::string> vfs;  // virtfn10 comes behind virtfn9
    for (const std::string& name : names_) {
      if (is_mdev_uuid(name)) function_.mdevs.push_back(name);
      if (!name.starts_with("virtfn")) continue;
      if (const auto index = sysfs::number(std::string_view(name).substr(6))) vfs[*index] = link(name);
    }
    for (const auto& [index, address] : vfs) {
      if (!address.empty()) function_.virtual_functions.push_back(address);
    }
    for (const std::string& type : list("mdev_supported_types")) {
      const std::string folder = at("mdev_supported_types/" + type);
      function_.mdev_types.push_back({type, sysfs::text(host_, folder + "/name").value_or(""),
                                      number_at<unsigned>(host_, folder + "/available_instances", 10, 0)});
    }
  }

  void read_nodes() {
    std::vector<std::string>& nodes = function_.nodes;
    for (const std::string& name : list("drm")) nodes.push_back("/dev/dri/" + name);
    for (const std::string& name : list("graphics")) nodes.push_back("/dev/" + name);
    for (const std::string& name : list("accel")) nodes.push_back("/dev/accel/" + name);
    for (const std::string& name : list("vfio-dev")) nodes.push_back("/dev/vfio/devices/" + name);
    for (const std::string& card : list("sound")) {
      for (const std::string& name : sysfs::names(host_, at("sound/" + card))) {
        // Beside the nodes (controlC1, hwC1D0, midiC1D0, pcmC1D0p) stand attributes: id, number, power ...
        const std::size_t index = name.find('C');
        if (index != std::string::npos && index + 1 < name.size() &&
            std::isdigit(static_cast<unsigned char>(name[index + 1]))) {
          nodes.push_back("/dev/snd/" + name);
        }
      }
    }
    for (const std::string& controller : list("nvme")) {
      nodes.push_back("/dev/" + controller);
      for (const std::string& name : sysfs::names(host_, at("nvme/" + controller))) {
        if (name.starts_with("nvme")) nodes.push_back("/dev/" + without_path(name));
      }
    }
    if (function_.driver == "nvidia") read_nvidia_node();
  }

  /// The driver makes its nodes outside sysfs, by its own count.
  void read_nvidia_node() {
    const auto told = sysfs::text(host_, "/proc/driver/nvidia/gpus/" + function_.address + "/information");
    if (!told) return;
    const auto minor = sysfs::number(sysfs::field(*told, "Device Minor").value_or(""));
    if (minor) function_.nodes.push_back("/dev/nvidia" + std::to_string(*minor));
  }

  bool answers() {
    // Reading the config space of a function in D3cold wakes it up: a laptop's GPU must sleep through `gpu list`.
    if (function_.power_state == "D3cold" || !has("config")) return true;
    // A VF's ids read as ffff though it is alive (SR-IOV specification, 3.4.1): there the class tells.
    constexpr std::size_t kClass = 9, kAfterClass = 12;
    const std::string start = sysfs::start_of(host_, at("config"), kAfterClass);
    if (function_.physical_function.empty()) return !start.starts_with("\xff\xff");
    return start.size() < kAfterClass || start.find_first_not_of('\xff', kClass) != std::string::npos;
  }

  Host& host_;
  std::string folder_;
  std::vector<std::string> names_;
  PciFunction function_;
};

class DevicesReader {
 public:
  DevicesReader(Host& host, GpuConfig config) : host_(host) { devices_.config = std::move(config); }

  HostDevices read() {
    devices_.has_iommu = !sysfs::names(host_, kGroups).empty();
    for (std::string& address : sysfs::names(host_, kDevices)) {
      if (parse_pci_address(address) == address) addresses_.insert(std::move(address));
    }
    for (const std::string& address : addresses_) {
      const auto class_code = number_at<std::uint32_t>(host_, kDevices + address + "/class", 16, 0);
      if (is_gpu(kDevices + address, class_code))
        take_gpu(address);
      else if (is_nvswitch(kDevices + address, class_code))
        take(address);
    }
    for (const std::string& gpu : std::vector<std::string>(gpus_.begin(), gpus_.end())) take_surroundings(gpu);
    for (auto& [address, function] : functions_) devices_.functions.push_back(std::move(function));
    devices_.gpus.assign(gpus_.begin(), gpus_.end());
    return std::move(devices_);
  }

 private:
  [[nodiscard]] bool is_gpu(const std::string& folder, std::uint32_t class_code) {
    if (is_gpu_class(class_code)) return true;
    const std::vector<std::string>& also = devices_.config.also;
    if (also.empty()) return false;
    const std::string id = pci_id(number_at<std::uint16_t>(host_, folder + "/vendor", 16, 0),
                                  number_at<std::uint16_t>(host_, folder + "/device", 16, 0));
    return std::find(also.begin(), also.end(), id) != also.end();
  }

  /// It joins the GPUs of its board: who asks for several wants to know that it is there.
  [[nodiscard]] bool is_nvswitch(const std::string& folder, std::uint32_t class_code) {
    return class_code >> 8 == 0x0680 && number_at<std::uint16_t>(host_, folder + "/vendor", 16, 0) == kNvidia;
  }

  /// \returns nothing when there is no such function any more.
  const PciFunction* take(const std::string& address) {
    if (const auto known = functions_.find(address); known != functions_.end()) return &known->second;
    if (!addresses_.contains(address)) return nullptr;
    std::optional<PciFunction> function = read_function(host_, address);
    if (!function) return nullptr;
    return &functions_.emplace(address, std::move(*function)).first->second;
  }

  void take_gpu(const std::string& address) {
    const PciFunction* gpu = take(address);
    if (gpu == nullptr || !gpus_.insert(address).second) return;
    // VFs have ids of their own, which the configuration need not name.
    for (const std::string& vf : gpu->virtual_functions) take_gpu(vf);
  }

  void take_surroundings(const std::string& address) {
    const PciFunction& gpu = functions_.at(address);
    for (const std::string& member : take_group(gpu)) take(member);
    for (const std::string& bridge : gpu.path) take(bridge);
    const std::string slot = gpu.slot() + ".";
    for (auto mate = addresses_.lower_bound(slot); mate != addresses_.end() && mate->starts_with(slot); ++mate) {
      if (const PciFunction* function = take(*mate)) take_group(*function);
    }
  }

  /// \returns its members.
  std::vector<std::string> take_group(const PciFunction& function) {
    if (!function.iommu_group) return {};
    const std::string folder = kGroups + std::to_string(*function.iommu_group);
    auto [place, is_new] = devices_.groups.try_emplace(*function.iommu_group);
    IommuGroup& group = place->second;
    if (is_new) {
      group.number = *function.iommu_group;
      group.members = sysfs::names(host_, folder + "/devices");
      group.type = sysfs::text(host_, folder + "/type").value_or("");
      read_reserved(group, sysfs::text(host_, folder + "/reserved_regions").value_or(""));
    }
    return group.members;
  }

  /// "0x00000000fee00000 0x00000000feefffff msi", a line each.
  static void read_reserved(IommuGroup& group, std::string_view text) {
    for (const std::string_view line : sysfs::lines(text)) {
      const std::vector<std::string_view> words = sysfs::words(line);
      if (words.size() != 3) continue;
      const auto start = sysfs::number(words[0], 16), end = sysfs::number(words[1], 16);
      if (start && end) group.reserved.push_back({*start, *end, std::string(words[2])});
    }
  }

  Host& host_;
  HostDevices devices_;
  std::set<std::string> addresses_;  ///< of every function
  std::map<std::string, PciFunction> functions_;
  std::set<std::string> gpus_;
};

}  // namespace

bool is_mdev_uuid(std::string_view name) {
  if (name.size() != 36) return false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (is_dash ? name[i] != '-' : !std::isxdigit(static_cast<unsigned char>(name[i]))) return false;
  }
  return true;
}

const PciFunction* HostDevices::find(const std::string& address) const {
  const auto found = std::lower_bound(
      functions.begin(), functions.end(), address,
      [](const PciFunction& function, const std::string& wanted) { return function.address < wanted; });
  return found != functions.end() && found->address == address ? &*found : nullptr;
}

std::optional<PciFunction> read_function(Host& host, const std::string& address) {
  return FunctionReader(host, address, sysfs::function_folder(host, address)).read();
}

HostDevices read_devices(Host& host, GpuConfig config) {
  return DevicesReader(host, std::move(config)).read();
}

}  // namespace vmgraft

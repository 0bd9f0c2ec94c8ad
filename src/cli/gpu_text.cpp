// SPDX-License-Identifier: Apache-2.0
#include "cli/gpu_text.hpp"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "cli/table.hpp"
#include "cli/text.hpp"
#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft::cli {

namespace {

constexpr std::size_t kLongestName = 37;  // and "..."

const char* colour_of(GpuState state) {
  switch (state) {
    case GpuState::vfio:
    case GpuState::lent:
      return "green";
    case GpuState::dirty:
      return "yellow";
    case GpuState::quarantined:
      return "red";
    case GpuState::host:
    case GpuState::in_vm:
      break;
  }
  return nullptr;
}

std::string number(const std::optional<unsigned>& value) {
  return value ? std::to_string(*value) : "";
}

std::string memory_text(std::uint64_t bytes) {
  return bytes == 0 ? "" : format_size(bytes);
}

/// "16.0 GT/s x16", and what it could be where that is more.
std::string link_text(const GpuLink& link) {
  const auto one = [](const std::string& speed, unsigned width) {
    return fmt::format("{} x{}", speed.substr(0, speed.rfind(" PCIe")), width);
  };
  if (link.speed.empty() || link.width == 0) return {};
  const std::string now = one(link.speed, link.width);
  if (link.most_speed.empty() || link.most_width == 0) return now;
  const std::string most = one(link.most_speed, link.most_width);
  return now == most ? now : now + " of " + most;
}

std::string neighbours_text(const std::vector<GpuNeighbour>& neighbours) {
  std::vector<std::string> texts;
  for (const GpuNeighbour& one : neighbours) {
    texts.push_back(fmt::format("{} {}{}", one.role, one.address, one.driver.empty() ? "" : " (" + one.driver + ")"));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string parts_text(const GpuInfo& gpu) {
  std::vector<std::string> texts;
  if (gpu.most_vfs > 0) texts.push_back(fmt::format("{} of {} VFs", gpu.vfs, gpu.most_vfs));
  if (!gpu.physical_function.empty()) texts.push_back("VF of " + gpu.physical_function);
  for (const GpuMdevType& type : gpu.mdev_types) texts.push_back(fmt::format("{} {}", type.available, type.id));
  return fmt::format("{}", fmt::join(texts, ", "));
}

/// pci.ids writes companies with their legal form: what stands behind it is the device.
std::string without_vendor(const std::string& name) {
  std::size_t start = 0;
  for (const std::string_view form : {"Corporation ", "Inc. ", "Ltd. ", "] "}) {
    const std::size_t at = name.rfind(form);
    if (at != std::string::npos) start = std::max(start, at + form.size());
  }
  return name.substr(start);
}

/// A name cut to fit a table: the one in brackets, under which it is sold, "H100 SXM5 80GB"; else, when it is long,
/// what stands behind the vendor.
std::string short_name(const std::string& name) {
  const std::size_t open = name.rfind('[');
  const bool is_sold_as = open != std::string::npos && open > 0 && name.back() == ']' && name.size() > open + 2;
  if (is_sold_as) return printable(name.substr(open + 1, name.size() - open - 2), kLongestName);
  return printable(name.size() > kLongestName ? without_vendor(name) : name, kLongestName);
}

/// A switch is an upstream port and a downstream port on the way; what is left over is a bridge to conventional PCI.
std::string kind_of_bridge(std::size_t index, std::size_t count) {
  if (index == 0) return "root port";
  return index + 1 == count && count % 2 == 0 ? "bridge" : "switch port";
}

/// The tree of --tree, grown from the way to each GPU.
class Tree {
 public:
  explicit Tree(const Terminal& terminal)
      : table_(terminal, {{"DEVICE", Column::Kind::tree},
                          {"WHAT"},
                          {"GROUP", Column::Kind::right},
                          {"NODE", Column::Kind::right},
                          {"DRIVER"},
                          {"STATE"},
                          {"VM"}}) {}

  void add(const GpuInfo& gpu) {
    std::string above = host_bridge(gpu);
    for (std::size_t i = 0; i < gpu.path.size(); ++i) {
      const std::string& bridge = gpu.path[i];
      const auto in_group = std::find_if(gpu.neighbours.begin(), gpu.neighbours.end(),
                                         [&](const GpuNeighbour& one) { return one.address == bridge; });
      const bool known = in_group != gpu.neighbours.end();
      put(above, bridge,
          {bridge, kind_of_bridge(i, gpu.path.size()), known ? number(gpu.iommu_group) : "", "",
           known ? in_group->driver : "", "", ""});
      above = bridge;
    }
    const std::size_t row = put(above, gpu.address,
                                {gpu.address, short_name(gpu.name), number(gpu.iommu_group), number(gpu.numa_node),
                                 gpu.driver, to_string(gpu.state), gpu.vm});
    if (const char* colour = colour_of(gpu.state)) table_.colour(row, 5, colour);
    for (const GpuNeighbour& one : gpu.neighbours) {
      if (one.role == "bridge") continue;
      const std::string what = one.role + ", " + short_name(one.name.empty() ? one.id : one.name);
      // Only a stranger is sure to be of the group; a companion may be of the slot alone.
      table_.add_below(
          row, {one.address, what, one.role == "stranger" ? number(gpu.iommu_group) : "", "", one.driver, "", ""});
    }
  }

  [[nodiscard]] std::string text() { return table_.text(); }

 private:
  /// "pci0000:40", as sysfs calls it: the bus that the way begins on.
  std::string host_bridge(const GpuInfo& gpu) {
    const std::string& first = gpu.path.empty() ? gpu.address : gpu.path.front();
    const std::string name = "pci" + first.substr(0, first.rfind(':'));
    if (rows_.count(name) == 0) rows_[name] = table_.add({name, "host bridge", "", number(gpu.numa_node), "", "", ""});
    return name;
  }

  std::size_t put(const std::string& above, const std::string& device, const std::vector<std::string>& cells) {
    const auto known = rows_.find(device);
    if (known != rows_.end()) return known->second;
    return rows_[device] = table_.add_below(rows_.at(above), cells);
  }

  Table table_;
  std::map<std::string, std::size_t> rows_;
};

}  // namespace

std::string gpus_text(const Terminal& terminal, const std::vector<GpuInfo>& gpus, bool wide) {
  if (gpus.empty()) return {};
  using Kind = Column::Kind;
  std::vector<Column> columns{
      {"ADDRESS"}, {"NAME"}, {"MEMORY", Kind::right}, {"NODE", Kind::right}, {"GROUP", Kind::right}, {"DRIVER"},
      {"STATE"},   {"VM"}};
  if (wide) {
    for (const char* name : {"ID", "SUBSYSTEM", "LINK", "RESET", "PARTS", "NEIGHBOURS"}) columns.push_back({name});
  }
  Table table(terminal, columns);
  std::string notes;
  for (const GpuInfo& gpu : gpus) {
    std::vector<std::string> cells{gpu.address,
                                   wide ? gpu.name : short_name(gpu.name),
                                   memory_text(gpu.memory),
                                   number(gpu.numa_node),
                                   number(gpu.iommu_group),
                                   gpu.driver,
                                   to_string(gpu.state),
                                   gpu.vm};
    const std::vector<std::string> more{gpu.id,
                                        gpu.subsystem,
                                        link_text(gpu.link),
                                        fmt::format("{}", fmt::join(gpu.reset_methods, ",")),
                                        parts_text(gpu),
                                        neighbours_text(gpu.neighbours)};
    if (wide) cells.insert(cells.end(), more.begin(), more.end());
    const std::size_t row = table.add(cells);
    if (const char* colour = colour_of(gpu.state)) table.colour(row, 6, colour);
    if (!gpu.note.empty()) notes += fmt::format("{}: {}\n", gpu.address, printable(gpu.note, kLongestValue));
  }
  return table.text() + (notes.empty() ? "" : "\n" + notes);
}

std::string gpu_tree_text(const Terminal& terminal, const std::vector<GpuInfo>& gpus) {
  if (gpus.empty()) return {};
  Tree tree(terminal);
  for (const GpuInfo& gpu : gpus) tree.add(gpu);
  return tree.text();
}

std::string gpu_checks_text(const Terminal& terminal, const std::vector<GpuCheck>& rows) {
  if (rows.empty()) return {};
  Table table(terminal, {{"ADDRESS"}, {"ID"}, {"HEALTH"}, {"SEEN"}});
  // Eight GPUs of one host mostly need one remedy.
  std::vector<std::pair<std::string, std::vector<std::string>>> remedies;
  for (const GpuCheck& row : rows) {
    const std::size_t line = table.add({row.address, row.id, to_string(row.health), row.seen});
    table.colour(line, 2, colour_of(row.health));
    if (row.remedy.empty()) continue;
    const std::string remedy = printable(row.id) + ": " + printable(row.remedy, kLongestValue);
    auto known = std::find_if(remedies.begin(), remedies.end(), [&](const auto& one) { return one.first == remedy; });
    if (known == remedies.end()) known = remedies.insert(known, {remedy, {}});
    if (!row.address.empty()) known->second.push_back(row.address);
  }
  std::string text = table.text();
  if (!remedies.empty()) text += "\n";
  for (const auto& [remedy, addresses] : remedies) {
    text += remedy + (addresses.empty() ? "" : fmt::format(" ({})", fmt::join(addresses, ", "))) + "\n";
  }
  return text;
}

std::string gpu_changes_text(const std::vector<GpuChange>& changes) {
  std::string text;
  for (const GpuChange& change : changes) {
    text += fmt::format("{} {} ({})\n", change.address, to_string(change.state),
                        change.driver.empty() ? "no driver" : printable(change.driver));
  }
  return text;
}

}  // namespace vmgraft::cli

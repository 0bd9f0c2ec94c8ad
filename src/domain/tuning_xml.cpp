// SPDX-License-Identifier: Apache-2.0
#include "domain/tuning_xml.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "domain/guest_pci.hpp"

namespace vmgraft {
namespace {

/// "0-3,8" of sorted numbers, as libvirt writes them.
std::string number_set(const std::vector<unsigned>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += last == i ? std::to_string(numbers[i]) : fmt::format("{}-{}", numbers[i], numbers[last]);
    i = last + 1;
  }
  return text;
}

/// A child of the domain right after \p before when that is there.
xmlNode* top_element(xmlNode* domain, const char* name, const char* before) {
  if (xmlNode* there = xml::child(domain, name); there != nullptr) return there;
  xmlNode* sibling = xml::child(domain, before);
  return sibling == nullptr ? xml::add(domain, name) : xml::add_after(sibling, name);
}

class TuningXml {
 public:
  TuningXml(xmlNode* domain, const HostTuning& tuning, std::vector<std::string>& missed)
      : domain_(domain), tuning_(tuning), missed_(missed) {}

  void run() {
    add_memory_backing();
    add_numatune();
    add_cputune();
    add_iothreads();
    add_cells();
  }

 private:
  /// Whether the user has that element, which is then kept and told.
  bool is_users(const xmlNode* parent, const char* element, const char* what) {
    if (xml::child(parent, element) == nullptr) return false;
    missed_.push_back(fmt::format("{}: the definition has its own <{}>, which is kept", what, element));
    return true;
  }

  void add_memory_backing() {
    if (tuning_.huge_page == 0 && !tuning_.locked && tuning_.prealloc_threads == 0) return;
    xmlNode* backing = top_element(domain_, "memoryBacking", "currentMemory");
    if (tuning_.huge_page != 0 && !is_users(backing, "hugepages", "huge pages")) {
      xml::add(xml::add(backing, "hugepages"), "page",
               {{"size", std::to_string(tuning_.huge_page / 1024)}, {"unit", "KiB"}});
    }
    // Pages that are pinned cannot be merged with those of other VMs: looking for equal ones is time lost.
    if (xml::child(backing, "nosharepages") == nullptr) xml::add(backing, "nosharepages");
    if (tuning_.locked && xml::child(backing, "locked") == nullptr) xml::add(backing, "locked");
    if (tuning_.prealloc_threads != 0 && !is_users(backing, "allocation", "immediate allocation")) {
      xml::add(backing, "allocation",
               {{"mode", "immediate"}, {"threads", std::to_string(tuning_.prealloc_threads)}});
    }
  }

  void add_numatune() {
    if (tuning_.memory_nodes.empty() || is_users(domain_, "numatune", "memory on the GPUs' nodes")) return;
    xmlNode* numatune = top_element(domain_, "numatune", "vcpu");
    xml::add(numatune, "memory", {{"mode", "strict"}, {"nodeset", number_set(tuning_.memory_nodes)}});
    for (std::size_t i = 0; i < tuning_.cells.size(); ++i) {
      xml::add(numatune, "memnode",
               {{"cellid", std::to_string(i)},
                {"mode", "strict"},
                {"nodeset", std::to_string(tuning_.cells[i].host_node)}});
    }
  }

  void add_cputune() {
    if (tuning_.vcpus.empty() && tuning_.emulator_cpus.empty()) return;
    xmlNode* cputune = top_element(domain_, "cputune", "vcpu");
    if (!tuning_.vcpus.empty() && !is_users(cputune, "vcpupin", "pinned vCPUs")) {
      for (const VcpuPin& pin : tuning_.vcpus) {
        xml::add(cputune, "vcpupin",
                 {{"vcpu", std::to_string(pin.vcpu)}, {"cpuset", number_set(pin.host_cpus)}});
      }
    }
    if (!tuning_.emulator_cpus.empty() && !is_users(cputune, "emulatorpin", "the emulator's pin")) {
      xml::add(cputune, "emulatorpin", {{"cpuset", number_set(tuning_.emulator_cpus)}});
    }
  }

  void add_iothreads() {
    if (tuning_.iothreads == 0 || is_users(domain_, "iothreads", "iothreads")) return;
    xml::set_text(top_element(domain_, "iothreads", "vcpu"), std::to_string(tuning_.iothreads));
    unsigned next = 0;
    for (const xmlNode* disk : xml::children(xml::child(domain_, "devices"), "disk")) {
      xmlNode* driver = xml::child(disk, "driver");
      // Only virtio disks have one. Without <driver> it is a disk that the user made.
      const bool is_virtio = xml::attribute_or_empty(xml::child(disk, "target"), "bus") == "virtio";
      if (!is_virtio || driver == nullptr || xml::attribute(driver, "iothread")) continue;
      xml::set_attribute(driver, "iothread", std::to_string(1 + next++ % tuning_.iothreads));
    }
    if (tuning_.emulator_cpus.empty()) return;
    xmlNode* cputune = top_element(domain_, "cputune", "vcpu");
    if (is_users(cputune, "iothreadpin", "the iothreads' pin")) return;
    for (unsigned thread = 1; thread <= tuning_.iothreads; ++thread) {
      xml::add(cputune, "iothreadpin",
               {{"iothread", std::to_string(thread)}, {"cpuset", number_set(tuning_.emulator_cpus)}});
    }
  }

  void add_cells() {
    if (tuning_.cells.empty()) return;
    xmlNode* cpu = child_or_new(domain_, "cpu");
    xmlNode* numa = xml::add(cpu, "numa");
    for (std::size_t i = 0; i < tuning_.cells.size(); ++i) {
      const GuestCell& cell = tuning_.cells[i];
      xml::add(numa, "cell",
               {{"id", std::to_string(i)},
                {"cpus", number_set(cell.vcpus)},
                {"memory", std::to_string(cell.memory / 1024)},
                {"unit", "KiB"}});
    }
    spread_sockets(xml::child(cpu, "topology"));
  }

  // One socket on two NUMA nodes is no machine that Linux believes: it drops the cache topology with a warning. Only
  // the topology that vmgraft writes is changed: one socket of single-threaded cores.
  void spread_sockets(xmlNode* topology) const {
    const std::size_t cells = tuning_.cells.size();
    const auto is_one = [&](const char* key) { return xml::attribute(topology, key).value_or("1") == "1"; };
    const std::optional<unsigned> cores = parse_pci_number(xml::attribute_or_empty(topology, "cores"));
    if (!cores || !is_one("sockets") || !is_one("dies") || !is_one("threads")) return;
    const bool are_even = std::all_of(tuning_.cells.begin(), tuning_.cells.end(), [&](const GuestCell& cell) {
      return cell.vcpus.size() * cells == *cores;
    });
    if (!are_even) return;
    xml::set_attribute(topology, "sockets", std::to_string(cells));
    xml::set_attribute(topology, "cores", std::to_string(*cores / cells));
  }

  xmlNode* domain_;
  const HostTuning& tuning_;
  std::vector<std::string>& missed_;
};

}  // namespace

xmlNode* child_or_new(xmlNode* parent, const char* name) {
  xmlNode* there = xml::child(parent, name);
  return there == nullptr ? xml::add(parent, name) : there;
}

std::vector<unsigned> read_pinned_cpus(const std::string& xml) {
  const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
  std::set<unsigned> cpus;
  for (const xmlNode* pin : xml::children(xml::child(xml::root_of(document), "cputune"), "vcpupin")) {
    // A set of several is where the vCPU may run, not what it has for itself.
    if (const auto cpu = parse_pci_number(xml::attribute_or_empty(pin, "cpuset"))) cpus.insert(*cpu);
  }
  return {cpus.begin(), cpus.end()};
}

void add_tuning(xmlNode* domain, const HostTuning& tuning, std::vector<std::string>& missed) {
  TuningXml(domain, tuning, missed).run();
}

}  // namespace vmgraft

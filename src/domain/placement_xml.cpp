// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"
#include "domain/guest_pci.hpp"
#include "domain/hostdev_xml.hpp"
#include "domain/placement.hpp"
#include "domain/tuning_xml.hpp"
#include "domain/xml_tree.hpp"
#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft {
namespace {

constexpr const char* kQemuNamespace = "http://libvirt.org/schemas/domain/qemu/1.0";
constexpr const char* kOvmfWindow = "name=opt/ovmf/X-PciMmio64Mb,string=";
// Children of our metadata element.
constexpr const char* kDone = "done";
constexpr const char* kMissed = "missed";

/// Puts a placement into one domain, in place. Each method is one element, or a few that belong together.
class Placing {
 public:
  Placing(xmlNode* domain, const DomainFacts& facts, const Placement& placement)
      : domain_(domain),
        facts_(facts),
        placement_(placement),
        devices_(xml::child(domain, "devices")),
        pci_(devices_) {}

  void run() {
    require_machine();
    require_unused_devices();
    require_size();
    std::vector<std::string> missed = placement_.not_done;
    set_cpu();
    add_tuning(domain_, placement_.tuning, missed);
    set_window();
    add_gpus();
    set_balloon();
    add_cliques();
    add_ovmf_window();
    add_notes(missed);
  }

 private:
  [[nodiscard]] Error refused(const std::string& why, const std::string& hint) const {
    return Error(Errc::other,
                 fmt::format("GPUs of VM '{}': {}", printable(xml::text_of(xml::child(domain_, "name"))), why), hint);
  }

  void require_machine() const {
    if (find_root() != nullptr) return;
    throw refused("its definition has no pcie-root controller", "make it of machine type q35");
  }

  // What was placed is the VM of the manifest; a definition that was edited may be of another size.
  void require_size() const {
    const HostTuning& tuning = placement_.tuning;
    for (const VcpuPin& pin : tuning.vcpus) {
      if (pin.vcpu < facts_.cpus) continue;
      throw refused(fmt::format("vCPU {} is to be pinned, and its definition has {} vCPUs", pin.vcpu, facts_.cpus),
                    "give the definition the vCPUs that the VM was made with");
    }
    if (tuning.cells.empty()) return;
    if (xml::child(xml::child(domain_, "cpu"), "numa") != nullptr) {
      throw refused("its definition has NUMA cells of its own (<cpu><numa>), and its GPUs want theirs",
                    "take <numa> out of the definition");
    }
    std::size_t cpus = 0;
    std::uint64_t memory = 0;
    for (const GuestCell& cell : tuning.cells) {
      cpus += cell.vcpus.size();
      memory += cell.memory;
    }
    if (cpus == facts_.cpus && memory == facts_.memory) return;
    throw refused(fmt::format("its NUMA cells hold {} vCPUs and {}, and its definition says {} and {}", cpus,
                              format_size(memory), facts_.cpus, format_size(facts_.memory)),
                  "give the definition the size that the VM was made with");
  }

  // The definition names no GPU of ours: what it names is the user's, and one device cannot be there twice.
  void require_unused_devices() const {
    std::set<std::string> wanted;
    for (std::size_t gpu = 0; gpu < placement_.gpus.size(); ++gpu) {
      wanted.insert(gpu_alias(gpu, 0));
      if (!placement_.gpus[gpu].mdev.empty()) wanted.insert(placement_.gpus[gpu].mdev);
      for (std::size_t i = 0; i < placement_.gpus[gpu].functions.size(); ++i) {
        wanted.insert(gpu_alias(gpu, i));
        wanted.insert(placement_.gpus[gpu].functions[i].address);
      }
    }
    for (const xmlNode* device : xml::children(devices_)) {
      const DomainHostdev there = read_hostdev(device);
      for (const std::string& name : {there.alias, there.address, there.mdev}) {
        if (name.empty() || !wanted.contains(name)) continue;
        throw refused(fmt::format("its definition names '{}' itself", printable(name)),
                      "take that device out of the definition; vmgraft adds GPUs when the VM starts");
      }
    }
  }

  [[nodiscard]] xmlNode* find_root() const {
    for (xmlNode* controller : xml::children(devices_, "controller")) {
      if (xml::attribute_or_empty(controller, "model") == "pcie-root") return controller;
    }
    return nullptr;
  }

  // A CPU model that the user chose is kept: only host-passthrough is ours.
  void set_cpu() {
    if (!placement_.is_kvm || placement_.gpus.empty()) return;
    xmlNode* cpu = child_or_new(domain_, "cpu");
    if (!xml::attribute(cpu, "mode") && xml::child(cpu, "model") == nullptr) {
      xml::set_attribute(cpu, "mode", "host-passthrough");
    }
    // A VM with a GPU does not migrate; so its CPU may have what no other host need have (invariant TSC).
    if (xml::attribute_or_empty(cpu, "mode") == "host-passthrough") xml::set_attribute(cpu, "migratable", "off");
    if (!placement_.passthrough_physical_bits || xml::child(cpu, "maxphysaddr") != nullptr) return;
    // Never <kvm><hidden/>: drivers want it no more since R465, and it breaks the GPUDirect clique.
    xml::add(cpu, "maxphysaddr", {{"mode", "passthrough"}});
  }

  void set_window() {
    if (placement_.pci_hole64 == 0) return;
    xmlNode* root = find_root();
    const std::uint64_t wanted = placement_.pci_hole64 / 1024;
    if (const xmlNode* hole = xml::child(root, "pcihole64"); hole != nullptr) {
      const std::string text = xml::text_of(hole);  // libvirt tells KiB, in whatever unit it was given
      std::uint64_t there = 0;
      std::from_chars(text.data(), text.data() + text.size(), there);
      if (there >= wanted) return;
      throw refused(fmt::format("its definition has a PCI hole of {} KiB, and its GPUs need {} KiB", there, wanted),
                    "take <pcihole64> out of the definition");
    }
    xml::set_attribute(xml::add_text(root, "pcihole64", std::to_string(wanted)), "unit", "KiB");
  }

  void add_gpus() {
    std::map<unsigned, unsigned> expanders;  // cell -> index of its pxb
    for (const PassedGpu& gpu : placement_.gpus) {
      if (gpu.guest_cell && !expanders.contains(*gpu.guest_cell)) expanders[*gpu.guest_cell] = 0;
    }
    unsigned bus_number = kFirstExpanderBus;
    for (auto& [cell, index] : expanders) {
      index = add_expander(cell, bus_number);
      bus_number += (kBuses - kFirstExpanderBus) / static_cast<unsigned>(expanders.size());
    }
    std::map<unsigned, unsigned> slots;  // index of a pxb -> its next free slot
    for (std::size_t i = 0; i < placement_.gpus.size(); ++i) {
      const PassedGpu& gpu = placement_.gpus[i];
      const bool has_cell = gpu.guest_cell.has_value();
      const unsigned expander = has_cell ? expanders[*gpu.guest_cell] : 0;
      const unsigned port = has_cell ? add_port({expander, slots[expander]++, 0}) : add_port(pci_.take_port_place());
      for (std::size_t function = 0; function < std::max<std::size_t>(gpu.functions.size(), 1); ++function) {
        fill_hostdev(xml::add(devices_, "hostdev"), gpu, function, gpu_alias(i, function), port);
      }
    }
  }

  [[nodiscard]] xmlNode* add_controller(unsigned index, const char* model) {
    // Beside the others, where a reader looks for it. The root is one of them: require_fit().
    xmlNode* controller = xml::add_after(xml::children(devices_, "controller").back(), "controller");
    xml::set_attribute(controller, "type", "pci");
    xml::set_attribute(controller, "index", std::to_string(index));
    xml::set_attribute(controller, "model", model);
    return controller;
  }

  /// A root bus of a guest NUMA cell.
  [[nodiscard]] unsigned add_expander(unsigned cell, unsigned bus_number) {
    const unsigned index = pci_.take_index();
    xmlNode* controller = add_controller(index, "pcie-expander-bus");
    xml::add(controller, "model", {{"name", "pxb-pcie"}});
    xmlNode* target = xml::add(controller, "target", {{"busNr", std::to_string(bus_number)}});
    xml::add_text(target, "node", std::to_string(cell));
    add_guest_address(controller, {0, pci_.take_slot(), 0}, false);
    return index;
  }

  // Directly on a root bus a GPU would be an "integrated endpoint", which some drivers refuse (B200).
  [[nodiscard]] unsigned add_port(const GuestAddress& place) {
    const unsigned index = pci_.take_index();
    xmlNode* controller = add_controller(index, "pcie-root-port");
    xml::add(controller, "model", {{"name", "pcie-root-port"}});
    // Ports of the root bus share slots, also when the next one comes only with the next GPU.
    add_guest_address(controller, place, place.bus == 0 && place.function == 0);
    return index;
  }

  // VFIO pins all memory, so that a balloon could give nothing back: QEMU inhibits it, and the guest better sees none.
  void set_balloon() {
    if (placement_.gpus.empty()) return;
    xmlNode* balloon = xml::child(devices_, "memballoon");
    if (balloon != nullptr) xml::remove(balloon);
    // Left out, libvirt would add one.
    xml::add(devices_, "memballoon", {{"model", "none"}});
  }

  void add_cliques() {
    for (std::size_t i = 0; i < placement_.gpus.size(); ++i) {
      const std::optional<unsigned> clique = placement_.gpus[i].clique;
      if (!clique) continue;
      xmlNode* device = add_qemu(qemu_element("override"), "device");
      xml::set_attribute(device, "alias", gpu_alias(i, 0));
      xmlNode* property = add_qemu(add_qemu(device, "frontend"), "property");
      xml::set_attribute(property, "name", "x-nv-gpudirect-clique");
      xml::set_attribute(property, "type", "unsigned");
      xml::set_attribute(property, "value", std::to_string(*clique));
    }
  }

  // libvirt refuses opt/ovmf/ in <sysinfo type='fwcfg'> ("That firmware name is reserved"), so by QEMU's own argument.
  void add_ovmf_window() {
    if (placement_.ovmf_window == 0) return;
    xmlNode* command_line = qemu_element("commandline");
    for (const xmlNode* node = command_line->children; node != nullptr; node = node->next) {
      if (node->type != XML_ELEMENT_NODE) continue;
      if (xml::attribute_or_empty(node, "value").starts_with(kOvmfWindow)) return;  // the user's
    }
    xml::set_attribute(add_qemu(command_line, "arg"), "value", "-fw_cfg");
    xml::set_attribute(add_qemu(command_line, "arg"), "value", kOvmfWindow + std::to_string(placement_.ovmf_window));
  }

  // They are read back from the running domain: the persistent definition never has them.
  void add_notes(const std::vector<std::string>& missed) {
    xmlNode* metadata = child_or_new(domain_, "metadata");
    xmlNode* vm = xml::child_in_namespace(metadata, "vm", kMetadataNamespace);
    if (vm == nullptr) vm = xml::add_in_namespace(metadata, "vm", "vmgraft", kMetadataNamespace);
    for (const char* name : {kDone, kMissed}) {
      while (xmlNode* old = xml::child_in_namespace(vm, name, kMetadataNamespace)) xml::remove(old);
    }
    for (const std::string& note : placement_.done) xmlSetNs(xml::add_text(vm, kDone, note), vm->ns);
    for (const std::string& note : missed) xmlSetNs(xml::add_text(vm, kMissed, note), vm->ns);
  }

  [[nodiscard]] xmlNode* qemu_element(const char* name) {
    if (xmlNode* there = xml::child_in_namespace(domain_, name, kQemuNamespace); there != nullptr) return there;
    return xml::add_in_namespace(domain_, name, "qemu", kQemuNamespace);
  }

  static xmlNode* add_qemu(xmlNode* parent, const char* name) {
    xmlNode* element = xml::add(parent, name);
    xmlSetNs(element, parent->ns);
    return element;
  }

  // Bus numbers of the guest: the firmware counts those of the root bus from 0 upwards, those of a pxb from its own.
  static constexpr unsigned kFirstExpanderBus = 128;
  static constexpr unsigned kBuses = 256;

  xmlNode* domain_;
  const DomainFacts& facts_;
  const Placement& placement_;
  xmlNode* devices_;
  GuestPci pci_;
};

// What was read keeps its white space, and what is added has none: without any, the whole is laid out anew. Elements of
// a namespace are the user's, and keep theirs.
void drop_layout(xmlNode* element) {
  if (element->ns != nullptr) return;
  const bool holds_elements = xmlFirstElementChild(element) != nullptr;
  for (xmlNode* node = element->children; node != nullptr;) {
    xmlNode* next = node->next;
    if (node->type == XML_ELEMENT_NODE) {
      drop_layout(node);
    } else if (holds_elements && xmlIsBlankNode(node) == 1) {
      xmlUnlinkNode(node);
      xmlFreeNode(node);
    }
    node = next;
  }
}

std::vector<std::string> texts_of(const xmlNode* vm, const char* name) {
  std::vector<std::string> texts;
  for (const xmlNode* node = vm == nullptr ? nullptr : vm->children; node != nullptr; node = node->next) {
    const bool is_ours = node->type == XML_ELEMENT_NODE && node->ns != nullptr &&
                         xmlStrEqual(node->ns->href, vm->ns->href) == 1;
    if (is_ours && xml::name_of(node) == name) texts.push_back(xml::text_of(node));
  }
  return texts;
}

}  // namespace

std::string with_placement(const std::string& xml, const Placement& placement) {
  const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
  const DomainFacts facts = read_domain(xml);
  drop_layout(xml::root_of(document));
  Placing(xml::root_of(document), facts, placement).run();
  return xml::to_text(document, true);
}

std::pair<std::vector<std::string>, std::vector<std::string>> read_placement_notes(const std::string& xml) {
  const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
  const xmlNode* metadata = xml::child(xml::root_of(document), "metadata");
  const xmlNode* vm = xml::child_in_namespace(metadata, "vm", kMetadataNamespace);
  return {texts_of(vm, kDone), texts_of(vm, kMissed)};
}

}  // namespace vmgraft

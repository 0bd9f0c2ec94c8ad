// SPDX-License-Identifier: Apache-2.0
#include "support/fake_hypervisor.hpp"

#include <algorithm>
#include <map>
#include <stdexcept>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"
#include "domain/xml_tree.hpp"
#include "store/qcow2.hpp"

namespace vmgraft {
namespace {

const std::string kFolder = "/libvirt";

std::string path_of(const std::string& uuid) { return kFolder + "/" + uuid; }

[[noreturn]] void not_modelled(const std::string& what) {
  throw std::logic_error("the fake hypervisor does not model " + what);
}

/// Stands in the file between a definition and a live XML.
const std::string kLive = "\n--- live\n";

std::string text_of(bool running, bool frozen, const std::string& xml, const std::optional<std::string>& live = {}) {
  return std::string(running ? "running" : "off") + (frozen ? " frozen\n" : "\n") + xml + (live ? kLive + *live : "");
}

std::string alias_of(xmlNode* device) { return xml::attribute_or_empty(xml::child(device, "alias"), "name"); }

void drop_blanks(xmlNode* element) {
  for (xmlNode* node = element->children; node != nullptr;) {
    xmlNode* const next = node->next;
    if (xmlIsBlankNode(node) == 1) {
      xmlUnlinkNode(node);
      xmlFreeNode(node);
    } else if (node->type == XML_ELEMENT_NODE) {
      drop_blanks(node);
    }
    node = next;
  }
}

/// A live XML with its hostdevs last among the devices, by alias, without white space of their own: so a device that
/// was unplugged and plugged again leaves no trace, wherever it stood.
/// \param added  XML of a hostdev that is put in; may be empty
/// \param gone   alias of one that is left out; may be empty
std::string with_hostdevs(const std::string& text, const std::string& added, const std::string& gone) {
  const xml::Document document = xml::parse_or_throw(text, "domain", "a live XML");
  xmlNode* const devices = xml::child(xml::root_of(document), "devices");
  xml::Document extra;
  std::map<std::string, xmlNode*> hostdevs;
  for (xmlNode* hostdev : xml::children(devices, "hostdev")) hostdevs[alias_of(hostdev)] = hostdev;
  if (!added.empty()) {
    extra = xml::parse_or_throw(added, "hostdev", "a device to attach");
    const std::string alias = alias_of(xml::root_of(extra));
    if (!hostdevs.emplace(alias, xml::root_of(extra)).second)
      throw Error(Errc::host_unfit, "non unique alias detected: " + alias);
  }
  hostdevs.erase(gone);
  std::map<std::string, xml::Document> copies;
  for (const auto& [alias, hostdev] : hostdevs) {
    if (alias.empty()) not_modelled("hostdevs without an alias");
    xml::Document& copy = copies[alias] = xml::new_document("x");
    drop_blanks(xml::add_copy(xml::root_of(copy), hostdev));
  }
  for (xmlNode* hostdev : xml::children(devices, "hostdev")) xml::remove(hostdev);
  xmlNode* const tail = devices->last != nullptr && xmlIsBlankNode(devices->last) == 1 ? devices->last : nullptr;
  if (tail != nullptr) xmlUnlinkNode(tail);
  for (const auto& [alias, copy] : copies) {
    xmlAddChild(devices, xmlNewText(reinterpret_cast<const xmlChar*>("\n    ")));
    xml::add_copy(devices, xml::child(xml::root_of(copy), "hostdev"));
  }
  if (tail != nullptr) xmlAddChild(devices, tail);
  return xml::to_text(document, false);
}

std::vector<xmlNode*> hostdevs_of(const xml::Document& document) {
  return xml::children(xml::child(xml::root_of(document), "devices"), "hostdev");
}

/// "0000:41:00.0" of a PCI hostdev; empty for another kind.
std::string pci_source(xmlNode* hostdev) {
  xmlNode* const address = xml::child(xml::child(hostdev, "source"), "address");
  if (xml::attribute_or_empty(hostdev, "type") != "pci" || address == nullptr) return {};
  const auto digits = [&](const char* name) {
    const std::string text = xml::attribute_or_empty(address, name);
    return text.substr(std::min(text.size(), std::size_t{2}));  // without "0x"
  };
  return digits("domain") + ":" + digits("bus") + ":" + digits("slot") + "." + digits("function");
}

/// What a domain's file says. A live XML that tells nothing beside the definition is left out: so what was plugged into
/// a domain and unplugged again leaves no trace.
std::string file_text(bool running, bool frozen, const std::string& xml, const std::optional<std::string>& live) {
  const bool tells = live && *live != with_hostdevs(xml, "", "");
  return text_of(running, frozen, xml, tells ? live : std::nullopt);
}

/// The acts of libvirt that change two files at once: by a program, so that each is one effect.
constexpr const char* kSaveMemory = "fake-save-memory";
const std::string kMemoryStart = "memory\n";

}  // namespace

void fake_rebase(FakeHost& host, const std::filesystem::path& file, const std::string& backing) {
  const auto header = read_qcow2(host.read_range(file, 0, 128 << 10));
  const Qcow2Layout layout = new_qcow2(header->virtual_size, backing);
  std::string content(layout.size, '\0');
  for (const Extent& extent : layout.extents) content.replace(extent.offset, extent.bytes.size(), extent.bytes);
  // One byte of an L2 offset: the merged layer holds data now.
  content[header->l1_offset + 5] = '\1';
  host.add_file(file, content, host.stat(file)->mode);
}

FakeHypervisor::FakeHypervisor(FakeHost& host) : host_(host) {
  if (!host_.exists(kFolder)) host_.add_folder(kFolder);
  host_.add_program(kSaveMemory, [](FakeHost& in, const Command& command) {
    in.add_file(command.argv.at(2), command.argv.at(3), 0600);  // the memory
    in.add_file(command.argv.at(1), command.input, 0600);       // the domain
    return CommandResult{};
  });
}

std::optional<FakeHypervisor::Domain> FakeHypervisor::find(const std::string& uuid) const {
  const std::optional<std::string> text = host_.read_file(path_of(uuid));
  if (!text) return std::nullopt;
  const std::size_t end = text->find('\n');
  const std::string state = text->substr(0, end);
  const std::string rest = text->substr(end + 1);
  const std::size_t live = rest.find(kLive);
  Domain domain{state.starts_with("running"), state.ends_with(" frozen"), rest.substr(0, live), std::nullopt};
  if (live != std::string::npos) domain.live = rest.substr(live + kLive.size());
  return domain;
}

FakeHypervisor::Domain FakeHypervisor::must_find(const std::string& uuid) const {
  const std::optional<Domain> domain = find(uuid);
  if (!domain) throw Error(Errc::not_found, "no domain " + uuid);
  return *domain;
}

void FakeHypervisor::save(const std::string& uuid, const Domain& domain) {
  host_.write_file(path_of(uuid), file_text(domain.running, domain.frozen, domain.xml, domain.live), 0600);
}

void FakeHypervisor::settle(const std::string&, const std::atomic<bool>*) {
  if (waits_left_ == 0 || --waits_left_ != 0) return;
  at_work_();
}

void FakeHypervisor::set_running(const std::string& uuid, bool running) {
  const Domain domain = must_find(uuid);
  host_.add_file(path_of(uuid), text_of(running, false, domain.xml), 0600);
}

void FakeHypervisor::set_live(const std::string& uuid, const std::string& xml) {
  host_.add_file(path_of(uuid), text_of(true, false, must_find(uuid).xml, xml), 0600);
}

bool FakeHypervisor::is_frozen(const std::string& uuid) const { return must_find(uuid).frozen; }

HypervisorInfo FakeHypervisor::info() { return {"fake:///", 9000000, 7002000, false}; }
std::string FakeHypervisor::capabilities_xml() { not_modelled("capabilities"); }
std::string FakeHypervisor::domain_capabilities_xml(const std::string&, const std::string&) {
  not_modelled("domain capabilities");
}

std::vector<DomainState> FakeHypervisor::domains() {
  std::vector<DomainState> all;
  for (const std::string& uuid : host_.list_folder(kFolder)) all.push_back(*find_by_uuid(uuid));
  return all;
}

std::optional<DomainState> FakeHypervisor::find_by_name(const std::string& name) {
  for (const DomainState& domain : domains())
    if (domain.name == name) return domain;
  return std::nullopt;
}

std::optional<DomainState> FakeHypervisor::find_by_uuid(const std::string& uuid) {
  const std::optional<Domain> domain = find(uuid);
  if (!domain) return std::nullopt;
  return DomainState{read_domain(domain->xml).name, uuid, domain->running ? VmState::running : VmState::shut_off, true};
}

std::string FakeHypervisor::secure_definition(const std::string& uuid) {
  return find_by_uuid(uuid) ? domain_xml(uuid, true) : std::string();
}

std::string FakeHypervisor::domain_xml(const std::string& uuid, bool inactive) {
  const Domain domain = must_find(uuid);
  std::string xml = inactive ? domain.xml : domain.now();
  const std::string channel = "<target type=\"virtio\" name=\"org.qemu.guest_agent.0\"";
  if (!inactive && agent_)
    if (const std::size_t at = xml.find(channel); at != std::string::npos)
      xml.insert(at + channel.size(), " state=\"connected\"");
  return xml;
}

void FakeHypervisor::define(const std::string& xml, Schema) {
  const DomainFacts facts = read_domain(xml);
  const std::optional<Domain> old = find(facts.uuid);
  save(facts.uuid, {old && old->running, old && old->frozen, xml, old ? old->live : std::nullopt});
}

void FakeHypervisor::undefine(const std::string& uuid, bool) {
  if (must_find(uuid).running) throw Error(Errc::conflict, "the domain runs");
  host_.remove(path_of(uuid));
}

void FakeHypervisor::start(const std::string& uuid) {
  const Domain domain = must_find(uuid);
  save(uuid, {true, false, domain.xml, std::nullopt});
}

FakeHypervisor::Domain FakeHypervisor::must_be_off(const std::string& xml) const {
  const Domain domain = must_find(read_domain(xml).uuid);
  if (domain.running) throw Error(Errc::conflict, "the domain is already active");
  return domain;
}

FakeHypervisor::Domain FakeHypervisor::must_run(const std::string& uuid) const {
  const Domain domain = must_find(uuid);
  if (!domain.running) throw Error(Errc::conflict, "the domain does not run");
  return domain;
}

void FakeHypervisor::require_vfio(const std::string& xml) const {
  const xml::Document document = xml::parse_or_throw(xml, "domain", "a live XML");
  for (xmlNode* hostdev : hostdevs_of(document)) {
    const std::string address = pci_source(hostdev);
    if (address.empty() || !host_.exists("/sys/bus/pci/devices/" + address)) continue;
    if (host_.pci_driver(address).find("vfio") == std::string::npos)
      throw Error(Errc::host_unfit, "unmanaged PCI device " + address + " must be manually detached from the host");
  }
}

void FakeHypervisor::start_as(const std::string& xml) {
  const Domain domain = must_be_off(xml);
  require_vfio(xml);
  save(read_domain(xml).uuid, {true, false, domain.xml, with_hostdevs(xml, "", "")});
}

void FakeHypervisor::attach_device(const std::string& uuid, const std::string& xml) {
  Domain domain = must_run(uuid);
  domain.live = with_hostdevs(domain.now(), xml, "");
  require_vfio(*domain.live);
  save(uuid, domain);
}

DetachOutcome FakeHypervisor::detach_device(const std::string& uuid, const std::string& alias,
                                            std::chrono::milliseconds, const std::atomic<bool>*) {
  Domain domain = must_find(uuid);
  if (!domain.running) return DetachOutcome::vm_gone;
  const xml::Document document = xml::parse_or_throw(domain.now(), "domain", "a live XML");
  const std::vector<xmlNode*> hostdevs = hostdevs_of(document);
  if (std::none_of(hostdevs.begin(), hostdevs.end(), [&](xmlNode* each) { return alias_of(each) == alias; }))
    return DetachOutcome::removed;
  if (lets_go_) domain.live = with_hostdevs(domain.now(), "", alias);
  save(uuid, domain);  // the request alone is an effect, too
  return lets_go_ ? DetachOutcome::removed : otherwise_;
}

void FakeHypervisor::save_memory(const std::string& uuid, const std::string& file,
                                 const std::vector<OverlayTarget>& disks, const std::vector<std::string>&) {
  Domain domain = must_run(uuid);
  if (host_.exists(file)) throw Error(Errc::conflict, "the file exists already");
  const xml::Document document = xml::parse_or_throw(domain.now(), "domain", "a live XML");
  if (!hostdevs_of(document).empty())
    throw Error(Errc::conflict, "cannot migrate domain: VFIO device doesn't support migration");
  const std::string memory = kMemoryStart + domain.now();
  std::map<std::string, std::string> paths;
  for (const OverlayTarget& disk : disks) paths[disk.target] = disk.overlay;
  domain.xml = with_disk_paths(domain.xml, paths);
  if (loses_power_) {
    domain.running = false;
    domain.live.reset();
    return save(uuid, domain);
  }
  if (domain.live) domain.live = with_disk_paths(*domain.live, paths);
  Command command;
  command.argv = {kSaveMemory, path_of(uuid), file, memory};
  command.input = file_text(true, domain.frozen, domain.xml, domain.live);
  static_cast<void>(host_.run(command));
}

std::string FakeHypervisor::saved_memory_xml(const std::string& file) {
  const std::optional<std::string> content = host_.read_file(file);
  if (!content) throw Error(Errc::other, "no saved memory " + file);
  if (!content->starts_with(kMemoryStart)) throw Error(Errc::other, "not a saved memory: " + file);
  return content->substr(kMemoryStart.size());
}

void FakeHypervisor::restore_memory(const std::string& file, const std::string& xml) {
  static_cast<void>(saved_memory_xml(file));
  const Domain domain = must_be_off(xml);
  save(read_domain(xml).uuid, {true, false, domain.xml, with_hostdevs(xml, "", "")});
}

void FakeHypervisor::power_off(const std::string& uuid) {
  const Domain domain = must_find(uuid);
  if (domain.running) save(uuid, {false, false, domain.xml, std::nullopt});
}

void FakeHypervisor::request_shutdown(const std::string& uuid) { power_off(uuid); }

FreezeOutcome FakeHypervisor::freeze(const std::string& uuid, std::string& why_not) {
  const Domain domain = must_find(uuid);
  if (!agent_) {
    why_not = "no agent";
    return FreezeOutcome::no_agent;
  }
  if (refuse_freeze_) {
    why_not = "the agent refused";
    return FreezeOutcome::failed;
  }
  save(uuid, {domain.running, true, domain.xml, domain.live});
  return FreezeOutcome::frozen;
}

void FakeHypervisor::thaw(const std::string& uuid) {
  const Domain domain = must_find(uuid);
  if (domain.frozen) save(uuid, {domain.running, false, domain.xml, domain.live});
}

void FakeHypervisor::switch_to_overlays(const std::string& uuid, const std::vector<OverlayTarget>& disks,
                                        const std::vector<std::string>&) {
  Domain domain = must_run(uuid);
  std::map<std::string, std::string> paths;
  for (const OverlayTarget& disk : disks) paths[disk.target] = disk.overlay;
  domain.xml = with_disk_paths(domain.xml, paths);
  if (domain.live) domain.live = with_disk_paths(*domain.live, paths);
  save(uuid, domain);
}

void FakeHypervisor::pull_into_active(const std::string& uuid, const std::string& target, const std::string& base,
                                      const std::atomic<bool>*) {
  for (const DomainFacts::Disk& disk : read_domain(must_find(uuid).now()).disks) {
    if (disk.target != target) continue;
    Command command;
    command.argv = {"fake-pull", disk.path, std::filesystem::path(base).filename()};
    static_cast<void>(host_.run(command));
  }
}

WaitOutcome FakeHypervisor::wait_shut_off(const std::string&, std::chrono::milliseconds, const std::atomic<bool>*) {
  return WaitOutcome::happened;
}
WaitOutcome FakeHypervisor::wait_agent(const std::string&, std::chrono::milliseconds, const std::atomic<bool>*) {
  return agent_ ? WaitOutcome::happened : WaitOutcome::timed_out;
}
std::string FakeHypervisor::agent_command(const std::string&, const std::string&, std::chrono::seconds, GracePeriod&) {
  not_modelled("the guest");
}
std::vector<NicInfo> FakeHypervisor::addresses(const std::string&) { return {}; }
void FakeHypervisor::console(const std::string&, int, int, const std::atomic<bool>*) { not_modelled("a console"); }
void FakeHypervisor::ensure_network(const std::string&, const std::string&) { not_modelled("networks"); }

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <charconv>
#include <limits>
#include <memory>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/disk_paths.hpp"
#include "domain/domain_xml.hpp"
#include "domain/xml_tree.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};

// "Memory Allocation" of libvirt's formatdomain: K and KiB are 1024, KB is 1000. Without a unit it is KiB.
constexpr std::array<Unit, 18> kUnits{{
    {"", 1u << 10},
    {"b", 1},
    {"bytes", 1},
    {"KB", 1000},
    {"k", 1u << 10},
    {"K", 1u << 10},
    {"KiB", 1u << 10},
    {"MB", 1000 * 1000},
    {"M", 1u << 20},
    {"MiB", 1u << 20},
    {"GB", 1000 * 1000 * 1000},
    {"G", 1u << 30},
    {"GiB", 1u << 30},
    {"TB", 1000ull * 1000 * 1000 * 1000},
    {"T", 1ull << 40},
    {"TiB", 1ull << 40},
    {"PiB", 1ull << 50},
    {"EiB", 1ull << 60},
}};

std::uint64_t to_number(const std::string& text, std::uint64_t most, std::string_view place) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, number);
  if (failure != std::errc{} || stop != end || number > most) {
    throw Error(Errc::other, fmt::format("domain XML: {} is '{}', which is no such number", place, printable(text)));
  }
  return number;
}

std::uint64_t read_memory(const xmlNode* element) {
  if (element == nullptr) return 0;
  const std::string unit = xml::attribute_or_empty(element, "unit");
  for (const Unit& known : kUnits) {
    if (known.name != unit) continue;
    const std::uint64_t most = std::numeric_limits<std::uint64_t>::max() / known.bytes;
    return to_number(xml::text_of(element), most, "<memory>") * known.bytes;
  }
  throw Error(Errc::other, fmt::format("domain XML: <memory> has the unknown unit '{}'", printable(unit)));
}

unsigned read_cpus(const xmlNode* element) {
  if (element == nullptr) return 0;
  const std::string text = xml::attribute(element, "current").value_or(xml::text_of(element));
  return static_cast<unsigned>(to_number(text, std::numeric_limits<unsigned>::max(), "<vcpu>"));
}

/// Path of a <source>: a file or a block device; empty for what has none on this host.
std::string path_of(const xmlNode* source) {
  return xml::attribute(source, "file").value_or(xml::attribute_or_empty(source, "dev"));
}

void read_metadata(const xmlNode* domain, DomainFacts& facts) {
  const xmlNode* metadata = xml::child(domain, "metadata");
  const xmlNode* vm = xml::child_in_namespace(metadata, "vm", kMetadataNamespace);
  facts.store = xml::attribute_or_empty(vm, "store");
  facts.id = xml::attribute_or_empty(vm, "id");
  facts.template_name = xml::attribute_or_empty(vm, "template");
  facts.template_digest = xml::attribute_or_empty(vm, "digest");
}

DomainFacts::Disk read_disk(const xmlNode* element) {
  DomainFacts::Disk disk;
  disk.target = disk_target(element);
  disk.path = path_of(xml::child(element, "source"));
  disk.format = xml::attribute(xml::child(element, "driver"), "type").value_or("raw");
  disk.is_cdrom = xml::attribute_or_empty(element, "device") == "cdrom";
  for (const xmlNode* below = xml::child(element, "backingStore"); below != nullptr;
       below = xml::child(below, "backingStore")) {
    // The chain ends with an empty <backingStore/>.
    const xmlNode* source = xml::child(below, "source");
    if (source != nullptr) disk.backing.push_back(path_of(source));
  }
  return disk;
}

DomainFacts::Nic read_nic(const xmlNode* element) {
  DomainFacts::Nic nic;
  nic.mac = xml::attribute_or_empty(xml::child(element, "mac"), "address");
  nic.type = xml::attribute_or_empty(element, "type");
  const xmlNode* source = xml::child(element, "source");
  // <source network= bridge=> of a running domain says both: the type names which one was asked for.
  for (const char* key : {nic.type.c_str(), "dev", "path"}) {
    if (nic.source.empty() && *key != '\0') nic.source = xml::attribute_or_empty(source, key);
  }
  return nic;
}

bool is_connected_agent(const xmlNode* channel) {
  const xmlNode* target = xml::child(channel, "target");
  return xml::attribute_or_empty(target, "name") == "org.qemu.guest_agent.0" &&
         xml::attribute_or_empty(target, "state") == "connected";
}

std::string read_nvram(const xmlNode* domain) {
  const xmlNode* nvram = xml::child(xml::child(domain, "os"), "nvram");
  // libvirt 8.5 and later may write <nvram type='file'><source file=''/></nvram>.
  const xmlNode* source = xml::child(nvram, "source");
  return source == nullptr ? xml::text_of(nvram) : path_of(source);
}

/// Also in the middle of a text: <qemu:arg value='file=/a/b,if=none'/>.
void collect_path(const xmlNode* node, const std::string& prefix, std::set<std::string>& paths) {
  const std::unique_ptr<xmlChar, void (*)(void*)> content(xmlNodeGetContent(node), xmlFree);
  const std::string text = content ? reinterpret_cast<const char*>(content.get()) : "";
  for (std::size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at + 1))
    paths.insert(text.substr(at, text.find_first_of(", \t\n", at + prefix.size()) - at));
}

/// Attributes and texts, of elements of every namespace.
void collect_paths(const xmlNode* node, const std::string& prefix, std::set<std::string>& paths) {
  if (node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE) return collect_path(node, prefix, paths);
  if (node->type != XML_ELEMENT_NODE) return;
  for (const xmlAttr* each = node->properties; each != nullptr; each = each->next)
    collect_path(reinterpret_cast<const xmlNode*>(each), prefix, paths);
  for (const xmlNode* below = node->children; below != nullptr; below = below->next) collect_paths(below, prefix, paths);
}

}  // namespace

std::set<std::string> paths_below(const std::string& xml, const std::string& folder) {
  const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
  std::set<std::string> paths;
  collect_paths(xml::root_of(document), folder + "/", paths);
  return paths;
}

DomainFacts read_domain(const std::string& xml) {
  const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
  const xmlNode* domain = xml::root_of(document);
  const xmlNode* devices = xml::child(domain, "devices");
  DomainFacts facts;
  facts.name = xml::text_of(xml::child(domain, "name"));
  facts.uuid = xml::text_of(xml::child(domain, "uuid"));
  facts.virt_type = xml::attribute_or_empty(domain, "type");
  facts.cpus = read_cpus(xml::child(domain, "vcpu"));
  facts.memory = read_memory(xml::child(domain, "memory"));
  facts.nvram = read_nvram(domain);
  read_metadata(domain, facts);
  for (const xmlNode* tpm : xml::children(devices, "tpm")) {
    // A TPM of the host's that is passed through has no state of the VM's.
    facts.tpm = facts.tpm || xml::attribute_or_empty(xml::child(tpm, "backend"), "type") == "emulator";
  }
  for (const xmlNode* channel : xml::children(devices, "channel")) {
    facts.agent_connected = facts.agent_connected || is_connected_agent(channel);
  }
  for (const xmlNode* disk : xml::children(devices, "disk")) facts.disks.push_back(read_disk(disk));
  for (const xmlNode* nic : xml::children(devices, "interface")) {
    // A passed-through function is a host device: no clone gets one.
    if (xml::attribute_or_empty(nic, "type") != "hostdev") facts.nics.push_back(read_nic(nic));
  }
  return facts;
}

}  // namespace vmgraft

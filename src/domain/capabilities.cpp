// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <string_view>

#include "domain/domain_xml.hpp"
#include "domain/xml_tree.hpp"

namespace vmgraft {
namespace {

std::optional<unsigned> to_id(std::string_view text) {
  // libvirt writes "+64055": the sign says that it is a number and not a name.
  if (text.starts_with('+')) text.remove_prefix(1);
  unsigned id = 0;
  const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (text.empty() || failure != std::errc{} || stop != text.data() + text.size()) return std::nullopt;
  return id;
}

/// "+64055:+64055" of the first <baselabel>: all domain types have the same.
void read_dac(const xmlNode* model, HostFacts& facts) {
  const std::string label = xml::text_of(xml::child(model, "baselabel"));
  const std::size_t colon = label.find(':');
  if (colon == std::string::npos) return;
  const std::string_view text = label;
  facts.qemu_uid = to_id(text.substr(0, colon));
  facts.qemu_gid = to_id(text.substr(colon + 1));
}

}  // namespace

HostFacts read_capabilities(const std::string& xml) {
  const xml::Document document = xml::parse_or_throw(xml, "capabilities", "capabilities XML");
  const xmlNode* capabilities = xml::root_of(document);
  const xmlNode* host = xml::child(capabilities, "host");
  HostFacts facts;
  facts.arch = xml::text_of(xml::child(xml::child(host, "cpu"), "arch"));
  facts.security_model = "none";
  for (const xmlNode* model : xml::children(host, "secmodel")) {
    const std::string name = xml::text_of(xml::child(model, "model"));
    if (name == "dac") {
      read_dac(model, facts);
    } else if (!name.empty()) {
      facts.security_model = name;
    }
  }
  for (const xmlNode* guest : xml::children(capabilities, "guest")) {
    const xmlNode* arch = xml::child(guest, "arch");
    if (xml::attribute_or_empty(arch, "name") != facts.arch) continue;
    for (const xmlNode* domain : xml::children(arch, "domain")) {
      facts.has_kvm_domains = facts.has_kvm_domains || xml::attribute_or_empty(domain, "type") == "kvm";
    }
  }
  return facts;
}

EmulatorFacts read_domain_capabilities(const std::string& xml) {
  const xml::Document document = xml::parse_or_throw(xml, "domainCapabilities", "domain capabilities XML");
  const xmlNode* root = xml::root_of(document);
  EmulatorFacts facts;
  facts.path = xml::text_of(xml::child(root, "path"));
  const xmlNode* loader = xml::child(xml::child(root, "os"), "loader");
  for (const xmlNode* value : xml::children(loader, "value")) facts.loaders.push_back(xml::text_of(value));
  const xmlNode* tpm = xml::child(xml::child(root, "devices"), "tpm");
  if (xml::attribute_or_empty(tpm, "supported") != "yes") return facts;
  for (const xmlNode* list : xml::children(tpm, "enum")) {
    if (xml::attribute_or_empty(list, "name") != "backendModel") continue;
    for (const xmlNode* value : xml::children(list, "value")) {
      facts.tpm_emulator = facts.tpm_emulator || xml::text_of(value) == "emulator";
    }
  }
  return facts;
}

}  // namespace vmgraft

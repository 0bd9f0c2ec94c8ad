// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "domain/domain_xml.hpp"
#include "domain/xml_tree.hpp"

namespace vmgraft {

std::string with_console_passwords(const std::string& xml, const std::string& secure) {
  if (secure.find("passwd=") == std::string::npos) return xml;
  const xml::Document kept = xml::parse_or_throw(secure, "domain", "domain XML");
  const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
  std::vector<xmlNode*> consoles = xml::children(xml::child(xml::root_of(document), "devices"), "graphics");
  for (const xmlNode* graphics : xml::children(xml::child(xml::root_of(kept), "devices"), "graphics")) {
    const std::string type = xml::attribute_or_empty(graphics, "type");
    // The first one of its type that is not spoken for: a domain may have several.
    const auto same = std::find_if(consoles.begin(), consoles.end(), [&](const xmlNode* console) {
      return xml::attribute_or_empty(console, "type") == type;
    });
    if (same == consoles.end()) continue;
    const std::optional<std::string> password = xml::attribute(graphics, "passwd");
    if (password && !xml::attribute(*same, "passwd")) xml::set_attribute(*same, "passwd", *password);
    consoles.erase(same);
  }
  return xml::to_text(document, false);
}

}  // namespace vmgraft

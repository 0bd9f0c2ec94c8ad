// SPDX-License-Identifier: Apache-2.0
#include <new>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/placement.hpp"
#include "domain/xml_tree.hpp"

namespace vmgraft {

std::string device_text(const std::string& domain_xml, const std::string& alias) {
  const xml::Document domain = xml::parse_or_throw(domain_xml, "domain", "domain XML");
  for (xmlNode* device : xml::children(xml::child(xml::root_of(domain), "devices"))) {
    if (xml::attribute_or_empty(xml::child(device, "alias"), "name") != alias) continue;
    const xml::Document alone = xml::new_document("device");
    xmlNode* copy = xmlDocCopyNode(device, alone.get(), 1);  // its names live in the other document's dictionary
    if (copy == nullptr) throw std::bad_alloc();
    xmlFreeNode(xmlDocSetRootElement(alone.get(), copy));
    return xml::to_text(alone, false);
  }
  throw Error(Errc::other, fmt::format("domain XML: there is no device '{}'", alias));
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"
#include "domain/xml_tree.hpp"
#include "model/names.hpp"

namespace vmgraft {

std::string isolated_network_xml(const std::string& name, const std::string& bridge, unsigned third_octet) {
  if (third_octet > 255) {
    throw Error(Errc::usage, fmt::format("network '{}': 192.168.{}.0 is not an address", printable(name), third_octet),
                "the third octet is 0 to 255");
  }
  const xml::Document document = xml::new_document("network");
  xmlNode* network = xml::root_of(document);
  xml::add_text(network, "name", name);
  // No <forward>: libvirt lets nothing through, and its dnsmasq then hands out no router and asks no other name server.
  xml::add(network, "bridge", {{"name", bridge}, {"stp", "off"}, {"delay", "0"}});
  const auto address = [&](unsigned last) { return fmt::format("192.168.{}.{}", third_octet, last); };
  xmlNode* ip = xml::add(network, "ip", {{"address", address(1)}, {"netmask", "255.255.255.0"}});
  xml::add(xml::add(ip, "dhcp"), "range", {{"start", address(2)}, {"end", address(254)}});
  return xml::to_text(document, true);
}

}  // namespace vmgraft

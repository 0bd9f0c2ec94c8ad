// SPDX-License-Identifier: Apache-2.0
// XML that libvirt gives us, of domains that anybody may have edited.
#include "domain/domain_xml.hpp"
#include "domain/guest_pci.hpp"
#include "domain/xml_tree.hpp"

#include "fuzz/fuzz.hpp"

using namespace vmgraft;
using namespace vmgraft::fuzz;

namespace {

CloneIdentity identity_for(const DomainFacts& source) {
  CloneIdentity clone;
  clone.name = "clone";
  clone.uuid = "11111111-2222-4333-8444-555555555555";
  for (std::size_t i = 0; i < source.nics.size(); ++i) clone.macs.push_back("52:54:00:00:00:01");
  for (const DomainFacts::Disk& disk : source.disks) {
    if (!disk.is_cdrom) clone.disks[disk.target] = "/store/layers/new.qcow2";
  }
  if (!source.nvram.empty()) clone.nvram = "/store/vms/clone/nvram.fd";
  clone.console_log = "/store/vms/clone/console.log";
  return clone;
}

/// What comes out is a domain of its own.
void check_clone(const std::string& xml, const DomainFacts& source) {
  const CloneIdentity identity = identity_for(source);
  const auto text = accepted([&] { return clone_domain_xml(xml, identity); });
  if (!text) return;
  const DomainFacts clone = read_domain(*text);
  require(clone.name == identity.name && clone.uuid == identity.uuid, "a clone has its own name and UUID");
  require(clone.cpus == source.cpus && clone.memory == source.memory, "a clone has the size of its source");
  for (const DomainFacts::Disk& disk : clone.disks) {
    if (!disk.is_cdrom) require(disk.path == "/store/layers/new.qcow2", "a clone has its own disks");
  }
  for (const DomainFacts::Nic& nic : clone.nics) require(nic.mac == identity.macs.front(), "a clone has its own MACs");
}

}  // namespace

VMGRAFT_FUZZER(input) {
  const std::string xml(input);
  static_cast<void>(accepted([&] { return read_capabilities(xml); }));
  static_cast<void>(accepted([&] { return read_domain_capabilities(xml); }));
  static_cast<void>(accepted([&] {
    const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
    return GuestPci(xml::child(xml::root_of(document), "devices")).free_ports();
  }));
  const auto facts = accepted([&] { return read_domain(xml); });
  if (facts) check_clone(xml, *facts);
}

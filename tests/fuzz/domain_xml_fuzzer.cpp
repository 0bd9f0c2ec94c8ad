// SPDX-License-Identifier: Apache-2.0
// XML that libvirt gives us, of domains that anybody may have edited; what does not say what it is, as a device of a
// template's "xml".
#include <algorithm>

#include "domain/domain_xml.hpp"
#include "domain/placement.hpp"

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

/// The other readers of a domain: one for each input, as each parses it anew.
void check_parts(const std::string& xml) {
  switch (xml.size() % 4) {
    case 0: {
      const std::vector<unsigned> cpus = read_pinned_cpus(xml);
      return require(std::is_sorted(cpus.begin(), cpus.end()), "CPUs are sorted");
    }
    case 1:
      for (const std::string& path : paths_below(xml, "/store"))
        require(path.starts_with("/store/"), "a path is below");
      return;
    case 2:
      return static_cast<void>(read_placement_notes(xml));
    default:
      for (const DomainHostdev& device : read_hostdevs(xml)) {
        require(device.address.find_first_not_of("0123456789abcdef:.") == std::string::npos, "an address is numbers");
      }
      for (GuestRoom room = read_guest_room(xml); !room.ports.empty();) {
        const std::size_t before = room.ports.size();
        require(room.take_port(0).has_value() && room.ports.size() + 1 == before, "a free port is taken once");
      }
      return;
  }
}

/// An element of the template's goes below <devices> and nowhere else.
void check_device(const std::string& xml) {
  DomainConfig config;
  config.name = "web";
  config.uuid = "11111111-2222-4333-8444-555555555555";
  config.memory = std::uint64_t{1} << 30;
  config.virt_type = "qemu";
  config.extra_devices = {xml};
  const auto text = accepted([&] { return to_domain_xml(config); });
  if (!text) return;
  // Some levels further down it may be too deep for a reader, ours and libvirt's.
  const auto facts = accepted([&] { return read_domain(*text); });
  if (!facts) return;
  require(
      facts->name == config.name && facts->uuid == config.uuid && facts->memory == config.memory && facts->cpus == 1,
      "a device changes nothing but the devices");
}

}  // namespace

VMGRAFT_FUZZER(input) {
  const std::string xml(input);
  // Each reader parses all of it, and that is most of the time: those of other roots only see what speaks of theirs.
  if (xml.find("<capabilities") != std::string::npos) {
    static_cast<void>(accepted([&] { return read_capabilities(xml); }));
  } else if (xml.find("<domainCapabilities") != std::string::npos) {
    static_cast<void>(accepted([&] { return read_domain_capabilities(xml); }));
  } else if (xml.find("<domain") == std::string::npos) {
    return check_device(xml);
  }
  const auto facts = accepted([&] { return read_domain(xml); });
  if (!facts) return;
  static_cast<void>(accepted([&] { return (check_parts(xml), true); }));
  check_clone(xml, *facts);
}

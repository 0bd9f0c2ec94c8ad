// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "domain/domain_config.hpp"

namespace vmgraft {

/// The namespace of our <metadata> element: <vmgraft:vm xmlns:vmgraft="..." id= store= template= digest=/>.
/// The id is the UUID that the domain was made with: a copy that another tool made of it has the element, and another UUID.
inline constexpr const char* kMetadataNamespace = "https://vmgraft.org/xmlns/domain/1";

/// The whole domain XML of a VM. Pure.
/// Control characters are replaced in title and description, and refused in everything else.
/// \throws Error invalid_template: an element of extra_devices is not one well-formed XML element; machine or arch is
///               not supported. usage: a name or path holds control characters or is not UTF-8.
[[nodiscard]] std::string to_domain_xml(const DomainConfig& config);

/// What makes a clone another machine.
struct CloneIdentity {
  std::string name;
  std::string uuid;
  std::vector<std::string> macs;             ///< one per NIC, in order
  std::map<std::string, std::string> disks;  ///< target ("vda") -> path of its new head
  std::string nvram;                         ///< empty when the VM has none
  std::string seed;                          ///< empty when it has none
  std::string console_log;
  std::string kernel, initrd;  ///< replace those of direct boot; empty: kept
};

/// The source's XML as another VM's: name, title kept generic, UUID (and sysinfo's), genid, MACs, disks, NVRAM, seed,
/// console log; what libvirt made up for the source (agent channel paths, ports, aliases, seclabels, domain id) is
/// dropped, and so are host devices: a clone carries the request for one. Everything else is kept, also what vmgraft
/// does not model. \param source_xml  the inactive XML: the live one also has what is only plugged in for now. \throws
/// Error other: the XML cannot be read, or identity does not fit it (number of NICs, a target, NVRAM).
///               conflict: it has a writable disk of which the clone gets no own one.
[[nodiscard]] std::string clone_domain_xml(const std::string& source_xml, const CloneIdentity& identity);

/// The same domain on other disk files. \param disks target -> path. <backingStore> of a changed disk is dropped.
/// \throws Error other: a target is not in the XML.
[[nodiscard]] std::string with_disk_paths(const std::string& xml, const std::map<std::string, std::string>& disks);

/// The same definition with the passwords of VNC and SPICE consoles that \p secure has. libvirt leaves them out of what
/// it shows, so a definition made of that would open the console to everybody.
[[nodiscard]] std::string with_console_passwords(const std::string& xml, const std::string& secure);

/// What vmgraft wants to know of a domain, from its XML.
struct DomainFacts {
  std::string name;
  std::string uuid;
  std::string store;  ///< of our metadata; empty: not our domain
  std::string id;     ///< of our metadata: the UUID that it was made with
  std::string template_name, template_digest;
  std::string virt_type;
  unsigned cpus = 0;
  std::uint64_t memory = 0;  ///< bytes
  std::string nvram;         ///< path; empty: none
  bool tpm = false;
  bool agent_connected = false;  ///< live XML only
  struct Disk {
    std::string target;
    std::string path;
    std::string format;
    std::vector<std::string> backing;  ///< paths below it, nearest first; live XML only
    bool is_cdrom = false;
  };
  std::vector<Disk> disks;  ///< cdroms included
  struct Nic {
    std::string mac;
    std::string type;  ///< libvirt's: network, bridge, user
    std::string source;
  };
  std::vector<Nic> nics;
};

/// \throws Error other: the XML cannot be read.
[[nodiscard]] DomainFacts read_domain(const std::string& xml);

/// Every path below \p folder that a domain's XML names, in whatever element: disks, NVRAM, kernel, logs ...
/// \throws Error other: the XML cannot be read.
[[nodiscard]] std::set<std::string> paths_below(const std::string& xml, const std::string& folder);

/// What the host can do, from virConnectGetCapabilities.
struct HostFacts {
  std::string arch;
  std::optional<unsigned> qemu_uid, qemu_gid;  ///< of secmodel dac's baselabel; absent in a session
  std::string security_model;                  ///< "apparmor", "selinux", "none"
  bool has_kvm_domains = false;                ///< libvirt offers domain type kvm
};

[[nodiscard]] HostFacts read_capabilities(const std::string& xml);

/// What an emulator can do, from virConnectGetDomainCapabilities.
struct EmulatorFacts {
  std::string path;
  std::vector<std::string> loaders;  ///< paths of firmware that libvirt knows
  bool tpm_emulator = false;
};

[[nodiscard]] EmulatorFacts read_domain_capabilities(const std::string& xml);

/// XML of a libvirt network of ours without a way out: DHCP among the VMs only.
[[nodiscard]] std::string isolated_network_xml(const std::string& name, const std::string& bridge,
                                               unsigned third_octet);

}  // namespace vmgraft

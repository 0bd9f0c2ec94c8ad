// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <string>

namespace vmgraft {

/// What of the host a domain's XML reaches besides the store and what every VM of vmgraft has: files, folders, devices
/// and sockets of the host, its network cards, ports open to others, arguments for QEMU, confinement turned off. One
/// line each, made of what an element reaches, not of how libvirt lays it out, so that two XMLs can be compared:
/// "<disk> file='/dev/sda'". For XML that came with a store: what it says would be carried out by libvirt, which is
/// root. \throws Error other: the XML cannot be read.
[[nodiscard]] std::set<std::string> host_reach(const std::string& domain_xml, const std::string& store);

}  // namespace vmgraft

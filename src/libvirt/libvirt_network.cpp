// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <fmt/format.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "libvirt/checked.hpp"
#include "libvirt/libvirt_hypervisor_impl.hpp"

namespace vmgraft {
namespace {

NetworkHandle find_network(virConnect* connect, const std::string& name) {
  NetworkHandle found(virNetworkLookupByName(connect, name.c_str()));
  if (found) return found;
  LibvirtCause cause = last_cause();
  if (cause.code == VIR_ERR_NO_NETWORK) return nullptr;
  throw to_error(std::move(cause), fmt::format("find network '{}'", name));
}

NetworkHandle define_network(virConnect* connect, const std::string& name, const std::string& xml) {
  // Whoever defines it a moment before us makes this a redefinition of the same, or a clash of UUIDs: then his it is.
  NetworkHandle made(virNetworkDefineXML(connect, xml.c_str()));
  if (made) return made;
  LibvirtCause cause = last_cause();
  if (NetworkHandle found = find_network(connect, name)) return found;
  throw to_error(std::move(cause), fmt::format("define network '{}'", name));
}

}  // namespace

void LibvirtHypervisor::ensure_network(const std::string& name, const std::string& xml) {
  NetworkHandle network = find_network(connection_.get(), name);
  if (!network) {
    if (xml.empty()) {
      throw Error(Errc::not_found, fmt::format("libvirt has no network '{}'", name),
                  name == "default"
                      ? "sudo apt-get install libvirt-daemon-config-network, or use \"kind\": \"user\" in the template"
                      : "see virsh net-list --all");
    }
    network = define_network(connection_.get(), name, xml);
  }
  const auto is_active = [&] {
    return checked(virNetworkIsActive(network.get()), fmt::format("look at network '{}'", name)) == 1;
  };
  if (is_active() || virNetworkCreate(network.get()) == 0) return;
  LibvirtCause cause = last_cause();
  if (is_active()) return;  // somebody else started it meanwhile
  Error error(Errc::host_unfit, fmt::format("cannot start network '{}': {}", name, cause.message),
              "libvirt's networks need iptables and dnsmasq: sudo apt-get install iptables dnsmasq-base; "
              "or use \"kind\": \"user\" in the template");
  throw error.set_libvirt(std::move(cause));
}

}  // namespace vmgraft

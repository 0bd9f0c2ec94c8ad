// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cerrno>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "libvirt/checked.hpp"
#include "libvirt/libvirt_hypervisor_impl.hpp"

namespace vmgraft {
namespace {

std::string uuid_of(virDomain* domain) {
  std::array<char, VIR_UUID_STRING_BUFLEN> text{};
  checked(virDomainGetUUIDString(domain, text.data()), "read a UUID");  // of the handle: no call to the server
  return text.data();
}

VmState to_vm_state(int state) {
  switch (state) {
    case VIR_DOMAIN_PAUSED:
    case VIR_DOMAIN_PMSUSPENDED:
      return VmState::paused;
    case VIR_DOMAIN_SHUTOFF:
      return VmState::shut_off;
    case VIR_DOMAIN_CRASHED:
      return VmState::crashed;
    default:  // RUNNING, BLOCKED, and SHUTDOWN: on its way, its disks still in use
      return VmState::running;
  }
}

/// Owns what virConnectListAllDomains returns.
class DomainList {
 public:
  DomainList(virConnect* connect, unsigned flags) {
    virDomainPtr* list = nullptr;
    const int count = checked(virConnectListAllDomains(connect, &list, flags), "list domains");
    handles_.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) handles_.emplace_back(list[i]);
    std::free(list);
  }
  [[nodiscard]] auto begin() const { return handles_.begin(); }
  [[nodiscard]] auto end() const { return handles_.end(); }
  [[nodiscard]] std::size_t size() const { return handles_.size(); }

 private:
  std::vector<DomainHandle> handles_;
};

bool is_gone(const LibvirtCause& cause) {
  return cause.code == VIR_ERR_NO_DOMAIN;
}

std::optional<DomainState> describe(DomainHandle found, const std::string& act) {
  if (!found) {
    LibvirtCause cause = last_cause();
    if (is_gone(cause)) return std::nullopt;
    throw to_error(std::move(cause), act);
  }
  int state = 0;
  int persistent = -1;
  int saved = -1;
  if (virDomainGetState(found.get(), &state, nullptr, 0) < 0 || (persistent = virDomainIsPersistent(found.get())) < 0 ||
      (saved = virDomainHasManagedSaveImage(found.get(), 0)) < 0) {
    LibvirtCause cause = last_cause();
    if (is_gone(cause)) return std::nullopt;  // removed between the calls
    throw to_error(std::move(cause), act);
  }
  return DomainState{virDomainGetName(found.get()), uuid_of(found.get()), to_vm_state(state), persistent == 1, saved == 1};
}

bool is_running_now(virDomain* domain) noexcept {
  int state = 0;
  return virDomainGetState(domain, &state, nullptr, 0) == 0 && !is_off(state);
}

}  // namespace

int errno_of_last_error() {
  const virError* error = virGetLastError();
  return error != nullptr && error->code == VIR_ERR_SYSTEM_ERROR ? error->int1 : 0;
}

Error start_error(LibvirtCause cause, int system_error, const std::string& act) {
  if (system_error != EACCES && system_error != EPERM) return to_error(std::move(cause), act);
  Error error(Errc::host_unfit, fmt::format("cannot {}: {}", act, cause.message),
              "QEMU's user must reach the file: run vmgraft doctor");
  error.set_libvirt(std::move(cause));
  return error;
}

Error not_running(virDomain* domain, const std::string& act, LibvirtCause cause) {
  Error error(Errc::conflict, fmt::format("cannot {}: the VM does not run", act),
              fmt::format("vmgraft start {}", virDomainGetName(domain)));
  error.set_libvirt(std::move(cause));
  return error;
}

int state_of(virDomain* domain) {
  int state = 0;
  checked(virDomainGetState(domain, &state, nullptr, 0), "read the state of", domain);
  return state;
}

bool is_off(int state) noexcept {
  return state == VIR_DOMAIN_SHUTOFF || state == VIR_DOMAIN_CRASHED;
}

bool is_off_now(virDomain* domain) noexcept {
  int state = 0;
  return virDomainGetState(domain, &state, nullptr, 0) == 0 && is_off(state);
}

DomainHandle LibvirtHypervisor::domain(const std::string& uuid) {
  return DomainHandle(
      checked(virDomainLookupByUUIDString(connection_.get(), uuid.c_str()), fmt::format("find domain {}", uuid)));
}

HypervisorInfo LibvirtHypervisor::info() {
  if (info_) return *info_;
  HypervisorInfo info;
  const TextHandle uri(checked(virConnectGetURI(connection_.get()), "ask libvirt for its address"));
  info.uri = uri.get();
  // "driver[+transport]://[host]/PATH[?extra]"
  const std::string path = info.uri.substr(0, info.uri.find('?'));
  info.is_session = path.size() > 8 && path.compare(path.size() - 8, 8, "/session") == 0;
  unsigned long version = 0;
  checked(virConnectGetLibVersion(connection_.get(), &version), "ask libvirt for its version");
  info.libvirt_version = static_cast<std::uint32_t>(version);
  version = 0;
  // Fails where no emulator is installed: the version stays 0.
  if (virConnectGetVersion(connection_.get(), &version) == 0)
    info.hypervisor_version = static_cast<std::uint32_t>(version);
  info_ = info;
  return info;
}

std::string LibvirtHypervisor::capabilities_xml() {
  return TextHandle(checked(virConnectGetCapabilities(connection_.get()), "ask libvirt what this host can do")).get();
}

std::string LibvirtHypervisor::domain_capabilities_xml(const std::string& machine, const std::string& virt_type) {
  return TextHandle(checked(virConnectGetDomainCapabilities(connection_.get(), nullptr, nullptr, machine.c_str(),
                                                            virt_type.c_str(), 0),
                            fmt::format("ask libvirt what a '{}' machine on '{}' can do", machine, virt_type)))
      .get();
}

std::vector<DomainState> LibvirtHypervisor::domains() {
  virConnect* connect = connection_.get();
  // A filtered list tells the state of all its members in one call. The unfiltered list comes first and is the truth of
  // who is there: a domain that changes state between two filtered calls would otherwise be in none of them.
  const DomainList all(connect, 0);
  std::unordered_map<std::string, VmState> states;
  states.reserve(all.size());
  const std::array<std::pair<unsigned, VmState>, 3> kinds = {{{VIR_CONNECT_LIST_DOMAINS_SHUTOFF, VmState::shut_off},
                                                              {VIR_CONNECT_LIST_DOMAINS_PAUSED, VmState::paused},
                                                              {VIR_CONNECT_LIST_DOMAINS_RUNNING, VmState::running}}};
  for (const auto& [flag, state] : kinds) {
    for (const DomainHandle& one : DomainList(connect, flag)) states[uuid_of(one.get())] = state;
  }
  const auto uuids_of = [&](unsigned flag) {
    std::unordered_set<std::string> uuids;
    for (const DomainHandle& one : DomainList(connect, flag)) uuids.insert(uuid_of(one.get()));
    return uuids;
  };
  const std::unordered_set<std::string> transient = uuids_of(VIR_CONNECT_LIST_DOMAINS_TRANSIENT);
  const std::unordered_set<std::string> saved = uuids_of(VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE);

  std::vector<DomainState> result;
  result.reserve(all.size());
  for (const DomainHandle& one : all) {
    DomainState state{virDomainGetName(one.get()), uuid_of(one.get()), VmState::shut_off};
    state.persistent = transient.count(state.uuid) == 0;
    state.saved = saved.count(state.uuid) != 0;
    if (const auto known = states.find(state.uuid); known != states.end()) {
      state.state = known->second;
    } else {  // rare: crashed, on its way down, or caught between two calls
      int now = 0;
      if (virDomainGetState(one.get(), &now, nullptr, 0) < 0) {
        LibvirtCause cause = last_cause();
        if (is_gone(cause)) continue;
        throw to_error(std::move(cause), "read the state of " + called(one.get()));
      }
      state.state = to_vm_state(now);
    }
    result.push_back(std::move(state));
  }
  return result;
}

std::optional<DomainState> LibvirtHypervisor::find_by_name(const std::string& name) {
  return describe(DomainHandle(virDomainLookupByName(connection_.get(), name.c_str())),
                  fmt::format("find domain '{}'", name));
}

std::optional<DomainState> LibvirtHypervisor::find_by_uuid(const std::string& uuid) {
  return describe(DomainHandle(virDomainLookupByUUIDString(connection_.get(), uuid.c_str())),
                  fmt::format("find domain {}", uuid));
}

std::string LibvirtHypervisor::domain_xml(const std::string& uuid, bool inactive) {
  const DomainHandle handle = domain(uuid);
  const unsigned flags = inactive ? VIR_DOMAIN_XML_INACTIVE : 0;
  return TextHandle(checked(virDomainGetXMLDesc(handle.get(), flags), "read the definition of", handle.get())).get();
}

std::string LibvirtHypervisor::secure_definition(const std::string& uuid) {
  if (!find_by_uuid(uuid)) return {};
  const DomainHandle handle = domain(uuid);
  constexpr unsigned flags = VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE;
  return TextHandle(checked(virDomainGetXMLDesc(handle.get(), flags), "read the definition of", handle.get())).get();
}

void LibvirtHypervisor::define(const std::string& xml, Schema schema) {
  const DomainHandle made(virDomainDefineXMLFlags(connection_.get(), xml.c_str(), schema == Schema::checked ? VIR_DOMAIN_DEFINE_VALIDATE : 0));
  if (made) return;
  LibvirtCause cause = last_cause();
  // "Already there with another UUID" and "... another name" are this code of this part; a bad definition has codes of
  // its own.
  if (cause.code == VIR_ERR_OPERATION_FAILED && cause.domain == VIR_FROM_DOMAIN) {
    Error error(Errc::conflict, fmt::format("cannot define the VM: {}", cause.message),
                "choose another name, or see virsh list --all");
    throw error.set_libvirt(std::move(cause));
  }
  throw to_error(std::move(cause), "define the VM");
}

void LibvirtHypervisor::undefine(const std::string& uuid, bool keep_tpm) {
  const DomainHandle handle(virDomainLookupByUUIDString(connection_.get(), uuid.c_str()));
  if (!handle) {
    LibvirtCause cause = last_cause();
    if (is_gone(cause)) return;
    throw to_error(std::move(cause), fmt::format("find domain {}", uuid));
  }
  const std::string act = "remove the definition of " + called(handle.get());
  constexpr unsigned kBasic = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
  // The varstore is a file of our store, which we remove ourselves and which may be gone already: libvirt only forgets
  // it.
  constexpr unsigned kNvram = kBasic | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_KEEP_NVRAM;
  // VIR_DOMAIN_UNDEFINE_TPM, _KEEP_TPM: libvirt >= 8.9. An older one refuses the flag and always removes the state.
  const unsigned tpm = keep_tpm ? VIR_DOMAIN_UNDEFINE_KEEP_TPM : VIR_DOMAIN_UNDEFINE_TPM;
  for (const unsigned flags : {kNvram | tpm, kNvram, kBasic}) {
    if (virDomainUndefineFlags(handle.get(), flags) == 0) return;
    LibvirtCause cause = last_cause();
    if (is_gone(cause)) return;
    // A flag that the driver does not know is an invalid argument; the test driver knows the basic ones only.
    if (cause.code != VIR_ERR_INVALID_ARG || flags == kBasic) throw to_error(std::move(cause), act);
    const HypervisorInfo about = info();
    if (keep_tpm && about.uri.rfind("qemu", 0) == 0) {
      Error error(Errc::host_unfit,
                  fmt::format("cannot {} and keep its TPM state: libvirt {}.{}.{} removes both", act,
                              about.libvirt_version / 1000000, about.libvirt_version / 1000 % 1000,
                              about.libvirt_version % 1000),
                  "libvirt 8.9 or newer is needed");
      throw error.set_libvirt(std::move(cause));
    }
  }
}

void LibvirtHypervisor::start(const std::string& uuid) {
  const DomainHandle handle = domain(uuid);
  if (virDomainCreateWithFlags(handle.get(), 0) == 0) return;
  const int system_error = errno_of_last_error();
  LibvirtCause cause = last_cause();
  if (system_error == 0 && is_running_now(handle.get())) {
    Error error(Errc::conflict, called(handle.get()) + " is running already");
    throw error.set_libvirt(std::move(cause));
  }
  throw start_error(std::move(cause), system_error, "start " + called(handle.get()));
}

void LibvirtHypervisor::start_as(const std::string& xml) {
  // The definition of a domain that is defined stays beside the live one, which is gone when the domain ends.
  const DomainHandle started(virDomainCreateXML(connection_.get(), xml.c_str(), VIR_DOMAIN_START_VALIDATE));
  if (started) return;
  const int system_error = errno_of_last_error();
  throw start_error(last_cause(), system_error, "start the VM");
}

void LibvirtHypervisor::power_off(const std::string& uuid) {
  const DomainHandle handle = domain(uuid);
  // QMP "quit" first was measured no faster (the time goes into reaping QEMU) and taints the domain.
  if (virDomainDestroyFlags(handle.get(), VIR_DOMAIN_DESTROY_DEFAULT) == 0) return;
  LibvirtCause cause = last_cause();
  if (is_gone(cause)) return;  // a transient domain that ended by itself
  if (is_off_now(handle.get())) return;
  throw to_error(std::move(cause), "power off " + called(handle.get()));
}

void LibvirtHypervisor::request_shutdown(const std::string& uuid) {
  const DomainHandle handle = domain(uuid);
  // With both flags libvirt asks the agent and, when that fails, presses the power button. An agent that is connected
  // but dead costs its 5 s.
  if (virDomainShutdownFlags(handle.get(), VIR_DOMAIN_SHUTDOWN_GUEST_AGENT | VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) == 0)
    return;
  LibvirtCause cause = last_cause();
  if (cause.code == VIR_ERR_INVALID_ARG ||
      cause.code == VIR_ERR_ARGUMENT_UNSUPPORTED) {  // the test driver; no agent channel
    if (virDomainShutdown(handle.get()) == 0) return;
    cause = last_cause();
  }
  if (is_gone(cause) || is_off_now(handle.get())) return;
  throw to_error(std::move(cause), "shut down " + called(handle.get()));
}

}  // namespace vmgraft

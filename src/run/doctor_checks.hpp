// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <vmgraft/doctor.hpp>

#include "domain/domain_xml.hpp"
#include "run/doctor.hpp"
#include "run/file_access.hpp"

namespace vmgraft {

/// What the checks look at: read once, before the first of them.
struct DoctorFacts {
  Host& host;
  std::string uri;
  std::filesystem::path store;               ///< links resolved
  std::optional<HypervisorInfo> hypervisor;  ///< nothing: libvirt is not reachable
  std::string refusal;                       ///< why libvirt does not answer; empty: it does
  std::string refusal_remedy;
  std::optional<HostFacts> capabilities;
  EmulatorFacts emulator;
  Account qemu;  ///< whom QEMU runs as
};

struct DoctorCheck {
  const char* id;
  bool needs_libvirt;
  std::function<DoctorRow(const DoctorFacts&)> look;
};

/// CPU, devices, libvirt and the programs.
[[nodiscard]] std::vector<DoctorCheck> host_checks();
/// The store's folder: doctor_store.cpp.
[[nodiscard]] std::vector<DoctorCheck> store_checks();

[[nodiscard]] inline DoctorRow ok_row(std::string seen) {
  return {{}, Health::ok, std::move(seen), {}};
}
[[nodiscard]] inline DoctorRow warn_row(std::string seen, std::string remedy) {
  return {{}, Health::warn, std::move(seen), std::move(remedy)};
}
[[nodiscard]] inline DoctorRow fail_row(std::string seen, std::string remedy) {
  return {{}, Health::fail, std::move(seen), std::move(remedy)};
}

}  // namespace vmgraft

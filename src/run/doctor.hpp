// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include <vmgraft/doctor.hpp>

#include "host/host.hpp"
#include "libvirt/hypervisor.hpp"

namespace vmgraft {

struct DoctorInput {
  Host& host;
  std::string uri;                       ///< as chosen
  std::function<Hypervisor&()> connect;  ///< throws when libvirt cannot be reached
  std::filesystem::path store;           ///< may not exist yet
};

/// Look at everything vmgraft needs of a host. Changes nothing but probe files in the store (or, while that is not
/// there, in the nearest folder above it) that are removed again. A check that fails or cannot be made is a row, never
/// an exception.
[[nodiscard]] std::vector<DoctorRow> check_host(const DoctorInput& input);

/// Accelerator for accel: auto. kvm only when the CPU has vmx or svm, /dev/kvm is there and libvirt offers kvm domains:
/// libvirt has tried whether QEMU, as the user it runs it as, can open the device; the CPU flags it does not look at.
[[nodiscard]] bool kvm_usable(Host& host, bool libvirt_offers_kvm);

}  // namespace vmgraft

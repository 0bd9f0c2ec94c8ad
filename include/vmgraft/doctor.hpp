// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace vmgraft {

enum class Health { ok, warn, fail };

[[nodiscard]] std::string to_string(Health health);

/// One check of the host. `id` is stable; scripts may match on it.
struct DoctorRow {
  std::string id;       ///< "kvm", "kvm-access", "libvirt" ...
  Health health = Health::ok;
  std::string seen;     ///< what was found
  std::string remedy;   ///< empty when ok
};

}  // namespace vmgraft

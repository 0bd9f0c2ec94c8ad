// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include <vmgraft/doctor.hpp>

namespace vmgraft {

struct CheckRequest {
  std::vector<std::string> names;  ///< VMs and images; empty: the whole store
  bool quick = false;              ///< leave out what reads whole files: qemu-img check, hashes
};

/// One finding of a check of the store. `id` is stable; scripts may match on it.
struct CheckRow {
  std::string id;                  ///< "layer-file", "domain-disk" ...: see vmgraft-check(1)
  Health health = Health::ok;
  std::string place;               ///< "VM web", "image micro", "layer 0f3a9c12", "journal/ab12.json", "store"
  std::string seen;                ///< what was found
  std::string remedy;              ///< empty when ok
};

}  // namespace vmgraft

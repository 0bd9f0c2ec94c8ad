// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "model/vm_spec.hpp"

namespace vmgraft {

/// The resolved template \p spec_json, of which VMs end in another way. As canonical as what it was made from.
[[nodiscard]] std::string with_on_expire(const std::string& spec_json, OnExpire on_expire);

}  // namespace vmgraft

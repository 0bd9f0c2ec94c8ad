// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "plan/facts.hpp"
#include "plan/steps.hpp"

namespace vmgraft {

/// Power off and remove the VM; its layers go with the sweep that follows.
/// \param domain_exists  false: only the manifest is left of it.
[[nodiscard]] Plan plan_delete(const Store& store, const Manifest& manifest, bool domain_exists);

}  // namespace vmgraft

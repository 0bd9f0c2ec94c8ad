// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "domain/placement.hpp"
#include "domain/xml_tree.hpp"

namespace vmgraft {

/// Put pinning, NUMA cells and memory of a placement into \p domain.
/// \param missed  what the definition has of its own is kept; a note on it is added here.
void add_tuning(xmlNode* domain, const HostTuning& tuning, std::vector<std::string>& missed);

/// The first child of that name, made when there is none.
[[nodiscard]] xmlNode* child_or_new(xmlNode* parent, const char* name);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "domain/domain_config.hpp"
#include "domain/xml_tree.hpp"

namespace vmgraft {

/// Serial of the NoCloud seed's cdrom: how a clone tells it from a cdrom that somebody added.
inline constexpr const char* kSeedSerial = "vmgraft-seed";

/// <devices> of a new VM, as last child of \p domain.
/// \throws Error invalid_template: an element of config.extra_devices is not one well-formed XML element, or has a
///         password.
void add_devices(xmlNode* domain, const DomainConfig& config);

/// A cdrom with the NoCloud seed \p path, at \p target ("sda").
void add_seed(xmlNode* devices, const std::string& target, const std::string& path);

}  // namespace vmgraft

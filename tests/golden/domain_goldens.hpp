// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "domain/domain_config.hpp"
#include "domain/domain_xml.hpp"

/// One domain XML as we make it, to be compared with tests/golden/domain/<name>.xml.
struct DomainGolden {
  std::string name;
  std::string xml;
};

[[nodiscard]] std::vector<DomainGolden> domain_goldens();

// Inputs that other tests start from.
[[nodiscard]] vmgraft::DomainConfig dev_config();
/// Fits a VM with the disk vda, NVRAM, one NIC, a seed when \p seed says one.
[[nodiscard]] vmgraft::CloneIdentity dev_clone(const std::string& seed = {});

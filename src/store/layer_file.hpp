// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "host/host.hpp"
#include "store/store.hpp"

namespace vmgraft {

/// A way in which the file of a layer is not what its record says.
struct LayerFault {
  std::string id;      ///< of the row in a check: "layer-file", "layer-format", "layer-size", "layer-backing"
  std::string what;    ///< "its file '/s/layers/x.qcow2' is missing"
  std::string remedy;
};

/// Compare file and record, by the file's header alone: some 20 us. Nothing is opened but that file.
[[nodiscard]] std::vector<LayerFault> inspect_layer(Host& host, const Store& store, const LayerRecord& record);

/// \throws Error conflict: the first layer whose file is not what its record says.
void require_whole(Host& host, const Store& store, const std::map<std::string, LayerRecord>& layers);

}  // namespace vmgraft

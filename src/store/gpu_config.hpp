// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "host/host.hpp"

namespace vmgraft {

/// A set of GPUs that the board's switch fabric can join. Only such sets are given to a VM together.
struct FabricPartition {
  std::string name;
  std::vector<std::string> gpus;          ///< addresses
};

/// What only the administrator knows of this host's GPUs.
/// { "version": 1, "also": ["1b36:0010"], "partitions": [{"name": "p0", "gpus": ["0000:1b:00.0", ...]}] }
struct GpuConfig {
  std::vector<std::string> also;          ///< "vvvv:dddd" that count as GPUs though their class is another
  std::vector<FabricPartition> partitions;
};

/// Where the configuration is read: VMGRAFT_GPU_CONFIG, else this.
inline constexpr const char* kGpuConfigFile = "/etc/vmgraft/gpus.json";

/// An absent file is an empty configuration. Keys may be left out; none besides are taken.
/// \throws Error other: it cannot be read, with file and place.
[[nodiscard]] GpuConfig read_gpu_config(Host& host, const std::string& file);

}  // namespace vmgraft

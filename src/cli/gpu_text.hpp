// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include <vmgraft/gpu.hpp>

#include "cli/terminal.hpp"

namespace vmgraft::cli {

// As in text.hpp, of GPUs.

/// At most 120 columns, unless a VM's name or a driver's is long; notes stand below.
/// \param wide  ids, link, resets and neighbours too, names uncut.
[[nodiscard]] std::string gpus_text(const Terminal& terminal, const std::vector<GpuInfo>& gpus, bool wide);
/// Host bridges, the bridges below them, GPUs, and below each GPU what shares its slot or group.
[[nodiscard]] std::string gpu_tree_text(const Terminal& terminal, const std::vector<GpuInfo>& gpus);
/// Rows, and the remedies below them, each said once.
[[nodiscard]] std::string gpu_checks_text(const Terminal& terminal, const std::vector<GpuCheck>& rows);
/// "0000:41:00.0 lent (vfio-pci)", a line each.
[[nodiscard]] std::string gpu_changes_text(const std::vector<GpuChange>& changes);

}  // namespace vmgraft::cli

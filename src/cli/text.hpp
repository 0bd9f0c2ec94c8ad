// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <vmgraft/manager.hpp>

#include "cli/terminal.hpp"

namespace vmgraft::cli {

/// Bytes that are shown of a value or a reason which comes from outside.
constexpr std::size_t kLongestValue = 1000;

// Results as people read them, each ending with a line feed. Every text that comes from outside is made fit to print.

/// "2", or "0000:41:00.0 (10de:2330 10de:16c1)"; without a line feed.
[[nodiscard]] std::string asked_text(const GpuAsked& asked);
/// "2026-01-02T03:04:05Z (in 3 h, then deleted)", or "never"; without a line feed.
[[nodiscard]] std::string expiry_text(const VmSummary& vm);
[[nodiscard]] std::string vm_text(const VmInfo& vm);
[[nodiscard]] std::string snapshot_text(const std::string& vm, const SnapshotInfo& snapshot);
[[nodiscard]] std::string list_text(const Terminal& terminal, const std::vector<VmSummary>& vms);
[[nodiscard]] std::string snapshots_text(const Terminal& terminal, const std::vector<SnapshotInfo>& snapshots);
[[nodiscard]] std::string images_text(const Terminal& terminal, const std::vector<ImageInfo>& images);
[[nodiscard]] std::string catalogue_text(const Terminal& terminal, const std::vector<CatalogueEntry>& entries);
[[nodiscard]] std::string templates_text(const Terminal& terminal, const std::vector<TemplateInfo>& templates);
[[nodiscard]] std::string checks_text(const Terminal& terminal, const std::vector<DoctorRow>& rows);
[[nodiscard]] std::string store_checks_text(const Terminal& terminal, const std::vector<CheckRow>& rows);
[[nodiscard]] std::string plan_text(const PlanText& plan);
[[nodiscard]] std::string names_text(const std::vector<VmInfo>& vms);
/// Colour of a cell that says how well something is.
[[nodiscard]] const char* colour_of(Health health);
/// "file systems were frozen", "crash-consistent: the agent does not answer"; empty for a clean one.
[[nodiscard]] std::string consistency_text(Consistency consistency, const std::string& note);

}  // namespace vmgraft::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <vmgraft/manager.hpp>

namespace vmgraft::cli {

// JSON text of each result, as it stands in the record's "result". Keys are named as the fields of the structs; what is
// absent, or empty where empty means none, is null. Text keeps <nlohmann/json.hpp> out of the verbs.

[[nodiscard]] std::string vm_json(const VmInfo& vm);                     ///< {"vm": ...}
[[nodiscard]] std::string vms_json(const std::vector<VmInfo>& vms);      ///< {"vms": [...]}
[[nodiscard]] std::string list_json(const std::vector<VmSummary>& vms);  ///< {"vms": [...]}
[[nodiscard]] std::string snapshot_json(const std::string& vm, const SnapshotInfo& snapshot);
[[nodiscard]] std::string snapshot_json(const SnapshotResult& result);
[[nodiscard]] std::string snapshots_json(const std::string& vm, const std::vector<SnapshotInfo>& snapshots);
[[nodiscard]] std::string snapshot_delete_json(const SnapshotDeleteResult& result);
[[nodiscard]] std::string revert_json(const RevertResult& result);
[[nodiscard]] std::string clone_json(const CloneResult& result);
[[nodiscard]] std::string plan_json(const PlanText& plan);  ///< {"steps": [...]}
[[nodiscard]] std::string exec_json(const ExecResult& result, const std::string& out, const std::string& err);
[[nodiscard]] std::string copy_json(const CopyResult& result);
[[nodiscard]] std::string images_json(const std::vector<ImageInfo>& images);
[[nodiscard]] std::string image_json(const ImageInfo& image);                          ///< {"image": ...}
[[nodiscard]] std::string catalogue_json(const std::vector<CatalogueEntry>& entries);  ///< {"available": [...]}
[[nodiscard]] std::string templates_json(const std::vector<TemplateInfo>& templates);
/// \param text  a resolved template, JSON text.
[[nodiscard]] std::string resolved_template_json(const std::string& text);
[[nodiscard]] std::string store_checks_json(const std::vector<CheckRow>& rows);  ///< {"checks": [...]}
[[nodiscard]] std::string checks_json(const std::vector<DoctorRow>& rows);
[[nodiscard]] std::string gpus_json(const std::vector<GpuInfo>& gpus);              ///< {"gpus": [...]}
[[nodiscard]] std::string gpu_checks_json(const std::vector<GpuCheck>& rows);       ///< {"checks": [...]}
[[nodiscard]] std::string gpu_changes_json(const std::vector<GpuChange>& changes);  ///< {"gpus": [...]}
/// {"layers": [...], "files": ..., "domains": ..., "manifests": ..., "journals": ..., "expired": [...]}
[[nodiscard]] std::string gc_json(const GcResult& result);
/// {key: text}: "xml", "version".
[[nodiscard]] std::string text_json(const std::string& key, const std::string& text);
/// {key: [texts]}: "argv".
[[nodiscard]] std::string texts_json(const std::string& key, const std::vector<std::string>& texts);

// Objects without a wrapper, for many_json.
[[nodiscard]] std::string vm_object(const VmInfo& vm);
[[nodiscard]] std::string template_object(const TemplateInfo& info);
[[nodiscard]] std::string plan_object(const std::string& name, const PlanText& plan);
[[nodiscard]] std::string removed_object(const std::string& name, const std::vector<std::string>& removed_layers);

/// {plural: [done...], "failed": [{"name", "error"}...]}
[[nodiscard]] std::string many_json(const std::string& plural, const std::vector<std::string>& done,
                                    const std::vector<std::pair<std::string, Error>>& failed);

/// The one record of --json. \param result  JSON text; empty: null. \param indent  for people.
[[nodiscard]] std::string record_json(const std::string& result, const Error* failure, bool indent);

}  // namespace vmgraft::cli

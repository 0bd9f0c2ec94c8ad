// SPDX-License-Identifier: Apache-2.0
#include "cli/json.hpp"

#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace vmgraft::cli {

namespace {

// Keys keep the order of the structs: a record is read by people too.
using Json = nlohmann::ordered_json;

/// Null for an empty text, where the struct says that empty means none.
Json or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

template <typename Value>
Json or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

/// What guests and files say need not be UTF-8; a record always is.
std::string dump(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

template <typename Items, typename Convert>
Json list_of(const Items& items, Convert convert) {
  Json list = Json::array();
  for (const auto& item : items) list.push_back(convert(item));
  return list;
}

Json to_json(const DiskInfo& disk) {
  return {{"name", disk.name}, {"target", disk.target}, {"layer", disk.layer},      {"path", disk.path},
          {"size", disk.size}, {"depth", disk.depth},   {"snapshot", disk.snapshot}};
}

Json to_json(const NicInfo& nic) {
  return {{"kind", nic.kind}, {"mac", or_null(nic.mac)}, {"addresses", Json(nic.addresses)}};
}

Json to_json(const SnapshotInfo& snapshot) {
  return {{"name", snapshot.name},
          {"parent", or_null(snapshot.parent)},
          {"created", snapshot.created},
          {"consistency", to_string(snapshot.consistency)},
          {"memory", snapshot.memory},
          {"current", snapshot.current},
          {"description", or_null(snapshot.description)},
          {"disks", list_of(snapshot.disks, [](const DiskInfo& disk) { return to_json(disk); })}};
}

Json snapshot_list(const std::vector<SnapshotInfo>& snapshots) {
  return list_of(snapshots, [](const SnapshotInfo& snapshot) { return to_json(snapshot); });
}

Json to_json(const VmSummary& vm) {
  return {{"name", vm.name},
          {"uuid", vm.uuid},
          {"state", to_string(vm.state)},
          {"template_name", or_null(vm.template_name)},
          {"cpus", vm.cpus},
          {"memory", vm.memory},
          {"snapshots", vm.snapshots},
          {"created", vm.created},
          {"expires", or_null(vm.expires)},
          {"on_expire", vm.expires ? Json(to_string(vm.on_expire)) : Json(nullptr)},
          {"notes", vm.notes}};
}

Json to_json(const VmInfo& vm) {
  Json json = to_json(static_cast<const VmSummary&>(vm));
  json["template_digest"] = or_null(vm.template_digest);
  json["owner"] = or_null(vm.owner);
  json["accel"] = or_null(vm.accel);
  json["firmware"] = or_null(vm.firmware);
  json["tpm"] = vm.tpm;
  json["agent_connected"] = vm.agent_connected;
  json["provisioned"] = vm.provisioned;
  json["snapshot"] = or_null(vm.snapshot);
  json["source"] = or_null(vm.source);
  json["console_log"] = or_null(vm.console_log);
  json["disks"] = list_of(vm.disks, [](const DiskInfo& disk) { return to_json(disk); });
  json["networks"] = list_of(vm.networks, [](const NicInfo& nic) { return to_json(nic); });
  json["gpu_request"] = list_of(vm.gpu_request, [](const GpuAsked& asked) {
    return Json{{"request", asked.request}, {"identity", or_null(asked.identity)}};
  });
  json["gpus"] = vm.gpus;
  json["tuning_done"] = vm.tuning_done;
  json["tuning_not_done"] = vm.tuning_not_done;
  json["snapshot_tree"] = snapshot_list(vm.snapshot_tree);
  return json;
}

Json vm_list(const std::vector<VmInfo>& vms) {
  return list_of(vms, [](const VmInfo& vm) { return to_json(vm); });
}

Json to_json(const ImageInfo& image) {
  return {{"name", image.name},
          {"layer", image.layer},
          {"virtual_size", image.virtual_size},
          {"disk_size", image.disk_size},
          {"sha256", or_null(image.sha256)},
          {"origin", or_null(image.origin)},
          {"created", image.created},
          {"boot", Json(image.boot)},
          {"agent", image.agent},
          {"cloud_init", image.cloud_init},
          {"default_user", or_null(image.default_user)},
          {"used_by", image.used_by}};
}

Json to_json(const CatalogueEntry& entry) {
  return {{"name", entry.name},
          {"description", or_null(entry.description)},
          {"url", entry.url},
          {"checksum_url", or_null(entry.checksum_url)},
          {"sha256", or_null(entry.sha256)},
          {"default_user", or_null(entry.default_user)},
          {"cloud_init", entry.cloud_init},
          {"agent", entry.agent}};
}

Json to_json(const GpuNeighbour& neighbour) {
  return {{"address", neighbour.address},
          {"id", neighbour.id},
          {"name", or_null(neighbour.name)},
          {"driver", or_null(neighbour.driver)},
          {"role", neighbour.role}};
}

/// Null for a width that the device does not tell.
Json lanes(unsigned width) {
  return width == 0 ? Json(nullptr) : Json(width);
}

Json to_json(const GpuLink& link) {
  return {{"speed", or_null(link.speed)},
          {"most_speed", or_null(link.most_speed)},
          {"width", lanes(link.width)},
          {"most_width", lanes(link.most_width)}};
}

Json to_json(const GpuInfo& gpu) {
  return {{"address", gpu.address},
          {"id", gpu.id},
          {"subsystem", or_null(gpu.subsystem)},
          {"name", gpu.name},
          {"class_code", fmt::format("0x{:06x}", gpu.class_code)},
          {"memory", gpu.memory},
          {"numa_node", or_null(gpu.numa_node)},
          {"iommu_group", or_null(gpu.iommu_group)},
          {"neighbours", list_of(gpu.neighbours, [](const GpuNeighbour& one) { return to_json(one); })},
          {"driver", or_null(gpu.driver)},
          {"link", to_json(gpu.link)},
          {"reset_methods", Json(gpu.reset_methods)},
          {"boot_vga", gpu.boot_vga},
          {"vfs", gpu.vfs},
          {"most_vfs", gpu.most_vfs},
          {"physical_function", or_null(gpu.physical_function)},
          {"mdev_types",
           list_of(gpu.mdev_types,
                   [](const GpuMdevType& type) {
                     return Json{{"id", type.id}, {"name", or_null(type.name)}, {"available", type.available}};
                   })},
          {"path", Json(gpu.path)},
          {"state", to_string(gpu.state)},
          {"vm", or_null(gpu.vm)},
          {"note", or_null(gpu.note)}};
}

Json to_json(const GpuCheck& row) {
  return {{"address", or_null(row.address)},
          {"id", row.id},
          {"health", to_string(row.health)},
          {"seen", row.seen},
          {"remedy", or_null(row.remedy)}};
}

Json to_json(const GpuChange& change) {
  return {{"address", change.address},
          {"state", to_string(change.state)},
          {"driver", or_null(change.driver)},
          {"reset", or_null(change.reset)},
          {"note", or_null(change.note)}};
}

Json to_json(const TemplateParameter& parameter) {
  return {{"name", parameter.name},
          {"type", parameter.type},
          {"default_value", parameter.required ? Json(nullptr) : Json(parameter.default_value)},
          {"required", parameter.required},
          {"description", or_null(parameter.description)}};
}

Json to_json(const TemplateInfo& info) {
  return {{"name", info.name},
          {"description", or_null(info.description)},
          {"file", info.file},
          {"extends", or_null(info.extends)},
          {"parameters", list_of(info.parameters, [](const TemplateParameter& p) { return to_json(p); })}};
}

Json to_json(const Error& error) {
  return {{"code", to_string(error.code())},
          {"message", error.what()},
          {"context", Json(error.context())},
          {"hint", or_null(error.hint())},
          {"leftovers", Json(error.leftovers())}};
}

Json raw(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json::parse(text);
}

}  // namespace

std::string vm_json(const VmInfo& vm) {
  return dump({{"vm", to_json(vm)}});
}

std::string vms_json(const std::vector<VmInfo>& vms) {
  return dump({{"vms", vm_list(vms)}});
}

std::string list_json(const std::vector<VmSummary>& vms) {
  return dump({{"vms", list_of(vms, [](const VmSummary& vm) { return to_json(vm); })}});
}

std::string snapshot_json(const std::string& vm, const SnapshotInfo& snapshot) {
  return dump({{"vm", vm}, {"snapshot", to_json(snapshot)}});
}

std::string snapshot_json(const SnapshotResult& result) {
  return dump({{"vm", result.vm}, {"snapshot", to_json(result.snapshot)}, {"note", or_null(result.note)}});
}

std::string snapshots_json(const std::string& vm, const std::vector<SnapshotInfo>& snapshots) {
  return dump({{"vm", vm}, {"snapshots", snapshot_list(snapshots)}});
}

std::string snapshot_delete_json(const SnapshotDeleteResult& result) {
  return dump({{"removed_layers", Json(result.removed_layers)},
               {"merged_layers", Json(result.merged_layers)},
               {"note", or_null(result.note)}});
}

std::string revert_json(const RevertResult& result) {
  return dump({{"vm", to_json(result.vm)}, {"undo", or_null(result.undo)}});
}

std::string clone_json(const CloneResult& result) {
  return dump(
      {{"vms", vm_list(result.vms)}, {"consistency", to_string(result.consistency)}, {"note", or_null(result.note)}});
}

std::string plan_json(const PlanText& plan) {
  return dump({{"steps", Json(plan.steps)}});
}

std::string exec_json(const ExecResult& result, const std::string& out, const std::string& err) {
  return dump({{"exit_code", result.exit_code}, {"stdout", out}, {"stderr", err}});
}

std::string copy_json(const CopyResult& result) {
  return dump({{"files", result.files}, {"bytes", result.bytes}});
}

std::string images_json(const std::vector<ImageInfo>& images) {
  return dump({{"images", list_of(images, [](const ImageInfo& image) { return to_json(image); })}});
}

std::string image_json(const ImageInfo& image) {
  return dump({{"image", to_json(image)}});
}

std::string catalogue_json(const std::vector<CatalogueEntry>& entries) {
  return dump({{"available", list_of(entries, [](const CatalogueEntry& entry) { return to_json(entry); })}});
}

std::string templates_json(const std::vector<TemplateInfo>& templates) {
  return dump({{"templates", list_of(templates, [](const TemplateInfo& info) { return to_json(info); })}});
}

std::string resolved_template_json(const std::string& text) {
  return dump({{"template", raw(text)}});
}

std::string checks_json(const std::vector<DoctorRow>& rows) {
  return dump(
      {{"checks", list_of(rows, [](const DoctorRow& row) {
          return Json{
              {"id", row.id}, {"health", to_string(row.health)}, {"seen", row.seen}, {"remedy", or_null(row.remedy)}};
        })}});
}

std::string store_checks_json(const std::vector<CheckRow>& rows) {
  return dump({{"checks", list_of(rows, [](const CheckRow& row) {
                  return Json{{"id", row.id},
                              {"health", to_string(row.health)},
                              {"place", row.place},
                              {"seen", row.seen},
                              {"remedy", or_null(row.remedy)}};
                })}});
}

std::string gpus_json(const std::vector<GpuInfo>& gpus) {
  return dump({{"gpus", list_of(gpus, [](const GpuInfo& gpu) { return to_json(gpu); })}});
}

std::string gpu_checks_json(const std::vector<GpuCheck>& rows) {
  return dump({{"checks", list_of(rows, [](const GpuCheck& row) { return to_json(row); })}});
}

std::string gpu_changes_json(const std::vector<GpuChange>& changes) {
  return dump({{"gpus", list_of(changes, [](const GpuChange& change) { return to_json(change); })}});
}

std::string gc_json(const GcResult& result) {
  const auto list = [](const std::vector<GcEntry>& entries) {
    return list_of(entries, [](const GcEntry& entry) {
      return Json{{"name", entry.name}, {"what", entry.what}, {"size", entry.size},
                  {"action", to_string(entry.action)}, {"done", entry.done}, {"note", or_null(entry.note)}};
    });
  };
  return dump(Json{{"layers", list(result.layers)},
                   {"files", list(result.files)},
                   {"domains", list(result.domains)},
                   {"manifests", list(result.manifests)},
                   {"journals", list(result.journals)},
                   {"expired", list(result.expired)}});
}

std::string text_json(const std::string& key, const std::string& text) {
  return dump({{key, text}});
}

std::string texts_json(const std::string& key, const std::vector<std::string>& texts) {
  return dump({{key, Json(texts)}});
}

std::string vm_object(const VmInfo& vm) {
  return dump(to_json(vm));
}

std::string template_object(const TemplateInfo& info) {
  return dump(to_json(info));
}

std::string plan_object(const std::string& name, const PlanText& plan) {
  return dump({{"name", name}, {"steps", Json(plan.steps)}});
}

std::string removed_object(const std::string& name, const std::vector<std::string>& removed_layers) {
  return dump({{"name", name}, {"removed_layers", Json(removed_layers)}});
}

std::string many_json(const std::string& plural, const std::vector<std::string>& done,
                      const std::vector<std::pair<std::string, Error>>& failed) {
  return dump(
      {{plural, list_of(done, raw)}, {"failed", list_of(failed, [](const auto& failure) {
                                        return Json{{"name", failure.first}, {"error", to_json(failure.second)}};
                                      })}});
}

std::string record_json(const std::string& result, const Error* failure, bool indent) {
  const Json record{{"version", 1},
                    {"ok", failure == nullptr},
                    {"result", raw(result)},
                    {"error", failure != nullptr ? to_json(*failure) : Json(nullptr)}};
  // For a terminal, in ASCII: what JSON leaves as it is, a C1 control or a bidi override, would steer it.
  return record.dump(indent ? 2 : -1, ' ', indent, Json::error_handler_t::replace);
}

}  // namespace vmgraft::cli

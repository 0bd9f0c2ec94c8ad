// SPDX-License-Identifier: Apache-2.0
#include "store/layer_file.hpp"

#include <filesystem>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "store/qcow2.hpp"

namespace vmgraft {
namespace {

std::string shown(const std::filesystem::path& file) { return "'" + printable(file.native(), 4096) + "'"; }

const char* const kPutBack =
    "put back a copy of it, if there is one; what stands on it is lost without: delete those VMs and snapshots";

/// The file a header names, as QEMU finds it: a relative name stands beside the layer.
std::filesystem::path backing_path(const std::filesystem::path& file, const Qcow2Header& header) {
  if (header.backing_file.empty()) return {};
  return (file.parent_path() / header.backing_file).lexically_normal();
}

LayerFault backing_fault(const Store& store, const LayerRecord& record, const Qcow2Header& header) {
  const std::filesystem::path file = store.layer_file(record.id);
  const std::filesystem::path backing = backing_path(file, header);
  const bool is_path = !header.backing_file.starts_with("json:");
  const std::string stands =
      backing.empty() ? "on nothing" : "on " + shown(is_path ? backing : std::filesystem::path(header.backing_file));
  const std::string wanted = record.parent.empty() ? "nothing" : "layer " + record.parent;
  LayerFault fault{"layer-backing", fmt::format("its file {} stands {}, its record says: on {}", shown(file), stands, wanted), {}};
  if (backing.empty()) {
    fault.remedy = fmt::format("a block job by other means copied all of its chain into it; while no VM uses it, this puts it on "
                               "its parent again and changes nothing that a guest sees: cd {} && qemu-img rebase -u -f qcow2 -F "
                               "qcow2 -b {}.qcow2 {}.qcow2",
                               store.layers_folder().string(), record.parent, record.id);
  } else {
    if (backing.parent_path() != store.layers_folder()) fault.what += "; that is outside the store";
    fault.remedy = "it was changed or replaced by other means: put back a copy of it, or delete the VMs and snapshots that "
                   "stand on it";
  }
  return fault;
}

}  // namespace

std::vector<LayerFault> inspect_layer(Host& host, const Store& store, const LayerRecord& record) {
  const std::filesystem::path file = store.layer_file(record.id);
  const std::optional<FileInfo> info = host.stat(file);
  if (!info) return {{"layer-file", fmt::format("its file {} is missing", shown(file)), kPutBack}};
  if (info->is_folder || info->is_link)
    return {{"layer-file", fmt::format("{} is a {}, not a file", shown(file), info->is_link ? "link" : "folder"), kPutBack}};
  std::optional<Qcow2Header> header;
  try {
    header = read_qcow2(host.read_range(file, 0, kQcow2Start));
  } catch (const Error& error) {
    return {{"layer-format", fmt::format("its file {} is damaged: {}", shown(file), error.what()), kPutBack}};
  }
  if (!header) return {{"layer-format", fmt::format("its file {} is not qcow2", shown(file)), kPutBack}};
  std::vector<LayerFault> faults;
  if (header->encrypted || !header->data_file.empty())
    faults.push_back({"layer-format",
                      fmt::format("its file {} {}", shown(file),
                                  header->encrypted ? "is encrypted" : "keeps its data in another file, " + shown(header->data_file)),
                      kPutBack});
  if (header->corrupt)
    faults.push_back({"layer-format", fmt::format("QEMU marked its file {} as corrupt", shown(file)), kPutBack});
  if (header->virtual_size != record.virtual_size)
    faults.push_back({"layer-size",
                      fmt::format("its file {} is a disk of {} bytes, its record says {}", shown(file), header->virtual_size,
                                  record.virtual_size),
                      "it was resized or replaced by other means: put back a copy of it, or qemu-img resize it back"});
  const std::filesystem::path wanted = record.parent.empty() ? std::filesystem::path{} : store.layer_file(record.parent);
  if (backing_path(file, *header) != wanted)
    faults.push_back(backing_fault(store, record, *header));
  else if (!record.parent.empty() && header->backing_format != "qcow2")
    faults.push_back({"layer-backing",
                      fmt::format("its file {} names '{}' as the format of its parent, not qcow2", shown(file),
                                  printable(header->backing_format)),
                      "QEMU would take the parent for something else: put back a copy of it"});
  return faults;
}

void require_whole(Host& host, const Store& store, const std::map<std::string, LayerRecord>& layers) {
  for (const auto& [id, record] : layers)
    for (const LayerFault& fault : inspect_layer(host, store, record))
      throw Error(Errc::conflict, fmt::format("layer {}: {}", id, fault.what), fault.remedy);
}

}  // namespace vmgraft

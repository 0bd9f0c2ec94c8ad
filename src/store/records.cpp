// SPDX-License-Identifier: Apache-2.0
#include "store/records.hpp"

#include <algorithm>
#include <unordered_set>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "model/pci_address.hpp"
#include "store/strict_json.hpp"

namespace vmgraft {
namespace {

using strict_json::Fields;
using strict_json::Json;
using strict_json::Place;

constexpr std::uint64_t kVersion = 1;

// --- reading: names and ids become paths, so none is taken unchecked

std::string optional_name_at(Fields& fields, std::string_view key, const char* what) {
  std::string name = fields.text(key);
  if (name.empty()) return name;
  try {
    require_name(what, name);
  } catch (const Error& error) {
    fields.at(key).fail(error.what());
  }
  return name;
}

std::string name_at(Fields& fields, std::string_view key, const char* what) {
  std::string name = optional_name_at(fields, key, what);
  if (name.empty()) fields.at(key).fail("the name is empty");
  return name;
}

std::string optional_layer_at(Fields& fields, std::string_view key) {
  std::string id = fields.text(key);
  if (!id.empty() && !is_layer_id(id)) {
    fields.at(key).fail("'" + printable(id, 80) + "' is not a layer (want 32 of 0-9 a-f)");
  }
  return id;
}

std::string layer_at(Fields& fields, std::string_view key) {
  std::string id = optional_layer_at(fields, key);
  if (id.empty()) fields.at(key).fail("'' is not a layer (want 32 of 0-9 a-f)");
  return id;
}

Consistency consistency_at(Fields& fields, std::string_view key) {
  const std::string word = fields.text(key);
  for (const Consistency value : {Consistency::clean, Consistency::frozen, Consistency::crash}) {
    if (word == to_string(value)) return value;
  }
  fields.at(key).fail("'" + printable(word, 80) + "' is none of clean, frozen, crash");
}

/// The list of \p key, each element read by \p read as an object.
template <typename Record, typename Read>
std::vector<Record> records_at(Fields& fields, std::string_view key, Read read) {
  std::vector<Json>& values = fields.list(key);
  std::vector<Record> records;
  records.reserve(values.size());
  const Place list = fields.at(key);
  for (Json& value : values) {
    const Place here{list.where, &list, {}, records.size()};
    Fields members(value, here);
    records.push_back(read(members));
    members.done();
  }
  return records;
}

HeadRecord read_head(Fields& fields) {
  HeadRecord head;
  head.name = name_at(fields, "name", "disk");
  head.target = name_at(fields, "target", "disk target");
  head.layer = layer_at(fields, "layer");
  head.snapshot = fields.flag("snapshot");
  return head;
}

NamedGpu read_named_gpu(Fields& fields) {
  NamedGpu gpu;
  gpu.address = fields.text("address");
  if (parse_pci_address(gpu.address) != gpu.address)
    fields.at("address").fail("'" + printable(gpu.address, 80) + "' is not a PCI address (want 0000:41:00.0)");
  gpu.identity = fields.text("identity");
  if (gpu.identity.empty()) fields.at("identity").fail("the identity is empty");
  return gpu;
}

SnapshotDisk read_snapshot_disk(Fields& fields) {
  SnapshotDisk disk;
  disk.name = name_at(fields, "name", "disk");
  disk.layer = layer_at(fields, "layer");
  return disk;
}

SnapshotRecord read_snapshot(Fields& fields) {
  SnapshotRecord snapshot;
  snapshot.name = name_at(fields, "name", "snapshot");
  snapshot.parent = optional_name_at(fields, "parent", "snapshot");
  snapshot.created = fields.text("created");
  snapshot.consistency = consistency_at(fields, "consistency");
  snapshot.description = fields.text("description");
  snapshot.disks = records_at<SnapshotDisk>(fields, "disks", read_snapshot_disk);
  snapshot.nvram = fields.flag("nvram");
  snapshot.tpm = fields.flag("tpm");
  snapshot.memory = fields.flag("memory", false);
  return snapshot;
}

template <typename Record>
void refuse_twins(const std::vector<Record>& records, const Place& place) {
  std::unordered_set<std::string_view> seen;
  for (const Record& record : records) {
    if (!seen.insert(record.name).second) place.fail("'" + record.name + "' occurs twice");
  }
}

void refuse_twin_addresses(const std::vector<NamedGpu>& gpus, const Place& place) {
  std::unordered_set<std::string_view> seen;
  for (const NamedGpu& gpu : gpus) {
    if (!seen.insert(gpu.address).second) place.fail("'" + gpu.address + "' occurs twice");
  }
}

/// The tree of snapshots as the rest of the program relies on it: each once, and after its parent.
void check_tree(const Manifest& manifest, const Fields& fields) {
  refuse_twins(manifest.heads, fields.at("heads"));
  std::unordered_set<std::string_view> seen;
  for (const SnapshotRecord& snapshot : manifest.snapshots) {
    if (!snapshot.parent.empty() && !seen.contains(snapshot.parent)) {
      fields.at("snapshots")
          .fail("'" + snapshot.name + "' stands before its parent '" + snapshot.parent + "', or has lost it");
    }
    if (!seen.insert(snapshot.name).second) fields.at("snapshots").fail("'" + snapshot.name + "' occurs twice");
    refuse_twins(snapshot.disks, fields.at("snapshots"));
  }
  if (!manifest.current.empty() && !seen.contains(manifest.current)) {
    fields.at("current").fail("there is no snapshot '" + manifest.current + "'");
  }
}

// --- writing

/// \throws Error usage: text that is not UTF-8 (a description, a path), which JSON cannot hold.
std::string to_text(const Json& json, const std::string& what) {
  try {
    return json.dump(2) + "\n";
  } catch (const Json::type_error&) {
    throw Error(Errc::usage, what + ": a text is not valid UTF-8, and cannot be recorded");
  }
}

Json to_json(const SnapshotRecord& snapshot) {
  Json disks = Json::array();
  for (const SnapshotDisk& disk : snapshot.disks) disks.push_back({{"name", disk.name}, {"layer", disk.layer}});
  return {{"name", snapshot.name},
          {"parent", snapshot.parent},
          {"created", snapshot.created},
          {"consistency", to_string(snapshot.consistency)},
          {"description", snapshot.description},
          {"disks", std::move(disks)},
          {"nvram", snapshot.nvram},
          {"tpm", snapshot.tpm},
          {"memory", snapshot.memory}};
}

}  // namespace

bool is_layer_id(std::string_view text) {
  return text.size() == 32 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

const SnapshotRecord* find_snapshot(const Manifest& manifest, const std::string& name) {
  const auto found = std::find_if(manifest.snapshots.begin(), manifest.snapshots.end(),
                                  [&name](const SnapshotRecord& snapshot) { return snapshot.name == name; });
  return found == manifest.snapshots.end() ? nullptr : &*found;
}

std::string to_json_text(const LayerRecord& record) {
  const Json json{{"version", kVersion},
                  {"id", record.id},
                  {"parent", record.parent},
                  {"virtual_size", record.virtual_size},
                  {"made_by", record.made_by},
                  {"created", record.created},
                  {"sha256", record.sha256},
                  {"boot",
                   {{"direct", record.boot_direct},
                    {"cmdline", record.cmdline},
                    {"bios", record.boot_bios},
                    {"uefi", record.boot_uefi},
                    {"agent", record.agent},
                    {"cloud_init", record.cloud_init},
                    {"default_user", record.default_user}}}};
  return to_text(json, "layer '" + record.id + "'");
}

std::string to_json_text(const ImageRecord& record) {
  const Json json{{"version", kVersion},     {"name", record.name},     {"layer", record.layer},
                  {"sha256", record.sha256}, {"origin", record.origin}, {"created", record.created}};
  return to_text(json, "image '" + record.name + "'");
}

std::string to_json_text(const Manifest& record) {
  Json heads = Json::array();
  for (const HeadRecord& head : record.heads) {
    heads.push_back({{"name", head.name}, {"target", head.target}, {"layer", head.layer}, {"snapshot", head.snapshot}});
  }
  Json snapshots = Json::array();
  for (const SnapshotRecord& snapshot : record.snapshots) snapshots.push_back(to_json(snapshot));
  Json named_gpus = Json::array();
  for (const NamedGpu& gpu : record.named_gpus)
    named_gpus.push_back({{"address", gpu.address}, {"identity", gpu.identity}});
  const std::string what = "VM '" + record.name + "'";
  Json json{{"version", kVersion},
            {"name", record.name},
            {"uuid", record.uuid},
            {"template_name", record.template_name},
            {"template_digest", record.template_digest},
            {"owner", record.owner},
            {"created", record.created},
            {"expires", record.expires},
            {"source", record.source},
            {"heads", std::move(heads)},
            {"current", record.current},
            {"snapshots", std::move(snapshots)},
            {"ssh_keys", record.ssh_keys},
            {"named_gpus", std::move(named_gpus)},
            {"provisioned", record.provisioned},
            {"identity_pending", record.identity_pending}};
  Json& spec = json["spec"];
  spec = strict_json::parse(record.spec, "the spec of " + what);
  if (!spec.is_object()) throw Error(Errc::other, "the spec of " + what + ": want an object");
  return to_text(json, what);
}

LayerRecord layer_from_json(const std::string& text, const std::string& where) {
  Json json = strict_json::parse(text, where);
  const Place root{where};
  Fields fields(json, root);
  fields.require_version(kVersion);
  LayerRecord record;
  record.id = layer_at(fields, "id");
  record.parent = optional_layer_at(fields, "parent");
  record.virtual_size = fields.number("virtual_size");
  record.made_by = fields.text("made_by");
  record.created = fields.text("created");
  record.sha256 = fields.text("sha256", "");
  const Place boot_place = fields.at("boot");
  Fields boot(fields.object("boot"), boot_place);
  record.boot_direct = boot.flag("direct");
  record.cmdline = boot.text("cmdline");
  record.boot_bios = boot.flag("bios");
  record.boot_uefi = boot.flag("uefi");
  record.agent = boot.flag("agent");
  record.cloud_init = boot.flag("cloud_init");
  record.default_user = boot.text("default_user");
  boot.done();
  fields.done();
  return record;
}

ImageRecord image_from_json(const std::string& text, const std::string& where) {
  Json json = strict_json::parse(text, where);
  const Place root{where};
  Fields fields(json, root);
  fields.require_version(kVersion);
  ImageRecord record;
  record.name = name_at(fields, "name", "image");
  record.layer = layer_at(fields, "layer");
  record.sha256 = fields.text("sha256");
  record.origin = fields.text("origin");
  record.created = fields.text("created");
  fields.done();
  return record;
}

Manifest manifest_from_json(const std::string& text, const std::string& where) {
  Json json = strict_json::parse(text, where);
  const Place root{where};
  Fields fields(json, root);
  fields.require_version(kVersion);
  Manifest record;
  record.name = name_at(fields, "name", "VM");
  record.uuid = fields.text("uuid");
  record.template_name = fields.text("template_name");
  record.template_digest = fields.text("template_digest");
  record.owner = fields.text("owner");
  record.created = fields.text("created");
  record.expires = fields.text("expires");
  record.source = fields.text("source");
  record.heads = records_at<HeadRecord>(fields, "heads", read_head);
  record.current = optional_name_at(fields, "current", "snapshot");
  record.snapshots = records_at<SnapshotRecord>(fields, "snapshots", read_snapshot);
  record.ssh_keys = fields.texts("ssh_keys");
  if (fields.has("named_gpus")) {  // it came later
    record.named_gpus = records_at<NamedGpu>(fields, "named_gpus", read_named_gpu);
    refuse_twin_addresses(record.named_gpus, fields.at("named_gpus"));
  }
  record.provisioned = fields.flag("provisioned");
  record.identity_pending = fields.flag("identity_pending");
  record.spec = fields.object("spec").dump();
  fields.done();
  check_tree(record, fields);
  return record;
}

}  // namespace vmgraft

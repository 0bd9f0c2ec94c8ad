// SPDX-License-Identifier: Apache-2.0
#include "store/gpu_config.hpp"

#include <algorithm>
#include <set>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "model/pci_address.hpp"
#include "store/strict_json.hpp"

namespace vmgraft {
namespace {

using strict_json::Fields;
using strict_json::Json;
using strict_json::Place;

constexpr std::uint64_t kGpuConfigVersion = 1;

bool is_id(const std::string& text) {
  if (text.size() != 9 || text[4] != ':') return false;
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }) == 8;
}

std::vector<std::string> read_ids(Fields& fields) {
  const Place list = fields.at("also");
  std::vector<std::string> ids = fields.texts("also");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!is_id(ids[i])) {
      Place{list.where, &list, {}, i}.fail("'" + printable(ids[i], 80) +
                                           "' is not a PCI id (want vvvv:dddd, like 10de:2330)");
    }
  }
  return ids;
}

FabricPartition read_partition(Fields& fields, std::set<std::string>& names) {
  FabricPartition partition;
  partition.name = fields.text("name");
  try {
    require_name("partition", partition.name);
  } catch (const Error& error) {
    fields.at("name").fail(error.what());
  }
  if (!names.insert(partition.name).second) fields.at("name").fail("'" + partition.name + "' occurs twice");
  const Place list = fields.at("gpus");
  for (const std::string& text : fields.texts("gpus")) {
    const Place here{list.where, &list, {}, partition.gpus.size()};
    const std::optional<std::string> address = parse_pci_address(text);
    if (!address) here.fail("'" + printable(text, 80) + "' is not a PCI address (want like 0000:3b:00.0)");
    if (std::find(partition.gpus.begin(), partition.gpus.end(), *address) != partition.gpus.end()) {
      here.fail("'" + *address + "' occurs twice");
    }
    partition.gpus.push_back(*address);
  }
  if (partition.gpus.empty()) list.fail("a partition has at least one GPU");
  return partition;
}

GpuConfig parse_gpu_config(const std::string& text, const std::string& where) {
  Json json = strict_json::parse(text, where);
  const Place root{where};
  Fields fields(json, root);
  GpuConfig config;
  if (json.contains("version")) fields.require_version(kGpuConfigVersion);
  if (json.contains("also")) config.also = read_ids(fields);
  if (json.contains("partitions")) {
    std::set<std::string> names;
    const Place list = fields.at("partitions");
    for (Json& value : fields.list("partitions")) {
      const Place here{list.where, &list, {}, config.partitions.size()};
      Fields members(value, here);
      config.partitions.push_back(read_partition(members, names));
      members.done();
    }
  }
  fields.done();
  return config;
}

}  // namespace

GpuConfig read_gpu_config(Host& host, const std::string& file) {
  const std::optional<std::string> text = host.read_file(file);
  if (!text) return {};
  try {
    return parse_gpu_config(*text, file);
  } catch (const Error& error) {
    // The reader's own hint is for files of a store, which nobody edits.
    throw Error(error.code(), error.what(), "correct the file: vmgraft-gpu(7) shows what it may hold");
  }
}

}  // namespace vmgraft

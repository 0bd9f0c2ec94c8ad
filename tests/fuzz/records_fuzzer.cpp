// SPDX-License-Identifier: Apache-2.0
// The files of a store and of /run and /etc: manifests with their snapshots, layers, images, GPU records, gpus.json,
// catalogue.json.
#include "image/checksum.hpp"
#include "image/image_maker.hpp"
#include "store/gpu_config.hpp"
#include "store/gpu_ledger.hpp"
#include "store/records.hpp"

#include "fuzz/fuzz.hpp"
#include "fuzz/one_file.hpp"

using namespace vmgraft;
using namespace vmgraft::fuzz;

namespace {

/// What is accepted is written and read the same.
template <typename Read>
auto check(const std::string& text, Read read) {
  auto record = accepted([&] { return read(text, "record"); });
  if (!record) return record;
  const std::string written = to_json_text(*record);
  const auto again = read(written, "what was written");
  require(again == *record, "a record reads back as it was");
  require(to_json_text(again) == written, "a record is written the same again");
  return record;
}

void check_manifest(const std::string& text) {
  const auto manifest = check(text, manifest_from_json);
  if (!manifest) return;
  // They become paths.
  require_name("VM", manifest->name);
  for (const HeadRecord& head : manifest->heads) require(is_layer_id(head.layer), "a head is a layer");
  for (const SnapshotRecord& snapshot : manifest->snapshots) {
    require_name("snapshot", snapshot.name);
    require(snapshot.parent.empty() || find_snapshot(*manifest, snapshot.parent) != nullptr, "a parent is there");
    for (const SnapshotDisk& disk : snapshot.disks) require(is_layer_id(disk.layer), "a snapshot's disk is a layer");
  }
}

void check_gpu_config(const std::string& text) {
  OneFile host(text);
  const auto config = accepted([&] { return read_gpu_config(host, "/gpus.json"); });
  if (!config) return;
  for (const FabricPartition& partition : config->partitions) {
    require(!partition.gpus.empty(), "a partition has a GPU");
  }
}

void check_catalogue(const std::string& text) {
  OneFile host(text);
  const auto entries = accepted([&] { return read_catalogue(host, {"/"}); });
  if (!entries) return;
  for (const CatalogueEntry& entry : *entries) {
    require_name("image", entry.name);
    require(entry.url.starts_with("http://") || entry.url.starts_with("https://"), "an image is fetched by HTTP");
    require(parse_checksum(entry.sha256).has_value() || !entry.checksum_url.empty(), "a download is checked");
  }
}

}  // namespace

VMGRAFT_FUZZER(input) {
  switch (const char selector = take_selector(input); selector) {
    case 'l':
      check(std::string(input), layer_from_json);
      return;
    case 'i':
      check(std::string(input), image_from_json);
      return;
    case 'g':
      check(std::string(input), gpu_record_from_json);
      return;
    case 'c':
      return check_gpu_config(std::string(input));
    case 'k':
      return check_catalogue(std::string(input));
    default:
      return check_manifest(std::string(input));
  }
}

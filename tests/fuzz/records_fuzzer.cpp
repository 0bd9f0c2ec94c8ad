// SPDX-License-Identifier: Apache-2.0
// The files of a store and of /run and /etc: manifests with their snapshots, layers, images, GPU records, gpus.json.
#include "store/gpu_config.hpp"
#include "store/gpu_ledger.hpp"
#include "store/records.hpp"

#include "fuzz/fuzz.hpp"
#include "support/fake_host.hpp"

using namespace vmgraft;
using namespace vmgraft::fuzz;

namespace {

/// What is accepted is written and read the same.
template <typename Read>
void check(const std::string& text, Read read) {
  const auto record = accepted([&] { return read(text, "record"); });
  if (!record) return;
  const std::string written = to_json_text(*record);
  const auto again = read(written, "what was written");
  require(again == *record, "a record reads back as it was");
  require(to_json_text(again) == written, "a record is written the same again");
}

void check_manifest(const std::string& text) {
  check(text, manifest_from_json);
  const auto manifest = accepted([&] { return manifest_from_json(text, "record"); });
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
  FakeHost host;
  host.add_file("/gpus.json", text);
  const auto config = accepted([&] { return read_gpu_config(host, "/gpus.json"); });
  if (!config) return;
  for (const FabricPartition& partition : config->partitions) {
    require(!partition.gpus.empty(), "a partition has a GPU");
  }
}

}  // namespace

VMGRAFT_FUZZER(input) {
  switch (const char selector = take_selector(input); selector) {
    case 'l':
      return check(std::string(input), layer_from_json);
    case 'i':
      return check(std::string(input), image_from_json);
    case 'g':
      return check(std::string(input), gpu_record_from_json);
    case 'c':
      return check_gpu_config(std::string(input));
    default:
      return check_manifest(std::string(input));
  }
}

// SPDX-License-Identifier: Apache-2.0
#include "store/gpu_ledger.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "model/pci_address.hpp"
#include "store/strict_json.hpp"

namespace vmgraft {
namespace {

using strict_json::Fields;
using strict_json::Json;
using strict_json::Place;

constexpr std::uint64_t kGpuRecordVersion = 1;
constexpr std::string_view kEnding = ".json";
// A VF is a 16-bit address below its physical function.
constexpr std::uint64_t kMostVfs = 0xffff;

bool is_address(std::string_view text) {
  return parse_pci_address(text) == text;
}

/// Addresses become paths and are written to sysfs: none is taken unchecked.
std::string checked(std::string address, const Place& place) {
  if (!is_address(address)) {
    place.fail("'" + printable(address, 80) + "' is not a PCI address (want like 0000:3b:00.0)");
  }
  return address;
}

std::vector<GpuOrigin> read_origins(Fields& fields) {
  std::vector<GpuOrigin> origins;
  const Place list = fields.at("origins");
  for (Json& value : fields.list("origins")) {
    const Place here{list.where, &list, {}, origins.size()};
    Fields members(value, here);
    GpuOrigin origin;
    origin.address = checked(members.text("address"), members.at("address"));
    origin.driver = members.text("driver");
    origin.driver_override = members.text("driver_override");
    members.done();
    // Written to sysfs as part of a path.
    for (const std::string* name : {&origin.driver, &origin.driver_override}) {
      if (name->find('/') != std::string::npos || *name == "." || *name == "..") {
        here.fail("'" + printable(*name, 80) + "' is not a driver");
      }
    }
    origins.push_back(std::move(origin));
  }
  return origins;
}

/// Written back to sysfs: nothing but what was read there.
std::string one_of(Fields& fields, std::string_view key, const std::vector<std::string_view>& known) {
  std::string word = fields.text(key);
  if (word.empty() || std::find(known.begin(), known.end(), word) != known.end()) return word;
  fields.at(key).fail("'" + printable(word, 80) + "' is no setting of it");
}

std::vector<GpuPower> read_power(Fields& fields) {
  std::vector<GpuPower> settings;
  const Place list = fields.at("power");
  for (Json& value : fields.list("power")) {
    const Place here{list.where, &list, {}, settings.size()};
    Fields members(value, here);
    GpuPower power;
    power.address = checked(members.text("address"), members.at("address"));
    power.d3cold_allowed = one_of(members, "d3cold_allowed", {"0", "1"});
    power.control = one_of(members, "control", {"auto", "on"});
    members.done();
    settings.push_back(std::move(power));
  }
  return settings;
}

std::string read_release(Fields& fields) {
  std::string word = fields.text("release");
  for (const std::string_view known : {"", "reset", "driver", "keep"}) {
    if (word == known) return word;
  }
  fields.at("release").fail("'" + printable(word, 80) + "' is none of reset, driver, keep");
}

GpuRecord parse_gpu_record(const std::string& text, const std::string& where) {
  Json json = strict_json::parse(text, where);
  const Place root{where};
  Fields fields(json, root);
  fields.require_version(kGpuRecordVersion);
  GpuRecord record;
  record.address = checked(fields.text("address"), fields.at("address"));
  record.identity = fields.text("identity");
  record.origins = read_origins(fields);
  record.power = read_power(fields);
  record.lent = fields.flag("lent");
  record.vm_uuid = fields.text("vm_uuid");
  record.vm = fields.text("vm");
  record.store = fields.text("store");
  record.release = read_release(fields);
  record.quarantine = fields.text("quarantine");
  record.note = fields.text("note");
  record.made_vfs = static_cast<unsigned>(std::min<std::uint64_t>(fields.number("made_vfs"), kMostVfs));
  record.returns = fields.flag("returns", false);
  fields.done();
  return record;
}

}  // namespace

std::string to_json_text(const GpuRecord& record) {
  Json origins = Json::array();
  for (const GpuOrigin& origin : record.origins) {
    origins.push_back(
        {{"address", origin.address}, {"driver", origin.driver}, {"driver_override", origin.driver_override}});
  }
  Json power = Json::array();
  for (const GpuPower& each : record.power)
    power.push_back({{"address", each.address}, {"d3cold_allowed", each.d3cold_allowed}, {"control", each.control}});
  const Json json{{"version", kGpuRecordVersion},
                  {"address", record.address},
                  {"identity", record.identity},
                  {"origins", std::move(origins)},
                  {"power", std::move(power)},
                  {"lent", record.lent},
                  {"vm_uuid", record.vm_uuid},
                  {"vm", record.vm},
                  {"store", record.store},
                  {"release", record.release},
                  {"quarantine", record.quarantine},
                  {"note", record.note},
                  {"made_vfs", record.made_vfs},
                  {"returns", record.returns}};
  // Reasons hold what kernel and helper said: never a cause to lose the record.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

GpuRecord gpu_record_from_json(const std::string& text, const std::string& where) {
  try {
    return parse_gpu_record(text, where);
  } catch (const Error& error) {
    throw Error(error.code(), error.what(),
                "these records are not meant to be edited: move the file away, and see what the GPU is bound to "
                "with 'vmgraft gpu list'");
  }
}

std::filesystem::path GpuLedger::file(const std::string& address) const {
  if (!is_address(address)) {
    throw Error(Errc::usage, "'" + printable(address, 80) + "' is not a PCI address (want like 0000:3b:00.0)");
  }
  return folder_ / (address + std::string(kEnding));
}

std::optional<GpuRecord> GpuLedger::find(const std::string& address) const {
  const std::filesystem::path path = file(address);
  const std::optional<std::string> text = host_.read_file(path);
  if (!text) return std::nullopt;
  const std::string where = path.native();
  GpuRecord record = gpu_record_from_json(*text, where);
  if (record.address != address) {
    throw Error(Errc::other, printable(where, 4096) + ": /address: is of another GPU, '" + record.address + "'",
                "these records are not meant to be edited: move the file away");
  }
  return record;
}

std::vector<GpuRecord> GpuLedger::records() const {
  std::vector<GpuRecord> all;
  for (const std::string& name : host_.list_folder(folder_)) {
    // Beside the records: the lock, and temporaries of writers that died.
    if (!name.ends_with(kEnding) || !is_address(std::string_view(name).substr(0, name.size() - kEnding.size())))
      continue;
    std::optional<GpuRecord> record = find(name.substr(0, name.size() - kEnding.size()));
    if (record) all.push_back(std::move(*record));  // else it went meanwhile
  }
  return all;
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "run/check_store.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"
#include "model/names.hpp"
#include "plan/plan_sweep.hpp"
#include "run/check_facts.hpp"
#include "run/journal.hpp"

namespace vmgraft {
namespace {

const char* const kMend = "put back a copy of it; what cannot be read cannot be used, deleted or swept by vmgraft";

template <typename Record, typename Read>
Reading<Record> read_one(const Read& read) {
  try {
    return {read(), {}, {}};
  } catch (const Error& error) {
    return {std::nullopt, error.what(), error.hint().empty() ? kMend : error.hint()};
  }
}

bool ends_with(const std::string& text, std::string_view end) { return text.ends_with(end); }

std::string without(const std::string& text, std::size_t first, std::size_t last) {
  return text.substr(first, text.size() - first - last);
}

/// A lock that cannot be read is held by nobody that counts.
std::string lock_text(const CheckInput& input, const std::string& file) {
  try {
    return input.host.read_file(input.store.locks_folder() / file).value_or("");
  } catch (const Error&) {
    return {};  // a link is told by the check of the folders
  }
}

/// "pid 12: create web" of a process that lives; who died or has let go left nothing that counts.
std::optional<std::string> living_holder(const CheckInput& input, const std::string& file) {
  const std::string text = lock_text(input, file);
  const std::string line = text.substr(0, text.find('\n'));
  if (!line.starts_with("pid ")) return std::nullopt;
  const std::string pid = line.substr(4, line.find(':') - 4);
  const bool is_number = !pid.empty() && std::all_of(pid.begin(), pid.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!is_number || !input.host.stat("/proc/" + pid)) return std::nullopt;
  return printable(line);
}

void read_locks(const CheckInput& input, CheckFacts& facts) {
  for (const std::string& file : input.host.list_folder(input.store.locks_folder())) {
    if (!ends_with(file, ".lock")) continue;
    const std::optional<std::string> holder = living_holder(input, file);
    if (!holder) continue;
    facts.is_busy = true;
    if (file.starts_with("vm-")) facts.busy[without(file, 3, 5)] = *holder;
    if (file.starts_with("image-")) facts.busy["@" + without(file, 0, 5)] = *holder;
  }
}

bool may_be_name(const std::string& name) {
  try {
    require_name("file", name);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void read_records(const CheckInput& input, CheckFacts& facts) {
  const Store& store = input.store;
  for (const std::string& name : input.host.list_folder(store.vms_folder())) {
    const std::optional<FileInfo> info = input.host.stat(store.vms_folder() / name);
    if (!info || !may_be_name(name)) continue;
    if (info->is_link)
      facts.vms[name] = {std::nullopt, link_text(input.host, store.vm_folder(name)), kLinkRemedy};
    else if (info->is_folder)
      facts.vms[name] = read_one<Manifest>([&] { return store.find_manifest(name); });
  }
  for (const std::string& file : input.host.list_folder(store.images_folder())) {
    if (!ends_with(file, ".json")) continue;
    const std::string name = without(file, 0, 5);
    if (may_be_name(name)) facts.images[name] = read_one<ImageRecord>([&] { return store.find_image(name); });
  }
  for (const std::string& file : input.host.list_folder(store.layers_folder())) {
    if (!ends_with(file, ".json")) continue;
    const std::string id = without(file, 0, 5);
    if (!is_layer_id(id)) continue;
    auto& reading = facts.layers[id] = read_one<LayerRecord>([&] { return std::optional(store.layer(id)); });
    if (reading.record) facts.records.emplace(id, *reading.record);
  }
}

void require_known(const CheckInput& input, const CheckFacts& facts) {
  std::vector<std::string> known;
  for (const auto& [name, reading] : facts.vms) known.push_back(name);
  for (const auto& [name, reading] : facts.images) known.push_back(name);
  for (const std::string& name : input.request.names) {
    const bool is_domain = std::any_of(facts.domains.begin(), facts.domains.end(),
                                       [&](const DomainState& domain) { return domain.name == name; });
    if (is_domain || std::find(known.begin(), known.end(), name) != known.end()) continue;
    throw Error(Errc::not_found, fmt::format("there is no VM and no image '{}'", printable(name)),
                did_you_mean(name, known, "vmgraft list --all; vmgraft image list"));
  }
}

bool is_wanted(const CheckInput& input, const std::string& name) {
  const std::vector<std::string>& names = input.request.names;
  return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

/// What a name reaches, as far as it can be read.
std::set<std::string> wanted_layers(const CheckInput& input, const CheckFacts& facts) {
  std::set<std::string> named;
  for (const auto& [name, vm] : facts.vms)
    if (vm.record && is_wanted(input, name)) named.merge(named_layers(*vm.record));
  for (const auto& [name, image] : facts.images)
    if (image.record && is_wanted(input, name)) named.insert(image.record->layer);
  std::set<std::string> ids = reach(facts.records, named);
  if (input.request.names.empty())
    for (const auto& [id, reading] : facts.layers) ids.insert(id);
  return ids;
}

/// A VM that is at work is told so: its records are between two states. What was wrong and is right at a second look was
/// being changed.
void judge_vm(const CheckInput& input, const CheckFacts& facts, const std::string& name, StoreFindings& rows) {
  const std::string place = "VM " + name;
  const auto busy = [&](const std::string& who) {
    rows.warn("busy", place, fmt::format("not judged: {} is at work on it", who), "check it again when that is done");
  };
  if (const auto holder = facts.busy.find(name); holder != facts.busy.end()) return busy(holder->second);
  StoreFindings own;
  check_vm(input, facts, name, own);
  if (own.has_findings(place)) {
    if (const auto holder = living_holder(input, "vm-" + name + ".lock")) return busy(*holder);
    const Reading<Manifest> again = read_one<Manifest>([&] { return input.store.find_manifest(name); });
    if (again.record != facts.vms.at(name).record) return busy("another vmgraft");
  }
  for (CheckRow& row : own.take()) rows.add(std::move(row));
}

}  // namespace

std::string layer_place(const std::string& id) { return "layer " + id; }

std::string link_text(Host& host, const std::filesystem::path& link) {
  return fmt::format("{} is a symbolic link to {}", printable(link.native(), 4096),
                     printable(host.read_link(link).value_or("nothing"), 4096));
}

bool is_link(Host& host, const std::filesystem::path& path) {
  const std::optional<FileInfo> info = host.stat(path);
  return info && info->is_link;
}

void StoreFindings::add(CheckRow row) {
  if (row.health != Health::ok) troubled_.insert(row.place);
  rows_.push_back(std::move(row));
}

void StoreFindings::fail(const std::string& id, const std::string& place, std::string seen, std::string remedy) {
  add({id, Health::fail, place, std::move(seen), std::move(remedy)});
}

void StoreFindings::warn(const std::string& id, const std::string& place, std::string seen, std::string remedy) {
  add({id, Health::warn, place, std::move(seen), std::move(remedy)});
}

void StoreFindings::ok(const std::string& id, const std::string& place, std::string seen) {
  add({id, Health::ok, place, std::move(seen), {}});
}

CheckFacts read_check_facts(const CheckInput& input) {
  CheckFacts facts;
  for (const char* const folder : kStoreFolders) facts.is_all = facts.is_all && !is_link(input.host, input.store.root() / folder);
  read_locks(input, facts);
  read_records(input, facts);
  try {
    facts.hypervisor = &input.connect();
    facts.domains = facts.hypervisor->domains();
  } catch (const Error& error) {
    facts.hypervisor = nullptr;
    facts.refusal = error.what();
    facts.refusal_remedy = error.hint();
  }
  return facts;
}

std::vector<CheckRow> check_store(const CheckInput& input) {
  const CheckFacts facts = read_check_facts(input);
  if (facts.is_all) require_known(input, facts);
  const bool is_whole = input.request.names.empty();
  StoreFindings rows;
  check_linked_folders(input, rows);
  if (is_whole) {
    check_folders(input, facts, rows);
    check_journal(input, rows);
  }
  if (facts.hypervisor == nullptr)
    rows.warn("libvirt", "store", fmt::format("the VMs' domains were not looked at: {}", facts.refusal),
              facts.refusal_remedy.empty() ? "vmgraft doctor says more" : facts.refusal_remedy);
  for (const auto& vm : facts.vms)
    if (is_wanted(input, vm.first)) look_at("VM " + vm.first, rows, [&] { judge_vm(input, facts, vm.first, rows); });
  for (const auto& [name, reading] : facts.images)
    if (is_wanted(input, name)) check_image(input, facts, name, rows);
  if (facts.hypervisor != nullptr) check_strange_domains(input, facts, rows);
  check_layers(input, facts, wanted_layers(input, facts), is_whole, rows);
  return rows.take();
}

}  // namespace vmgraft

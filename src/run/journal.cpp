// SPDX-License-Identifier: Apache-2.0
#include "run/journal.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "store/strict_json.hpp"

namespace vmgraft {

using nlohmann::json;

// A layer record in a journal is its own file's text: one format, read by one strict reader.
void to_json(json& out, const LayerRecord& record) { out = to_json_text(record); }
void from_json(const json& in, LayerRecord& record) { record = layer_from_json(in.get<std::string>(), "journal"); }

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MakeFolder, path, mode)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CreateLayer, record)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FlattenLayer, from, record)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FreezeLayer, id)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(WriteFile, path, content, mode, existed, previous)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CopyPath, from, to)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ReplacePath, from, to, undo_from)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AdoptFile, from, to, mode)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DefineDomain, name, uuid, xml, previous, is_derived)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(StartDomain, name, uuid, xml, memory)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SwitchDisk, target, layer)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SwitchDisks, name, uuid, disks, untouched, freeze, memory, sidecars)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PowerOff, name, uuid)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(UndefineDomain, name, uuid, keep_tpm)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DeleteLayer, id)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RemovePath, path)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RebaseLayer, layer)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PullLayer, name, uuid, target, layer)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(BindDriver, address, driver, driver_override, from_driver, from_override)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(WriteAttribute, path, value, previous)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MakeMdev, parent, type, uuid)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RemoveMdev, uuid)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DetachDevice, name, uuid, alias, xml, timeout)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AttachDevice, name, uuid, alias, xml)
void to_json(json& out, const Commit&) { out = json::object(); }
void from_json(const json&, Commit&) {}

namespace {

constexpr std::uint64_t kVersion = 1;

/// Not an Error: what else is wrong with a journal is told otherwise.
struct OtherVersion {
  std::string what;
};

// In the order of Step's alternatives.
constexpr const char* kWords[] = {"make_folder",  "create_layer",  "flatten_layer",   "freeze_layer", "write_file",
                                  "copy_path",    "replace_path",  "adopt_file",      "define_domain", "start_domain",
                                  "switch_disks", "commit",        "power_off",       "undefine_domain", "delete_layer",
                                  "remove_path",  "rebase_layer",  "pull_layer",    "bind_driver",   "write_attribute",
                                  "detach_device", "attach_device", "make_mdev",     "remove_mdev"};
static_assert(std::size(kWords) == std::variant_size_v<Step>);

template <std::size_t... I>
Step read_step(const json& in, const std::string& word, std::index_sequence<I...>) {
  std::optional<Step> step;
  ((word == kWords[I] ? void(step = in.at("do").get<std::variant_alternative_t<I, Step>>()) : void()), ...);
  if (!step) throw Error(Errc::other, fmt::format("unknown step '{}'", word));
  return *step;
}

json to_tree(const JournalEntry& entry) {
  json steps = json::array();
  for (const Step& step : entry.plan.steps)
    steps.push_back({{"step", kWords[step.index()]},
                     {"do", std::visit([](const auto& alternative) { return json(alternative); }, step)}});
  json tree = {{"version", kVersion}, {"id", entry.id},         {"committed", entry.committed}, {"pid", entry.pid},
          {"verb", entry.plan.verb}, {"vms", entry.plan.vms}, {"steps", std::move(steps)}};
  if (entry.tidy) tree["tidy"] = true;
  return tree;
}

/// nlohmann's get() reads -1 as 4294967295 and 1.9 as 1; of 1e300 it makes what the compiler pleases.
void require_whole_numbers(const json& value) {
  if (value.is_number() && !value.is_number_unsigned())
    throw Error(Errc::other, "a number is not a whole one, or negative");
  if (value.is_structured()) {
    for (const json& member : value) require_whole_numbers(member);
  }
}

}  // namespace

std::string to_json_text(const JournalEntry& entry) {
  try {
    return to_tree(entry).dump(1);
  } catch (const json::type_error&) {
    throw Error(Errc::usage, fmt::format("{}: a text is not valid UTF-8, and cannot be recorded",
                                         printable(entry.plan.verb)));
  }
}

JournalEntry journal_from_json(const std::string& text, const std::string& where) {
  try {
    static_cast<void>(strict_json::parse(text, where));  // for what nlohmann's own reader lets pass
    const json in = json::parse(text);
    require_whole_numbers(in);
    if (const auto version = in.at("version").get<std::uint64_t>(); version != kVersion)
      throw OtherVersion{fmt::format("it has format {}, and this vmgraft reads {}", version, kVersion)};
    JournalEntry entry;
    entry.id = in.at("id").get<std::string>();
    entry.committed = in.at("committed").get<bool>();
    entry.pid = in.at("pid").get<std::int64_t>();
    entry.tidy = in.value("tidy", false);  // older journals have none
    entry.plan.verb = in.at("verb").get<std::string>();
    entry.plan.vms = in.at("vms").get<std::vector<std::string>>();
    for (const json& step : in.at("steps"))
      entry.plan.steps.push_back(read_step(step, step.at("step").get<std::string>(),
                                           std::make_index_sequence<std::variant_size_v<Step>>{}));
    // Whatever else stands in it, a key or a number too large, nobody would act upon.
    if (to_tree(entry) != in) throw Error(Errc::other, "it holds what vmgraft does not write");
    return entry;
  } catch (const OtherVersion& other) {
    throw Error(Errc::host_unfit, fmt::format("{}: not a journal that can be read: {}", printable(where, 4096), other.what),
                "an operation of another vmgraft was interrupted: any command of that one finishes or undoes it");
  } catch (const std::exception& error) {
    throw Error(Errc::other, fmt::format("{}: not a journal that can be read: {}", printable(where, 4096),
                                         printable(error.what(), 400)),
                "look at it by hand: an operation was interrupted, and what it names may be half done; when that is seen to, move "
                "the file away");
  }
}

std::vector<std::filesystem::path> list_journals(Host& host, const Store& store) {
  std::vector<std::filesystem::path> journals;
  for (const std::string& file : host.list_folder(store.journal_folder())) {
    std::filesystem::path path = store.journal_folder() / file;
    if (file.starts_with('.') || !file.ends_with(".json")) continue;
    if (const std::optional<FileInfo> info = host.stat(path); info && !info->is_folder) journals.push_back(std::move(path));
  }
  return journals;
}

}  // namespace vmgraft

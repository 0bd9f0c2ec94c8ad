// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_gc.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <unordered_set>

#include <vmgraft/error.hpp>

#include "model/moment.hpp"
#include "model/names.hpp"
#include "template/template.hpp"

namespace vmgraft {
namespace {

using std::filesystem::path;

constexpr std::string_view kPart = ".part";
constexpr std::size_t kLayerIdLength = 32;  // is_layer_id
constexpr std::size_t kUuidLength = 36;

std::string without_part(std::string name) {
  if (name.ends_with(kPart)) name.resize(name.size() - kPart.size());
  return name;
}

/// What vmgraft and libvirt make in a VM's folder.
bool is_of_a_vm(const std::string& name) {
  if (!writer_of(name).empty()) return true;
  for (const char* known : {"vm.json", "nvram.fd", "seed.iso", "ssh", "snapshots"})
    if (without_part(name) == known) return true;
  return name == "console.log" || name.starts_with("console.log.");  // virtlogd keeps the ones before
}

/// What they make in a snapshot's folder.
bool is_of_a_snapshot(const std::string& name) {
  if (!writer_of(name).empty()) return true;
  for (const char* known : {"domain.xml", "nvram.fd", "tpm", "memory"})
    if (without_part(name) == known) return true;
  return false;
}

/// Another name is none of ours: lost+found, .snapshot.
bool is_name(const std::string& text) {
  try {
    require_name("VM", text);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// An entry is about it, or about something above or below it.
bool touches(const std::string& one, const std::string& other) {
  return one == other || one.starts_with(other + "/") || other.starts_with(one + "/");
}

class Gc {
 public:
  explicit Gc(const GcFacts& facts) : facts_(facts), root_(facts.store.root().string() + "/") {
    for (const Manifest& manifest : facts_.refs.manifests) manifests_.emplace(manifest.name, &manifest);
    named_ = named_layers(facts_.refs);
    for (const auto& [id, layer] : facts_.refs.layers) named_.insert(layer.parent);
    for (const GcJournal& journal : facts_.journals) add_ids(journal.text);
    for (const Manifest& manifest : facts_.refs.manifests) uuids_.insert(manifest.uuid);
    for (const GcDomain& domain : facts_.domains) {
      if (is_orphan(domain) && !domain.is_active && domain.stuck.empty()) continue;
      for (const std::string& file : domain.paths) users_.emplace(file, &domain);
    }
  }

  GcPlan run() {
    plan_.removal = {"gc", {kSweepLock}, {}};
    add_domains();
    add_manifests();
    add_files();
    add_layers();
    if (!plan_.removal.steps.empty()) plan_.removal.steps.insert(plan_.removal.steps.begin(), Commit{});
    return std::move(plan_);
  }

 private:
  /// Whatever in a text may be the id of a layer or a UUID. With hundreds of VMs the journals of the living are megabytes,
  /// and the questions thousands: they are read once.
  void add_ids(std::string_view text) {
    constexpr std::string_view kLetters = "0123456789abcdef-";
    for (std::size_t begin = text.find_first_of(kLetters); begin != text.npos;) {
      const std::size_t end = std::min(text.find_first_not_of(kLetters, begin), text.size());
      for (const std::size_t length : {kLayerIdLength, kUuidLength})
        for (std::size_t i = begin; i + length <= end; ++i) in_flight_.emplace(text.substr(i, length));
      begin = text.find_first_of(kLetters, end);
    }
  }
  /// What an operation that is not finished has made is that operation's. \param id  of a layer, or a UUID.
  [[nodiscard]] bool is_in_flight(const std::string& id) const { return in_flight_.contains(id); }
  [[nodiscard]] bool has_journal(const std::string& process) const {
    return std::any_of(facts_.journals.begin(), facts_.journals.end(),
                       [&](const GcJournal& journal) { return std::to_string(journal.pid) == process; });
  }
  [[nodiscard]] bool is_busy(const std::string& vm) const {
    return facts_.held.contains(vm) ||
           std::any_of(facts_.journals.begin(), facts_.journals.end(), [&](const GcJournal& journal) {
             return std::find(journal.vms.begin(), journal.vms.end(), vm) != journal.vms.end();
           });
  }
  [[nodiscard]] bool is_orphan(const GcDomain& domain) const {
    return domain.is_ours && !is_in_flight(domain.uuid) && !uuids_.contains(domain.uuid);
  }
  /// A domain that stays and names it, or something above or below it; null: none.
  [[nodiscard]] const GcDomain* user_of(const std::string& file) const {
    for (path above = file; above.has_relative_path(); above = above.parent_path())
      if (const auto found = users_.find(above); found != users_.end()) return found->second;
    const auto below = users_.lower_bound(file + "/");
    return below != users_.end() && below->first.starts_with(file + "/") ? below->second : nullptr;
  }

  /// Something that the domain stands on is in the store. Of a store that was moved, or whose disk is not mounted, only
  /// the path is the same: its domains are not garbage.
  [[nodiscard]] bool has_a_file_of(const GcDomain& domain) const {
    const Store& store = facts_.store;
    for (const auto& [id, layer] : facts_.refs.layers)
      for (const path& file : {store.layer_file(id), store.kernel_file(id), store.initrd_file(id)})
        if (domain.paths.contains(file)) return true;
    return std::any_of(facts_.files.begin(), facts_.files.end(),
                       [&](const StoreFile& file) { return domain.paths.contains(root_ + file.path); });
  }

  void add_domains() {
    for (const GcDomain& domain : facts_.domains) {
      if (!is_orphan(domain)) continue;
      GcItem item{{domain.name, "no manifest of this store has it", 0, GcAction::remove}, {}};
      if (!has_a_file_of(domain)) {
        item.entry.action = GcAction::keep;
        item.entry.note = fmt::format(
            "nor is any file of it here: was the store moved, or is its disk not mounted? If it is "
            "really gone: virsh undefine {} --nvram",
            domain.uuid);
      } else if (domain.is_active) {
        item.entry.action = GcAction::keep;
        item.entry.note = fmt::format("it runs: when it is not needed, virsh destroy {}, and gc removes it", domain.name);
      } else {
        item.plan = {"gc", {kSweepLock}, {UndefineDomain{domain.name, domain.uuid, false}}};
      }
      plan_.domains.push_back(std::move(item));
    }
  }

  void add_manifests() {
    for (const auto& [vm, redefinition] : facts_.redefinitions) {
      if (is_busy(vm)) continue;
      GcItem item{{vm, "libvirt has no domain of it", 0, GcAction::define}, {}};
      item.entry.note = redefinition.note;
      if (redefinition.xml.empty() || !facts_.wrong_libvirt.empty()) {
        item.entry.action = GcAction::keep;
        item.entry.note = facts_.wrong_libvirt.empty() ? redefinition.why_not : facts_.wrong_libvirt;
      } else {
        item.plan = {"gc", {kSweepLock}, {DefineDomain{vm, manifests_.at(vm)->uuid, redefinition.xml, {}}}};
      }
      plan_.manifests.push_back(std::move(item));
    }
  }

  void add_files() {
    for (const StoreFile& file : facts_.files) {
      if (is_below_one(file.path)) continue;
      const std::string what = what_is(file);
      if (what.empty()) continue;
      GcEntry entry{root_ + file.path, what, file.size, GcAction::remove};
      if (const GcDomain* user = user_of(entry.name)) {
        entry.action = GcAction::keep;
        entry.note = fmt::format("domain '{}' uses it", user->name);
      } else if (is_strange_) {
        entry.action = GcAction::keep;
        entry.note = "not all in it was made by vmgraft: look what it is, and remove it by hand";
      } else {
        plan_.removal.steps.emplace_back(RemovePath{entry.name});
      }
      plan_.files.push_back(std::move(entry));
    }
  }

  /// In a folder that an entry is about already.
  [[nodiscard]] bool is_below_one(const std::string& file) const {
    return std::any_of(plan_.files.begin(), plan_.files.end(),
                       [&](const GcEntry& entry) { return (root_ + file).starts_with(entry.name + "/"); });
  }

  /// Why it is garbage; empty: it is not.
  std::string what_is(const StoreFile& file) {
    is_strange_ = false;
    const path relative(file.path);
    const std::string name = relative.filename();
    const std::vector<std::string> parts(relative.begin(), relative.end());
    const std::string top = parts.front();
    if (top == "vms" && (parts.size() < 2 || is_busy(parts[1]))) return {};
    if (const std::string writer = writer_of(name); !writer.empty())
      return file.is_held || has_journal(writer) ? "" : fmt::format("a write that process {} did not finish", writer);
    if (top == "tmp")
      return parts.size() == 2 && file.is_folder && is_layer_id(name) && !file.is_held && !is_in_flight(name)
                 ? "work folder of a process that died"
                 : "";
    if (top == "layers") return what_in_layers(relative);
    return top == "vms" ? what_of_a_vm(parts, file) : "";
  }

  [[nodiscard]] std::string what_in_layers(const path& file) const {
    const std::string id = file.stem();
    const std::string kind = file.extension();
    if (!is_layer_id(id) || (kind != ".qcow2" && kind != ".kernel" && kind != ".initrd")) return {};
    // One that a ref names and that has lost its record is damage, not garbage.
    if (facts_.refs.layers.contains(id) || named_.contains(id) || is_in_flight(id)) return {};
    return "a layer without a record";
  }

  std::string what_of_a_vm(const std::vector<std::string>& parts, const StoreFile& file) {
    const auto found = manifests_.find(parts[1]);
    if (found == manifests_.end()) {
      if (parts.size() > 2 || !file.is_folder || !is_name(parts[1])) return {};
      is_strange_ = has_strangers(file.path);
      return "a VM's folder without a manifest";
    }
    if (parts.size() == 4 && parts[2] == "snapshots" && find_snapshot(*found->second, parts[3]) == nullptr) {
      if (!file.is_folder || !is_name(parts[3])) return {};
      is_strange_ = has_strangers(file.path);
      return fmt::format("of a snapshot that VM '{}' does not have", parts[1]);
    }
    const bool is_copied = parts.size() == 3 || (parts.size() == 5 && parts[2] == "snapshots");
    if (is_copied && parts.back().ends_with(kPart) && is_made(parts)) return "a copy that was not finished";
    return {};
  }

  /// \param parts  of a path in a VM's folder: vms, its name, ...
  [[nodiscard]] static bool is_made(const std::vector<std::string>& parts) {
    if (!is_of_a_vm(parts.at(2))) return false;
    if (parts.size() == 3) return true;
    if (parts[2] != "snapshots") return parts[2] == "ssh";
    if (!is_name(parts[3])) return false;
    return parts.size() == 4 || (is_of_a_snapshot(parts[4]) && (parts.size() == 5 || without_part(parts[4]) == "tpm"));
  }

  /// \param folder  a VM's, or one of its snapshots'
  [[nodiscard]] bool has_strangers(const std::string& folder) const {
    return std::any_of(facts_.files.begin(), facts_.files.end(), [&](const StoreFile& file) {
      if (!file.path.starts_with(folder + "/")) return false;
      const path relative(file.path);
      return !is_made({relative.begin(), relative.end()});
    });
  }

  void add_layers() {
    const Store& store = facts_.store;
    std::set<std::string> pinned;
    for (const auto& [id, layer] : facts_.refs.layers) {
      const bool is_used = user_of(store.layer_file(id)) != nullptr || user_of(store.kernel_file(id)) != nullptr ||
                           user_of(store.initrd_file(id)) != nullptr;
      if (is_used || is_in_flight(id)) pinned.insert(id);
    }
    std::set<std::string> gone;
    for (const Step& step : plan_sweep(facts_.refs, pinned).steps) {
      const auto* removal = std::get_if<DeleteLayer>(&step);
      if (removal == nullptr) continue;
      gone.insert(removal->id);
      plan_.layers.push_back(layer_entry(removal->id, GcAction::remove));
      plan_.removal.steps.emplace_back(step);
    }
    const std::set<std::string> alive = reach(facts_.refs.layers, named_layers(facts_.refs));
    for (const auto& [id, layer] : facts_.refs.layers) {
      if (alive.contains(id) || gone.contains(id) || is_in_flight(id)) continue;
      const GcDomain* user = user_of(store.layer_file(id));
      GcEntry entry = layer_entry(id, GcAction::keep);
      entry.note = user != nullptr        ? fmt::format("domain '{}' uses it", user->name)
                   : pinned.contains(id)  ? "a domain boots from it"
                   : is_below_pinned(id, pinned) ? "a layer that stays stands on it"
                                                 : "its chain comes back to itself: its record was changed by hand";
      plan_.layers.push_back(std::move(entry));
    }
  }

  [[nodiscard]] bool is_below_pinned(const std::string& id, const std::set<std::string>& pinned) const {
    return reach(facts_.refs.layers, pinned).contains(id);
  }

  [[nodiscard]] GcEntry layer_entry(const std::string& id, GcAction action) const {
    const LayerRecord& layer = facts_.refs.layers.at(id);
    const auto size = facts_.layer_sizes.find(id);
    return {id, fmt::format("{}, {}", layer.made_by, layer.created), size == facts_.layer_sizes.end() ? 0 : size->second,
            action};
  }

  const GcFacts& facts_;
  std::string root_;
  std::map<std::string, const Manifest*> manifests_;
  std::set<std::string> named_;
  std::set<std::string> uuids_;                     ///< of all manifests
  std::unordered_set<std::string> in_flight_;       ///< ids that journals mention
  std::map<std::string, const GcDomain*> users_;    ///< of the domains that stay, by what they name
  bool is_strange_ = false;
  GcPlan plan_;
};

}  // namespace

std::string writer_of(const std::string& file) {
  constexpr std::string_view kSuffix = ".tmp";
  if (!file.starts_with('.') || !file.ends_with(kSuffix)) return {};
  // ".<name>.<pid>.<n>.tmp"
  const std::string rest = file.substr(0, file.size() - kSuffix.size());
  const std::size_t counter = rest.rfind('.');
  const std::size_t process = counter == 0 || counter == std::string::npos ? counter : rest.rfind('.', counter - 1);
  if (process == std::string::npos || process == 0) return {};
  const auto is_number = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  };
  const std::string writer = rest.substr(process + 1, counter - process - 1);
  return is_number(writer) && is_number(std::string_view(rest).substr(counter + 1)) ? writer : std::string();
}

GcPlan plan_gc(const GcFacts& facts) { return Gc(facts).run(); }

std::vector<GcEntry> plan_expiry(const GcFacts& facts, const std::string& now) {
  std::vector<GcEntry> entries;
  for (const Manifest& manifest : facts.refs.manifests) {
    if (!is_over(manifest.expires, now)) continue;
    const bool is_stop = parse_spec(manifest.spec, manifest.template_name).lifecycle.on_expire == OnExpire::stop;
    if (is_stop && !facts.running.contains(manifest.name)) continue;
    GcEntry entry{manifest.name, "expired " + manifest.expires, 0, is_stop ? GcAction::stop : GcAction::remove};
    if (facts.held.contains(manifest.name)) {
      entry.action = GcAction::keep;
      entry.note = "somebody is at work on it: the next gc sees to it";
    } else if (!facts.wrong_libvirt.empty()) {
      entry.action = GcAction::keep;
      entry.note = facts.wrong_libvirt;
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

void forget_vm(GcFacts& facts, const std::string& vm) {
  const auto manifest = std::find_if(facts.refs.manifests.begin(), facts.refs.manifests.end(),
                                     [&](const Manifest& each) { return each.name == vm; });
  if (manifest == facts.refs.manifests.end()) return;
  std::erase_if(facts.domains, [&](const GcDomain& domain) { return domain.uuid == manifest->uuid; });
  std::erase_if(facts.files, [&](const StoreFile& file) { return touches(file.path, "vms/" + vm) && file.path != "vms"; });
  facts.redefinitions.erase(vm);
  facts.refs.manifests.erase(manifest);
}

}  // namespace vmgraft

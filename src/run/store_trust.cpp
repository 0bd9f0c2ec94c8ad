// SPDX-License-Identifier: Apache-2.0
#include "run/store_trust.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "domain/domain_xml.hpp"
#include "domain/host_reach.hpp"
#include "domain/placement.hpp"
#include "model/names.hpp"
#include "model/pci_address.hpp"
#include "plan/plan_gpu.hpp"
#include "plan/plan_sweep.hpp"
#include "store/gpu_ledger.hpp"

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

std::string shown(const std::string& text) {
  return "'" + printable(text, 4096) + "'";
}

[[noreturn]] void refuse(const std::string& why) {
  throw Error(Errc::other, why);
}

bool is_uuid(const std::string& text) {
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
    const bool is_hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
    if (is_dash ? text[i] != '-' : !is_hex) return false;
  }
  return true;
}

/// A driver, a type of mediated device, an alias: one word that is no path.
bool is_word(const std::string& text) {
  return text.size() <= 100 && text != "." && text != ".." && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  std::string_view("._-").find(c) != std::string_view::npos;
         });
}

bool is_address(const std::string& text) {
  return parse_pci_address(text) == text;
}

/// One method for each kind of step: what it changes is ours. With strict, what it reads as well, and every word of it.
class Rules {
 public:
  Rules(const Store& store, const fs::path& tpm_folder, bool strict)
      : store_(store), tpm_folder_(tpm_folder), strict_(strict) {}

  void operator()(const MakeFolder& step) const { kept(step.path), mode(step.mode); }
  void operator()(const CreateLayer&) const {}  // read as a record, strictly
  void operator()(const FlattenLayer& step) const { id(step.from); }
  void operator()(const FreezeLayer& step) const { id(step.id); }
  void operator()(const WriteFile& step) const {
    if (!is_ledger(step.path)) kept(step.path);
    mode(step.mode);
  }
  void operator()(const CopyPath& step) const {
    kept_or_tpm(step.to);
    if (strict_) kept_or_tpm(step.from);
  }
  void operator()(const ReplacePath& step) const {
    kept_or_tpm(step.to);
    if (strict_ && !step.from.empty()) kept_or_tpm(step.from);
    if (strict_ && !step.undo_from.empty()) kept_or_tpm(step.undo_from);
  }
  void operator()(const AdoptFile& step) const { kept(step.from), kept(step.to), mode(step.mode); }
  void operator()(const DefineDomain& step) const { domain(step.name, step.uuid); }
  void operator()(const StartDomain& step) const {
    domain(step.name, step.uuid);
    if (!step.memory.empty()) kept(step.memory);
  }
  void operator()(const SwitchDisks& step) const {
    domain(step.name, step.uuid);
    for (const SwitchDisk& disk : step.disks) word(disk.target), id(disk.layer);
    if (!step.memory.empty()) kept(step.memory);
    for (const CopyPath& sidecar : step.sidecars) (*this)(sidecar);
  }
  void operator()(const Commit&) const {}
  void operator()(const PowerOff& step) const { domain(step.name, step.uuid); }
  void operator()(const UndefineDomain& step) const { domain(step.name, step.uuid); }
  void operator()(const DeleteLayer& step) const { id(step.id); }
  void operator()(const RemovePath& step) const { kept(step.path); }
  void operator()(const RebaseLayer&) const {}
  void operator()(const PullLayer& step) const { domain(step.name, step.uuid), word(step.target); }
  void operator()(const BindDriver& step) const {
    address(step.address);
    for (const std::string* name : {&step.driver, &step.driver_override, &step.from_driver, &step.from_override})
      word(*name);
  }
  void operator()(const WriteAttribute& step) const {
    // "/sys/bus/pci/devices/ADDRESS/ATTRIBUTE"
    constexpr std::string_view kDevices = "/sys/bus/pci/devices/";
    static const std::set<std::string> known{"sriov_numvfs", "sriov_drivers_autoprobe", "d3cold_allowed", "power/control"};
    const std::size_t slash = step.path.find('/', kDevices.size());
    if (!step.path.starts_with(kDevices) || slash == std::string::npos || !known.contains(step.path.substr(slash + 1)))
      refuse(fmt::format("it writes to {}", shown(step.path)));
    address(step.path.substr(kDevices.size(), slash - kDevices.size()));
    word(step.value), word(step.previous);
  }
  void operator()(const MakeMdev& step) const { address(step.parent), word(step.type), uuid(step.uuid); }
  void operator()(const RemoveMdev& step) const { uuid(step.uuid); }
  void operator()(const DetachDevice& step) const { domain(step.name, step.uuid), word(step.alias); }
  void operator()(const AttachDevice& step) const { domain(step.name, step.uuid), word(step.alias); }

 private:
  void kept(const std::string& path) const {
    if (!store_.holds(path)) refuse(fmt::format("{} is not in the store", shown(path)));
  }
  void kept_or_tpm(const std::string& path) const {
    const fs::path home(path);
    const bool is_tpm = !tpm_folder_.empty() && home.parent_path() == tpm_folder_ && is_uuid(home.filename());
    if (!is_tpm) kept(path);
  }
  [[nodiscard]] static bool is_ledger(const fs::path& file) {
    return file.parent_path() == kGpuLedgerFolder && file.extension() == ".json" && is_address(file.stem());
  }
  static void mode(unsigned mode) {
    if ((mode & ~0755U) != 0) refuse(fmt::format("it gives mode {:04o}", mode));
  }
  static void id(const std::string& layer) {
    if (!is_layer_id(layer)) refuse(fmt::format("{} is not a layer", shown(layer)));
  }
  static void uuid(const std::string& text) {
    if (!is_uuid(text)) refuse(fmt::format("{} is not a UUID", shown(text)));
  }
  static void address(const std::string& text) {
    if (!is_address(text)) refuse(fmt::format("{} is not a PCI address", shown(text)));
  }
  static void word(const std::string& text) {
    if (!is_word(text)) refuse(fmt::format("{} is not a word that vmgraft writes", shown(text)));
  }
  static void domain(const std::string& name, const std::string& id) {
    require_name("VM", name);
    uuid(id);
  }

  const Store& store_;
  const fs::path& tpm_folder_;
  bool strict_;
};

/// What a lock file is named by: a VM, or what is locked besides.
void require_lock(const std::string& name) {
  constexpr std::string_view kWork = "@work-";
  constexpr std::string_view kImage = "@image-";
  if (name.starts_with(kImage)) return require_name("image", name.substr(kImage.size()));
  const bool is_known =
      name == kGpuLock || name == kSweepLock || (name.starts_with(kWork) && is_layer_id(name.substr(kWork.size())));
  if (!is_known) require_name("VM", name);
}

// --- against libvirt and the ledger

/// Domains that a step acts on.
std::set<std::string> domains_of(const Step& step, const fs::path& tpm_folder) {
  std::set<std::string> uuids;
  const auto add_tpm = [&](const std::string& path) {
    if (const fs::path home(path); !tpm_folder.empty() && home.parent_path() == tpm_folder)
      uuids.insert(home.filename());
  };
  const auto add_copy = [&](const CopyPath& copy) { add_tpm(copy.from), add_tpm(copy.to); };
  std::visit(
      [&](const auto& each) {
        using Kind = std::decay_t<decltype(each)>;
        if constexpr (requires { each.name, each.uuid; }) uuids.insert(each.uuid);
        if constexpr (std::is_same_v<Kind, CopyPath>) add_copy(each);
        if constexpr (std::is_same_v<Kind, ReplacePath>) add_tpm(each.from), add_tpm(each.to), add_tpm(each.undo_from);
        if constexpr (std::is_same_v<Kind, SwitchDisks>)
          for (const CopyPath& sidecar : each.sidecars) add_copy(sidecar);
      },
      step);
  return uuids;
}

void require_own_domain(World& world, const std::string& uuid) {
  const std::optional<DomainState> domain = world.hypervisor().find_by_uuid(uuid);
  if (!domain || read_domain(world.hypervisor().domain_xml(uuid, true)).store == world.store.root().string()) return;
  throw Error(Errc::conflict,
              fmt::format("it names the domain '{}' ({}), which is not of this store", printable(domain->name), uuid));
}

void require_own_definition(World& world, const DefineDomain& step, const std::string& xml) {
  if (xml.empty()) return;
  const DomainFacts facts = read_domain(xml);
  if (facts.store != world.store.root().string() || facts.uuid != step.uuid || facts.name != step.name)
    throw Error(Errc::conflict,
                fmt::format("what it would define as {} is not that VM of this store", shown(step.name)));
  require_known_reach(world.hypervisor(), world.store, "what it would define", step.uuid, xml);
}

/// One device of the host, which is leased to the VM: as AttachDevice and DetachDevice plug it in.
void require_leased(World& world, const std::string& vm_uuid, const std::string& device_xml) {
  const std::string domain = "<domain><devices>" + device_xml + "</devices></domain>";
  const std::vector<DomainHostdev> devices = read_hostdevs(domain);
  const auto reach = host_reach(domain, world.store.root());
  const bool is_alone = devices.size() == 1 && std::all_of(reach.begin(), reach.end(), [](const std::string& line) {
                          return line.starts_with("<hostdev");
                        });
  if (is_alone && !devices.front().mdev.empty()) {
    for (std::size_t i = 0; i < kMostMdevs; ++i)
      if (devices.front().mdev == mdev_uuid(vm_uuid, i)) return;
  } else if (is_alone) {
    const std::string& address = devices.front().address;
    for (const GpuRecord& record : GpuLedger(world.host, kGpuLedgerFolder).records()) {
      const std::string slot = record.address.substr(0, record.address.find('.') + 1);
      const bool is_of_it =
          address.starts_with(slot) || std::any_of(record.origins.begin(), record.origins.end(),
                                                   [&](const GpuOrigin& origin) { return origin.address == address; });
      if (is_of_it && record.vm_uuid == vm_uuid) return;
    }
  }
  throw Error(Errc::conflict, "it plugs in a device of the host that is not leased to the VM");
}

}  // namespace

void require_own_targets(const Plan& plan, const Store& store, const fs::path& tpm_folder) {
  const Rules rules(store, tpm_folder, false);
  for (const Step& step : plan.steps) std::visit(rules, step);
}

void require_own_journal(const JournalEntry& entry, const std::string& name, const Store& store,
                         const fs::path& tpm_folder) {
  try {
    if (entry.id != name) refuse(fmt::format("it says that it is {}", shown(entry.id)));
    for (const std::string& vm : entry.plan.vms) require_lock(vm);
    const Rules rules(store, tpm_folder, true);
    bool is_committing = entry.committed;
    for (const Step& step : entry.plan.steps) {
      std::visit(rules, step);
      is_committing =
          is_committing || std::holds_alternative<Commit>(step) || std::holds_alternative<SwitchDisks>(step);
    }
    // A start is a plan of its own, which is undone: nobody finds a VM started that he has not asked for.
    for (const Step& step : entry.plan.steps)
      if (is_committing && std::holds_alternative<StartDomain>(step)) refuse("it starts a VM after its commit");
  } catch (const Error& error) {
    throw Error(Errc::other,
                fmt::format("journal {}: vmgraft does not write such a one: {}", shown(name), error.what()),
                "nothing of it is carried out; find out where this store comes from, and remove the journal by hand");
  }
}

std::set<std::string> domains_of(const Plan& plan, const fs::path& tpm_folder) {
  std::set<std::string> uuids;
  for (const Step& step : plan.steps) uuids.merge(domains_of(step, tpm_folder));
  return uuids;
}

void require_own_domains(World& world, const JournalEntry& entry) {
  // What is never defined need not be looked at: a template may give a new VM what it likes, and a creation is only
  // undone.
  const bool may_go_on =
      entry.committed || std::any_of(entry.plan.steps.begin(), entry.plan.steps.end(),
                                     [](const Step& step) { return std::holds_alternative<SwitchDisks>(step); });
  try {
    for (const std::string& uuid : domains_of(entry.plan, world.tpm_folder)) require_own_domain(world, uuid);
    for (const Step& step : entry.plan.steps) {
      if (const auto* define = std::get_if<DefineDomain>(&step)) {
        if (may_go_on) require_own_definition(world, *define, define->xml);
        if (!entry.committed) require_own_definition(world, *define, define->previous);
      }
      if (const auto* attach = std::get_if<AttachDevice>(&step)) require_leased(world, attach->uuid, attach->xml);
      if (const auto* detach = std::get_if<DetachDevice>(&step)) require_leased(world, detach->uuid, detach->xml);
    }
  } catch (Error& error) {
    if (error.code() != Errc::conflict) throw;
    throw Error(
        Errc::conflict,
        fmt::format("journal {} of '{}': {}", shown(entry.id), printable(entry.plan.verb), error.what()),
        "nothing of it is carried out; when this store is yours alone, do by hand what it says, then remove it");
  }
}

void require_known_reach(Hypervisor& hypervisor, const Store& store, const std::string& what, const std::string& uuid,
                         const std::string& xml) {
  const std::string root = store.root();
  std::set<std::string> more = host_reach(xml, root);
  if (more.empty()) return;
  if (const std::optional<DomainState> domain = hypervisor.find_by_uuid(uuid)) {
    for (const bool inactive : {true, false}) {
      if (!inactive && !is_active(domain)) continue;
      const std::string known = hypervisor.domain_xml(uuid, inactive);
      if (read_domain(known).store != root) break;
      for (const std::string& line : host_reach(known, root)) more.erase(line);
    }
  }
  if (more.empty()) return;
  throw Error(
      Errc::conflict,
      fmt::format("{}: its definition, kept in the store, reaches something of this host that the VM does not have in "
                  "libvirt: {}",
                  what, printable(fmt::format("{}", fmt::join(more, "; ")), 1000)),
      "give the VM that device first (virsh edit), if you know it and want it");
}

bool touches_devices(const Plan& plan) {
  return std::any_of(plan.steps.begin(), plan.steps.end(), [](const Step& step) {
    const auto* file = std::get_if<WriteFile>(&step);
    return std::holds_alternative<BindDriver>(step) || std::holds_alternative<WriteAttribute>(step) ||
           std::holds_alternative<MakeMdev>(step) || std::holds_alternative<RemoveMdev>(step) ||
           (file != nullptr && fs::path(file->path).parent_path() == kGpuLedgerFolder);
  });
}

}  // namespace vmgraft

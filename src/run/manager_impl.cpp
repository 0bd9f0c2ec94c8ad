// SPDX-License-Identifier: Apache-2.0
#include "run/manager_impl.hpp"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "model/names.hpp"
#include "run/data_folders.hpp"
#include "run/fresh.hpp"
#include "run/store_trust.hpp"
#include "run/vm_facts.hpp"
#include "store/layer_file.hpp"

namespace vmgraft {
namespace {

std::filesystem::path environment_path(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::filesystem::path{} : std::filesystem::path(value);
}

bool is_session_uri(const std::string& uri) { return uri.find("/session") != std::string::npos; }

/// Where those stand in line who want the sweep lock.
constexpr const char* kSweepTurn = "@sweep-turn";

/// libvirt cannot say now what domains use: layers stay, and with them the journal by which the next command deletes
/// them.
class SweepLater : public Error {
 public:
  explicit SweepLater(const Error& why)
      : Error(
            Errc::unreachable,
            fmt::format(
                "unused layers are kept until the next command, as libvirt cannot tell whether a domain uses them: {}",
                why.what())) {}
};

/// '@' marks what is locked but is not a VM; it cannot begin a name. The GPUs are the host's, not a store's.
std::filesystem::path lock_file(const Store& store, const std::string& name) {
  if (name == kGpuLock) return std::filesystem::path(kGpuLedgerFolder) / "lock";
  return store.locks_folder() / (name.starts_with('@') ? name.substr(1) + ".lock" : "vm-" + name + ".lock");
}

}  // namespace

std::string work_lock(const std::string& folder) { return "@work-" + folder; }

std::string login_name() {
  const passwd* entry = getpwuid(getuid());
  return entry == nullptr ? std::to_string(getuid()) : entry->pw_name;
}

std::vector<std::string> numbered(const std::string& name, unsigned count) {
  if (count == 0 || count > 1000)
    throw Error(Errc::usage, fmt::format("a count of {} is out of range", count), "between 1 and 1000");
  if (count == 1) return {name};
  std::vector<std::string> names;
  for (unsigned i = 1; i <= count; ++i) names.push_back(fmt::format("{}-{}", name, i));
  return names;
}

PlanText plan_text(const Plan& plan) {
  PlanText text;
  for (const Step& step : plan.steps) text.steps.push_back(describe(step));
  return text;
}

WorkFolder::WorkFolder(Host& host, const Store& store)
    : host_(host),
      path_(store.tmp_folder() / fresh_layer_id()),
      lock_file_(lock_file(store, work_lock(path_.filename()))) {}

const std::filesystem::path& WorkFolder::make() {
  if (lock_) return path_;
  lock_ = FileLock::take(lock_file_, FileLock::Kind::exclusive, "work in " + path_.string(), true, nullptr);
  host_.make_folder(path_, 0700);
  return path_;
}

WorkFolder::~WorkFolder() {
  if (!lock_) return;
  try {
    host_.remove(path_);
    host_.remove(lock_file_);
  } catch (const Error&) {
    // A folder in tmp/ harms nobody; gc takes it.
  }
}

Manager::Impl::Impl(Options given) : options(std::move(given)), host(options.host_root) {}

std::filesystem::path Manager::Impl::store_root() {
  if (!options.store.empty()) return std::filesystem::absolute(options.store);
  if (const auto root = environment_path("VMGRAFT_STORE"); !root.empty()) return std::filesystem::absolute(root);
  if (uri_.empty()) uri_ = choose_uri(options.connect);
  if (!is_session_uri(uri_)) return "/var/lib/vmgraft";
  if (const auto data = environment_path("XDG_DATA_HOME"); data.is_absolute()) return data / "vmgraft";
  if (const auto home = environment_path("HOME"); home.is_absolute()) return home / ".local/share/vmgraft";
  throw Error(Errc::host_unfit, "there is no place for a store: neither XDG_DATA_HOME nor HOME is set", "give --store DIR");
}

std::vector<std::filesystem::path> Manager::Impl::template_folders() const {
  std::vector<std::filesystem::path> folders = options.template_dirs;
  if (const char* own = std::getenv("VMGRAFT_TEMPLATES"); own != nullptr) {
    std::istringstream list(own);
    for (std::string folder; std::getline(list, folder, ':');)
      if (!folder.empty()) folders.emplace_back(folder);
  }
  if (const auto config = environment_path("XDG_CONFIG_HOME"); config.is_absolute())
    folders.push_back(config / "vmgraft/templates");
  else if (const auto home = environment_path("HOME"); home.is_absolute())
    folders.push_back(home / ".config/vmgraft/templates");
  folders.emplace_back("/etc/vmgraft/templates");
  for (const std::filesystem::path& data : data_folders()) folders.push_back(data / "templates");
  return folders;
}

Hypervisor& Manager::Impl::hypervisor() {
  if (!hypervisor_) {
    if (uri_.empty()) uri_ = choose_uri(options.connect);
    hypervisor_ = connect_libvirt(uri_);
  }
  return *hypervisor_;
}

const HostFacts& Manager::Impl::host_facts() {
  if (!host_facts_) host_facts_ = read_capabilities(hypervisor().capabilities_xml());
  return *host_facts_;
}

StoreAccess Manager::Impl::store_access() {
  if (uri_.empty()) uri_ = choose_uri(options.connect);
  StoreAccess access;
  if (uri_.find("/system") == std::string::npos || geteuid() != 0) return access;
  const HostFacts& facts = host_facts();
  access.own_labels = facts.qemu_uid.has_value() && facts.qemu_gid.has_value();
  access.uid = facts.qemu_uid.value_or(0);
  access.gid = facts.qemu_gid.value_or(0);
  return access;
}

Store& Manager::Impl::store() {
  if (store_) return *store_;
  open_store();
  recover();
  reap_gpus();
  return *store_;
}

Store& Manager::Impl::open_store() {
  if (store_) return *store_;
  if (!options.host_root.empty())
    throw Error(Errc::usage, fmt::format("the host recorded at {} has no VMs", options.host_root.string()),
                "it can be looked at: gpu list, gpu check; for anything else unset VMGRAFT_HOST_ROOT");
  const std::filesystem::path root = store_root();
  if (uri_.empty()) uri_ = choose_uri(options.connect);
  if (uri_.find("/system") != std::string::npos && geteuid() != 0 && options.store.empty() && std::getenv("VMGRAFT_STORE") == nullptr)
    throw Error(Errc::host_unfit, fmt::format("the store {} of {} belongs to root", root.string(), uri_),
                "run it with sudo, or work as yourself: --connect qemu:///session");
  store_ = std::make_unique<Store>(host, root, store_access());
  host.keep_beneath(store_->root());
  store_->prepare();
  return *store_;
}

World Manager::Impl::world() {
  return {host,
          store(),
          [this]() -> Hypervisor& { return hypervisor(); },
          options.interrupted,
          options.on_progress,
          tpm_folder(),
          [this] {
            if (const auto share = share_.lock()) share->reset();
          }};
}

void Manager::Impl::notice(const std::string& line) const {
  if (options.on_notice) options.on_notice(line);
}

void Manager::Impl::progress(const std::string& what) const {
  if (options.on_progress) options.on_progress({what, 0, 0});
}

bool Manager::Impl::is_interrupted() const { return options.interrupted != nullptr && options.interrupted->load(); }

void Manager::Impl::execute(const Plan& plan) { Executor(world()).execute(plan); }

void Manager::Impl::execute_untidy(const Plan& plan, Locks& locks, const std::function<void()>& tidying) {
  tidy_up(Executor(world()).execute_untidy(plan), locks, tidying);
}

void Manager::Impl::tidy_up(const std::string& journal, Locks& locks, const std::function<void()>& tidying) {
  locks.drop_share();  // a sweep is nobody else's to share
  try {
    tidying();
    Executor(world()).close(journal);
  } catch (const SweepLater& later) {
    notice(later.what());  // what was asked for is done
  } catch (Error& error) {
    error.add_leftover("layers that nothing names any more: the next command merges and deletes them");
    throw;
  }
}

FileLock Manager::Impl::take_lock(const std::string& name, FileLock::Kind kind, const std::string& purpose) {
  return FileLock::take(lock_file(*store_, name), kind, purpose, true, options.interrupted,
                        [this](const std::string& holder) { notice("waiting for " + holder); });
}

void Manager::Impl::share_sweep(Locks& locks, const std::string& purpose) {
  // Never two: who wants the lock alone and waits for the first would hold up the second.
  if (const auto before = share_.lock()) before->reset();
  locks.share = std::make_shared<std::optional<FileLock>>();
  share_ = locks.share;
  // The kernel lets in who shares a lock before who wants it alone: where always somebody has a share, that one would wait
  // for ever. So all stand in one line for it; who is at its head waits only for those that have it.
  const FileLock turn = take_lock(kSweepTurn, FileLock::Kind::exclusive, purpose);
  locks.share->emplace(take_lock(kSweepLock, FileLock::Kind::shared, purpose));
}

FileLock Manager::Impl::lock_sweep(const std::string& purpose) {
  if (const auto ours = share_.lock()) ours->reset();
  static_cast<void>(store());
  const FileLock turn = take_lock(kSweepTurn, FileLock::Kind::exclusive, purpose);
  return take_lock(kSweepLock, FileLock::Kind::exclusive, purpose);
}

Locks Manager::Impl::lock_vms(const std::vector<std::string>& names, const std::string& purpose) {
  static_cast<void>(store());
  std::set<std::string> wanted(names.begin(), names.end());
  for (;;) {
    // Always in the same order, the sweep lock last: no two operations can wait for each other in a circle.
    Locks locks;
    for (const std::string& name : wanted) locks.vms.push_back(take_lock(name, FileLock::Kind::exclusive, purpose));
    recover({wanted.begin(), wanted.end()});
    std::set<std::string> more = half_done_with(wanted);
    if (more.erase(kGpuLock) != 0) {
      const FileLock gpus = lock_gpus(purpose);
      std::vector<std::string> held(wanted.begin(), wanted.end());
      held.emplace_back(kGpuLock);
      recover(held);
      more = half_done_with(wanted);
      more.erase(kGpuLock);
    }
    if (std::includes(wanted.begin(), wanted.end(), more.begin(), more.end())) {
      share_sweep(locks, purpose);
      return locks;
    }
    // Somebody is at work on another VM of it: to be waited for, but not while these are held.
    wanted.merge(more);
  }
}

std::optional<Locks> Manager::Impl::try_lock_for(const std::string& vm, const std::string& purpose) {
  std::optional<FileLock> lock = FileLock::try_take(lock_file(store(), vm), FileLock::Kind::exclusive, purpose);
  if (!lock) return std::nullopt;
  Locks locks;
  locks.vms.push_back(std::move(*lock));
  recover({vm});
  if (!half_done_with({vm}).empty()) return std::nullopt;
  share_sweep(locks, purpose);
  return locks;
}

std::set<std::string> Manager::Impl::half_done_with(const std::set<std::string>& vms) {
  std::set<std::string> named;
  for (const std::string& file : host.list_folder(store_->journal_folder())) {
    if (file.starts_with('.') || !file.ends_with(".json")) continue;
    const std::optional<std::string> text = host.read_file(store_->journal_folder() / file);
    if (!text) continue;
    const JournalEntry entry = journal_from_json(*text, store_->journal_folder() / file);
    if (entry.plan.steps.empty()) continue;  // only layers that nothing names are left of it
    if (std::any_of(entry.plan.vms.begin(), entry.plan.vms.end(), [&](const std::string& vm) { return vms.contains(vm); }))
      named.insert(entry.plan.vms.begin(), entry.plan.vms.end());
  }
  return named;
}

bool Manager::Impl::is_free(const std::string& lock) { return FileLock::is_free(lock_file(*store_, lock)); }

void Manager::Impl::drop_idle_locks() {
  for (const std::string& file : host.list_folder(store_->locks_folder())) {
    const std::size_t dot = file.rfind(".lock");
    if (dot == std::string::npos) continue;
    const std::size_t dash = file.find('-') + 1;
    const std::string name = dash <= dot ? file.substr(dash, dot - dash) : std::string();
    if (name.empty()) continue;
    const bool is_idle = (file.starts_with("vm-") && !host.stat(store_->vms_folder() / name)) ||
                         (file.starts_with("work-") && !host.stat(store_->tmp_folder() / name));
    if (is_idle) FileLock::remove_if_free(store_->locks_folder() / file);
  }
}

void Manager::Impl::recover(const std::vector<std::string>& ours) {
  // A journal whose writer died before it had its name: nothing was done yet.
  drop_unfinished_writes(store_->journal_folder());
  std::vector<Recovered> all;
  for (const std::string& file : host.list_folder(store_->journal_folder())) {
    if (file.starts_with('.') || !file.ends_with(".json")) continue;
    if (std::optional<Recovered> one = recover_entry(file, ours)) all.push_back(std::move(*one));
  }
  // A merge or sweep that a process did for its verb's end is a part of that verb, not worth a line of its own.
  for (const Recovered& one : all)
    if (one.tidy || std::none_of(all.begin(), all.end(), [&](const Recovered& other) { return other.tidy && other.pid == one.pid; }))
      notice(one.line);
  if (ours.empty()) drop_dead_work();
}

void Manager::Impl::drop_unfinished_writes(const std::filesystem::path& folder) {
  for (const std::string& name : host.list_folder(folder))
    if (const std::string writer = writer_of(name); !writer.empty() && !host.stat("/proc/" + writer))
      host.remove(folder / name);
}

void Manager::Impl::drop_dead_work() {
  const std::string journals = journals_text();
  for (const std::string& name : host.list_folder(store_->tmp_folder())) {
    // What a journal names is seen to by who recovers that.
    if (!is_layer_id(name) || journals.find(name) != std::string::npos || !is_free(work_lock(name))) continue;
    const std::optional<FileInfo> info = host.stat(store_->tmp_folder() / name);
    if (!info || !info->is_folder) continue;  // its owner has just finished; or somebody's link
    host.remove(store_->tmp_folder() / name);
    host.remove(lock_file(*store_, work_lock(name)));
    notice(fmt::format("removed {}, which a process that died had left half done", (store_->tmp_folder() / name).string()));
  }
}

std::optional<Manager::Impl::Recovered> Manager::Impl::recover_entry(const std::string& file,
                                                                     const std::vector<std::string>& ours) {
  const std::filesystem::path path = store_->journal_folder() / file;
  const std::optional<std::string> text = host.read_file(path);
  if (!text) return std::nullopt;  // its owner has finished meanwhile
  const JournalEntry entry = own_journal(*text, path);
  const auto locks = try_lock_dead(entry, ours);
  if (!locks) return std::nullopt;
  const std::optional<std::string> again = host.read_file(path);
  if (!again) return std::nullopt;
  try {
    return Recovered{entry.pid, entry.tidy, recover_dead(own_journal(*again, path))};
  } catch (const Error& error) {
    const bool is_ours = std::any_of(entry.plan.vms.begin(), entry.plan.vms.end(), [&](const std::string& name) {
      return std::find(ours.begin(), ours.end(), name) != ours.end();
    });
    if (is_ours || error.code() == Errc::interrupted) throw;
    // What cannot be finished now must not keep people from everything else in the store.
    std::string line = error.what();
    for (const std::string& leftover : error.leftovers()) line += "; " + leftover;
    return Recovered{entry.pid, true, line};
  }
}

JournalEntry Manager::Impl::own_journal(const std::string& text, const std::filesystem::path& path) {
  JournalEntry entry = journal_from_json(text, path);
  // Before a lock is taken: that is a file, too, named by the journal.
  require_own_journal(entry, path.stem(), *store_, tpm_folder());
  return entry;
}

std::optional<std::vector<FileLock>> Manager::Impl::try_lock_dead(const JournalEntry& entry, const std::vector<std::string>& ours) {
  if (std::find(entry.plan.vms.begin(), entry.plan.vms.end(), kGpuLock) != entry.plan.vms.end()) make_ledger_folder();
  std::vector<FileLock> locks;
  for (const std::string& name : entry.plan.vms) {
    if (std::find(ours.begin(), ours.end(), name) != ours.end()) continue;
    std::optional<FileLock> lock = FileLock::try_take(lock_file(*store_, name), FileLock::Kind::exclusive,
                                                      "recover " + entry.plan.verb);
    if (!lock) return std::nullopt;
    locks.push_back(std::move(*lock));
  }
  return locks;
}

std::string Manager::Impl::recover_dead(const JournalEntry& entry) {
  std::string line = Executor(world()).recover(entry);
  // What it was writing when it died, beside the files that it wrote to.
  std::vector<std::filesystem::path> folders{store_->layers_folder(), store_->images_folder()};
  for (const std::string& vm : entry.plan.vms) {
    if (vm.starts_with('@')) continue;
    const std::filesystem::path folder = store_->vm_folder(vm);
    folders.insert(folders.end(), {folder, store_->ssh_folder(vm)});
    for (const std::string& snapshot : host.list_folder(folder / "snapshots"))
      folders.push_back(folder / "snapshots" / snapshot);
  }
  for (const std::filesystem::path& folder : folders) drop_unfinished_writes(folder);
  const std::filesystem::path journal = store_->journal_folder() / (entry.id + ".json");
  if (host.stat(journal) && try_tidy(entry.plan.vms)) host.remove(journal);  // else the next command does
  return line;
}

StoreFacts Manager::Impl::store_facts() { return {store().manifests(), store().images(), store().layers()}; }

std::string Manager::Impl::journals_text() {
  std::string text;
  for (const std::string& file : host.list_folder(store_->journal_folder()))
    if (file.ends_with(".json")) text += host.read_file(store_->journal_folder() / file).value_or("");
  return text;
}

bool Manager::Impl::try_tidy(const std::vector<std::string>& held) {
  const std::optional<FileLock> lock = FileLock::try_take(lock_file(store(), kSweepLock), FileLock::Kind::exclusive, "tidy up");
  if (!lock) return false;
  for (const Manifest& manifest : store().manifests()) {
    if (plan_merge(store_facts(), manifest, false, false).merged.empty()) continue;
    std::optional<FileLock> vm;
    if (std::find(held.begin(), held.end(), manifest.name) == held.end()) {
      vm = FileLock::try_take(lock_file(store(), manifest.name), FileLock::Kind::exclusive, "merge layers");
      if (!vm) continue;  // who is at work on it merges when he is done
    }
    merge(manifest.name);
  }
  try {
    static_cast<void>(sweep_locked());
  } catch (const SweepLater& later) {
    notice(later.what());
    return false;
  }
  return true;
}

std::vector<std::string> Manager::Impl::sweep() {
  const FileLock lock = lock_sweep("sweep");
  return sweep_locked();
}

std::optional<StoreFacts> Manager::Impl::try_store_facts(const std::string& what_is_left) {
  try {
    return store_facts();
  } catch (const Error& error) {
    notice(fmt::format("{}: {}; see vmgraft check", what_is_left, error.what()));
    return std::nullopt;
  }
}

std::set<std::string> Manager::Impl::layers_in_use(const StoreFacts& facts, const std::set<std::string>& dead) {
  // A VM's own manifest accounts for its domain, but where an older manifest came in its place: then a dead layer was
  // made for that VM.
  const auto is_accounted = [&](const DomainState& domain) {
    const auto manifest = std::find_if(facts.manifests.begin(), facts.manifests.end(),
                                       [&](const Manifest& each) { return each.uuid == domain.uuid; });
    return manifest != facts.manifests.end() && std::none_of(dead.begin(), dead.end(), [&](const std::string& id) {
             return facts.layers.at(id).made_by.find(manifest->name) != std::string::npos;
           });
  };
  std::set<std::string> used;
  for (const DomainState& domain : hypervisor().domains()) {
    if (is_accounted(domain)) continue;
    for (const bool inactive : {true, false}) {
      if (!inactive && !is_active(domain)) continue;
      std::string xml;
      try {
        xml = hypervisor().domain_xml(domain.uuid, inactive);
      } catch (const Error& error) {
        if (error.code() == Errc::not_found) continue;  // it went meanwhile
        throw;
      }
      for (const DomainFacts::Disk& disk : read_domain(xml).disks) {
        for (const std::string& id : dead) {
          if (disk.path != store().layer_file(id).string() || !used.insert(id).second) continue;
          notice(fmt::format("layer {} is kept: the domain '{}' uses it, but no manifest knows of it; see vmgraft check", id,
                             printable(domain.name)));
        }
      }
    }
  }
  return used;
}

std::vector<std::string> Manager::Impl::sweep_locked() {
  drop_idle_locks();
  // A layer that a dead process made is not named by anything yet, and a running VM may write to it: what a journal
  // speaks of stays until that is finished or undone. Read before the manifests: a journal goes after they are written.
  const std::string journals = journals_text();
  std::optional<StoreFacts> facts = try_store_facts("unused layers are kept");
  if (!facts) return {};
  std::set<std::string> pinned;
  for (const auto& [id, layer] : facts->layers)
    if (journals.find(id) != std::string::npos) pinned.insert(id);
  const auto deleted_by = [](const Plan& plan) {
    std::set<std::string> ids;
    for (const Step& step : plan.steps)
      if (const auto* layer = std::get_if<DeleteLayer>(&step)) ids.insert(layer->id);
    return ids;
  };
  Plan plan = plan_sweep(*facts, pinned);
  if (plan.steps.empty()) return {};
  try {
    facts->in_use = layers_in_use(*facts, deleted_by(plan));
  } catch (const Error& error) {
    if (error.code() != Errc::unreachable) throw;
    throw SweepLater(error);
  }
  if (!facts->in_use.empty()) plan = plan_sweep(*facts, pinned);
  std::vector<std::string> removed;
  for (const Step& step : plan.steps)
    if (const auto* layer = std::get_if<DeleteLayer>(&step)) removed.push_back(layer->id);
  execute(plan);
  return removed;
}

MergePlan Manager::Impl::merge(const std::string& vm) {
  // What a dead process had begun may be undone, and then names layers again that would be merged here.
  if (!half_done_with({vm}).empty()) return {};
  const Manifest manifest = store().manifest(vm);
  const std::optional<DomainState> domain = hypervisor().find_by_uuid(manifest.uuid);
  const bool is_running = domain && domain->state != VmState::shut_off && domain->state != VmState::crashed;
  const std::optional<StoreFacts> facts = try_store_facts("unused layers are not merged");
  if (!facts) return {};
  MergePlan plan = plan_merge(*facts, manifest, is_running, can_merge_live(hypervisor().info()));
  if (plan.plan.steps.empty()) return plan;
  // Something that we do not know may stand on these layers, or wake on them.
  for (const OutsideChange& change : changes_of(manifest))
    if (forbids(change.kind, Act::disks)) return {};
  for (const std::string& id : reach(facts->layers, named_layers(manifest)))
    if (const auto layer = facts->layers.find(id); layer != facts->layers.end())
      if (!inspect_layer(host, store(), layer->second).empty()) return {};
  execute(plan.plan);
  return plan;
}

void Manager::Impl::tidy_neighbours(const Manifest& gone) {
  const std::optional<StoreFacts> read = try_store_facts("unused layers are not merged");
  if (!read) return;
  const StoreFacts& facts = *read;
  const std::set<std::string> lost = reach(facts.layers, named_layers(gone));
  for (const Manifest& manifest : facts.manifests) {
    const std::set<std::string> reached = reach(facts.layers, named_layers(manifest));
    const bool shares = std::any_of(lost.begin(), lost.end(), [&](const std::string& id) { return reached.contains(id); });
    if (!shares || plan_merge(facts, manifest, false, false).merged.empty()) continue;
    // Somebody at work on that VM merges when he is done, or the next stop does: nobody is waited for.
    const std::optional<FileLock> lock =
        FileLock::try_take(lock_file(store(), manifest.name), FileLock::Kind::exclusive, "merge layers");
    if (lock && store().find_manifest(manifest.name)) merge(manifest.name);
  }
}

Manager::Impl::FreezeResult Manager::Impl::with_freeze(const VmFacts& vm, const std::function<void(bool)>& act) {
  if (!vm.is_running) {
    act(false);
    return {Consistency::clean, {}};
  }
  std::string why = fmt::format("VM '{}' has no guest agent that answers", vm.manifest.name);
  if (vm.agent_connected) {
    try {
      act(true);
      return {Consistency::frozen, {}};
    } catch (const FreezeFailed& failure) {
      why = failure.what();
    }
  }
  act(false);
  return {Consistency::crash, why};
}

std::vector<OutsideChange> Manager::Impl::changes_of(const Manifest& manifest, const DomainSight& sight) {
  LayerMap layers;
  try {
    layers = store().layers();
  } catch (const Error&) {
    // A record that cannot be read: then a layer is told as a path.
  }
  return outside_changes(store(), manifest, layers, sight);
}

std::vector<OutsideChange> Manager::Impl::changes_of(const Manifest& manifest) {
  return changes_of(manifest, read_sight(hypervisor(), manifest));
}

DomainState Manager::Impl::domain_of(const Manifest& manifest, Act act) {
  const DomainSight sight = read_sight(hypervisor(), manifest);
  const std::vector<OutsideChange> changes = outside_changes(store(), manifest, {}, sight);
  const bool is_forbidden =
      std::any_of(changes.begin(), changes.end(), [&](const OutsideChange& change) { return forbids(change.kind, act); });
  if (is_forbidden) require_unchanged(manifest, changes_of(manifest, sight), act);  // told better with the layers
  if (!sight.domain) throw Error(Errc::conflict, fmt::format("VM '{}': libvirt has no domain of it", manifest.name));
  return *sight.domain;
}

DomainState Manager::Impl::running_domain(const Manifest& manifest) {
  DomainState domain = domain_of(manifest, Act::guest);
  if (domain.state != VmState::running)
    throw Error(Errc::conflict, fmt::format("VM '{}' is not running but {}", manifest.name, to_string(domain.state)),
                domain.state == VmState::paused ? fmt::format("virsh resume {}", manifest.name)
                                                : fmt::format("vmgraft start {}", manifest.name));
  return domain;
}

VmFacts Manager::Impl::vm_facts(const Manifest& manifest) {
  return read_vm_facts(host, hypervisor(), store(), manifest, tpm_home(manifest.uuid));
}

void Manager::Impl::require_free_name(const std::string& name) {
  if (host.stat(store().manifest_file(name)))
    throw Error(Errc::conflict, fmt::format("there is a VM '{}' already", name),
                fmt::format("take another name, or remove it: vmgraft delete {}", name));
  if (const std::optional<DomainState> domain = hypervisor().find_by_name(name)) {
    if (read_domain(hypervisor().domain_xml(domain->uuid, true)).store == store().root().string())
      throw Error(Errc::conflict,
                  fmt::format("libvirt has a domain '{}' already, of this store, but {} is not its manifest", name,
                              store().manifest_file(name).string()),
                  fmt::format("the manifest was deleted or the domain renamed by other means: see vmgraft check {}", name));
    throw Error(Errc::conflict,
                fmt::format("libvirt has a domain '{}' already, which is not of the store {}", name, store().root().string()),
                "take another name; vmgraft does not touch domains that are not its own");
  }
  if (host.stat(store().vm_folder(name)))
    throw Error(Errc::conflict, fmt::format("{} is there, but holds no VM", store().vm_folder(name).string()),
                "look what it is, and remove it by hand");
}

std::filesystem::path Manager::Impl::tpm_folder() {
  if (uri_.empty()) uri_ = choose_uri(options.connect);
  if (!is_session_uri(uri_)) return "/var/lib/libvirt/swtpm";
  const auto config = environment_path("XDG_CONFIG_HOME");
  const std::filesystem::path base = config.is_absolute() ? config : environment_path("HOME") / ".config";
  return base / "libvirt/qemu/swtpm";
}

std::string Manager::Impl::tpm_home(const std::string& uuid) {
  return tpm_folder() / uuid;
}

std::string Manager::Impl::snapshot_xml(const std::string& vm, const std::string& snapshot) {
  const std::filesystem::path file = store().snapshot_folder(vm, snapshot) / "domain.xml";
  const std::optional<std::string> xml = host.read_file(file);
  if (!xml)
    throw Error(Errc::other, fmt::format("snapshot {}@{}: its definition {} is missing", vm, snapshot, file.string()),
                "it was removed by other means; the disks can still be cloned from another snapshot");
  require_known_reach(hypervisor(), store(), fmt::format("snapshot {}@{}", vm, snapshot), store().manifest(vm).uuid,
                      *xml);
  return *xml;
}

void Manager::Impl::require_kept(const Manifest& manifest, const SnapshotRecord& snapshot) {
  const std::filesystem::path folder = store().snapshot_folder(manifest.name, snapshot.name);
  const std::vector<std::pair<bool, const char*>> kept = {
      {snapshot.nvram, "nvram.fd"}, {snapshot.tpm, "tpm"}, {snapshot.memory, "memory"}};
  for (const auto& [is_kept, file] : kept)
    if (is_kept && !host.stat(folder / file))
      throw Error(Errc::conflict,
                  fmt::format("snapshot {}@{}: its {} is missing", manifest.name, snapshot.name, (folder / file).string()),
                  fmt::format("it was deleted by other means: put back a copy, or delete the snapshot: vmgraft snapshot delete "
                              "{}@{}",
                              manifest.name, snapshot.name));
  for (const SnapshotDisk& disk : snapshot.disks) require_whole_chain(disk.layer);
}

void Manager::Impl::require_snapshot(const Manifest& manifest, const std::string& snapshot) {
  if (find_snapshot(manifest, snapshot) != nullptr) return;
  std::vector<std::string> names;
  for (const SnapshotRecord& record : manifest.snapshots) names.push_back(record.name);
  throw Error(Errc::not_found, fmt::format("VM '{}' has no snapshot '{}'", manifest.name, printable(snapshot)),
              did_you_mean(snapshot, names, fmt::format("vmgraft snapshot list {}", manifest.name)));
}

Manager::Manager(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Manager::~Manager() = default;
Manager::Manager(Manager&&) noexcept = default;
Manager& Manager::operator=(Manager&&) noexcept = default;

std::filesystem::path Manager::store_path() { return impl_->store_root(); }

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "run/manager_impl.hpp"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "model/names.hpp"
#include "run/data_folders.hpp"
#include "run/fresh.hpp"
#include "run/store_trust.hpp"
#include "run/vm_facts.hpp"

namespace vmgraft {
namespace {

std::filesystem::path environment_path(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::filesystem::path{} : std::filesystem::path(value);
}

bool is_session_uri(const std::string& uri) { return uri.find("/session") != std::string::npos; }

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
  try {
    recover();
    reap_gpus();
  } catch (const Error&) {
    store_.reset();  // the next call tries again: nobody is to work beside what is half done
    throw;
  }
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
  auto store = std::make_unique<Store>(host, root, store_access());
  host.keep_beneath(store->root());
  store->prepare();
  store->keep_reserve();
  store_ = std::move(store);
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

StoreFacts Manager::Impl::store_facts() { return {store().manifests(), store().images(), store().layers()}; }

std::optional<StoreFacts> Manager::Impl::try_store_facts(const std::string& what_is_left) {
  try {
    return store_facts();
  } catch (const Error& error) {
    notice(fmt::format("{}: {}; see vmgraft check", what_is_left, error.what()));
    return std::nullopt;
  }
}

Manager::Impl::FreezeResult Manager::Impl::with_freeze(const VmFacts& vm, Locks& locks, const std::function<void(bool)>& act) {
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
      share_sweep(locks);
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

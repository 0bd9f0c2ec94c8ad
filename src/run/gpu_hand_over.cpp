// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "domain/placement.hpp"
#include "gpu/check.hpp"
#include "gpu/choose.hpp"
#include "gpu/named_gpus.hpp"
#include "gpu/place.hpp"
#include "model/names.hpp"
#include "run/manager_impl.hpp"

namespace vmgraft {
namespace {

std::string gpu_config_file() {
  const char* own = std::getenv("VMGRAFT_GPU_CONFIG");
  return own == nullptr ? kGpuConfigFile : own;
}

/// GPUs, and all that shares their groups.
std::vector<std::string> concerned(const HostDevices& devices) {
  std::vector<std::string> addresses;
  for (const PciFunction& function : devices.functions)
    if (!function.is_bridge()) addresses.push_back(function.address);
  return addresses;
}

/// A spec for each chosen VF is one for its physical function's: how many are to be made where.
std::map<std::string, unsigned> vfs_to_make(const GpuChoice& choice) {
  std::map<std::string, unsigned> counts;
  for (const GpuChoice::One& one : choice.gpus)
    if (one.make_vf) ++counts[one.address];
  return counts;
}

/// Those that are taken whole; a mediated device leaves its GPU to the host's driver.
std::vector<std::string> whole_ones(const GpuChoice& choice) {
  std::vector<std::string> addresses;
  for (const GpuChoice::One& one : choice.gpus)
    if (one.kind != GpuKind::mdev) addresses.push_back(one.address);
  return addresses;
}

std::vector<MakeMdev> mdevs_of(const GpuFacts& facts, const GpuChoice& choice, const std::string& vm_uuid,
                               Placement& placement) {
  const auto count = static_cast<std::size_t>(std::count_if(
      choice.gpus.begin(), choice.gpus.end(), [](const GpuChoice::One& one) { return one.kind == GpuKind::mdev; }));
  const std::vector<std::string> uuids = free_mdev_uuids(facts.devices, vm_uuid, count);
  std::vector<MakeMdev> mdevs;
  for (std::size_t i = 0; i < choice.gpus.size(); ++i) {
    if (choice.gpus[i].kind != GpuKind::mdev) continue;
    mdevs.push_back({choice.gpus[i].address, choice.gpus[i].mdev_type, uuids.at(mdevs.size())});
    placement.gpus.at(i).mdev = mdevs.back().uuid;
  }
  return mdevs;
}

}  // namespace

bool Manager::Impl::owns_gpus() {
  if (geteuid() != 0 || !options.host_root.empty()) return false;
  if (uri_.empty()) uri_ = choose_uri(options.connect);
  return uri_.find("/system") != std::string::npos;
}

void Manager::Impl::require_gpu_host() {
  if (!options.host_root.empty())
    throw Error(Errc::usage, "a recorded host cannot be changed", "unset VMGRAFT_HOST_ROOT");
  if (owns_gpus()) return;
  throw Error(Errc::host_unfit, "GPUs are handed over by root on the system connection, and this is neither",
              "run it with sudo, and with --connect qemu:///system");
}

void Manager::Impl::require_gpus(const VmSpec& spec) {
  require_gpu_host();
  const GpuFacts facts = gpu_facts(GpuDepth::whole);
  refuse_failures(check_host(facts));
  CheckFor wanted;
  wanted.spec = &spec;
  static_cast<void>(choose_gpus(facts, spec, wanted));
}

FileLock Manager::Impl::lock_gpus(const std::string& purpose) {
  make_ledger_folder();
  return take_lock(kGpuLock, FileLock::Kind::exclusive, purpose);
}

void Manager::Impl::make_ledger_folder() {
  host.make_folder(ledger().folder().parent_path(), 0755);
  host.make_folder(ledger().folder(), 0755);
}

void Manager::Impl::load_vfio() {
  if (host.stat("/sys/bus/pci/drivers/vfio-pci")) return;
  Command command;
  command.argv = {"modprobe", "vfio-pci"};
  const CommandResult result = host.run(command);
  if (result.exit_code == 0) return;
  throw Error(Errc::host_unfit, fmt::format("the module vfio-pci cannot be loaded: {}", printable(result.err)),
              "is it blacklisted, or missing for this kernel?");
}

std::vector<DomainUse> Manager::Impl::domain_uses(bool with_stopped) {
  std::vector<DomainUse> uses;
  for (const DomainState& domain : hypervisor().domains()) {
    if (!is_active(domain) && !with_stopped) continue;
    DomainUse use{domain.name, domain.uuid, {}, is_active(domain), {}};
    std::string xml;
    try {
      xml = hypervisor().domain_xml(domain.uuid, !use.is_running);
    } catch (const Error& error) {
      if (error.code() != Errc::not_found) throw;  // what is not known to be free is not free
      continue;                                    // it went meanwhile
    }
    for (const DomainHostdev& device : read_hostdevs(xml))
      if (!device.address.empty()) use.functions.push_back(device.address);
    if (use.functions.empty()) continue;
    use.store = read_domain(xml).store;
    use.host_cpus = read_pinned_cpus(xml);
    uses.push_back(std::move(use));
  }
  return uses;
}

HostDevices Manager::Impl::host_devices() { return read_devices(host, read_gpu_config(host, gpu_config_file())); }

GpuFacts Manager::Impl::gpu_facts(GpuDepth depth) {
  GpuFacts facts;
  facts.devices = host_devices();
  facts.records = ledger().records();
  if (options.host_root.empty()) {
    try {
      facts.domains = domain_uses(depth != GpuDepth::list);
    } catch (const Error& error) {
      if (depth == GpuDepth::whole) throw;
      notice(fmt::format("which VMs hold GPUs is not known: {}", error.what()));
    }
  }
  facts.gpus = find_gpus(facts.devices, facts.domains, facts.records);
  if (depth == GpuDepth::list) return facts;
  facts.settings = read_settings(host);
  facts.use = read_use(host, facts.devices, concerned(facts.devices));
  const PciNames names(host);
  for (const Gpu& gpu : facts.gpus) {
    const PciFunction& function = *facts.devices.find(gpu.address);
    facts.names[gpu.address] = names.name(function.vendor, function.device);
  }
  return facts;
}

/// Virtual functions are made before they can be chosen; then the choice is made again, among them.
GpuChoice Manager::Impl::choose(GpuFacts& facts, const VmSpec& spec, const CheckFor& wanted) {
  GpuChoice choice = choose_gpus(facts, spec, wanted);
  const std::map<std::string, unsigned> counts = vfs_to_make(choice);
  if (counts.empty()) return choice;
  for (const auto& [physical, count] : counts) {
    progress(fmt::format("making {} virtual functions of {}", count, physical));
    execute(plan_make_vfs(facts, ledger(), physical, count));
  }
  facts = gpu_facts(GpuDepth::whole);
  return choose_gpus(facts, spec, wanted);
}

Manager::Impl::Hold Manager::Impl::take_gpus(const Manifest& manifest, const VmSpec& spec, bool is_running, bool explain) {
  const FileLock lock = lock_gpus("take GPUs for " + manifest.name);
  recover({manifest.name, kGpuLock});
  release_leases(manifest);  // of a run that ended by itself
  GpuFacts facts = gpu_facts(GpuDepth::whole);
  refuse_failures(check_host(facts));
  CheckFor wanted;
  wanted.spec = &spec;
  wanted.vm = manifest.name;
  wanted.vm_uuid = manifest.uuid;
  const GpuChoice choice = choose(facts, spec, wanted);
  if (explain)
    for (const std::string& line : choice.explanation) notice(line);
  const std::vector<std::string> addresses = whole_ones(choice);
  wanted.together = addresses;
  for (const GpuChoice::One& one : choice.gpus) {
    wanted.kind = one.kind;
    const std::vector<GpuCheck> rows = check_gpu(facts, *facts.find(one.address), wanted);
    refuse_failures(rows);
    if (!explain) continue;
    for (const GpuCheck& row : rows)
      if (row.health == Health::warn) notice(fmt::format("{}; {}", check_text(row), row.remedy));
  }
  const std::string defined = hypervisor().domain_xml(manifest.uuid, true);
  PlaceFor place_for;
  place_for.is_kvm = read_domain(defined).virt_type == "kvm";
  place_for.libvirt_version = hypervisor().info().libvirt_version;
  VmSpec tuned = spec;
  if (is_running) tuned.tuning = Tuning::none;  // a running VM is pinned and has its memory
  Placement placement = place(facts, choice, tuned, place_for);
  const std::vector<MakeMdev> mdevs = mdevs_of(facts, choice, manifest.uuid, placement);
  refuse_own_tuning(tuned, defined, placement);
  Hold hold{addresses, std::move(placement), {}, {}};
  // Either may be refused, and then no driver was touched.
  if (is_running)
    hold.plug = plan_plug(facts, choice, hold.placement, manifest.name, manifest.uuid,
                          hypervisor().domain_xml(manifest.uuid, false));
  else
    hold.xml = with_placement(defined, hold.placement);
  load_vfio();
  execute(plan_lease(facts, ledger(), addresses, mdevs, {manifest.name, manifest.uuid, store().root(), spec.release}));
  if (const std::uint64_t estimate = start_estimate(hold.placement, facts, spec); estimate > 10)
    notice(fmt::format("memory is pinned and BARs are mapped before the guest runs: this takes about {} s", estimate));
  return hold;
}

void Manager::Impl::after_failure(Error& error, const std::function<void()>& clean_up) {
  const std::atomic<bool>* interrupted = std::exchange(options.interrupted, nullptr);  // cleaning up is not cut short
  try {
    clean_up();
  } catch (const Error& second) {
    error.add_leftover(second.what());
  }
  options.interrupted = interrupted;
}

VmSpec Manager::Impl::spec_of(const Manifest& manifest) {
  VmSpec spec = parse_spec(manifest.spec, manifest.template_name);
  spec.gpus = with_identities(std::move(spec.gpus), manifest.named_gpus);
  return spec;
}

void Manager::Impl::remember_gpus(const Manifest& manifest, const VmSpec& spec) {
  const bool is_known = std::none_of(spec.gpus.begin(), spec.gpus.end(),
                                     [](const GpuSpec& each) { return !each.address.empty() && each.identity.empty(); });
  if (is_known) return;
  const Plan plan = plan_remember_gpus(store(), manifest, spec.gpus, host_devices());
  if (!plan.steps.empty()) execute(plan);
}

void Manager::Impl::start_with_gpus(const Manifest& manifest, const VmSpec& spec, bool explain) {
  require_gpu_host();
  const Hold hold = take_gpus(manifest, spec, false, explain);
  try {
    Plan plan{fmt::format("start {}", manifest.name), {manifest.name}, {}};
    plan.steps.emplace_back(StartDomain{manifest.name, manifest.uuid, hold.xml});
    remember_gpus(manifest, spec);
    execute(plan);
  } catch (Error& error) {
    after_failure(error, [&] { static_cast<void>(release_gpus(manifest)); });
    throw;
  }
}

std::vector<std::string> Manager::Impl::plug_gpus(const Manifest& manifest, const VmSpec& spec, bool explain) {
  const Hold hold = take_gpus(manifest, spec, true, explain);
  for (const std::string& note : hold.plug.notes) notice(note);
  execute(hold.plug.plan);
  return hold.addresses;
}

std::vector<DetachDevice> Manager::Impl::detach_steps(const Manifest& manifest, std::chrono::seconds timeout,
                                                      const std::vector<std::string>* only) {
  return vmgraft::detach_steps(manifest.name, manifest.uuid, hypervisor().domain_xml(manifest.uuid, false),
                               static_cast<unsigned>(timeout.count()), only);
}

}  // namespace vmgraft

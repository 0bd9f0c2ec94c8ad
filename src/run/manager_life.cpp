// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "model/moment.hpp"
#include "model/names.hpp"
#include "plan/plan_delete.hpp"
#include "run/fresh.hpp"
#include "run/manager_impl.hpp"
#include "run/port_wait.hpp"
#include "run/vm_facts.hpp"
#include "store/layer_file.hpp"

namespace vmgraft {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

bool is_off(const std::optional<DomainState>& domain) {
  return !domain || domain->state == VmState::shut_off || domain->state == VmState::crashed;
}

Ready ready_of(WaitFor wait, Ready of_template) {
  switch (wait) {
    case WaitFor::ready: return of_template;
    case WaitFor::agent: return Ready::agent;
    case WaitFor::ssh: return Ready::ssh;
    case WaitFor::none: return Ready::none;
  }
  return of_template;
}

bool asks_for_provisioning(const GuestSpec& guest) {
  return !guest.hostname.empty() || !guest.user.empty() || !guest.ssh_keys.empty() || !guest.files.empty() ||
         !guest.run.empty();
}

}  // namespace

void Manager::Impl::ensure_networks(const std::string& domain_xml_text) {
  for (const DomainFacts::Nic& nic : read_domain(domain_xml_text).nics) {
    if (nic.type != "network") continue;
    const bool is_ours = nic.source == kIsolatedNetwork;
    if (nic.source != "default" && !is_ours) continue;  // the user's own network is the user's
    hypervisor().ensure_network(nic.source,
                                is_ours ? isolated_network_xml(kIsolatedNetwork, "virbr-vmgraft", 251) : std::string{});
  }
}

void Manager::Impl::start_domain(const Manifest& manifest, bool explain) {
  DomainState domain = domain_of(manifest, Act::stop);
  if (domain.state == VmState::running) return;
  if (domain.state == VmState::paused)
    throw Error(Errc::conflict, fmt::format("VM '{}' is paused", manifest.name),
                fmt::format("virsh resume {}", manifest.name));
  domain = domain_of(manifest, Act::start);
  for (const HeadRecord& head : manifest.heads) require_whole_chain(head.layer);
  const std::string xml = hypervisor().domain_xml(manifest.uuid, true);
  require_own_files(xml);
  tell_lost_nvram(manifest, read_domain(xml).nvram);
  ensure_networks(xml);
  if (const VmSpec spec = spec_of(manifest); !spec.gpus.empty()) {
    // It would be started by another definition: the memory would stay, and be woken later on disks that went on.
    if (domain.saved) require_unchanged(manifest, changes_of(manifest), Act::disks);
    return start_with_gpus(manifest, spec, explain);
  }
  Plan plan{fmt::format("start {}", manifest.name), {manifest.name}, {}};
  plan.steps.emplace_back(StartDomain{manifest.name, manifest.uuid});
  execute(plan);
}

void Manager::Impl::require_whole_chain(const std::string& layer) {
  LayerMap layers;
  for (const LayerRecord& each : store().chain(layer)) layers.emplace(each.id, each);
  require_whole(host, store(), layers);
}

void Manager::Impl::require_own_files(const std::string& xml) {
  // libvirt gives them to QEMU's user, and follows links.
  for (const std::string& file : paths_below(xml, store().root()))
    if (const auto info = host.stat(file); info && info->is_link)
      throw Error(
          Errc::conflict, fmt::format("'{}' is a symbolic link", printable(file, 4096)),
          "a store holds none: QEMU would be led to any file of the host; look who put it there, and remove it");
}

void Manager::Impl::tell_lost_nvram(const Manifest& manifest, const std::string& nvram) {
  if (nvram.empty() || host.stat(nvram)) return;
  // libvirt makes it at the first start.
  const bool had_one = manifest.provisioned || std::any_of(manifest.snapshots.begin(), manifest.snapshots.end(),
                                                           [](const SnapshotRecord& record) { return record.nvram; });
  if (had_one)
    notice(fmt::format("VM '{}': its NVRAM {} was deleted: libvirt makes a new one, with none of the firmware's settings; a "
                       "snapshot that has it brings it back",
                       manifest.name, nvram));
}

LayerRecord Manager::Impl::root_layer(const Manifest& manifest) {
  for (const HeadRecord& head : manifest.heads) {
    const LayerRecord root = store().chain(head.layer).back();
    if (root.boot_direct || root.boot_bios || root.boot_uefi || root.agent || root.cloud_init) return root;
  }
  return {};
}

void Manager::Impl::wait_ready(const Manifest& manifest, Ready ready, seconds timeout) {
  if (ready == Ready::none) return;
  progress(fmt::format("waiting for {}", manifest.name));
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  const WaitOutcome outcome = hypervisor().wait_agent(manifest.uuid, timeout, options.interrupted);
  switch (outcome) {
    case WaitOutcome::happened: break;
    case WaitOutcome::interrupted: throw Error(Errc::interrupted, "interrupted while waiting for the guest agent");
    case WaitOutcome::vm_gone:
      throw Error(Errc::unreachable, fmt::format("VM '{}' went off while it was waited for", manifest.name),
                  fmt::format("its console log says why: {}", store().console_log(manifest.name).string()));
    case WaitOutcome::timed_out:
      throw Error(Errc::unreachable,
                  fmt::format("VM '{}': no guest agent answered within {} s", manifest.name, timeout.count()),
                  fmt::format("look at {}; give it longer with --timeout, or do not wait: --wait none",
                              store().console_log(manifest.name).string()));
  }
  if (ready != Ready::ssh) return;
  for (const NicInfo& nic : hypervisor().addresses(manifest.uuid))
    for (const std::string& address : nic.addresses)
      if (wait_for_port(address, 22, deadline, options.interrupted)) return;
  throw Error(Errc::unreachable, fmt::format("VM '{}': nothing answers on port 22", manifest.name),
              "is there an SSH server in the guest, and a network that the host reaches? exec and copy need neither");
}

HostKey Manager::Impl::host_key(const std::string& vm) {
  const std::filesystem::path folder = store().ssh_folder(vm);
  const std::optional<std::string> kept = host.read_file(folder / "host_key");
  const std::optional<std::string> kept_public = host.read_file(folder / "host_key.pub");
  if (kept && kept_public) return {*kept, *kept_public};
  WorkFolder scratch(host, store());
  HostKey key = make_host_key(host, scratch.make());
  host.make_folder(folder, 0700);
  host.write_file(folder / "host_key", key.private_key, 0600);
  host.write_file(folder / "host_key.pub", key.public_key, 0600);
  return key;
}

void Manager::Impl::provision_guest(const std::string& vm, std::chrono::milliseconds tidy_time) {
  Manifest manifest = store().manifest(vm);
  const VmSpec spec = parse_spec(manifest.spec, manifest.template_name);
  const Manifest before = manifest;
  GuestAgent agent(hypervisor(), vm, manifest.uuid, {options.interrupted, tidy_time});
  if (!manifest.provisioned && asks_for_provisioning(spec.guest)) {
    const LayerRecord image = root_layer(manifest);
    ProvisionRequest request;
    request.guest = spec.guest;
    if (request.guest.hostname.empty() || !manifest.source.empty()) request.guest.hostname = vm;
    request.ssh_keys = manifest.ssh_keys;
    request.host_key = host_key(vm);
    request.wait_cloud_init = image.cloud_init;
    if (image.cloud_init && !image.agent) {  // the seed brought them: only its end is waited for
      request.guest.files.clear();
      request.guest.run.clear();
    }
    request.on_step = [this](const std::string& step) { progress(step); };
    provision(agent, request);
  } else if (manifest.identity_pending) {
    progress(fmt::format("giving {} an identity of its own", vm));
    renew_identity(agent, vm, host_key(vm));
  }
  manifest.provisioned = true;
  manifest.identity_pending = false;
  if (manifest == before) return;
  Plan plan{fmt::format("record that {} is provisioned", vm), {vm}, {}};
  plan.steps.emplace_back(
      WriteFile{store().manifest_file(vm), to_json_text(manifest), 0600, true, to_json_text(before)});
  execute(plan);
}

void Manager::Impl::bring_up(const std::string& vm, WaitFor wait, std::optional<seconds> timeout, bool explain,
                             std::chrono::milliseconds tidy_time) {
  {
    Locks locks = lock_vms({vm}, "start " + vm);
    locks.drop_share();  // its layers are named as long as the VM's lock is held
    start_domain(store().manifest(vm), explain);
  }
  const Manifest manifest = store().manifest(vm);
  const VmSpec spec = parse_spec(manifest.spec, manifest.template_name);
  Ready ready = ready_of(wait, spec.lifecycle.ready);
  bool has_guest_work = manifest.identity_pending || (!manifest.provisioned && asks_for_provisioning(spec.guest));
  if (has_guest_work && spec.lifecycle.ready == Ready::none && !root_layer(manifest).agent) {
    notice(fmt::format("VM '{}': its template expects no guest agent, so nothing is changed inside{}", vm,
                       manifest.identity_pending ? ": it takes itself for its source" : ""));
    has_guest_work = false;
  }
  if (has_guest_work && wait == WaitFor::none) {
    notice(fmt::format("VM '{0}' is not provisioned yet; vmgraft wait {0} does it", vm));
    return;
  }
  if (has_guest_work && ready == Ready::none) ready = Ready::agent;
  const seconds limit = timeout.value_or(spec.lifecycle.ready_timeout);
  wait_ready(manifest, ready == Ready::ssh && has_guest_work ? Ready::agent : ready, limit);
  if (!has_guest_work) return;
  {
    // Held while the guest is worked on, so that nobody reverts or deletes the VM meanwhile; sweeps go on.
    Locks locks = lock_vms({vm}, "provision " + vm);
    locks.drop_share();
    provision_guest(vm, tidy_time);
  }
  if (ready == Ready::ssh) wait_ready(manifest, ready, limit);
}

VmInfo Manager::start(const StartRequest& request) {
  static_cast<void>(impl_->store().manifest(request.vm));
  impl_->bring_up(request.vm, request.wait, request.timeout, request.explain);
  if (const Manifest manifest = impl_->store().manifest(request.vm); is_over(manifest.expires, now_rfc3339()))
    impl_->notice(fmt::format(
        "VM '{0}' is beyond its time, and the next gc sees to it; vmgraft extend {0} 2h keeps it so long", request.vm));
  return show(request.vm);
}

VmInfo Manager::stop(const StopRequest& request) {
  Impl& impl = *impl_;
  const std::string& vm = request.vm;
  static_cast<void>(impl.store().manifest(vm));
  {
    Locks locks = impl.lock_vms({vm}, "stop " + vm);
    locks.drop_share();  // a guest takes its time: nobody else is to wait for it
    impl.stop_locked(vm, request.timeout);
  }
  return show(vm);
}

void Manager::Impl::stop_locked(const std::string& vm, seconds timeout) {
  const Manifest manifest = store().manifest(vm);
  const DomainState domain = domain_of(manifest, Act::stop);
  if (!is_off(domain) && timeout.count() > 0 && domain.state == VmState::running) {
    progress(fmt::format("asking {} to shut down", vm));
    hypervisor().request_shutdown(manifest.uuid);
    const WaitOutcome outcome = hypervisor().wait_shut_off(manifest.uuid, milliseconds(timeout), options.interrupted);
    if (outcome == WaitOutcome::interrupted)
      throw Error(Errc::interrupted, fmt::format("interrupted; VM '{}' was asked to shut down and may still do so", vm));
    if (outcome == WaitOutcome::timed_out)
      notice(fmt::format("VM '{}' did not shut down within {} s: powered off", vm, timeout.count()));
  }
  if (!is_off(hypervisor().find_by_uuid(manifest.uuid))) {
    Plan plan{fmt::format("stop {}", vm), {vm}, {}};
    plan.steps.emplace_back(Commit{});
    plan.steps.emplace_back(PowerOff{vm, manifest.uuid});
    execute(plan);
  }
  static_cast<void>(release_gpus(manifest));
  merge(vm);  // what could not be merged while it ran
  for (const OutsideChange& change : changes_of(manifest))
    if (forbids(change.kind, Act::start)) notice(fmt::format("VM '{}': {}; {}", vm, change.what, change.remedy));
}

VmInfo Manager::restart(const StopRequest& stop_request, const StartRequest& start_request) {
  static_cast<void>(stop(stop_request));
  return start(start_request);
}

DeleteResult Manager::Impl::remove_vm(const std::string& vm) {
  static_cast<void>(store().manifest(vm));
  Locks locks = lock_vms({vm}, "delete " + vm);
  return remove_locked(vm, locks);
}

DeleteResult Manager::Impl::remove_locked(const std::string& vm, Locks& locks) {
  const Manifest manifest = store().manifest(vm);
  DeleteResult result{vm, {}};
  const std::string journal = remove_untidy(manifest);
  tidy_up(journal, locks, [&] {
    tidy_neighbours(manifest);
    result.removed_layers = sweep();
  });
  forget_lock(vm);
  return result;
}

void Manager::Impl::forget_lock(const std::string& vm) {
  host.remove(store().locks_folder() / ("vm-" + vm + ".lock"));  // who waits for it sees that it is another file now
}

std::string Manager::Impl::remove_untidy(const Manifest& manifest) {
  std::string journal = Executor(world()).execute_untidy(vmgraft::plan_delete(store(), manifest, has_own_domain(manifest)));
  static_cast<void>(release_gpus(manifest));
  return journal;
}

bool Manager::Impl::has_own_domain(const Manifest& manifest) {
  const DomainSight sight = read_sight(hypervisor(), manifest);
  require_unchanged(manifest, outside_changes(store(), manifest, {}, sight), Act::remove);
  return sight.domain.has_value();
}

DeleteResult Manager::remove(const std::string& vm) { return impl_->remove_vm(vm); }

PlanText Manager::plan_remove(const std::string& vm) {
  const Manifest manifest = impl_->store().manifest(vm);
  PlanText text = plan_text(vmgraft::plan_delete(impl_->store(), manifest, impl_->has_own_domain(manifest)));
  StoreFacts facts = impl_->store_facts();
  std::erase_if(facts.manifests, [&](const Manifest& other) { return other.name == vm; });
  for (const Step& step : plan_sweep(facts).steps)
    if (std::holds_alternative<DeleteLayer>(step)) text.steps.push_back(describe(step));
  return text;
}

VmInfo Manager::wait(const std::string& vm, WaitFor condition, seconds timeout) {
  const Manifest manifest = impl_->store().manifest(vm);
  static_cast<void>(impl_->running_domain(manifest));
  impl_->bring_up(vm, condition == WaitFor::none ? WaitFor::ready : condition, timeout);
  return show(vm);
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "gpu/check.hpp"
#include "gpu/named_gpus.hpp"
#include "model/names.hpp"
#include "model/pci_address.hpp"
#include "run/manager_impl.hpp"
#include "template/gpu_request.hpp"

namespace vmgraft {
namespace {

std::string require_address(const std::string& text) {
  const std::optional<std::string> address = parse_pci_address(text);
  if (!address)
    throw Error(Errc::usage, fmt::format("'{}' is not a PCI address", printable(text)), "want like 0000:3b:00.0, or 3b:00.0");
  return *address;
}

const Gpu& require_gpu(const GpuFacts& facts, const std::string& address) {
  if (const Gpu* gpu = facts.find(address)) return *gpu;
  std::vector<std::string> addresses;
  for (const Gpu& each : facts.gpus) addresses.push_back(each.address);
  throw Error(Errc::not_found, fmt::format("there is no GPU at {}", address),
              did_you_mean(address, addresses, "vmgraft gpu list shows what there is"));
}

GpuChange change_of(const GpuFacts& facts, const std::string& address) {
  const Gpu& gpu = require_gpu(facts, address);
  return {address, gpu.state, facts.devices.find(address)->driver, {}, gpu.note};
}

void require_not_held(const Gpu& gpu, const char* what) {
  if (gpu.state == GpuState::in_vm)
    throw Error(Errc::conflict, fmt::format("GPU {} is held by VM '{}'", gpu.address, printable(gpu.vm)),
                fmt::format("{}: vmgraft gpu detach {} {}, or stop the VM", what, printable(gpu.vm), gpu.address));
}

}  // namespace

std::vector<GpuInfo> Manager::gpus() {
  Impl& impl = *impl_;
  impl.try_reap();
  const GpuFacts facts = impl.gpu_facts(Impl::GpuDepth::list);
  const PciNames names(impl.host);
  std::vector<GpuInfo> infos;
  for (const Gpu& gpu : facts.gpus) infos.push_back(gpu_info(facts, gpu, names));
  return infos;
}

std::optional<PlaceFor> Manager::Impl::try_place_for(const VmSpec& spec) {
  if (!options.host_root.empty()) return std::nullopt;
  try {
    return PlaceFor{virt_type_for(host, host_facts(), spec.accel) == "kvm", hypervisor().info().libvirt_version};
  } catch (const Error& error) {
    notice(fmt::format("how the VM would be placed is not known: {}", error.what()));
    return std::nullopt;
  }
}

std::vector<GpuCheck> Manager::gpu_check(const GpuCheckRequest& request) {
  Impl& impl = *impl_;
  impl.try_reap();
  const GpuFacts facts = impl.gpu_facts(Impl::GpuDepth::check);
  const std::string only = request.address.empty() ? std::string{} : require_gpu(facts, require_address(request.address)).address;
  if (!request.template_name.empty()) {
    const TemplateLibrary library(impl.template_folders());
    const VmSpec spec = library.resolve(request.template_name, {}, {"check"}).spec;
    const std::optional<PlaceFor> place_for = impl.try_place_for(spec);
    return check_start(facts, spec, only, place_for ? &*place_for : nullptr);
  }
  std::vector<GpuCheck> rows = check_host(facts);
  for (const Gpu& gpu : facts.gpus) {
    if (!only.empty() && gpu.address != only) continue;
    const std::vector<GpuCheck> more = check_gpu(facts, gpu, {});
    rows.insert(rows.end(), more.begin(), more.end());
  }
  return rows;
}

VmInfo Manager::gpu_request(const GpuRequest& request) {
  Impl& impl = *impl_;
  const std::vector<GpuSpec> wanted = parse_gpu_request(request.gpus, "SPEC");
  static_cast<void>(impl.store().manifest(request.vm));
  const Locks locks = impl.lock_vms({request.vm}, "gpu request " + request.vm);
  const HostDevices devices = names_gpu(wanted) ? impl.host_devices() : HostDevices{};
  impl.execute(plan_gpu_request(impl.store(), impl.store().manifest(request.vm), wanted, devices));
  return impl.vm_info(impl.store().manifest(request.vm));
}

std::vector<GpuChange> Manager::gpu_attach(const GpuAttachRequest& request) {
  Impl& impl = *impl_;
  const std::vector<GpuSpec> wanted = parse_gpu_request({request.gpus}, "SPEC");
  static_cast<void>(impl.store().manifest(request.vm));
  impl.require_gpu_host();
  const Locks locks = impl.lock_vms({request.vm}, "gpu attach " + request.vm);
  const Manifest manifest = impl.store().manifest(request.vm);
  static_cast<void>(impl.running_domain(manifest));
  VmSpec spec = parse_spec(manifest.spec, manifest.template_name);
  spec.gpus = wanted;
  std::vector<std::string> addresses;
  try {
    addresses = impl.plug_gpus(manifest, spec, request.explain);
  } catch (Error& error) {
    impl.after_failure(error, [&] { impl.release_gpus(manifest); });
    throw;
  }
  const GpuFacts facts = impl.gpu_facts(Impl::GpuDepth::list);
  std::vector<GpuChange> changes;
  for (const std::string& address : addresses) changes.push_back(change_of(facts, address));
  return changes;
}

GpuChange Manager::gpu_detach(const GpuDetachRequest& request) {
  Impl& impl = *impl_;
  const std::string device = is_mdev_uuid(request.address) ? request.address : require_address(request.address);
  static_cast<void>(impl.store().manifest(request.vm));
  impl.require_gpu_host();
  const Locks locks = impl.lock_vms({request.vm}, "gpu detach " + request.vm);
  const Manifest manifest = impl.store().manifest(request.vm);
  static_cast<void>(impl.running_domain(manifest));
  const GpuFacts facts = impl.gpu_facts(Impl::GpuDepth::list);
  const std::optional<GpuPart> part = find_gpu_part(facts, device);
  const Gpu gpu = require_gpu(facts, part ? part->gpu : device);
  Plan plan{fmt::format("gpu detach {} {}", request.vm, device), {request.vm}, {}};
  for (DetachDevice& step : impl.detach_steps(manifest, request.timeout, &part->devices)) plan.steps.emplace_back(std::move(step));
  if (plan.steps.empty())
    throw Error(Errc::conflict, fmt::format("VM '{}' does not hold the GPU {}", request.vm, device),
                gpu.vm.empty() ? "vmgraft show tells which it holds" : fmt::format("VM '{}' does", printable(gpu.vm)));
  impl.expect_gpus_back(manifest, false);
  impl.progress(fmt::format("asking {} to let {} go", request.vm, device));
  impl.execute(plan);
  const std::string reset = impl.release_gpus(manifest);
  GpuChange change = change_of(impl.gpu_facts(Impl::GpuDepth::list), gpu.address);
  change.reset = reset;
  return change;
}

GpuChange Manager::gpu_lend(const std::string& text, bool force_console) {
  Impl& impl = *impl_;
  const std::string address = require_address(text);
  impl.require_gpu_host();
  static_cast<void>(impl.store());
  const FileLock lock = impl.lock_gpus("gpu lend " + address);
  const GpuFacts facts = impl.gpu_facts(Impl::GpuDepth::whole);
  const Gpu& gpu = require_gpu(facts, address);
  if (gpu.state == GpuState::lent) return change_of(facts, address);
  require_not_held(gpu, "take it out first");
  if (gpu.state == GpuState::vfio)
    throw Error(Errc::conflict, fmt::format("GPU {} is on vfio-pci already, and was before vmgraft came", address),
                "VMs can have it as it is; there is nothing to lend");
  CheckFor wanted;
  wanted.force_console = force_console;
  std::vector<GpuCheck> rows = check_host(facts);
  const std::vector<GpuCheck> more = check_gpu(facts, gpu, wanted);
  rows.insert(rows.end(), more.begin(), more.end());
  refuse_failures(rows);
  impl.load_vfio();
  impl.execute(plan_lend(facts, impl.ledger(), address));
  return change_of(impl.gpu_facts(Impl::GpuDepth::list), address);
}

GpuChange Manager::gpu_return(const std::string& text, bool force) {
  Impl& impl = *impl_;
  const std::string address = require_address(text);
  impl.require_gpu_host();
  static_cast<void>(impl.store());
  const FileLock lock = impl.lock_gpus("gpu return " + address);
  const GpuFacts facts = impl.gpu_facts(Impl::GpuDepth::whole);
  const Gpu& gpu = require_gpu(facts, address);
  require_not_held(gpu, "take it out first");
  if (force && facts.record(address) == nullptr) impl.host.remove(impl.ledger().file(address));  // of another card
  if (gpu.state == GpuState::dirty && !force)
    throw Error(Errc::conflict,
                fmt::format("GPU {} was held by VM '{}', and another command is at work on that VM", address, printable(gpu.vm)),
                "wait for it, then try again");
  if (gpu.state == GpuState::quarantined && !force)
    throw Error(Errc::conflict, fmt::format("GPU {} is quarantined: {}", address, printable(gpu.note)),
                "look at it (dmesg, the vendor's tool); lift it with --force");
  if (gpu.state == GpuState::host) return change_of(facts, address);
  if (gpu.state == GpuState::vfio)
    throw Error(Errc::conflict, fmt::format("GPU {} was not lent: it was on vfio-pci before vmgraft came", address),
                "what binds it there (vfio-pci.ids=, a udev rule, driverctl) gives it back");
  impl.require_unopened(facts, gpu);
  const ResetOutcome outcome = reset_gpu(impl.host, facts, gpu);
  if (!outcome.failure.empty() && !force) {
    impl.execute(plan_quarantine(facts, impl.ledger(), address, outcome.failure));
    throw Error(Errc::host_unfit, fmt::format("GPU {} is quarantined: {}", address, outcome.failure),
                "it stays on vfio-pci and no VM gets it; give it back all the same with --force");
  }
  impl.execute(plan_return(facts, impl.ledger(), address, outcome));
  GpuChange change = change_of(impl.gpu_facts(Impl::GpuDepth::list), address);
  change.reset = outcome.method;
  return change;
}

}  // namespace vmgraft

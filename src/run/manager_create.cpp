// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "gpu/named_gpus.hpp"
#include "host/sha256.hpp"
#include "model/names.hpp"
#include "run/doctor.hpp"
#include "run/fresh.hpp"
#include "run/manager_impl.hpp"
#include "template/gpu_request.hpp"
#include "template/on_expire.hpp"

namespace vmgraft {
namespace {

std::string free_name(const Store& store, Host& host, const std::string& base) {
  for (unsigned number = 1;; ++number) {
    std::string name = fmt::format("{}-{}", base, number);
    if (!host.stat(store.vm_folder(name))) return name;
  }
}

/// Another template than the one that was found: what the request says in its place.
void replace_json(ResolvedTemplate& resolved, std::string json) {
  resolved.json = std::move(json);
  resolved.spec = parse_spec(resolved.json, resolved.name);
  resolved.digest = sha256_text(resolved.json);
}

}  // namespace

std::string virt_type_for(Host& host, const HostFacts& facts, Accel wanted) {
  const bool is_usable = wanted != Accel::tcg && kvm_usable(host, facts.has_kvm_domains);
  if (wanted == Accel::kvm && !is_usable)
    throw Error(Errc::host_unfit, "the template asks for KVM, and this host cannot give it",
                "vmgraft doctor says why; \"accel\": \"auto\" falls back to software emulation");
  return is_usable ? "kvm" : "qemu";
}

std::string Manager::Impl::write_seed(const std::string& scratch, const std::string& vm, const VmSpec& spec,
                                      const std::vector<std::string>& keys, const std::vector<std::string>& macs,
                                      const LayerRecord& image) {
  SeedConfig config;
  config.instance_id = fmt::format("{}-{}", vm, fresh_layer_id().substr(0, 8));
  config.hostname = spec.guest.hostname.empty() ? vm : spec.guest.hostname;
  config.user = spec.guest.user;
  config.ssh_keys = keys;
  config.host_key = make_host_key(host, scratch);
  host.write_file(fmt::format("{}/{}.key", scratch, vm), config.host_key.private_key, 0600);
  host.write_file(fmt::format("{}/{}.key.pub", scratch, vm), config.host_key.public_key, 0600);
  config.macs = macs;
  config.install_agent = !image.agent;
  if (!image.agent) {
    config.files = spec.guest.files;
    config.run = spec.guest.run;
  }
  const std::string file = fmt::format("{}/{}.iso", scratch, vm);
  host.write_file(file, seed_iso(seed_files(config)), 0600);
  return file;
}

Manager::Impl::Creation Manager::Impl::prepare_create(const CreateRequest& request, WorkFolder* seeds) {
  require_life(request.ttl);
  const TemplateLibrary library(template_folders());
  const std::string base =
      request.name.empty() ? free_name(store(), host, library.info(request.template_name).name) : request.name;
  require_name("VM", base);
  const std::vector<std::string> names = numbered(base, request.count);
  for (const std::string& name : names) require_name("VM", name);

  ResolvedTemplate resolved = library.resolve(request.template_name, request.parameters, {base});
  if (!request.gpus.empty()) replace_json(resolved, with_gpus(resolved.json, parse_gpu_request(request.gpus)));
  if (request.on_expire) replace_json(resolved, with_on_expire(resolved.json, *request.on_expire));
  Creation creation{{store(), std::move(resolved), {}, {}, {}, false, login_name(), now_rfc3339(), {}, {}, {}}, {}};
  CreateFacts& facts = creation.facts;
  const VmSpec& spec = facts.resolved.spec;
  for (const DiskSpec& disk : spec.disks) {
    if (disk.image.empty() || facts.images.contains(disk.image)) continue;
    const ImageRecord image = store().image(disk.image);
    facts.images.emplace(disk.image, ImageFacts{image, store().layer(image.layer)});
  }
  facts.virt_type = virt_type_for(host, host_facts(), spec.accel);
  facts.is_session = hypervisor().info().is_session;
  if (names_gpu(spec.gpus)) facts.named_gpus = name_gpus(host_devices(), spec.gpus, {});
  facts.ssh_keys = read_ssh_keys(host, spec.guest.ssh_keys);
  facts.expires = fresh_expiry(request.ttl, spec.lifecycle.ttl);

  const auto nics = static_cast<std::size_t>(std::count_if(
      spec.networks.begin(), spec.networks.end(), [](const NetworkSpec& n) { return n.kind != NetworkKind::none; }));
  for (const std::string& name : names) {
    NewVm vm{name, fresh_uuid(), fresh_macs(nics), {}, {}, {}};
    for (std::size_t i = 0; i < spec.disks.size(); ++i) vm.layers.push_back(fresh_layer_id());
    for (const auto& [image, image_facts] : facts.images) {
      if (!image_facts.layer.cloud_init) continue;
      if (seeds == nullptr) {
        vm.seed = "seed.iso";
        continue;
      }
      vm.seed = write_seed(seeds->make(), name, spec, facts.ssh_keys, vm.macs, image_facts.layer);
      vm.host_key = seeds->path() / (name + ".key");
    }
    creation.vms.push_back(vm);
  }
  return creation;
}

std::vector<VmInfo> Manager::create(const CreateRequest& request) {
  Impl& impl = *impl_;
  std::vector<std::string> names;
  {
    // Names are drawn before the lock that guards them: a name taken meanwhile is a conflict below.
    const TemplateLibrary library(impl.template_folders());
    CreateRequest named = request;
    if (named.name.empty())
      named.name = free_name(impl.store(), impl.host, library.info(request.template_name).name);
    require_name("VM", named.name);
    names = numbered(named.name, named.count);
    for (const std::string& name : names) require_name("VM", name);
    const Locks locks = impl.lock_vms(names, "create " + named.name);
    for (const std::string& name : names) impl.require_free_name(name);
    WorkFolder seeds(impl.host, impl.store());
    const Impl::Creation creation = impl.prepare_create(named, &seeds);
    if (request.start && !creation.facts.resolved.spec.gpus.empty()) impl.require_gpus(creation.facts.resolved.spec);
    impl.execute(vmgraft::plan_create(creation.facts, creation.vms));
  }
  try {
    if (request.start)
      for (const std::string& name : names)
        impl.bring_up(name, request.wait, request.timeout, request.explain,
                      request.keep_failed ? kTidyTime : std::chrono::milliseconds(0));
  } catch (Error& error) {
    error.add_context(fmt::format("while bringing up {}", names.size() == 1 ? "VM '" + names.front() + "'"
                                                                           : "VMs '" + names.front() + "' ..."));
    if (!request.keep_failed) {
      impl.options.interrupted = nullptr;  // the clean-up itself is not cut short
      for (const std::string& name : names) {
        try {
          impl.remove_vm(name);
        } catch (const Error& second) {
          error.add_leftover(fmt::format("VM '{}': {}", name, second.what()));
        }
      }
    }
    throw;
  }
  std::vector<VmInfo> vms;
  for (const std::string& name : names) vms.push_back(show(name));
  return vms;
}

PlanText Manager::plan_create(const CreateRequest& request) {
  const Impl::Creation creation = impl_->prepare_create(request, nullptr);
  for (const NewVm& vm : creation.vms) impl_->require_free_name(vm.name);
  PlanText text = plan_text(vmgraft::plan_create(creation.facts, creation.vms));
  if (request.start)
    for (const NewVm& vm : creation.vms) text.steps.push_back(describe(StartDomain{vm.name, vm.uuid}));
  return text;
}

std::string Manager::create_xml(const CreateRequest& request) {
  const Impl::Creation creation = impl_->prepare_create(request, nullptr);
  return to_domain_xml(domain_config(creation.facts, creation.vms.front()));
}

}  // namespace vmgraft

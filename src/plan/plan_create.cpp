// SPDX-License-Identifier: Apache-2.0
#include "plan/plan_create.hpp"

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"
#include "model/size.hpp"

namespace vmgraft {
namespace {

constexpr std::uint64_t kSector = 512;

std::string target_of(std::size_t index) { return fmt::format("vd{}", static_cast<char>('a' + index)); }

Error refused(const CreateFacts& facts, const std::string& pointer, const std::string& why, const std::string& hint) {
  return Error(Errc::invalid_template, fmt::format("{}: {}: {}", facts.resolved.file.filename().string(), pointer, why),
               hint);
}

std::uint64_t disk_size(const CreateFacts& facts, std::size_t index, const DiskSpec& disk) {
  const std::string pointer = fmt::format("/vm/disks/{}/size", index);
  const auto image = facts.images.find(disk.image);
  if (image == facts.images.end()) {
    if (!disk.size)
      throw refused(facts, pointer, fmt::format("disk '{}' has no image, so it needs a size", disk.name),
                    "for example \"size\": \"20GiB\"");
    return (*disk.size + kSector - 1) / kSector * kSector;
  }
  const std::uint64_t least = image->second.layer.virtual_size;
  if (!disk.size) return least;
  if (*disk.size < least)
    throw refused(facts, pointer,
                  fmt::format("disk '{}' of {} is smaller than its image '{}' of {}", disk.name,
                              format_size(*disk.size), disk.image, format_size(least)),
                  "leave the size away to take the image's, or ask for more");
  return (*disk.size + kSector - 1) / kSector * kSector;
}

/// The layer whose boot facts count: the first disk with an image.
const ImageFacts* boot_image(const CreateFacts& facts) {
  for (const DiskSpec& disk : facts.resolved.spec.disks)
    if (const auto found = facts.images.find(disk.image); found != facts.images.end()) return &found->second;
  return nullptr;
}

void set_boot(const CreateFacts& facts, const NewVm& vm, DomainConfig& config) {
  const VmSpec& spec = facts.resolved.spec;
  const ImageFacts* boot = boot_image(facts);
  config.firmware = spec.firmware;
  config.secure_boot = spec.secure_boot;
  if (spec.firmware == Firmware::uefi) {
    config.nvram = facts.store.nvram_file(vm.name);
    if (boot != nullptr && !boot->layer.boot_uefi && boot->layer.boot_direct)
      throw refused(facts, "/vm/firmware", fmt::format("image '{}' does not boot by UEFI", boot->image.name),
                    "use \"firmware\": \"direct\", or another image");
  }
  if (spec.firmware != Firmware::direct) return;
  if (boot == nullptr || !boot->layer.boot_direct)
    throw refused(facts, "/vm/firmware",
                  boot == nullptr ? "direct boot takes kernel and initrd from an image, and no disk has one"
                                  : fmt::format("image '{}' has no kernel of its own to boot directly", boot->image.name),
                  "use \"firmware\": \"bios\" or \"uefi\"");
  config.kernel = facts.store.kernel_file(boot->layer.id);
  config.initrd = facts.store.initrd_file(boot->layer.id);
  config.cmdline = boot->layer.cmdline;
}

std::vector<DomainNic> nics_of(const CreateFacts& facts, const NewVm& vm) {
  std::vector<DomainNic> nics;
  for (const NetworkSpec& network : facts.resolved.spec.networks) {
    if (network.kind == NetworkKind::none) continue;
    DomainNic nic;
    nic.kind = network.kind;
    nic.mac = vm.macs.at(nics.size());
    // A session has no networks of libvirt: QEMU's user networking is its NAT.
    if (network.kind == NetworkKind::nat && facts.is_session) nic.kind = NetworkKind::user;
    if (network.kind == NetworkKind::isolated && facts.is_session)
      throw Error(Errc::host_unfit, "an isolated network needs libvirt's system connection",
                  "use --connect qemu:///system, or another network kind");
    if (nic.kind == NetworkKind::nat) nic.source = "default";
    if (nic.kind == NetworkKind::isolated) nic.source = kIsolatedNetwork;
    if (nic.kind == NetworkKind::bridge) nic.source = network.bridge;
    nics.push_back(nic);
  }
  return nics;
}

}  // namespace

DomainConfig domain_config(const CreateFacts& facts, const NewVm& vm) {
  const VmSpec& spec = facts.resolved.spec;
  DomainConfig config;
  config.name = vm.name;
  config.uuid = vm.uuid;
  config.title = fmt::format("{} ({})", vm.name, facts.resolved.name);
  config.description = spec.description;
  config.store = facts.store.root();
  config.template_name = facts.resolved.name;
  config.template_digest = facts.resolved.digest;
  config.virt_type = facts.virt_type;
  config.emulator = facts.emulator;
  config.machine = spec.machine;
  config.cpus = spec.cpus;
  config.memory = spec.memory;
  config.tpm = spec.tpm;
  config.own_labels = facts.store.access().own_labels;
  config.console_log = facts.store.console_log(vm.name);
  config.extra_devices = spec.xml;
  set_boot(facts, vm, config);
  for (std::size_t i = 0; i < spec.disks.size(); ++i)
    config.disks.push_back({target_of(i), facts.store.layer_file(vm.layers.at(i)), "qcow2", spec.disks[i].name});
  if (!vm.seed.empty()) config.seed = facts.store.seed_file(vm.name);
  config.nics = nics_of(facts, vm);
  return config;
}

Plan plan_create(const CreateFacts& facts, const std::vector<NewVm>& vms) {
  const VmSpec& spec = facts.resolved.spec;
  Plan plan;
  plan.verb = fmt::format("create {}", vms.size() == 1 ? vms.front().name
                                                       : fmt::format("{} .. {}", vms.front().name, vms.back().name));
  for (const NewVm& vm : vms) {
    plan.vms.push_back(vm.name);
    plan.steps.emplace_back(MakeFolder{facts.store.vm_folder(vm.name)});
    plan.steps.emplace_back(MakeFolder{facts.store.vm_folder(vm.name) / "snapshots", 0700});
    Manifest manifest;
    manifest.name = vm.name;
    manifest.uuid = vm.uuid;
    manifest.spec = facts.resolved.json;
    manifest.template_name = facts.resolved.name;
    manifest.template_digest = facts.resolved.digest;
    manifest.owner = facts.owner;
    manifest.created = facts.now;
    manifest.expires = facts.expires;
    manifest.ssh_keys = facts.ssh_keys;
    manifest.named_gpus = facts.named_gpus;
    for (std::size_t i = 0; i < spec.disks.size(); ++i) {
      const DiskSpec& disk = spec.disks[i];
      LayerRecord layer;
      layer.id = vm.layers.at(i);
      if (const auto image = facts.images.find(disk.image); image != facts.images.end())
        layer.parent = image->second.layer.id;
      layer.virtual_size = disk_size(facts, i, disk);
      layer.made_by = fmt::format("create {}", vm.name);
      layer.created = facts.now;
      plan.steps.emplace_back(CreateLayer{layer});
      manifest.heads.push_back({disk.name, target_of(i), layer.id, disk.snapshot});
    }
    const DomainConfig config = domain_config(facts, vm);
    if (!vm.seed.empty()) {
      const std::filesystem::path ssh = facts.store.ssh_folder(vm.name);
      plan.steps.emplace_back(AdoptFile{vm.seed, config.seed, 0600});
      plan.steps.emplace_back(MakeFolder{ssh, 0700});
      plan.steps.emplace_back(AdoptFile{vm.host_key, ssh / "host_key", 0600});
      plan.steps.emplace_back(AdoptFile{vm.host_key + ".pub", ssh / "host_key.pub", 0600});
    }
    plan.steps.emplace_back(DefineDomain{vm.name, vm.uuid, to_domain_xml(config), {}});
    // Last: with its manifest the VM exists.
    plan.steps.emplace_back(WriteFile{facts.store.manifest_file(vm.name), to_json_text(manifest)});
  }
  return plan;
}

}  // namespace vmgraft

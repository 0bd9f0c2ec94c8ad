// SPDX-License-Identifier: Apache-2.0
#include "golden/domain_goldens.hpp"

#include "domain/placement.hpp"
#include "gpu/choose.hpp"
#include "gpu/place.hpp"
#include "plan/plan_create.hpp"
#include "support/recorded_host.hpp"
#include "support/source_tree.hpp"
#include "template/gpu_request.hpp"

using namespace vmgraft;

namespace {

DomainConfig base_config(const std::string& name) {
  DomainConfig config;
  config.name = name;
  config.uuid = "6f0e4d2c-1111-4222-8333-444455556666";
  config.store = "/var/lib/vmgraft";
  config.template_name = "micro";
  config.template_digest = "0123456789abcdef";
  config.virt_type = "kvm";
  config.cpus = 2;
  config.memory = std::uint64_t{1} << 30;
  config.console_log = "/var/lib/vmgraft/vms/" + name + "/console.log";
  config.disks.push_back({"vda", "/var/lib/vmgraft/layers/aaaa.qcow2", "qcow2", "root"});
  return config;
}

DomainConfig micro_config() {
  DomainConfig config = base_config("micro-1");
  config.virt_type = "qemu";
  config.cpus = 1;
  config.memory = std::uint64_t{256} << 20;
  config.firmware = Firmware::direct;
  config.kernel = "/var/lib/vmgraft/layers/0000.kernel";
  config.initrd = "/var/lib/vmgraft/layers/0000.initrd";
  config.cmdline = "console=ttyS0 panic=-1 note=\"a & b\"";
  return config;
}

DomainConfig secure_boot_config() {
  DomainConfig config = base_config("sealed-1");
  config.firmware = Firmware::uefi;
  config.secure_boot = true;
  config.nvram = "/var/lib/vmgraft/vms/sealed-1/nvram.fd";
  return config;
}

DomainConfig bios_config() {
  DomainConfig config = base_config("cloud-1");
  config.emulator = "/usr/bin/qemu-system-x86_64";
  config.machine = "pc-q35-7.2";
  config.own_labels = true;
  config.seed = "/var/lib/vmgraft/vms/cloud-1/seed.iso";
  config.disks.push_back({"vdb", "/var/lib/vmgraft/layers/bbbb.raw", "raw", "a-name-longer-than-twenty-bytes"});
  return config;
}

DomainConfig networks_config() {
  DomainConfig config = base_config("nets-1");
  config.nics = {{NetworkKind::nat, "default", "52:54:00:00:00:01"},
                 {NetworkKind::isolated, "vmgraft-isolated", "52:54:00:00:00:02"},
                 {NetworkKind::bridge, "br0", "52:54:00:00:00:03"},
                 {NetworkKind::user, "", "52:54:00:00:00:04"},
                 {NetworkKind::none, "", ""}};
  return config;
}

DomainConfig extra_config() {
  DomainConfig config = base_config("extra-1");
  config.extra_devices = {"<watchdog model='i6300esb' action='reset'/>",
                          " <!-- a note --> <sound model='ich9'><codec type='micro'/></sound>\n"};
  return config;
}

// What a user may write, and what would break XML that is pasted together.
DomainConfig hostile_config() {
  DomainConfig config = base_config("a<b>&\"'c");
  config.title = "<title> & \"more\"\n'quoted' \x01\x1b[31m \xff \xc3\xa9";
  config.description = "first </description>\nsecond ]]> \x07 &amp; \xe2\x82\xac";
  config.store = "/srv/<&\"'>";
  config.template_name = "t<&\"'>";
  config.disks[0].path = "/srv/<&\"'>/layers/a b.qcow2";
  config.console_log = "/srv/<&\"'>/console.log";
  return config;
}

GpuFacts gpu_facts(const std::string& recorded) {
  FakeHost host = recorded_host(recorded);
  GpuFacts facts;
  facts.devices = read_devices(host, read_gpu_config(host, kGpuConfigFile));
  facts.settings = read_settings(host);
  facts.use = read_use(host, facts.devices, facts.devices.gpus);
  facts.gpus = find_gpus(facts.devices, {}, {});
  return facts;
}

/// The shipped template, with other GPUs when \p gpus names some.
ResolvedTemplate gpu_train_template(const ParameterValues& values, const std::vector<std::string>& gpus = {}) {
  ResolvedTemplate resolved = TemplateLibrary({source_path("templates")}).resolve("gpu-train", values, {"train-1"});
  if (!gpus.empty()) resolved.spec = parse_spec(with_gpus(resolved.json, parse_gpu_request(gpus)), resolved.name);
  resolved.digest = "0123456789abcdef";  // which any other word of the template changes
  return resolved;
}

/// A VM of it, as it is handed to libvirt.
std::string gpu_train_defined() {
  FakeHost host;
  const Store store(host, "/var/lib/vmgraft");
  CreateFacts facts{store, gpu_train_template({}), {}, "kvm", {}, false, "tester", "2026-01-02T03:04:05Z", {}, {}};
  return to_domain_xml(domain_config(
      facts, {"train-1", "6f0e4d2c-1111-4222-8333-444455556666", {"52:54:00:12:34:56"}, {"aaaa", "bbbb"}, {}, {}}));
}

/// A recorded host whose GPUs no process uses any more.
GpuFacts idle(GpuFacts facts) {
  facts.use.users.clear();
  return facts;
}

/// What libvirt made of that, once it is started on the host.
std::string gpu_train(const GpuFacts& facts, const ResolvedTemplate& resolved) {
  const VmSpec& spec = resolved.spec;
  const std::string defined = read_text(source_path("tests/data/domain/gpu_train_inactive.xml"));
  for (const std::string& size : {"<memory unit='KiB'>" + std::to_string(spec.memory >> 10) + "</memory>",
                                  "<vcpu placement='static'>" + std::to_string(spec.cpus) + "</vcpu>"})
    if (defined.find(size) == std::string::npos)
      throw std::logic_error("gpu_train_inactive.xml is of another size than the template: no " + size);
  return with_placement(defined, place(facts, choose_gpus(facts, spec, {}), spec, {true, 9'000'000}));
}

}  // namespace

DomainConfig dev_config() {
  DomainConfig config = base_config("dev-1");
  config.title = "dev-1 (template dev)";
  config.description = "A machine to develop on.";
  config.template_name = "dev";
  config.cpus = 4;
  config.memory = std::uint64_t{4} << 30;
  config.firmware = Firmware::uefi;
  config.nvram = "/var/lib/vmgraft/vms/dev-1/nvram.fd";
  config.tpm = true;
  config.nics.push_back({NetworkKind::nat, "default", "52:54:00:12:34:56"});
  return config;
}

CloneIdentity dev_clone(const std::string& seed) {
  CloneIdentity identity;
  identity.name = "dev-2";
  identity.uuid = "7a1f0000-aaaa-4bbb-8ccc-ddddeeeeffff";
  identity.macs = {"52:54:00:ab:cd:ef"};
  identity.disks = {{"vda", "/var/lib/vmgraft/layers/cccc.qcow2"}};
  identity.nvram = "/var/lib/vmgraft/vms/dev-2/nvram.fd";
  identity.seed = seed;
  identity.console_log = "/var/lib/vmgraft/vms/dev-2/console.log";
  return identity;
}

std::vector<DomainGolden> domain_goldens() {
  const std::string seed = "/var/lib/vmgraft/vms/dev-2/seed.iso";
  const auto recorded = [](const std::string& file) { return read_text(source_path("tests/data/domain/" + file)); };
  return {
      {"micro_direct_tcg", to_domain_xml(micro_config())},
      {"dev_uefi_kvm_tpm_nat", to_domain_xml(dev_config())},
      {"secure_boot_uefi", to_domain_xml(secure_boot_config())},
      {"bios_seed_two_disks_own_labels", to_domain_xml(bios_config())},
      {"network_kinds", to_domain_xml(networks_config())},
      {"extra_devices", to_domain_xml(extra_config())},
      {"hostile_strings", to_domain_xml(hostile_config())},
      {"clone_of_dev", clone_domain_xml(to_domain_xml(dev_config()), dev_clone())},
      {"clone_of_running", clone_domain_xml(recorded("dev_live.xml"), dev_clone(seed))},
      {"clone_of_defined", clone_domain_xml(recorded("dev_inactive.xml"), dev_clone(seed))},
      {"clone_of_edited", clone_domain_xml(recorded("edited.xml"), dev_clone())},
      {"other_disk_paths",
       with_disk_paths(recorded("dev_inactive.xml"), {{"vda", "/var/lib/vmgraft/layers/<&>.qcow2"}})},
      {"gpu_train_defined", gpu_train_defined()},
      {"gpu_train_two_sockets", gpu_train(gpu_facts("pcie-2socket"), gpu_train_template({}))},
      {"gpu_train_second_node", gpu_train(idle(gpu_facts("pcie-2socket")), gpu_train_template({}))},
      {"gpu_train_two_nodes",
       gpu_train(idle(gpu_facts("pcie-2socket")), gpu_train_template({}, {"0000:17:00.0", "0000:b1:00.0"}))},
      {"gpu_train_eight_gpus", gpu_train(gpu_facts("sxm-8gpu"), gpu_train_template({{"gpus", "8"}}))},
  };
}

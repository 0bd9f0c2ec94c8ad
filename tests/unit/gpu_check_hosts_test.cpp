// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>
#include <set>

#include <fmt/format.h>

#include "gpu/check.hpp"
#include "gpu/check_rows.hpp"
#include "gpu/choose.hpp"
#include "model/size.hpp"
#include "support/catch.hpp"
#include "support/pci_config.hpp"
#include "support/recorded_host.hpp"

using namespace vmgraft;

namespace {

/// A recorded host and one of its GPUs, changed by one failure and read again.
struct Site {
  std::string name;
  std::string gpu;
  FakeHost host;
  std::vector<DomainUse> domains;
  std::vector<GpuRecord> records;
  GpuConfig config;
  VmSpec spec;
  CheckFor wanted;
  std::string checked;  ///< the address asked about; empty: gpu

  Site(const std::string& host_name, const std::string& address)
      : name(host_name), gpu(address), host(recorded_host(host_name)) {
    spec.memory = 2 * kGiB;
  }

  [[nodiscard]] std::string folder() const { return host.pci_folder(gpu); }
  void set(const std::string& file, const std::string& text) { host.add_file(file, text + "\n"); }
  void set_here(const std::string& attribute, const std::string& text) { set(folder() + "/" + attribute, text); }
  void add_line(const std::string& file, const std::string& line) {
    host.add_file(file, host.read_file(file).value_or("") + line + "\n");
  }
  void link(const std::string& from, const std::string& to) {
    host.erase(from);
    host.add_link(from, to);
  }
  void set_driver(const std::string& driver) { link(folder() + "/driver", "/sys/bus/pci/drivers/" + driver); }
  [[nodiscard]] std::string group() {
    const auto target = host.read_link(folder() + "/iommu_group");
    return target ? target->substr(target->rfind('/') + 1) : "";
  }
  /// Another device on the GPU's bus and in its group.
  std::string add_peer(const std::string& driver) {
    const std::string address = gpu.substr(0, 8) + "1e.0";
    const std::string below = folder().substr(std::string("/sys/devices/").size());
    host.add_pci_function(address, static_cast<unsigned>(std::stoul(group())), below.substr(0, below.rfind('/')));
    set(host.pci_folder(address) + "/class", "0x020000");
    if (!driver.empty()) link(host.pci_folder(address) + "/driver", "/sys/bus/pci/drivers/" + driver);
    return address;
  }
  /// Those of an SXM board: GPUs that they do not join go over PCIe.
  void remove_nvswitches() {
    for (const PciFunction& each : read_devices(host, {}).functions)
      if (each.is_nvswitch()) set(host.pci_folder(each.address) + "/class", "0x088000");
  }
  void add_process(const std::string& node) {
    set("/proc/4242/comm", "trainer");
    set("/proc/4242/status", "Uid:\t1000\t1000\t1000\t1000");
    host.add_link("/proc/4242/fd/3", node);
  }
  GpuRecord& add_record() {
    const HostDevices devices = read_devices(host, config);
    GpuRecord record;
    record.address = gpu;
    record.identity = identity_of(*devices.find(gpu));
    records = {record};
    return records.front();
  }

  [[nodiscard]] GpuFacts facts() {
    GpuFacts facts;
    facts.devices = read_devices(host, config);
    facts.domains = domains;
    facts.records = records;
    std::vector<std::string> addresses;
    for (const PciFunction& each : facts.devices.functions) addresses.push_back(each.address);
    facts.use = read_use(host, facts.devices, addresses);
    facts.settings = read_settings(host);
    facts.gpus = find_gpus(facts.devices, domains, records);
    return facts;
  }
  [[nodiscard]] std::vector<GpuCheck> rows() {
    const GpuFacts all = facts();
    if (!spec.gpus.empty()) return check_start(all, spec, "");
    std::vector<GpuCheck> found = check_host(all);
    Gpu asked;
    asked.address = checked.empty() ? gpu : checked;
    if (const Gpu* there = all.find(asked.address)) asked = *there;
    const std::vector<GpuCheck> own = check_gpu(all, asked, wanted);
    found.insert(found.end(), own.begin(), own.end());
    return found;
  }
};

/// One row of vmgraft-gpu(7) CHECKS, how a host comes to show it, and what it then says.
struct Failure {
  std::string id;
  Health health;
  std::string seen;  ///< part of it; GROUP stands for the number of the GPU's group
  std::function<void(Site&)> happens;
  bool needs_group = false;  ///< cannot happen to a GPU that is in none
};

void split(Site& site, const std::string& made) {
  site.set_here("sriov_totalvfs", "4");
  site.set_here("sriov_numvfs", made);
}

std::vector<Failure> host_failures() {
  return {
      {"not-root", Health::fail, "not running as root",
       [](Site& s) { s.set("/proc/self/status", "Uid:\t1000\t1000\t1000\t1000"); }},
      {"no-iommu", Health::fail, "the kernel has no IOMMU groups",
       [](Site& s) { s.host.erase("/sys/kernel/iommu_groups"); }},
      {"no-vfio", Health::fail, "has no module vfio-pci",
       [](Site& s) {
         s.host.erase("/sys/bus/pci/drivers/vfio-pci");
         s.host.erase("/lib/modules");
       }},
      {"no-vfio", Health::fail, "not loaded, and cannot be: /etc/modprobe.d/no.conf:1: install vfio-pci /bin/false",
       [](Site& s) {
         s.host.erase("/sys/bus/pci/drivers/vfio-pci");
         s.set("/lib/modules/" + read_settings(s.host).kernel + "/kernel/drivers/vfio/pci/vfio-pci.ko", "");
         s.set("/etc/modprobe.d/no.conf", "install vfio-pci /bin/false");
       }},
      {"no-vfio-node", Health::fail, "/dev/vfio/vfio is not there",
       [](Site& s) {
         s.host.add_folder("/sys/bus/pci/drivers/vfio-pci");
         s.host.add_file("/dev/null", "");
         s.host.erase("/dev/vfio");
       }},
      {"vfio-access", Health::fail, "is of mode 0600, user 0 and group 0: QEMU, which runs as 'qemu', cannot open it",
       [](Site& s) {
         s.host.add_folder("/sys/bus/pci/drivers/vfio-pci");
         s.host.add_file("/dev/null", "");
         s.host.add_file("/dev/vfio/vfio", "", 0600);
         s.set("/etc/libvirt/qemu.conf", "user = \"qemu\"");
       }},
      {"vfio-access", Health::warn, "dynamic_ownership = 0 in /etc/libvirt/qemu.conf",
       [](Site& s) {
         s.host.add_folder("/sys/bus/pci/drivers/vfio-pci");
         s.host.add_file("/dev/null", "");
         s.host.add_file("/dev/vfio/vfio", "", 0666);
         s.set("/etc/libvirt/qemu.conf", "dynamic_ownership = 0");
       }},
      {"noiommu", Health::fail, "no-IOMMU mode",
       [](Site& s) { s.set("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y"); }},
      {"unsafe-interrupts", Health::warn, "allow_unsafe_interrupts=Y",
       [](Site& s) { s.set("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y"); }},
      {"acs-override", Health::warn, "pcie_acs_override",
       [](Site& s) { s.set("/proc/cmdline", "ro pcie_acs_override=downstream"); }},
      {"lockdown", Health::warn, "(integrity)",
       [](Site& s) { s.set("/sys/kernel/security/lockdown", "none [integrity] confidentiality"); }},
      {"hooks-present", Health::warn, "/etc/libvirt/hooks/qemu",
       [](Site& s) { s.host.add_file("/etc/libvirt/hooks/qemu", "#!/bin/sh\n", 0755); }},
      {"host-sleep", Health::warn, "can be put to sleep (freeze mem disk)",
       [](Site& s) { s.set("/sys/power/state", "freeze mem disk"); }},
  };
}

std::vector<Failure> holder_failures() {
  return {
      {"absent", Health::fail, "no such GPU", [](Site& s) { s.checked = "0000:fe:1f.0"; }},
      {"dead-device", Health::fail, "reads 0xffff",
       [](Site& s) {
         s.set_here("power_state", "D0");
         s.host.add_file(s.folder() + "/config", std::string(16, '\xff'));
       }},
      {"no-iommu", Health::fail, "is in no IOMMU group", [](Site& s) { s.host.erase(s.folder() + "/iommu_group"); }},
      {"bdf-moved", Health::fail, "but vmgraft knows 1b36:0010 1af4:1100",
       [](Site& s) { s.add_record().identity = "1b36:0010 1af4:1100"; }},
      {"quarantined", Health::fail, "no answer after flr",
       [](Site& s) { s.add_record().quarantine = "no answer after flr"; }},
      {"group-held", Health::fail, "held by VM 'other'",
       [](Site& s) {
         s.domains = {{"other", "u-other", "", true, {s.gpu}}};
       }},
      {"group-held", Health::fail, "held by pid 4242 (trainer), which has /dev/vfio/GROUP open",
       [](Site& s) { s.add_process("/dev/vfio/" + s.group()); }, true},
      {"pf-in-use", Health::fail, "its physical function",
       [](Site& s) {
         s.host.add_pci_function("0000:f0:00.0", 990, "pci0000:f0");
         s.link(s.host.pci_folder("0000:f0:00.0") + "/driver", "/sys/bus/pci/drivers/vfio-pci");
         s.host.add_link(s.folder() + "/physfn", "../0000:f0:00.0");
       }},
      {"vfs-in-use", Health::fail, "2 VFs are made of it", [](Site& s) { split(s, "2"); }},
      {"mdevs-present", Health::fail, "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
       [](Site& s) { s.host.add_folder(s.folder() + "/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"); }},
      {"device-busy", Health::fail, "pid 4242 (trainer, uid 1000) has /dev/dri/renderD200 open",
       [](Site& s) {
         s.host.add_folder(s.folder() + "/drm/renderD200");
         s.add_process("/dev/dri/renderD200");
       }},
  };
}

std::vector<Failure> place_failures() {
  return {
      {"boot-vga", Health::fail, "this host booted on it",
       [](Site& s) {
         s.set_driver("nouveau");
         s.set_here("boot_vga", "1");
       }},
      {"console-active", Health::fail, "a display is on at its ",
       [](Site& s) {
         s.set_here("drm/card77/card77-DP-7/status", "connected");
         s.set_here("drm/card77/card77-DP-7/enabled", "enabled");
       }},
      {"framebuffer-on-bar", Health::fail, "framebuffer efifb lies in its memory",
       [](Site& s) {
         const HostDevices devices = read_devices(s.host, s.config);
         const auto& bars = devices.find(s.gpu)->bars;
         const auto bar = std::find_if(bars.begin(), bars.end(), [](const PciBar& each) { return each.is_memory; });
         REQUIRE(bar != bars.end());
         s.add_line("/proc/iomem", fmt::format("    {:x}-{:x} : efifb", bar->start, bar->start + 4095));
       }},
      {"disk-mounted", Health::fail, "carries a disk of the host in use: /data (sdx1)",
       [](Site& s) {
         const std::string peer = s.host.pci_folder(s.add_peer("ahci"));
         s.host.add_folder(peer + "/ata9/block/sdx/sdx1");
         s.host.add_link("/sys/class/block/sdx1", peer + "/ata9/block/sdx/sdx1");
         s.add_line("/proc/mounts", "/dev/sdx1 /data ext4 rw 0 0");
       },
       true},
      {"default-route", Health::fail, "carries the host's default route: eth77",
       [](Site& s) {
         const std::string peer = s.host.pci_folder(s.add_peer("e1000"));
         s.host.add_folder(peer + "/net/eth77");
         s.host.add_link("/sys/class/net/eth77", peer + "/net/eth77");
         s.add_line("/proc/net/route", "eth77\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0");
       },
       true},
      {"group-not-viable", Health::fail, "(e1000) shares IOMMU group GROUP", [](Site& s) { s.add_peer("e1000"); },
       true},
      {"rmrr", Health::fail, "RMRR",
       [](Site& s) {
         s.add_line("/sys/kernel/iommu_groups/" + s.group() + "/reserved_regions",
                    "0x00000000bd000000 0x00000000bd7fffff direct");
       },
       true},
  };
}

std::vector<Failure> device_failures() {
  return {
      {"amdgpu-rebind", Health::fail, "on amdgpu", [](Site& s) { s.set_driver("amdgpu"); }},
      {"no-reset", Health::fail, "no way to reset it",
       [](Site& s) {
         s.set_here("vendor", "0x10de");  // an MI300X has a text of its own
         s.host.erase(s.folder() + "/reset_method");
         s.add_peer("");  // on its bus, and not the VM's
       },
       true},
      {"dirty", Health::fail, "leased to VM 'gone', which does not have it",
       [](Site& s) {
         GpuRecord& record = s.add_record();
         record.vm = "gone";
         record.vm_uuid = "u-gone";
       }},
      {"d3cold", Health::warn, "D3cold", [](Site& s) { s.set_here("power_state", "D3cold"); }},
      {"link-degraded", Health::warn, "x1 of x16",
       [](Site& s) {
         s.set_here("current_link_width", "1");
         s.set_here("max_link_width", "16");
       }},
      {"numa-unknown", Health::warn, "has several NUMA nodes, and the firmware does not tell which one it is on",
       [](Site& s) {
         s.set_here("numa_node", "-1");
         for (const char* node : {"node0", "node7"})
           s.host.add_folder("/sys/devices/system/node/" + std::string(node) + "/hugepages");
       }},
      {"rom", Health::warn, "reads back changed",
       [](Site& s) {
         s.set_here("class", "0x030000");
         s.set_here("boot_vga", "1");
       }},
      {"fabric-partition", Health::fail, "are no partition",
       [](Site& s) {
         s.config.partitions = {{"p0", {s.gpu, "0000:fd:00.0", "0000:fd:00.1"}}};
         s.wanted.together = {s.gpu, "0000:fd:00.0"};
       }},
      {"fabric-manager", Health::warn, "no fabric manager runs",
       [](Site& s) {
         s.config.partitions = {{"p0", {s.gpu}}};
         s.host.add_pci_function("0000:f1:00.0", 991, "pci0000:f1");
         s.set(s.host.pci_folder("0000:f1:00.0") + "/class", "0x068000");
         s.link(s.host.pci_folder("0000:f1:00.0") + "/driver", "/sys/bus/pci/drivers/nvidia-nvswitch");
       }},
      {"peer-path", Health::warn, "goes from one processor to the other",
       [](Site& s) {
         s.remove_nvswitches();
         s.set_here("numa_node", "0");
         s.host.add_pci_function("0000:f2:00.0", 992, "pci0000:f2");
         s.set(s.host.pci_folder("0000:f2:00.0") + "/class", "0x030200");
         s.set(s.host.pci_folder("0000:f2:00.0") + "/numa_node", "1");
         s.wanted.together = {s.gpu, "0000:f2:00.0"};
       }},
  };
}

std::vector<Failure> vm_failures() {
  return {
      {"mmio-window", Health::fail, "the CPU has 31",
       [](Site& s) {
         s.set("/proc/cpuinfo", "address sizes\t: 31 bits physical, 48 bits virtual");
         s.wanted.spec = &s.spec;
       }},
      {"iommu-width", Health::fail, "the IOMMU has 31",
       [](Site& s) {
         s.set("/sys/devices/virtual/iommu/dmar0/intel-iommu/cap", "1e0000");
         s.wanted.spec = &s.spec;
       }},
      {"reserved-memory", Health::fail, "its IOMMU group keeps 0x40000000-0x4fffffff (msi) for itself",
       [](Site& s) {
         s.add_line("/sys/kernel/iommu_groups/" + s.group() + "/reserved_regions",
                    "0x0000000040000000 0x000000004fffffff msi");
         s.wanted.spec = &s.spec;
       },
       true},
      {"amd-hole", Health::warn, "AMD keeps below 1 TiB",
       [](Site& s) {
         s.add_line("/sys/kernel/iommu_groups/" + s.group() + "/reserved_regions",
                    "0x000000fd00000000 0x000000ffffffffff reserved");
         s.spec.memory = 1024 * kGiB;
         s.wanted.spec = &s.spec;
       },
       true},
      {"memlock", Health::fail, "is not less than the host's",
       [](Site& s) {
         s.spec.memory = 64 * 1024 * kGiB;
         s.wanted.spec = &s.spec;
       }},
      {"huge-pages", Health::fail, "the VM wants 64 TiB in huge pages",
       [](Site& s) {
         s.spec.memory = 64 * 1024 * kGiB;
         s.spec.tuning = Tuning::strict;
         s.wanted.spec = &s.spec;
       }},
      {"choice", Health::fail, "99 GPUs wanted: ", [](Site& s) { s.spec.gpus.emplace_back().count = 99; }},
  };
}

std::vector<Failure> all_failures() {
  std::vector<Failure> all = host_failures();
  for (const auto& more : {holder_failures(), place_failures(), device_failures(), vm_failures()})
    all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// Hosts and the GPU of each that the failures happen to; empty: the first one that the host did not boot on.
const std::vector<std::pair<std::string, std::string>> kHosts{
    {"lab", "0000:81:00.0"},          {"laptop-1gpu", "0000:01:00.0"},  {"sxm-8gpu", ""},
    {"pcie-2socket", "0000:17:00.0"}, {"mxgpu-amd", "0000:26:00.0"},    {"acs-override", "0000:0b:00.0"},
    {"no-iommu", "0000:01:00.0"},     {"big-16gpu-500", "0000:13:00.0"}};

std::string gpu_of(const std::string& name, const std::string& given) {
  if (!given.empty()) return given;
  FakeHost host = recorded_host(name);
  const HostDevices devices = read_devices(host, {});
  for (const std::string& address : devices.gpus)
    if (!devices.find(address)->boot_vga) return address;
  throw std::logic_error("no such GPU");
}

std::string filled(std::string text, Site& site) {
  if (const auto at = text.find("GROUP"); at != std::string::npos) text.replace(at, 5, site.group());
  return text;
}

const GpuCheck* find_bad(const std::vector<GpuCheck>& rows, const Failure& failure, const std::string& seen) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const GpuCheck& row) {
    return row.id == failure.id && row.health == failure.health && row.seen.find(seen) != std::string::npos;
  });
  return found == rows.end() ? nullptr : &*found;
}

std::string text_of(const std::vector<GpuCheck>& rows, const std::string& id) {
  std::string text;
  for (const GpuCheck& row : rows)
    if (row.id == id) text += to_string(row.health) + " " + row.seen + "\n";
  return text.empty() ? "no such row" : text;
}

}  // namespace

TEST_CASE("each recorded host and each failure give the documented id, health and text") {
  std::size_t tried = 0;
  for (const auto& [name, given] : kHosts) {
    const Site before(name, gpu_of(name, given));
    for (const Failure& failure : all_failures()) {
      Site site = before;
      if (failure.needs_group && site.group().empty()) continue;
      const std::string seen = filled(failure.seen, site);
      failure.happens(site);
      const std::vector<GpuCheck> rows = site.rows();
      INFO(name << ", " << failure.id << ": " << seen << "\ngot: " << text_of(rows, failure.id));
      const GpuCheck* row = find_bad(rows, failure, seen);
      REQUIRE(row != nullptr);
      CHECK_FALSE(row->remedy.empty());
      ++tried;
    }
  }
  CHECK(tried >= 8 * 30);
}

TEST_CASE("each failure is one of a row, and each row has one") {
  std::set<std::string> failing{"placement"}, known;  // that is of GPUs that a host gives: gpu_check_start_test
  for (const Failure& each : all_failures()) failing.insert(each.id);
  for (const CheckName& each : kCheckNames) known.emplace(each.name);
  CHECK(failing == known);
}

TEST_CASE("a switch that sends copies up to the IOMMU is read from its ports, and ATS from the GPU") {
  Site site("sxm-8gpu", gpu_of("sxm-8gpu", ""));
  site.remove_nvswitches();
  const HostDevices devices = read_devices(site.host, {});
  const PciFunction& gpu = *devices.find(site.gpu);
  std::string peer;
  for (const std::string& other : devices.gpus)
    if (have_switch_between(gpu, *devices.find(other))) peer = other;
  REQUIRE_FALSE(peer.empty());
  site.wanted.together = {site.gpu, peer};
  CHECK(text_of(site.rows(), "peer-path") == "ok below one switch with " + peer + "\n");
  site.host.add_file(site.host.pci_folder(gpu.path.back()) + "/config", pci_config({{0x100, 0x0d, 0x001d005f, 0}}));
  CHECK(text_of(site.rows(), "peer-path").starts_with("warn below one switch with " + peer + ", whose port " + gpu.path.back()));
  site.set_here("power_state", "D3cold");  // reading would wake it up, and the port with it
  CHECK(text_of(site.rows(), "peer-path").starts_with("ok "));
  site.set_here("power_state", "D0");
  site.host.add_file(site.folder() + "/config", pci_config({{0x100, 0x0f, 0, 0}}));
  CHECK(text_of(site.rows(), "peer-path").starts_with("ok "));
}

TEST_CASE("a failure shows only when it happens: the recorded hosts as they are") {
  const auto bad = [](const std::string& name, const std::string& gpu) {
    std::string text;
    Site site(name, gpu_of(name, gpu));
    site.wanted.spec = &site.spec;
    for (const GpuCheck& row : site.rows())
      if (row.health != Health::ok) text += (text.empty() ? "" : " ") + row.id + ":" + to_string(row.health);
    return text;
  };
  CHECK(bad("pcie-2socket", "0000:17:00.0").empty());
  CHECK(bad("acs-override", "0000:0b:00.0") == "acs-override:warn link-degraded:warn huge-pages:warn");
  CHECK(bad("laptop-1gpu", "0000:01:00.0") == "device-busy:fail d3cold:warn huge-pages:warn");
}

// SPDX-License-Identifier: Apache-2.0
#include "support/gpu_world.hpp"

#include "gpu/devices.hpp"

namespace vmgraft {
namespace {

const std::string kGpu = "0000:41:00.0";
const std::string kAudio = "0000:41:00.1";

}  // namespace

void add_gpus(FakeHost& host) {
  host.add_pci_function(kGpu, 7);
  host.add_pci_driver(kGpu, "nvidia");
  host.add_pci_function(kAudio, 7);
  host.add_file(host.pci_folder(kAudio) + "/class", "0x040300\n");
  host.add_pci_driver(kAudio, "snd_hda_intel");
  host.add_pci_function("0000:42:00.0", 8, "pci0000:40/0000:40:02.0");
  host.add_virtual_function("0000:42:00.0", "0000:42:00.1", 9, "nvidia");
  host.add_virtual_function("0000:42:00.0", "0000:42:00.2", 10, "nvidia");
  host.add_folder("/run/vmgraft/gpus");
  host.reset();
}

GpuLedger ledger_of(FakeHost& host) { return {host, "/run/vmgraft/gpus"}; }

GpuFacts gpu_facts_of(FakeHost& host) {
  GpuFacts facts;
  facts.devices = read_devices(host, {});
  facts.records = ledger_of(host).records();
  facts.gpus = find_gpus(facts.devices, {}, facts.records);
  return facts;
}

Plan lease_of(FakeHost& host, const std::string& vm, GpuRelease release) {
  return plan_lease(gpu_facts_of(host), ledger_of(host), {kGpu}, {},
                    {vm, "00000000-0000-4000-8000-610000000000", "/store", release});
}

Plan mdev_lease_of(FakeHost& host, const std::string& vm, const std::string& uuid, std::size_t count) {
  const GpuFacts facts = gpu_facts_of(host);
  std::vector<MakeMdev> mdevs;
  for (const std::string& one : free_mdev_uuids(facts.devices, uuid, count)) mdevs.push_back({kGpu, "nvidia-11", one});
  return plan_lease(facts, ledger_of(host), {}, mdevs, {vm, uuid, "/store", GpuRelease::reset});
}

Plan GpuWorld::release() { return plan_release(facts(), ledger(), kGpu, {"hot", {}}); }

void GpuWorld::dedicate() {
  for (const std::string& address : {kGpu, kAudio}) {
    host.write_attribute("/sys/bus/pci/devices/" + address + "/driver_override", "vfio-pci\n", std::chrono::seconds(1));
    host.write_attribute("/sys/bus/pci/devices/" + address + "/driver/unbind", address, std::chrono::seconds(1));
    host.write_attribute("/sys/bus/pci/drivers_probe", address, std::chrono::seconds(1));
  }
  host.reset();
}

}  // namespace vmgraft

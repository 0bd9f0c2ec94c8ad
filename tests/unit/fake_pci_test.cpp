// SPDX-License-Identifier: Apache-2.0
// The fakes that GPU tests stand on: what their PCI functions and live domains do is what kernel and libvirt do.
#include "support/catch.hpp"
#include "support/fake_hypervisor.hpp"

using namespace vmgraft;
using std::chrono::seconds;

namespace {

constexpr const char* kGpu = "0000:41:00.0";
constexpr const char* kAudio = "0000:41:00.1";
constexpr const char* kUuid = "11111111-1111-4111-8111-111111111111";
constexpr const char* kMdev = "22222222-2222-4222-8222-222222222222";

const std::string kBus = "/sys/bus/pci/devices/";

/// A GPU with its companion, on the host's drivers.
FakeHost gpu_host() {
  FakeHost host;
  host.add_pci_function(kGpu, 7);
  host.add_pci_driver(kGpu, "nvidia");
  host.add_pci_function(kAudio, 7);
  host.add_pci_driver(kAudio, "snd_hda_intel");
  return host;
}

void write(FakeHost& host, const std::string& file, const std::string& value) {
  host.write_attribute(file, value, seconds(1));
}

void to_vfio(FakeHost& host, const std::string& address) {
  write(host, kBus + address + "/driver_override", "vfio-pci\n");
  write(host, kBus + address + "/driver/unbind", address);
  write(host, "/sys/bus/pci/drivers_probe", address);
}

void to_host(FakeHost& host, const std::string& address) {
  write(host, kBus + address + "/driver_override", "\n");
  write(host, "/sys/bus/pci/drivers/vfio-pci/unbind", address);
  write(host, "/sys/bus/pci/drivers_probe", address);
}

std::string refusal(FakeHost& host, const std::string& file, const std::string& value) {
  const Error error = error_of([&] { write(host, file, value); });
  CHECK(error.code() == Errc::other);
  const std::string text = error.what();
  return text.substr(text.rfind(": ") + 2);
}

std::string hostdev(const std::string& alias, const std::string& bus) {
  return "<hostdev mode=\"subsystem\" type=\"pci\" managed=\"no\">\n  <source>\n    <address domain=\"0x0000\" "
         "bus=\"0x" +
         bus + "\" slot=\"0x00\" function=\"0x0\"/>\n  </source>\n  <alias name=\"" + alias + "\"/>\n</hostdev>\n";
}

std::string domain(const std::string& memory, const std::string& devices) {
  return "<domain type=\"kvm\">\n  <name>a</name>\n  <uuid>" + std::string(kUuid) + "</uuid>\n  <memory>" + memory +
         "</memory>\n  <devices>\n    <disk type=\"file\" device=\"disk\">\n      <source file=\"/s/a\"/>\n"
         "      <target dev=\"vda\"/>\n    </disk>" +
         devices + "\n  </devices>\n</domain>\n";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a fake function goes to vfio-pci and back, and nothing is left of it") {
  FakeHost host = gpu_host();
  const FakeHost before = host;
  CHECK(host.read_link(kBus + kGpu + "/driver") == "../../../../bus/pci/drivers/nvidia");
  CHECK(host.read_file(kBus + kGpu + "/class") == "0x030200\n");
  CHECK(host.list_folder("/sys/kernel/iommu_groups/7/devices") == std::vector<std::string>{kGpu, kAudio});
  to_vfio(host, kGpu);
  CHECK(host.pci_driver(kGpu) == "vfio-pci");
  CHECK(host.pci_driver(kAudio) == "snd_hda_intel");
  CHECK(host.exists("/dev/vfio/7"));
  to_vfio(host, kAudio);
  to_host(host, kGpu);
  CHECK(host.exists("/dev/vfio/7"));  // the companion still holds the group
  to_host(host, kAudio);
  CHECK(host.pci_driver(kAudio) == "snd_hda_intel");
  CHECK(host.tree() == before.tree());
  CHECK(host.effects() == 12);
  CHECK(host.calls().front() == "write_attribute " + kBus + kGpu + "/driver_override vfio-pci");
}

TEST_CASE("a fake function refuses what the kernel refuses, and takes what it takes without effect") {
  FakeHost host = gpu_host();
  CHECK(refusal(host, kBus + "0000:99:00.0/driver_override", "vfio-pci") == "No such file or directory");
  CHECK(refusal(host, "/sys/bus/pci/drivers_probe", "0000:99:00.0") == "No such device");
  CHECK(refusal(host, "/sys/bus/pci/drivers/vfio-pci/unbind", kGpu) == "No such device");
  CHECK(refusal(host, "/sys/bus/pci/drivers/none/unbind", kGpu) == "No such file or directory");
  write(host, kBus + kGpu + "/driver_override", "absent");
  write(host, "/sys/bus/pci/drivers_probe", kGpu);
  CHECK(host.pci_driver(kGpu) == "nvidia");  // an override moves nothing that is bound
  write(host, kBus + kGpu + "/driver/unbind", kGpu);
  write(host, "/sys/bus/pci/drivers_probe", kGpu);
  CHECK(host.pci_driver(kGpu).empty());
  CHECK(refusal(host, kBus + kGpu + "/driver/unbind", kGpu) == "No such file or directory");
  CHECK_THROWS_AS(write(host, kBus + kGpu + "/class", "1"), std::logic_error);
}

TEST_CASE("a fake reset needs a method, and may leave the function dead") {
  FakeHost host = gpu_host();
  const FakeHost before = host;
  write(host, kBus + kGpu + "/reset", "1");
  CHECK(host.tree() == before.tree());
  CHECK(refusal(host, kBus + kGpu + "/reset_method", "pm") == "Invalid argument");
  write(host, kBus + kGpu + "/reset_method", "\n");
  CHECK(refusal(host, kBus + kGpu + "/reset", "1") == "Inappropriate ioctl for device");
  write(host, kBus + kGpu + "/reset_method", "bus");
  CHECK(host.read_file(kBus + kGpu + "/reset_method") == "bus\n");
  write(host, kBus + kGpu + "/reset_method", "default");
  CHECK(host.read_file(kBus + kGpu + "/reset_method") == "flr bus\n");

  CHECK(error_of([&] { host.hot_reset({kGpu}, seconds(1)); }).code() == Errc::host_unfit);
  to_vfio(host, kGpu);
  to_vfio(host, kAudio);
  CHECK(std::string(error_of([&] { host.hot_reset({kGpu}, seconds(1)); }).what()) ==
        "the reset would touch 0000:41:00.1 as well");
  host.break_at_reset(kGpu);
  CHECK(host.read_range(kBus + kGpu + "/config", 0, 2) == "\xde\x10");
  host.hot_reset({kGpu, kAudio}, seconds(1));
  CHECK(host.read_range(kBus + kGpu + "/config", 0, 2) == "\xff\xff");
  CHECK(host.read_range(kBus + kAudio + "/config", 0, 2) == "\xde\x10");
}

TEST_CASE("fake VFs and mediated devices come and go without a trace") {
  FakeHost host = gpu_host();
  host.add_virtual_function(kGpu, "0000:41:00.4", 20, "nvidia");
  host.add_virtual_function(kGpu, "0000:41:00.5", 21, "nvidia");
  host.add_mdev_type(kGpu, "nvidia-11", 1);
  const FakeHost before = host;
  CHECK(refusal(host, kBus + kGpu + "/sriov_numvfs", "3") == "Numerical result out of range");
  write(host, kBus + kGpu + "/sriov_numvfs", "1");
  CHECK(host.read_link(kBus + kGpu + "/virtfn0") == "../0000:41:00.4");
  CHECK(host.read_link(kBus + "0000:41:00.4/physfn") == std::string("../") + kGpu);
  CHECK(host.pci_driver("0000:41:00.4") == "nvidia");
  CHECK_FALSE(host.exists(kBus + "0000:41:00.5"));
  CHECK(refusal(host, kBus + kGpu + "/sriov_numvfs", "2") == "Device or resource busy");
  write(host, kBus + kGpu + "/sriov_numvfs", "0");
  CHECK(host.tree() == before.tree());
  write(host, kBus + kGpu + "/sriov_drivers_autoprobe", "0");
  write(host, kBus + kGpu + "/sriov_numvfs", "2");
  CHECK(host.pci_driver("0000:41:00.5").empty());
  write(host, kBus + kGpu + "/sriov_numvfs", "0");
  write(host, kBus + kGpu + "/sriov_drivers_autoprobe", "1");

  const std::string type = kBus + kGpu + "/mdev_supported_types/nvidia-11";
  CHECK(refusal(host, type + "/create", "no UUID") == "Invalid argument");
  write(host, type + "/create", kMdev);
  CHECK(host.read_file(type + "/available_instances") == "0\n");
  CHECK(host.exists(kBus + kGpu + "/" + kMdev));
  CHECK(refusal(host, type + "/create", kMdev) == "File exists");
  CHECK(refusal(host, type + "/create", "3" + std::string(kMdev).substr(1)) == "Too many users");
  write(host, std::string("/sys/bus/mdev/devices/") + kMdev + "/remove", "1");
  CHECK(host.tree() == before.tree());
}

TEST_CASE("a fake write that hangs, fails or dies changes nothing but when it died afterwards") {
  FakeHost host = gpu_host();
  const FakeHost before = host;
  const std::string unbind = kBus + kGpu + "/driver/unbind";
  host.hang_on(unbind);
  CHECK(error_of([&] { write(host, unbind, kGpu); }).code() == Errc::unreachable);
  host.fail_at(2);
  CHECK(error_of([&] { write(host, kBus + kGpu + "/driver_override", "vfio-pci"); }).code() == Errc::other);
  host.die_at(3, FakeHost::When::before);
  CHECK_THROWS_AS(write(host, kBus + kGpu + "/driver_override", "vfio-pci"), Death);
  CHECK(host.tree() == before.tree());
  host.reset();
  host.die_at(1, FakeHost::When::after);
  CHECK_THROWS_AS(write(host, kBus + kGpu + "/driver_override", "vfio-pci"), Death);
  CHECK(has(host.tree(), "vfio-pci\n\n"));
}

TEST_CASE("a fake VM started by another definition has its own again afterwards") {
  FakeHost host = gpu_host();
  FakeHypervisor hypervisor(host);
  hypervisor.define(domain("1", ""), Schema::checked);
  const std::string wanted = domain("2", hostdev("ua-gpu0", "41"));
  CHECK(error_of([&] { hypervisor.start_as(wanted); }).code() == Errc::host_unfit);  // not on vfio-pci yet
  to_vfio(host, kGpu);
  const FakeHost before = host;
  hypervisor.start_as(wanted);
  CHECK(has(hypervisor.domain_xml(kUuid, false), "ua-gpu0"));
  CHECK_FALSE(has(hypervisor.domain_xml(kUuid, true), "ua-gpu0"));
  CHECK(error_of([&] { hypervisor.start_as(wanted); }).code() == Errc::conflict);
  hypervisor.power_off(kUuid);
  CHECK(host.tree() == before.tree());
}

TEST_CASE("a fake device that is unplugged and plugged again leaves no trace, wherever it stood") {
  FakeHost host;
  FakeHypervisor hypervisor(host);
  hypervisor.define(domain("1", ""), Schema::checked);
  hypervisor.start_as(domain("2", "\n" + hostdev("ua-gpu0", "41") + hostdev("ua-gpu1", "81") + "<video/>"));
  const FakeHost before = host;
  CHECK(hypervisor.detach_device(kUuid, "ua-gpu0", seconds(1), nullptr) == DetachOutcome::removed);
  CHECK_FALSE(has(hypervisor.domain_xml(kUuid, false), "ua-gpu0"));
  CHECK(has(hypervisor.domain_xml(kUuid, false), "ua-gpu1"));
  hypervisor.attach_device(kUuid, hostdev("ua-gpu0", "41"));
  CHECK(host.tree() == before.tree());
  CHECK(error_of([&] { hypervisor.attach_device(kUuid, hostdev("ua-gpu0", "42")); }).code() == Errc::host_unfit);
  hypervisor.set_guest_lets_go(false, DetachOutcome::refused);
  host.reset();
  CHECK(hypervisor.detach_device(kUuid, "ua-gpu0", seconds(1), nullptr) == DetachOutcome::refused);
  CHECK(hypervisor.detach_device(kUuid, "ua-none", seconds(1), nullptr) == DetachOutcome::removed);
  CHECK(host.effects() == 1);
  CHECK(host.tree() == before.tree());

  hypervisor.power_off(kUuid);
  CHECK(hypervisor.detach_device(kUuid, "ua-gpu0", seconds(1), nullptr) == DetachOutcome::vm_gone);
  hypervisor.start(kUuid);
  const FakeHost plain = host;
  hypervisor.attach_device(kUuid, hostdev("ua-gpu0", "41"));
  hypervisor.set_guest_lets_go(true);
  CHECK(hypervisor.detach_device(kUuid, "ua-gpu0", seconds(1), nullptr) == DetachOutcome::removed);
  CHECK(host.tree() == plain.tree());
}

TEST_CASE("fake memory is saved of one instant with the disks, in one effect, and not with a passed device") {
  FakeHost host;
  FakeHypervisor hypervisor(host);
  host.add_folder("/s");
  hypervisor.define(domain("1", ""), Schema::checked);
  hypervisor.start_as(domain("2", hostdev("ua-gpu0", "41")));
  CHECK(error_of([&] {
          hypervisor.save_memory(kUuid, "/s/memory", {{"vda", "/s/b", false}}, {});
        }).code() == Errc::conflict);
  static_cast<void>(hypervisor.detach_device(kUuid, "ua-gpu0", seconds(1), nullptr));
  host.reset();
  hypervisor.save_memory(kUuid, "/s/memory", {{"vda", "/s/b", false}}, {});
  CHECK(host.effects() == 1);
  CHECK(has(hypervisor.domain_xml(kUuid, false), "\"/s/b\""));
  CHECK(has(hypervisor.domain_xml(kUuid, true), "\"/s/b\""));
  const std::string saved = hypervisor.saved_memory_xml("/s/memory");
  CHECK(has(saved, "\"/s/a\""));
  CHECK(has(saved, "<memory>2</memory>"));
  CHECK(error_of([&] { hypervisor.restore_memory("/s/memory", saved); }).code() == Errc::conflict);
  hypervisor.power_off(kUuid);
  hypervisor.restore_memory("/s/memory", saved);
  CHECK(hypervisor.find_by_uuid(kUuid)->state == VmState::running);
  CHECK(has(hypervisor.domain_xml(kUuid, false), "\"/s/a\""));
  CHECK(has(hypervisor.domain_xml(kUuid, true), "\"/s/b\""));  // as libvirt leaves it
  CHECK(error_of([&] { static_cast<void>(hypervisor.saved_memory_xml("/s/none")); }).code() == Errc::other);
}

// SPDX-License-Identifier: Apache-2.0
#include "run/doctor.hpp"

#include <algorithm>
#include <stdexcept>

#include "support/catch.hpp"
#include "support/fake_host.hpp"

using namespace vmgraft;

namespace {

/// A libvirt that only answers what doctor asks.
class AskedHypervisor final : public Hypervisor {
 public:
  HypervisorInfo about{"qemu:///system", 11003000, 10000002, false};
  std::string kvm = "<domain type='kvm'/>";
  std::string dac = "<secmodel><model>dac</model><baselabel type='kvm'>+64055:+108</baselabel></secmodel>";
  std::string loaders = "<value>/usr/share/OVMF/OVMF_CODE.fd</value>";
  std::string tpm = "<tpm supported='yes'><enum name='backendModel'><value>emulator</value></enum></tpm>";

  HypervisorInfo info() override { return about; }
  std::string capabilities_xml() override {
    return "<capabilities><host><cpu><arch>x86_64</arch></cpu>" + dac +
           "</host><guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/>" + kvm +
           "</arch></guest></capabilities>";
  }
  std::string domain_capabilities_xml(const std::string&, const std::string&) override {
    return "<domainCapabilities><path>/usr/bin/qemu-system-x86_64</path><os><loader supported='yes'>" + loaders +
           "</loader></os><devices>" + tpm + "</devices></domainCapabilities>";
  }

  std::vector<DomainState> domains() override { not_asked(); }
  std::optional<DomainState> find_by_name(const std::string&) override { not_asked(); }
  std::optional<DomainState> find_by_uuid(const std::string&) override { not_asked(); }
  std::string domain_xml(const std::string&, bool) override { not_asked(); }
  std::string secure_definition(const std::string&) override { not_asked(); }
  void settle(const std::string&, const std::atomic<bool>*) override { not_asked(); }
  void define(const std::string&, Schema) override { not_asked(); }
  void undefine(const std::string&, bool) override { not_asked(); }
  void start(const std::string&) override { not_asked(); }
  void start_as(const std::string&) override { not_asked(); }
  void attach_device(const std::string&, const std::string&) override { not_asked(); }
  DetachOutcome detach_device(const std::string&, const std::string&, std::chrono::milliseconds,
                              const std::atomic<bool>*) override {
    not_asked();
  }
  void save_memory(const std::string&, const std::string&, const std::vector<OverlayTarget>&,
                   const std::vector<std::string>&) override {
    not_asked();
  }
  std::string saved_memory_xml(const std::string&) override { not_asked(); }
  void restore_memory(const std::string&, const std::string&) override { not_asked(); }
  void power_off(const std::string&) override { not_asked(); }
  void request_shutdown(const std::string&) override { not_asked(); }
  FreezeOutcome freeze(const std::string&, std::string&) override { not_asked(); }
  void thaw(const std::string&) override { not_asked(); }
  void switch_to_overlays(const std::string&, const std::vector<OverlayTarget>&,
                          const std::vector<std::string>&) override {
    not_asked();
  }
  void pull_into_active(const std::string&, const std::string&, const std::string&, const std::atomic<bool>*) override {
    not_asked();
  }
  WaitOutcome wait_shut_off(const std::string&, std::chrono::milliseconds, const std::atomic<bool>*) override {
    not_asked();
  }
  WaitOutcome wait_agent(const std::string&, std::chrono::milliseconds, const std::atomic<bool>*) override {
    not_asked();
  }
  std::string agent_command(const std::string&, const std::string&, std::chrono::seconds, GracePeriod&) override { not_asked(); }
  std::vector<NicInfo> addresses(const std::string&) override { not_asked(); }
  void console(const std::string&, int, int, const std::atomic<bool>*) override { not_asked(); }
  void ensure_network(const std::string&, const std::string&) override { not_asked(); }

 private:
  [[noreturn]] static void not_asked() { throw std::logic_error("doctor only looks"); }
};

constexpr const char* kStore = "/srv/vmgraft-doctor-test/store";

/// A host on which everything is well.
struct World {
  FakeHost host;
  AskedHypervisor libvirt;
  bool reachable = true;

  World() {
    host.add_file("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vmx sse\n");
    host.add_file("/proc/net/unix", "0: 00000002 00000000 00010000 0001 01 1 /run/libvirt/virtlogd-sock\n");
    host.add_file("/etc/passwd",
                  "root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:64055:108::/var/lib/libvirt:/bin/false\n");
    host.add_file("/etc/group", "root:x:0:\nkvm:x:108:\nlibvirt-qemu:x:64055:libvirt-qemu\n");
    host.add_file("/dev/kvm", "", 0660);
    host.set_owner("/dev/kvm", 0, 108);
    host.add_file("/usr/share/OVMF/OVMF_CODE.fd", "x");
    host.add_folder("/sys/class/net/virbr0");
    host.add_folder(kStore);
    for (const char* program : {"qemu-img", "swtpm", "swtpm_setup", "dnsmasq", "iptables", "mmdebstrap", "mke2fs",
                                "busybox", "qemu-ga", "ssh-keygen"}) {
      host.add_program(program, [](FakeHost&, const Command&) { return CommandResult{}; });
    }
    set_reflink(true);
    host.reset();
  }

  void set_reflink(bool works) {
    host.add_program("cp", [works](FakeHost& self, const Command& command) {
      CommandResult result;
      result.exit_code = works ? 0 : 1;
      if (works) self.add_file(command.argv.back(), "copy");
      return result;
    });
  }

  std::vector<DoctorRow> rows() {
    return check_host({host, "qemu:///system",
                       [this]() -> Hypervisor& {
                         if (!reachable) throw Error(Errc::unreachable, "libvirt is not running", "start it");
                         return libvirt;
                       },
                       kStore});
  }

  DoctorRow row(const std::string& id) {
    const auto all = rows();
    const auto found = std::find_if(all.begin(), all.end(), [&](const DoctorRow& one) { return one.id == id; });
    REQUIRE(found != all.end());
    return *found;
  }
};

}  // namespace

TEST_CASE("on a sound host every row is ok, has no remedy, and nothing is left behind") {
  World world;
  const std::string before = world.host.tree();
  const auto rows = world.rows();
  std::vector<std::string> ids;
  for (const DoctorRow& row : rows) {
    ids.push_back(row.id);
    INFO(row.id << ": " << row.seen);
    CHECK(row.health == Health::ok);
    CHECK(row.remedy.empty());
    CHECK_FALSE(row.seen.empty());
  }
  CHECK(ids == std::vector<std::string>{"kvm", "kvm-access", "libvirt", "qemu", "qemu-img", "virtlogd", "ovmf", "swtpm",
                                        "network", "apparmor", "image-tools", "agent", "ssh-keygen", "store-writable",
                                        "store-readable", "reflink", "free-space"});
  CHECK(world.host.tree() == before);
}

TEST_CASE("every row that is not ok has a remedy") {
  World world;
  const std::string store = kStore;
  world.reachable = false;
  world.host = FakeHost();
  world.host.add_folder(store);
  for (const DoctorRow& row : world.rows()) {
    INFO(row.id << ": " << row.seen);
    CHECK((row.health == Health::ok) == row.remedy.empty());
  }
}

TEST_CASE("without libvirt its row fails with the reason, and those that need it say that they were not checked") {
  World world;
  world.reachable = false;
  const DoctorRow libvirt = world.row("libvirt");
  CHECK(libvirt.health == Health::fail);
  CHECK(libvirt.seen == "libvirt is not running");
  CHECK(libvirt.remedy == "start it");
  for (const char* id : {"kvm-access", "qemu", "virtlogd", "ovmf", "swtpm", "network", "store-readable"}) {
    INFO(id);
    CHECK(world.row(id).health == Health::warn);
    CHECK(world.row(id).seen == "not checked: libvirt is not reachable");
  }
  CHECK(world.row("kvm").health == Health::ok);
  CHECK(world.row("free-space").health == Health::ok);
}

TEST_CASE("a /dev/kvm on a CPU without virtualisation is no KVM") {
  World world;
  world.host.add_file("/proc/cpuinfo", "flags\t\t: fpu sse vmxish\n");
  CHECK(world.row("kvm").health == Health::warn);
  CHECK(world.row("kvm").seen.find("guests on it would hang") != std::string::npos);
  CHECK_FALSE(kvm_usable(world.host, true));
}

TEST_CASE("KVM is usable with flag, device and libvirt's offer, and not when one is missing") {
  World world;
  CHECK(kvm_usable(world.host, true));
  CHECK_FALSE(kvm_usable(world.host, false));
  world.host.add_file("/proc/cpuinfo", "flags : svm\n");
  CHECK(kvm_usable(world.host, true));
  world.host.erase("/dev/kvm");
  CHECK_FALSE(kvm_usable(world.host, true));
  CHECK(world.row("kvm").health == Health::warn);
  CHECK(world.row("kvm-access").health == Health::ok);
}

TEST_CASE("a CPU that does not list its virtualisation is judged by the device and libvirt") {
  World world;
  world.host.add_file("/proc/cpuinfo", "processor : 0\nFeatures : fp asimd\n");
  CHECK(kvm_usable(world.host, true));
}

TEST_CASE("libvirt offering no KVM is seen") {
  World world;
  world.libvirt.kvm.clear();
  CHECK(world.row("kvm").health == Health::warn);
  CHECK(world.row("kvm").seen.find("libvirt offers no KVM") != std::string::npos);
}

TEST_CASE("a /dev/kvm that only root may open fails with the commands that udev would have done") {
  World world;
  world.host.set_owner("/dev/kvm", 0, 0);
  world.host.set_mode("/dev/kvm", 0600);
  const DoctorRow row = world.row("kvm-access");
  CHECK(row.health == Health::fail);
  CHECK(row.seen.find("QEMU's user 'libvirt-qemu' cannot open /dev/kvm") == 0);
  CHECK(row.remedy.find("sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm") == 0);
}

TEST_CASE("a QEMU user outside the group of /dev/kvm is told to join it") {
  World world;
  world.libvirt.dac = "<secmodel><model>dac</model><baselabel type='kvm'>+64056:+64056</baselabel></secmodel>";
  const DoctorRow row = world.row("kvm-access");
  CHECK(row.health == Health::fail);
  CHECK(row.remedy == "add the user with uid 64056 to the group kvm, then restart libvirtd (or virtqemud)");
}

TEST_CASE("membership in /etc/group is enough to open /dev/kvm") {
  World world;
  world.libvirt.dac = "<secmodel><model>dac</model><baselabel type='kvm'>+64056:+64056</baselabel></secmodel>";
  world.host.add_file("/etc/passwd", "other:x:64056:64056::/:/bin/false\n");
  world.host.add_file("/etc/group", "kvm:x:108:someone,other\n");
  CHECK(world.row("kvm-access").health == Health::ok);
}

TEST_CASE("old versions of libvirt and QEMU are judged") {
  World world;
  world.libvirt.about.libvirt_version = 7000000;
  CHECK(world.row("libvirt").health == Health::fail);
  world.libvirt.about.libvirt_version = 8000000;
  CHECK(world.row("libvirt").health == Health::warn);
  world.libvirt.about.libvirt_version = 9000000;
  CHECK(world.row("libvirt").seen == "libvirt 9.0.0 at qemu:///system");
  world.libvirt.about.hypervisor_version = 7002022;
  CHECK(world.row("qemu").health == Health::ok);
  CHECK(world.row("qemu").seen.find("merged when it is stopped next") != std::string::npos);
  world.libvirt.about.hypervisor_version = 5002000;
  CHECK(world.row("qemu").health == Health::fail);
  world.libvirt.about.hypervisor_version = 0;
  CHECK(world.row("qemu").remedy == "sudo apt-get install qemu-system-x86");
}

TEST_CASE("a missing virtlogd fails for the system's libvirt and not for a session") {
  World world;
  world.host.add_file("/proc/net/unix", "0: 0 0 0 0 0 1 /run/libvirt/libvirt-sock\n");
  CHECK(world.row("virtlogd").health == Health::fail);
  world.libvirt.about.is_session = true;
  CHECK(world.row("virtlogd").health == Health::ok);
  CHECK(world.row("network").health == Health::ok);
  CHECK(world.row("store-readable").health == Health::ok);
}

TEST_CASE("missing firmware, TPM and programs are warnings with their packages") {
  World world;
  world.host.erase("/usr/share/OVMF/OVMF_CODE.fd");
  CHECK(world.row("ovmf").health == Health::warn);
  world.libvirt.tpm = "<tpm supported='no'/>";
  CHECK(world.row("swtpm").health == Health::warn);

  World bare;
  FakeHost empty;
  empty.add_folder(kStore);
  bare.host = empty;
  CHECK(bare.row("image-tools").health == Health::warn);
  CHECK(bare.row("image-tools").remedy == "sudo apt-get install mmdebstrap e2fsprogs busybox-static");
  CHECK(bare.row("network").remedy == "sudo apt-get install dnsmasq-base iptables");
  CHECK(bare.row("agent").health == Health::warn);
  CHECK(bare.row("ssh-keygen").health == Health::warn);
  CHECK(bare.row("qemu-img").health == Health::fail);
}

TEST_CASE("a store that cannot be written fails") {
  World world;
  world.host.fail_at(1);
  const DoctorRow row = world.row("store-writable");
  CHECK(row.health == Health::fail);
  CHECK(row.remedy.find("--store DIR") != std::string::npos);
}

TEST_CASE("a store that is not there yet is judged by the folder above it, and not made") {
  World world;
  world.host.erase(kStore);
  CHECK(world.row("store-writable").health == Health::ok);
  CHECK(world.row("store-writable").seen == std::string("'") + kStore + "' is not there yet and can be made");
  CHECK_FALSE(world.host.exists(kStore));
}

TEST_CASE("a folder above the store that QEMU's user may not pass is named") {
  World world;
  world.host.set_mode("/srv/vmgraft-doctor-test", 0700);
  const DoctorRow row = world.row("store-readable");
  CHECK(row.health == Health::fail);
  CHECK(row.seen == "QEMU's user 'libvirt-qemu' may not pass through '/srv/vmgraft-doctor-test': VMs do not start");
  CHECK(row.remedy.find("sudo setfacl -m u:64055:x /srv/vmgraft-doctor-test") == 0);
}

TEST_CASE("a file system without reflinks is a warning") {
  World world;
  world.set_reflink(false);
  CHECK(world.row("reflink").health == Health::warn);
}

TEST_CASE("little free space warns, next to none fails") {
  World world;
  const std::uint64_t gib = std::uint64_t{1} << 30;
  world.host.set_free_space({10 * gib, 100 * gib});
  CHECK(world.row("free-space").health == Health::ok);
  world.host.set_free_space({10 * gib - 1, 100 * gib});
  CHECK(world.row("free-space").health == Health::warn);
  world.host.set_free_space({gib - 1, 100 * gib});
  CHECK(world.row("free-space").health == Health::fail);
}

TEST_CASE("AppArmor is told of where it confines QEMU") {
  World world;
  world.host.add_file("/sys/module/apparmor/parameters/enabled", "Y\n");
  CHECK(world.row("apparmor").seen == "active, does not confine libvirt's VMs");
  world.libvirt.dac += "<secmodel><model>apparmor</model></secmodel>";
  CHECK(world.row("apparmor").seen.find("confines QEMU") == 0);
}

TEST_CASE("a check that breaks is a row, not an exception") {
  World world;
  world.host.add_program("cp",
                         [](FakeHost&, const Command&) -> CommandResult { throw Error(Errc::other, "no such luck"); });
  CHECK(world.row("reflink").health == Health::warn);
  CHECK(world.row("reflink").seen == "could not be checked: no such luck");
}

// SPDX-License-Identifier: Apache-2.0
#include "domain/host_reach.hpp"

#include <set>
#include <string>

#include "domain/domain_xml.hpp"
#include "run/store_trust.hpp"
#include "support/catch.hpp"
#include "support/plan_world.hpp"
#include "support/source_tree.hpp"

using namespace vmgraft;

namespace {

std::set<std::string> reach_of(const std::string& inside) {
  return host_reach("<domain>" + inside + "</domain>", "/store");
}

std::set<std::string> of_device(const std::string& device) {
  return reach_of("<devices>" + device + "</devices>");
}

}  // namespace

TEST_CASE("what every VM of vmgraft has reaches nothing of the host") {
  PlanWorld world;
  world.add_vm("plain");
  world.add_vm("full", {true, true});
  for (const char* name : {"plain", "full"})
    CHECK(host_reach(world.hypervisor.domain_xml(world.uuid(name), true), "/store").empty());
  CHECK(
      of_device("<emulator>/usr/bin/qemu-system-x86_64</emulator>"
                "<console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/></console>"
                "<channel type='unix'><source mode='bind' "
                "path='/var/lib/libvirt/qemu/channel/target/domain-1-a/x'/></channel>"
                "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
                "<interface type='network'><source network='default' bridge='virbr0'/><target dev='vnet0'/></interface>"
                "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>")
          .empty());
  CHECK(
      reach_of(
          "<os><loader readonly='yes'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
          "<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>/store/vms/a/nvram.fd</nvram><cmdline>/init</cmdline></os>"
          "<title>/etc</title><description>/etc</description><resource><partition>/machine</partition></resource>")
          .empty());
}

TEST_CASE(
    "what libvirt makes of a VM of vmgraft, defined and running, reaches nothing of the host but what was asked for") {
  const auto read = [](const std::string& name) { return read_text(source_path("tests/data/domain/" + name)); };
  for (const char* name : {"dev_inactive.xml", "dev_live.xml"})
    CHECK(host_reach(read(name), "/var/lib/vmgraft").empty());
  for (const std::string& line : host_reach(read("gpu_train_inactive.xml"), "/var/lib/vmgraft"))
    CHECK(line.starts_with("<hostdev"));
}

TEST_CASE("files, devices and sockets of the host are told, in whatever element, and however they are written") {
  CHECK(of_device("<disk type='file'><source file='/etc/shadow'/></disk>") ==
        std::set<std::string>{"<source> file='/etc/shadow'"});
  for (const char* device :
       {"<disk type='file'><source file='/store/../etc/shadow'/></disk>",
        "<disk type='file'><source file='/storefront/x'/></disk>",
        "<disk type='file'><source file='json:{}'/></disk>",
        "<disk type='file'><source file='nbd:unix:x'/></disk>",
        "<disk type='block'><source dev='sda'/></disk>",
        "<disk type='network'><source protocol='nbd' name='x'/></disk>",
        "<disk type='file'><source file='/store/a'/><backingStore><source file='/etc/shadow'/></backingStore></disk>",
        "<disk type='file'><driver type='raw'/><source file='/store/layers/x.qcow2'/></disk>",
        "<disk type='file'><source file='/store/layers/x.qcow2'/></disk>",
        "<emulator>/tmp/qemu-system-x86_64</emulator>",
        "<emulator>/usr/bin/qemu-system-x/../../../tmp/x</emulator>",
        "<emulator>evil</emulator>",
        "<filesystem type='mount'><source dir='/'/><target dir='x'/></filesystem>",
        "<hostdev mode='subsystem' type='pci'><source><address bus='1'/></source></hostdev>",
        "<interface type='direct'><source dev='eth0'/></interface>",
        "<interface type='hostdev'/>",
        "<interface type='vhostuser'/>",
        "<serial type='file'><source path='/etc/cron.d/x'/></serial>",
        "<serial type='tcp'><source host='0.0.0.0' service='22'/></serial>",
        "<serial type='dev'><source path='/dev/ttyS0'/></serial>",
        "<serial type='file'><source path='/dev/pts/0'/></serial>",
        "<disk type='file'><source file='/x/libvirt/qemu/channel/y'/></disk>",
        "<serial type='pty'><log file='/etc/cron.d/x'/></serial>",
        "<channel type='unix'><source path='/run/docker.sock'/></channel>",
        "<channel type='unix'><source path='/libvirt/qemu/channel/../../../run/docker.sock'/></channel>",
        "<graphics type='vnc' listen='0.0.0.0'/>",
        "<graphics type='vnc'><listen type='address' address='::'/></graphics>",
        "<tpm><backend type='passthrough'/></tpm>",
        "<rng><backend model='egd' type='tcp'/></rng>",
        "<rng><backend model='random'>/dev/sda</backend></rng>",
        "<input type='passthrough' bus='virtio'/>",
        "<redirdev bus='usb'/>",
        "<shmem name='x'/>",
        "<memory model='nvdimm'><source><path>/dev/sda</path></source></memory>"}) {
    INFO(device);
    CHECK_FALSE(of_device(device).empty());
  }
  for (const char* text :
       {"<os><kernel>/etc/shadow</kernel></os>", "<os><initrd>shadow</initrd></os>", "<os><dtb>/etc/x</dtb></os>",
        "<os><nvram>/etc/passwd</nvram></os>", "<os><loader>/tmp/x</loader></os>",
        "<os><nvram template='/etc/shadow'>/store/x</nvram></os>",
        "<os><acpi><table type='slic'>/etc/x</table></acpi></os>", "<seclabel type='none'/>",
        "<seclabel type='dynamic' relabel='no'/>", "<launchSecurity type='sev'/>",
        "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-S'/></q:commandline>"}) {
    INFO(text);
    CHECK_FALSE(reach_of(text).empty());
  }
}

// `clone VM@SNAP` and `revert` defined what stood in snapshots/SNAP/domain.xml: disks of the host, arguments for QEMU.
TEST_CASE("a definition kept in the store gives a VM nothing of the host but what libvirt knows it to have") {
  PlanWorld world;
  world.add_vm("a");
  const std::string plain = world.hypervisor.domain_xml(world.uuid("a"), true);
  std::string more = plain;
  more.insert(more.find("</devices>"),
              "<filesystem type='mount'><source dir='/srv'/><target dir='data'/></filesystem>");
  CHECK_NOTHROW(require_known_reach(world.hypervisor, world.store, "snapshot a@s", world.uuid("a"), plain));
  const Error error =
      error_of([&] { require_known_reach(world.hypervisor, world.store, "snapshot a@s", world.uuid("a"), more); });
  CHECK(error.code() == Errc::conflict);
  CHECK(std::string(error.what()).find("<source> dir='/srv'") != std::string::npos);
  world.hypervisor.define(more, Schema::known);  // the user has given it that
  CHECK_NOTHROW(require_known_reach(world.hypervisor, world.store, "snapshot a@s", world.uuid("a"), more));
  CHECK_THROWS_AS(
      require_known_reach(world.hypervisor, world.store, "snapshot b@s", world.uuid("a").replace(0, 1, "1"), more),
      Error);
}

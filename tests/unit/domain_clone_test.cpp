// SPDX-License-Identifier: Apache-2.0
#include "domain/domain_xml.hpp"
#include "golden/domain_goldens.hpp"
#include "support/catch.hpp"
#include "support/source_tree.hpp"

using namespace vmgraft;

namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// A domain with nothing but the given devices.
std::string domain_of(const std::string& devices, const std::string& os = "<os><type>hvm</type></os>") {
  return "<domain type='kvm'><name>a</name><uuid>u</uuid>" + os + "<devices>" + devices + "</devices></domain>";
}

CloneIdentity bare_clone() {
  CloneIdentity identity;
  identity.name = "b";
  identity.uuid = "v";
  identity.console_log = "/vms/b/console.log";
  return identity;
}

Error refusal(const std::string& xml, const CloneIdentity& identity) {
  return error_of([&] { static_cast<void>(clone_domain_xml(xml, identity)); });
}

std::string recorded(const std::string& file) {
  return read_text(source_path("tests/data/domain/" + file));
}

}  // namespace

TEST_CASE("a clone of a running domain shares nothing with it that libvirt made for it") {
  const std::string xml = clone_domain_xml(recorded("dev_live.xml"), dev_clone("/seed2.iso"));
  for (const char* gone : {"dev-1", "4dea22b3", "e925283d", "<alias", "vnet0", "portid", "virbr0", "/dev/pts",
                           "domain-29", "state=", "<label>", "<seclabel type", "backingStore", ".qcow2\" index",
                           "/1111.qcow2", "/2222.qcow2", "52:54:00:11:22:44"}) {
    INFO(gone);
    CHECK_FALSE(has(xml, gone));
  }
  CHECK(xml.find("<domain type=\"qemu\">") == 0);
  // What the source's own definition says is still there.
  for (const char* kept : {"<seclabel model=\"dac\" relabel=\"no\"/>", "<address type=\"pci\"",
                           "org.qemu.guest_agent.0", "source network=\"default\"", "<genid/>"}) {
    INFO(kept);
    CHECK(has(xml, kept));
  }
}

TEST_CASE("a clone of a live UEFI domain lets libvirt choose the firmware again") {
  // libvirt 9.0 refuses <firmware> beside the loader that its own live XML says.
  const std::string xml = clone_domain_xml(recorded("dev_live.xml"), dev_clone("/seed2.iso"));
  CHECK(has(xml, "<os firmware=\"efi\">"));
  CHECK_FALSE(has(xml, "<loader"));
  CHECK(has(xml, "<nvram>/var/lib/vmgraft/vms/dev-2/nvram.fd</nvram>"));
}

TEST_CASE("a clone gets no host device of the source") {
  const std::string xml = clone_domain_xml(recorded("edited.xml"), dev_clone());
  CHECK_FALSE(has(xml, "hostdev"));
  CHECK(read_domain(xml).nics.size() == 1);
}

TEST_CASE("a clone keeps what vmgraft does not model") {
  const std::string xml = clone_domain_xml(recorded("edited.xml"), dev_clone());
  for (const char* kept : {"<qemu:arg value=\"ICH9-LPC.noreboot=off\"/>", "<shares>2048</shares>", "ua-corpus",
                           "<disk type=\"file\">not a disk &amp; kept</disk>", "<mtu size=\"9000\"/>", "A &lt; B",
                           "<currentMemory unit=\"KiB\">2097152</currentMemory>", "model=\"apparmor\"",
                           "template=\"/usr/share/OVMF/OVMF_VARS_4M.fd\"", "mode=\"connect\""}) {
    INFO(kept);
    CHECK(has(xml, kept));
  }
}

TEST_CASE("a title that says the source's name does not go to the clone") {
  CHECK_FALSE(has(clone_domain_xml(to_domain_xml(dev_config()), dev_clone()), "<title>"));
  CHECK(has(clone_domain_xml(recorded("edited.xml"), dev_clone()), "<title>build machine</title>"));
}

TEST_CASE("a writable disk that the clone has no own file for refuses the clone") {
  const std::string foreign = "<disk type='block'><source dev='/dev/sdx'/><target dev='vdz'/></disk>";
  const Error error = refusal(domain_of(foreign), bare_clone());
  CHECK(error.code() == Errc::conflict);
  CHECK(std::string(error.what()) ==
        "clone of 'a': disk 'vdz' was not made by vmgraft, and the clone would write to the same one");
  CHECK(error.hint() == "detach it (virsh detach-disk a vdz --config), or mark it <readonly/> or <shareable/>");
  for (const char* fine : {"<readonly/>", "<shareable/>", "<transient/>"}) {
    const std::string disk =
        "<disk type='block'><source dev='/dev/sdx'/><target dev='vdz'/>" + std::string(fine) + "</disk>";
    CHECK(has(clone_domain_xml(domain_of(disk), bare_clone()), "/dev/sdx"));
  }
}

TEST_CASE("a clone that does not fit its source is refused") {
  CloneIdentity identity = bare_clone();
  identity.disks = {{"vda", "/x"}};
  CHECK(std::string(refusal(domain_of(""), identity).what()) == "domain 'a' has no disk 'vda'");
  const std::string nics = "<interface type='user'/><interface type='user'/>";
  CHECK(std::string(refusal(domain_of(nics), bare_clone()).what()) ==
        "clone of 'a': it has 2 NICs, and the clone was given 0 addresses");
  const std::string nvram = domain_of("", "<os><type>hvm</type><nvram>/a.fd</nvram></os>");
  CHECK(std::string(refusal(nvram, bare_clone()).what()) ==
        "clone of 'a': it has NVRAM, and the clone was given no file for its own");
}

TEST_CASE("NVRAM is replaced in every form that libvirt writes, and added where libvirt chose the path") {
  CloneIdentity identity = bare_clone();
  identity.nvram = "/b&.fd";
  for (const char* os :
       {"<os firmware='efi'><type>hvm</type></os>", "<os firmware='efi'><type>hvm</type><nvram>/a.fd</nvram></os>",
        "<os firmware='efi'><type>hvm</type><nvram type='file'><source file='/a.fd'/></nvram></os>"}) {
    const std::string xml = clone_domain_xml(domain_of("", os), identity);
    INFO(xml);
    CHECK(has(xml, "<nvram>/b&amp;.fd</nvram>"));
    CHECK(read_domain(xml).nvram == "/b&.fd");
  }
}

TEST_CASE("the kernel of direct boot stays unless the clone brings its own") {
  const std::string source = domain_of("", "<os><type>hvm</type><kernel>/k</kernel><initrd>/i</initrd></os>");
  CHECK(has(clone_domain_xml(source, bare_clone()), "<kernel>/k</kernel><initrd>/i</initrd>"));
  CloneIdentity identity = bare_clone();
  identity.kernel = "/k2";
  identity.initrd = "/i2";
  CHECK(has(clone_domain_xml(source, identity), "<kernel>/k2</kernel><initrd>/i2</initrd>"));
}

TEST_CASE("the clone's seed takes the place of the source's, and of no other cdrom") {
  DomainConfig config = dev_config();
  config.seed = "/seed1.iso";
  config.extra_devices = {
      "<disk type='file' device='cdrom'><source file='/tools.iso'/><target dev='sdb' bus='sata'/></disk>"};
  const std::string source = to_domain_xml(config);
  const DomainFacts seeded = read_domain(clone_domain_xml(source, dev_clone("/seed2.iso")));
  REQUIRE(seeded.disks.size() == 3);
  CHECK(seeded.disks[1].path == "/seed2.iso");
  CHECK(seeded.disks[2].path == "/tools.iso");
  const DomainFacts bare = read_domain(clone_domain_xml(source, dev_clone()));
  REQUIRE(bare.disks.size() == 2);
  CHECK(bare.disks[1].path == "/tools.iso");
}

TEST_CASE("a seed is added at a free target when somebody removed the source's drive") {
  CloneIdentity identity = bare_clone();
  identity.seed = "/seed2.iso";
  const std::string cdrom = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>";
  const DomainFacts facts = read_domain(clone_domain_xml(domain_of(cdrom), identity));
  REQUIRE(facts.disks.size() == 2);
  CHECK(facts.disks[1].target == "sdb");
  CHECK(facts.disks[1].path == "/seed2.iso");
}

TEST_CASE("two devices of a clone never log into one file") {
  const std::string xml =
      clone_domain_xml(domain_of("<serial type='pty'><log file='/vms/a/console.log'/></serial>"
                                 "<serial type='file'><source path='/else/console.log'/></serial>"
                                 "<console type='pty'><log file='/vms/a/console.log'/><target type='serial'/></console>"
                                 "<console type='pty'><log file='/vms/a/hvc.log'/><target type='virtio'/></console>"
                                 "<channel type='unix'><source path='/my/agent.sock'/></channel>"
                                 "<serial type='unix'><source mode='bind' path='/my/serial.sock'/></serial>"),
                       bare_clone());
  CHECK(has(xml, "<serial type=\"pty\"><log file=\"/vms/b/console.log\"/>"));
  CHECK(has(xml, "<source path=\"/vms/b/console.log.serial\"/>"));
  CHECK(has(xml, "<log file=\"/vms/b/hvc.log\"/>"));
  CHECK(has(xml, "<channel type=\"unix\"/>"));
  CHECK(has(xml, "<source mode=\"bind\" path=\"/vms/b/serial.sock\"/>"));
}

TEST_CASE("ports and context ids that only one machine can have are chosen anew") {
  const std::string xml = clone_domain_xml(
      domain_of("<graphics type='vnc' port='5901' socket='/s'><listen type='socket' socket='/s'/></graphics>"
                "<vsock><cid auto='no' address='5'/></vsock>"
                "<tpm><backend type='emulator'><source type='file' path='/tpm/a'/></backend></tpm>"),
      bare_clone());
  CHECK(has(xml, "<graphics type=\"vnc\" autoport=\"yes\"><listen type=\"socket\"/></graphics>"));
  CHECK(has(xml, "<cid auto=\"yes\"/>"));
  CHECK(has(xml, "<backend type=\"emulator\"/>"));
}

TEST_CASE("a label that the user fixed stays, one that libvirt made goes") {
  const std::string source =
      "<domain><name>a</name><devices/>"
      "<seclabel type='static' model='dac'><label>+1:+1</label></seclabel>"
      "<seclabel model='selinux'><baselabel>system_u</baselabel><label>made</label></seclabel>"
      "<seclabel type='dynamic' model='apparmor'><label>libvirt-made</label></seclabel></domain>";
  const std::string xml = clone_domain_xml(source, bare_clone());
  CHECK(has(xml, "<label>+1:+1</label>"));
  CHECK(has(xml, "<baselabel>system_u</baselabel>"));
  CHECK_FALSE(has(xml, "made"));
}

TEST_CASE("changing disk paths changes nothing else") {
  const std::string source =
      "<domain><name>a</name>\n <metadata><x:y xmlns:x='urn:x'> <backingStore/> &lt; </x:y></metadata>\n <devices>\n"
      "  <disk type='file'><source file='/1'><seclabel model='dac' relabel='no'/></source>"
      "<backingStore><source file='/0'/></backingStore><target dev='vda'/></disk>\n"
      "  <disk type='file'><source file='/2'/><backingStore/><target dev='vdb'/></disk>\n </devices></domain>";
  const std::string expected =
      "<domain><name>a</name>\n <metadata><x:y xmlns:x=\"urn:x\"> <backingStore/> &lt; </x:y></metadata>\n <devices>\n"
      "  <disk type=\"file\"><source file=\"/9&amp;\"><seclabel model=\"dac\" relabel=\"no\"/></source>"
      "<target dev=\"vda\"/></disk>\n"
      "  <disk type=\"file\"><source file=\"/2\"/><backingStore/><target dev=\"vdb\"/></disk>\n </devices></domain>\n";
  CHECK(with_disk_paths(source, {{"vda", "/9&"}}) == expected);
}

TEST_CASE("a disk that was not a file becomes one") {
  const std::string source = domain_of(
      "<disk type='network'><source protocol='rbd' name='p/i'><host name='h'/><seclabel model='dac' "
      "relabel='no'/></source>"
      "<target dev='vda'/></disk>");
  CHECK(has(with_disk_paths(source, {{"vda", "/f"}}),
            "<disk type=\"file\"><source file=\"/f\"><seclabel model=\"dac\" relabel=\"no\"/></source>"));
}

TEST_CASE("a disk's source with attributes of another namespace becomes a file, where it was waited for for ever") {
  const std::string source =
      domain_of("<disk type='block' xmlns:x='urn:x'><source dev='/dev/a' x:y='1'/><target dev='vda'/></disk>");
  CHECK(has(with_disk_paths(source, {{"vda", "/f"}}), "<source file=\"/f\"/>"));
}

TEST_CASE("disk paths for a target that is not there are refused") {
  const Error error = error_of([] { static_cast<void>(with_disk_paths(domain_of(""), {{"vdq", "/x"}})); });
  CHECK(error.code() == Errc::other);
  CHECK(std::string(error.what()) == "domain 'a' has no disk 'vdq'");
}

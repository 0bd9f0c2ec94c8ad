// SPDX-License-Identifier: Apache-2.0
#include "domain/domain_xml.hpp"
#include "golden/domain_goldens.hpp"
#include "support/catch.hpp"

using namespace vmgraft;

namespace {

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

Error refusal_of_extra(const std::string& element) {
  DomainConfig config = dev_config();
  config.extra_devices = {"<watchdog model='itco' action='reset'/>", element};
  return error_of([&] { static_cast<void>(to_domain_xml(config)); });
}

}  // namespace

TEST_CASE("four root ports stay free whatever the number of devices") {
  const std::string port = "model=\"pcie-root-port\"";
  DomainConfig config = dev_config();
  CHECK(count(to_domain_xml(config), port) == 1 + 1 + 3 + 4);  // disk, NIC, agent and balloon and rng, spare
  config.disks.push_back({"vdb", "/b.qcow2", "qcow2", "b"});
  config.extra_devices = {"<watchdog model='i6300esb' action='reset'/>"};
  CHECK(count(to_domain_xml(config), port) == 2 + 1 + 1 + 3 + 4);
}

TEST_CASE("a disk's serial is cut to the 20 bytes that virtio-blk carries") {
  DomainConfig config = dev_config();
  config.disks[0].serial = "123456789012345678901234567890";
  CHECK(count(to_domain_xml(config), "<serial>12345678901234567890</serial>") == 1);
}

TEST_CASE("disks are left alone by libvirt only where we set their access ourselves") {
  DomainConfig config = dev_config();
  CHECK(count(to_domain_xml(config), "<seclabel") == 0);
  config.own_labels = true;
  config.seed = "/seed.iso";
  CHECK(count(to_domain_xml(config), "<seclabel model=\"dac\" relabel=\"no\"/>") ==
        1);  // the seed is libvirt's to give
}

TEST_CASE("only the first disk is booted from, and none with a kernel given directly") {
  DomainConfig config = dev_config();
  config.disks.push_back({"vdb", "/b.qcow2", "qcow2", "b"});
  CHECK(count(to_domain_xml(config), "<boot order") == 1);
  config.firmware = Firmware::direct;
  config.kernel = "/k";
  const std::string xml = to_domain_xml(config);
  CHECK(count(xml, "<boot order") == 0);
  CHECK(count(xml, "<kernel>/k</kernel>") == 1);
  CHECK(count(xml, "<initrd>") == 0);
  CHECK(count(xml, "<nvram>") == 0);
}

TEST_CASE("software emulation keeps the HPET and takes all that QEMU can emulate") {
  DomainConfig config = dev_config();
  config.virt_type = "qemu";
  const std::string xml = to_domain_xml(config);
  CHECK(count(xml, "<cpu mode=\"maximum\"") == 1);
  CHECK(count(xml, "hpet") == 0);
}

TEST_CASE("an extra device that is not one element is refused by its index") {
  const Error error = refusal_of_extra("<sound");
  CHECK(error.code() == Errc::invalid_template);
  // What follows is libxml2's text, which its versions word differently.
  CHECK(std::string(error.what()).find("/vm/xml/1: '<sound' is not a device element: line 1: ") == 0);
  for (const char* wrong :
       {"", "  ", "text", "<a/><b/>", "<a></b>", "<a/>text", "<a x='1' x='2'/>", "<a>&nope;</a>",
        "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "<q:a/>",
        "<q:a xmlns:q='urn:q'/>", "<a xmlns='urn:q'/>", "<a><b xmlns:q='urn:q'/></a>", "<a xml:lang='en'/>"}) {
    INFO(wrong);
    const Error refused = refusal_of_extra(wrong);
    CHECK(refused.code() == Errc::invalid_template);
    CHECK(std::string(refused.what()).find("/vm/xml/1: ") == 0);
    CHECK(refused.hint().find("exactly one element") != std::string::npos);
  }
  CHECK(refusal_of_extra(std::string("<a/>\0<b/>", 9)).code() == Errc::invalid_template);
}

TEST_CASE("a console's password in a template is refused, and not shown") {
  const Error error = refusal_of_extra("<graphics type='vnc' passwd='hunter2'/>");
  CHECK(error.code() == Errc::invalid_template);
  CHECK(std::string(error.what()) ==
        "/vm/xml/1: <graphics> has a password, which the VM's records would hold in clear text");
  CHECK(std::string(refusal_of_extra("<a><b><c passwd=''/></b></a>").what()).find("/vm/xml/1: <a> has a password") == 0);
}

TEST_CASE("an extra device keeps its attributes, text and children") {
  DomainConfig config = dev_config();
  config.extra_devices = {"<a b='&lt;&amp;&#34;'><c>x &amp; y</c></a>"};
  CHECK(count(to_domain_xml(config), "<a b=\"&lt;&amp;&quot;\">\n      <c>x &amp; y</c>\n    </a>") == 1);
}

TEST_CASE("control characters are refused where replacing them would name another thing") {
  for (const char* bad : {"a\x01", "a\x1b[0m", "a\x7f", "a\xc2\x85", "a\xff", "a\xed\xa0\x80", "a\xef\xbf\xbf",
                          "a\xc0\xaf", "a\xf4\x90\x80\x80", "a\xe2\x82"}) {
    DomainConfig config = dev_config();
    config.name = bad;
    const Error named = error_of([&] { static_cast<void>(to_domain_xml(config)); });
    CHECK(named.code() == Errc::usage);
    CHECK(std::string(named.what()).find("domain XML: <name>: 'a") == 0);

    config = dev_config();
    config.disks[0].path = bad;
    const Error placed = error_of([&] { static_cast<void>(to_domain_xml(config)); });
    CHECK(placed.code() == Errc::usage);
    CHECK(std::string(placed.what()).find("domain XML: attribute 'file' of <source>: 'a") == 0);
  }
}

TEST_CASE("control characters are replaced in what only people read") {
  DomainConfig config = dev_config();
  config.title = "two\nlines\x02";
  config.description = "a\tb\nc\x03\xe2\x82";
  const std::string xml = to_domain_xml(config);
  CHECK(count(xml, "<title>two lines\xef\xbf\xbd</title>") == 1);
  CHECK(count(xml, "<description>a\tb\nc\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd</description>") == 1);
}

TEST_CASE("what reads the XML back gets the strings that went in") {
  DomainConfig config = dev_config();
  const std::string odd = "a<b>&amp;\"'\xc3\xa9 ]]> <!-- x";
  config.name = odd;
  config.store = "/" + odd;
  config.disks[0].path = "/" + odd;
  config.nvram = "/" + odd;
  const DomainFacts facts = read_domain(to_domain_xml(config));
  CHECK(facts.name == odd);
  CHECK(facts.store == "/" + odd);
  CHECK(facts.disks[0].path == "/" + odd);
  CHECK(facts.nvram == "/" + odd);
}

TEST_CASE("machines other than q35 on x86_64 are refused") {
  DomainConfig config = dev_config();
  config.machine = "pc-i440fx-7.2";
  Error error = error_of([&] { static_cast<void>(to_domain_xml(config)); });
  CHECK(error.code() == Errc::invalid_template);
  CHECK(std::string(error.what()) == "/vm/machine: 'pc-i440fx-7.2' is not supported");
  CHECK(error.hint() == "use 'q35', or a version of it such as 'pc-q35-7.2'");
  config = dev_config();
  config.arch = "aarch64";
  error = error_of([&] { static_cast<void>(to_domain_xml(config)); });
  CHECK(error.code() == Errc::invalid_template);
}

TEST_CASE("an isolated network has DHCP and no way out") {
  const std::string xml = isolated_network_xml("vmgraft-isolated", "vmgraft0", 77);
  CHECK(xml ==
        "<network>\n"
        "  <name>vmgraft-isolated</name>\n"
        "  <bridge name=\"vmgraft0\" stp=\"off\" delay=\"0\"/>\n"
        "  <ip address=\"192.168.77.1\" netmask=\"255.255.255.0\">\n"
        "    <dhcp>\n"
        "      <range start=\"192.168.77.2\" end=\"192.168.77.254\"/>\n"
        "    </dhcp>\n"
        "  </ip>\n"
        "</network>\n");
  const Error error = error_of([] { static_cast<void>(isolated_network_xml("n", "b", 256)); });
  CHECK(error.code() == Errc::usage);
  CHECK(std::string(error.what()) == "network 'n': 192.168.256.0 is not an address");
}

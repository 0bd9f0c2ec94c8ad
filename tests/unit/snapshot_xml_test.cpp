// SPDX-License-Identifier: Apache-2.0
#include "libvirt/snapshot_xml.hpp"

#include "support/catch.hpp"

using namespace vmgraft;

TEST_CASE("an overlay snapshot names the switched disks with their files and the others as left alone") {
  const std::string xml =
      overlay_snapshot_xml({{"vda", "/s/layers/b.qcow2", true}, {"vdb", "/s/layers/c.qcow2", false}}, {"vdc", "sda"});
  CHECK(xml ==
        "<domainsnapshot>\n"
        "  <disks>\n"
        "    <disk name='vda' snapshot='external' type='file'>\n"
        "      <driver type='qcow2'/>\n"
        "      <source file='/s/layers/b.qcow2'>\n"
        "        <seclabel model='dac' relabel='no'/>\n"
        "      </source>\n"
        "    </disk>\n"
        "    <disk name='vdb' snapshot='external' type='file'>\n"
        "      <driver type='qcow2'/>\n"
        "      <source file='/s/layers/c.qcow2'/>\n"
        "    </disk>\n"
        "    <disk name='vdc' snapshot='no'/>\n"
        "    <disk name='sda' snapshot='no'/>\n"
        "  </disks>\n"
        "</domainsnapshot>\n");
}

TEST_CASE("a memory snapshot names its file besides the disks") {
  CHECK(memory_snapshot_xml("/s/a & b/memory", {{"vda", "/s/layers/b.qcow2", false}}, {"sda"}) ==
        "<domainsnapshot>\n"
        "  <memory snapshot='external' file='/s/a &amp; b/memory'/>\n"
        "  <disks>\n"
        "    <disk name='vda' snapshot='external' type='file'>\n"
        "      <driver type='qcow2'/>\n"
        "      <source file='/s/layers/b.qcow2'/>\n"
        "    </disk>\n"
        "    <disk name='sda' snapshot='no'/>\n"
        "  </disks>\n"
        "</domainsnapshot>\n");
}

TEST_CASE("an attribute keeps every character that XML can hold") {
  CHECK(escape_attribute("a&b <c> 'd' \"e\"") == "a&amp;b &lt;c&gt; &apos;d&apos; &quot;e&quot;");
  CHECK(escape_attribute("t\tn\nr\r") == "t&#9;n&#10;r&#13;");
  CHECK(escape_attribute("größe/日本") == "größe/日本");
  CHECK(escape_attribute("") == "");
}

TEST_CASE("a path with a byte that XML cannot hold is refused") {
  const Error error = error_of([] { static_cast<void>(overlay_snapshot_xml({{"vda", "/s/\x01.qcow2", false}}, {})); });
  CHECK(error.code() == Errc::other);
  CHECK(std::string(error.what()).find("byte 0x01 cannot be written in XML") != std::string::npos);
}

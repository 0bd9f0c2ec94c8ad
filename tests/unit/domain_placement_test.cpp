// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "domain/domain_xml.hpp"
#include "domain/placement.hpp"
#include "domain/xml_tree.hpp"
#include "model/size.hpp"
#include "support/catch.hpp"
#include "support/source_tree.hpp"

using namespace vmgraft;

namespace {

/// 16 vCPUs, 64 GiB, two virtio disks; PCI controllers 0 to 10, of which 7 to 10 are spare, in slots 1 and 2.
std::string definition() {
  return read_text(source_path("tests/data/domain/gpu_train_inactive.xml"));
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), by);
}

PassedGpu gpu(const std::string& address) {
  PassedGpu passed;
  passed.functions = {{address, true, 0}};
  return passed;
}

Placement with_gpus(std::vector<PassedGpu> gpus) {
  Placement placement;
  placement.gpus = std::move(gpus);
  placement.is_kvm = true;
  return placement;
}

/// Everything, on one cell.
Placement tuned() {
  Placement placement = with_gpus({gpu("0000:41:00.0")});
  placement.gpus[0].guest_cell = 0;
  HostTuning& tuning = placement.tuning;
  tuning.cells.push_back({{}, 64 * kGiB, 1});
  for (unsigned i = 0; i < 16; ++i) {
    tuning.cells[0].vcpus.push_back(i);
    tuning.vcpus.push_back({i, {34 + i}});
  }
  tuning.emulator_cpus = {32, 33, 96};
  tuning.iothreads = 2;
  tuning.huge_page = kGiB;
  tuning.memory_nodes = {1};
  tuning.locked = true;
  tuning.prealloc_threads = 16;
  return placement;
}

/// The XML in one line, so that a test can look for a piece of it.
std::string flat(const std::string& xml) {
  std::string line;
  bool is_start = true;
  for (const char c : xml) {
    if (c == '\n') {
      is_start = true;
    } else if (c != ' ' || !is_start) {
      line += c;
      is_start = false;
    }
  }
  return line;
}

bool has(const std::string& xml, const std::string& piece) {
  UNSCOPED_INFO("looked for: " << piece);
  UNSCOPED_INFO(xml);
  return flat(xml).find(piece) != std::string::npos;
}

std::string placed(const Placement& placement) {
  return with_placement(definition(), placement);
}

std::string refusal(const std::string& xml, const Placement& placement) {
  const Error error = error_of([&] { static_cast<void>(with_placement(xml, placement)); });
  CHECK(error.code() == Errc::other);
  return error.what();
}

/// "bus/slot/function" of each device; fails when two are alike.
std::set<std::string> guest_addresses(const std::string& xml) {
  const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
  std::set<std::string> addresses;
  for (const xmlNode* device : xml::children(xml::child(xml::root_of(document), "devices"))) {
    const xmlNode* address = xml::child(device, "address");
    if (xml::attribute_or_empty(address, "type") != "pci") continue;
    std::string place;
    for (const char* key : {"bus", "slot", "function"}) place += xml::attribute_or_empty(address, key) + "/";
    INFO(place);
    CHECK(addresses.insert(place).second);
  }
  return addresses;
}

std::vector<std::string> missed(const std::string& xml) {
  return read_placement_notes(xml).second;
}

}  // namespace

TEST_CASE("a GPU stands on a root port of its own, in a fresh slot of the root bus") {
  const std::string xml = placed(with_gpus({gpu("0000:41:00.0"), gpu("0000:c1:1f.7")}));
  CHECK(has(xml, R"(<controller type="pci" index="11" model="pcie-root-port"><model name="pcie-root-port"/>)"
                 R"(<address type="pci" domain="0x0000" bus="0x00" slot="0x03" function="0x0" multifunction="on"/>)"));
  CHECK(has(xml, R"(<controller type="pci" index="12" model="pcie-root-port"><model name="pcie-root-port"/>)"
                 R"(<address type="pci" domain="0x0000" bus="0x00" slot="0x03" function="0x1"/>)"));
  CHECK(has(xml, R"(<hostdev mode="subsystem" type="pci" managed="no"><driver name="vfio"/>)"
                 R"(<source><address domain="0x0000" bus="0x41" slot="0x00" function="0x0"/></source>)"
                 R"(<alias name="ua-gpu0-0"/><rom bar="off"/>)"
                 R"(<address type="pci" domain="0x0000" bus="0x0b" slot="0x00" function="0x0"/></hostdev>)"));
  CHECK(has(xml, R"(<address domain="0x0000" bus="0xc1" slot="0x1f" function="0x7"/></source><alias name="ua-gpu1-0"/>)"));
  guest_addresses(xml);
}

TEST_CASE("sixteen GPUs find room beside what is there") {
  std::vector<PassedGpu> gpus;
  for (char i = '0'; i <= '9'; ++i) gpus.push_back(gpu(std::string("0000:4") + i + ":00.0"));
  for (char i = 'a'; i <= 'f'; ++i) gpus.push_back(gpu(std::string("0000:4") + i + ":00.0"));
  const std::size_t before = guest_addresses(definition()).size();
  // 16 ports and 16 GPUs more, one balloon less.
  const std::string xml = placed(with_gpus(gpus));
  CHECK(guest_addresses(xml).size() == before + 31);
  CHECK_FALSE(has(xml, R"(function="0x8")"));
}

TEST_CASE("a root bus without a free slot is said") {
  std::string devices;
  for (unsigned slot = 1; slot < 31; ++slot) {
    devices += "<rng><address type='pci' bus='0x00' slot='" + std::to_string(slot) + "' function='0x0'/></rng>";
  }
  const std::string xml =
      "<domain><name>a</name><devices><controller type='pci' index='0' model='pcie-root'/>" + devices +
      "</devices></domain>";
  CHECK(refusal(xml, with_gpus({gpu("0000:41:00.0")})) ==
        "the VM's PCI root bus has no free slot for another root port");
}

TEST_CASE("companions share the GPU's slot, and one that the guest need not see has none") {
  PassedGpu card = gpu("0000:41:00.0");
  card.functions.push_back({"0000:41:00.1", true, 1});
  card.functions.push_back({"0000:41:00.2", false, 2});
  const std::string xml = placed(with_gpus({card}));
  CHECK(has(xml, R"(<alias name="ua-gpu0-0"/><rom bar="off"/><address type="pci" domain="0x0000" bus="0x0b" slot="0x00" )"
                 R"(function="0x0" multifunction="on"/>)"));
  CHECK(has(xml, R"(<alias name="ua-gpu0-1"/><rom bar="off"/><address type="pci" domain="0x0000" bus="0x0b" slot="0x00" )"
                 R"(function="0x1"/>)"));
  CHECK(has(xml, R"(<alias name="ua-gpu0-2"/><rom bar="off"/><address type="unassigned"/>)"));
  const std::vector<DomainHostdev> hostdevs = read_hostdevs(xml);
  REQUIRE(hostdevs.size() == 3);
  CHECK(hostdevs[2].alias == "ua-gpu0-2");
  CHECK(hostdevs[2].address == "0000:41:00.2");
}

TEST_CASE("a GPU alone in the guest's slot is no multifunction device, whatever else is taken along") {
  PassedGpu card = gpu("0000:41:00.0");
  card.functions.push_back({"0000:41:00.1", false, 1});
  CHECK(has(placed(with_gpus({card})), R"(bus="0x0b" slot="0x00" function="0x0"/></hostdev>)"));
}

TEST_CASE("the ROM stays only where it is asked for") {
  PassedGpu card = gpu("0000:41:00.0");
  card.rom_bar = true;
  CHECK_FALSE(has(placed(with_gpus({card})), "<rom bar="));
}

TEST_CASE("a mediated device stands on a root port too") {
  PassedGpu mediated;
  mediated.mdev = "c2177883-f1bb-47f0-914d-32a22e3a8804";
  const std::string xml = placed(with_gpus({mediated}));
  CHECK(has(xml, R"(<hostdev mode="subsystem" type="mdev" model="vfio-pci"><source>)"
                 R"(<address uuid="c2177883-f1bb-47f0-914d-32a22e3a8804"/></source><alias name="ua-gpu0-0"/>)"
                 R"(<address type="pci" domain="0x0000" bus="0x0b" slot="0x00" function="0x0"/></hostdev>)"));
  REQUIRE(read_hostdevs(xml).size() == 1);
  CHECK(read_hostdevs(xml)[0].mdev == mediated.mdev);
  CHECK(read_hostdevs(xml)[0].address.empty());

  CHECK(refusal(definition(), with_gpus({PassedGpu{}})) ==
        "a mediated device of the VM has no UUID: it was not made yet");
}

TEST_CASE("what is no address of a function is refused") {
  CHECK(refusal(definition(), with_gpus({gpu("41:00")})) ==
        "'41:00' is not the address of a PCI function (want 0000:41:00.0)");
}

TEST_CASE("a GPU of a guest cell stands on that cell's own root bus") {
  Placement placement = with_gpus({gpu("0000:9b:00.0"), gpu("0000:1b:00.0"), gpu("0000:9c:00.0")});
  placement.gpus[0].guest_cell = 1;
  placement.gpus[1].guest_cell = 0;
  placement.gpus[2].guest_cell = 1;
  std::vector<unsigned> first, second;
  for (unsigned i = 0; i < 8; ++i) {
    first.push_back(i);
    second.push_back(8 + i);
  }
  placement.tuning.cells = {{first, 32 * kGiB, 0}, {second, 32 * kGiB, 1}};
  const std::string xml = placed(placement);
  CHECK(has(xml, R"(<controller type="pci" index="11" model="pcie-expander-bus"><model name="pxb-pcie"/>)"
                 R"(<target busNr="128"><node>0</node></target>)"
                 R"(<address type="pci" domain="0x0000" bus="0x00" slot="0x03" function="0x0"/>)"));
  CHECK(has(xml, R"(index="12" model="pcie-expander-bus"><model name="pxb-pcie"/><target busNr="192"><node>1</node>)"));
  CHECK(has(xml, R"(index="13" model="pcie-root-port"><model name="pcie-root-port"/>)"
                 R"(<address type="pci" domain="0x0000" bus="0x0c" slot="0x00" function="0x0"/>)"));
  CHECK(has(xml, R"(index="14" model="pcie-root-port"><model name="pcie-root-port"/>)"
                 R"(<address type="pci" domain="0x0000" bus="0x0b" slot="0x00" function="0x0"/>)"));
  CHECK(has(xml, R"(index="15" model="pcie-root-port"><model name="pcie-root-port"/>)"
                 R"(<address type="pci" domain="0x0000" bus="0x0c" slot="0x01" function="0x0"/>)"));
  CHECK(has(xml, R"(<numa><cell id="0" cpus="0-7" memory="33554432" unit="KiB"/>)"
                 R"(<cell id="1" cpus="8-15" memory="33554432" unit="KiB"/></numa>)"));
  // A socket for each, or Linux does not believe it.
  CHECK(has(xml, R"(<topology sockets="2" dies="1" cores="8" threads="1"/>)"));
  guest_addresses(xml);
}

TEST_CASE("sockets stay as they are where cells do not divide them, or the user chose") {
  Placement placement = tuned();
  placement.tuning.cells[0].vcpus.resize(9);
  placement.tuning.cells[0].memory = 32 * kGiB;
  placement.tuning.cells.push_back({{9, 10, 11, 12, 13, 14, 15}, 32 * kGiB, 0});
  CHECK(has(placed(placement), R"(<topology sockets="1" dies="1" cores="16" threads="1"/>)"));

  placement.tuning.cells[0].vcpus.resize(8);
  placement.tuning.cells[1].vcpus.push_back(8);
  const std::string threads = replaced(definition(), "cores='16' threads='1'", "cores='8' threads='2'");
  CHECK(has(with_placement(threads, placement), R"(<topology sockets="1" dies="1" cores="8" threads="2"/>)"));
}

TEST_CASE("a VM with a GPU has no balloon, and one without keeps it") {
  const std::string xml = placed(with_gpus({gpu("0000:41:00.0")}));
  CHECK(has(xml, R"(<memballoon model="none"/>)"));
  CHECK_FALSE(has(xml, R"(<memballoon model="virtio")"));
  CHECK(has(placed(with_gpus({})), R"(<memballoon model="virtio" freePageReporting="off">)"));
}

TEST_CASE("the CPU is the host's with its physical bits, and cannot migrate") {
  Placement placement = with_gpus({gpu("0000:41:00.0")});
  CHECK(has(placed(placement), R"(<cpu mode="host-passthrough" check="none" migratable="off">)"));
  CHECK_FALSE(has(placed(placement), "maxphysaddr"));
  placement.passthrough_physical_bits = true;
  CHECK(has(placed(placement), R"(<maxphysaddr mode="passthrough"/>)"));
  CHECK_FALSE(has(placed(placement), "hidden"));

  placement.is_kvm = false;
  CHECK_FALSE(has(placed(placement), "maxphysaddr"));
  CHECK(has(placed(placement), R"(migratable="on")"));
}

TEST_CASE("a CPU that the user chose is kept") {
  Placement placement = with_gpus({gpu("0000:41:00.0")});
  placement.passthrough_physical_bits = true;
  const std::string chosen = replaced(definition(), "mode='host-passthrough' check='none' migratable='on'>",
                                      "mode='custom'><model>EPYC</model><maxphysaddr mode='emulate' bits='46'/>");
  const std::string xml = with_placement(chosen, placement);
  CHECK(has(xml, R"(<cpu mode="custom"><model>EPYC</model><maxphysaddr mode="emulate" bits="46"/>)"));
  CHECK_FALSE(has(xml, "passthrough"));
}

TEST_CASE("pins, threads, memory and nodes are said") {
  const std::string xml = placed(tuned());
  CHECK(has(xml, R"(<memoryBacking><hugepages><page size="1048576" unit="KiB"/></hugepages><nosharepages/><locked/>)"
                 R"(<allocation mode="immediate" threads="16"/></memoryBacking>)"));
  CHECK(has(xml, R"(<cputune><vcpupin vcpu="0" cpuset="34"/><vcpupin vcpu="1" cpuset="35"/>)"));
  CHECK(has(xml, R"(<vcpupin vcpu="15" cpuset="49"/><emulatorpin cpuset="32-33,96"/>)"
                 R"(<iothreadpin iothread="1" cpuset="32-33,96"/><iothreadpin iothread="2" cpuset="32-33,96"/></cputune>)"));
  CHECK(has(xml, R"(<numatune><memory mode="strict" nodeset="1"/><memnode cellid="0" mode="strict" nodeset="1"/></numatune>)"));
  CHECK(has(xml, "<iothreads>2</iothreads>"));
  CHECK(has(xml, R"(detect_zeroes="unmap" iothread="1"/><source file="/var/lib/vmgraft/layers/aaaa.qcow2"/>)"));
  CHECK(has(xml, R"(detect_zeroes="unmap" iothread="2"/><source file="/var/lib/vmgraft/layers/bbbb.qcow2"/>)"));
  CHECK(missed(xml).empty());
  CHECK(read_pinned_cpus(xml).size() == 16);
  CHECK(read_pinned_cpus(xml).front() == 34);
}

TEST_CASE("CPUs that several vCPUs may run on are nobody's own") {
  CHECK(read_pinned_cpus("<domain><cputune><vcpupin vcpu='0' cpuset='9'/><vcpupin vcpu='1' cpuset='4'/>"
                         "<vcpupin vcpu='2' cpuset='0-3'/><vcpupin vcpu='3' cpuset='9'/>"
                         "<emulatorpin cpuset='7'/></cputune></domain>") == std::vector<unsigned>{4, 9});
}

TEST_CASE("no tuning leaves no trace") {
  const std::string xml = placed(with_gpus({gpu("0000:41:00.0")}));
  for (const char* name : {"<cputune", "<numatune", "<memoryBacking", "<iothreads", "iothread=", "<numa>", "pcihole64",
                           "qemu:", "pcie-expander-bus"}) {
    CHECK_FALSE(has(xml, name));
  }
}

TEST_CASE("what the user tuned is kept, and said") {
  std::string xml = replaced(definition(), "<vcpu placement='static'>16</vcpu>",
                             "<memoryBacking><hugepages/><source type='memfd'/><access mode='shared'/></memoryBacking>"
                             "<vcpu placement='static'>16</vcpu><iothreads>1</iothreads>"
                             "<cputune><shares>2048</shares><vcpupin vcpu='0' cpuset='5'/></cputune>"
                             "<numatune><memory mode='preferred' nodeset='0'/></numatune>");
  xml = with_placement(xml, tuned());
  CHECK(has(xml, R"(<memoryBacking><hugepages/><source type="memfd"/><access mode="shared"/><nosharepages/><locked/>)"));
  CHECK(has(xml, R"(<cputune><shares>2048</shares><vcpupin vcpu="0" cpuset="5"/><emulatorpin cpuset="32-33,96"/></cputune>)"));
  CHECK(has(xml, R"(<numatune><memory mode="preferred" nodeset="0"/></numatune>)"));
  CHECK(has(xml, "<iothreads>1</iothreads>"));
  CHECK_FALSE(has(xml, "iothread="));
  CHECK(missed(xml) == std::vector<std::string>{
                           "huge pages: the definition has its own <hugepages>, which is kept",
                           "memory on the GPUs' nodes: the definition has its own <numatune>, which is kept",
                           "pinned vCPUs: the definition has its own <vcpupin>, which is kept",
                           "iothreads: the definition has its own <iothreads>, which is kept"});
}

TEST_CASE("pins of I/O threads that the user made are kept, and said") {
  const std::string xml = replaced(definition(), "<vcpu placement='static'>16</vcpu>",
                                   "<vcpu placement='static'>16</vcpu>"
                                   "<cputune><iothreadpin iothread='1' cpuset='7'/></cputune>");
  const std::string placed = with_placement(xml, tuned());
  CHECK(has(placed, R"(<iothreadpin iothread="1" cpuset="7"/>)"));
  CHECK_FALSE(has(placed, R"(<iothreadpin iothread="2")"));
  CHECK(missed(placed) ==
        std::vector<std::string>{"the iothreads' pin: the definition has its own <iothreadpin>, which is kept"});
}

TEST_CASE("only virtio disks get an iothread, and one that has one keeps it") {
  std::string xml = replaced(definition(), "<target dev='vda' bus='virtio'/>", "<target dev='sda' bus='sata'/>");
  Placement placement = tuned();
  placement.tuning.iothreads = 4;
  CHECK(has(with_placement(xml, placement), R"(iothread="1"/><source file="/var/lib/vmgraft/layers/bbbb.qcow2"/>)"));
  xml = replaced(definition(), "detect_zeroes='unmap'/>", "detect_zeroes='unmap' iothread='3'/>");
  CHECK(has(with_placement(xml, placement), R"(iothread="3"/><source file="/var/lib/vmgraft/layers/aaaa.qcow2"/>)"));
}

TEST_CASE("the window is said to the root bus and, when asked, to OVMF") {
  Placement placement = with_gpus({gpu("0000:41:00.0")});
  placement.pci_hole64 = 256 * kGiB;
  const std::string xml = placed(placement);
  CHECK(has(xml, R"(<controller type="pci" index="0" model="pcie-root"><pcihole64 unit="KiB">268435456</pcihole64>)"));
  CHECK_FALSE(has(xml, "qemu:"));
  placement.ovmf_window = 262144;
  CHECK(has(placed(placement), R"(<qemu:commandline xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">)"
                               R"(<qemu:arg value="-fw_cfg"/>)"
                               R"(<qemu:arg value="name=opt/ovmf/X-PciMmio64Mb,string=262144"/></qemu:commandline>)"));
}

TEST_CASE("a window of the user's that is large enough is kept, and a smaller one refused") {
  Placement placement = with_gpus({gpu("0000:41:00.0")});
  placement.pci_hole64 = 256 * kGiB;
  placement.ovmf_window = 262144;
  const auto with_hole = [&](const std::string& size) {
    return replaced(definition(), "model='pcie-root'/>",
                    "model='pcie-root'><pcihole64 unit='KiB'>" + size + "</pcihole64></controller>");
  };
  CHECK(has(with_placement(with_hole("268435457"), placement), R"(<pcihole64 unit="KiB">268435457</pcihole64>)"));
  CHECK(refusal(with_hole("268435455"), placement) ==
        "GPUs of VM 'train-1': its definition has a PCI hole of 268435455 KiB, and its GPUs need 268435456 KiB");

  std::string own = replaced(definition(), "</devices>",
                             "</devices><q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
                             "<q:arg value='-fw_cfg'/><q:arg value='name=opt/ovmf/X-PciMmio64Mb,string=9'/>"
                             "</q:commandline>");
  own = with_placement(own, placement);
  CHECK(has(own, "string=9"));
  CHECK_FALSE(has(own, "string=262144"));
}

TEST_CASE("a GPUDirect clique is a property of the GPU's own device") {
  Placement placement = with_gpus({gpu("0000:41:00.0"), gpu("0000:42:00.0"), gpu("0000:43:00.0")});
  placement.gpus[0].clique = 0;
  placement.gpus[2].clique = 15;
  CHECK(has(placed(placement),
            R"(<qemu:override xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">)"
            R"(<qemu:device alias="ua-gpu0-0"><qemu:frontend>)"
            R"(<qemu:property name="x-nv-gpudirect-clique" type="unsigned" value="0"/></qemu:frontend></qemu:device>)"
            R"(<qemu:device alias="ua-gpu2-0"><qemu:frontend>)"
            R"(<qemu:property name="x-nv-gpudirect-clique" type="unsigned" value="15"/></qemu:frontend></qemu:device>)"
            R"(</qemu:override>)"));
}

TEST_CASE("notes are read back from the XML, and those of another start are gone") {
  Placement placement = with_gpus({});
  placement.done = {"vCPUs 0-3 on CPUs 1-4 of node 0", "a < b & c"};
  placement.not_done = {"no huge pages"};
  const std::string xml = placed(placement);
  CHECK(read_placement_notes(xml).first == placement.done);
  CHECK(read_placement_notes(xml).second == placement.not_done);
  CHECK(read_domain(xml).store == "/var/lib/vmgraft");
  placement.done = {"other"};
  placement.not_done.clear();
  CHECK(read_placement_notes(with_placement(xml, placement)).first == placement.done);
  CHECK(missed(with_placement(xml, placement)).empty());
  CHECK(read_placement_notes(definition()).first.empty());
  CHECK(read_placement_notes("<domain/>").second.empty());
}

TEST_CASE("a definition that does not fit the placement is refused") {
  CHECK(refusal("<domain><name>a</name><devices><controller type='pci' index='0' model='pci-root'/></devices></domain>",
                with_gpus({gpu("0000:41:00.0")})) == "GPUs of VM 'a': its definition has no pcie-root controller");
  const std::string fewer = replaced(definition(), "<vcpu placement='static'>16<", "<vcpu placement='static'>8<");
  CHECK(refusal(fewer, tuned()) == "GPUs of VM 'train-1': vCPU 8 is to be pinned, and its definition has 8 vCPUs");
  const std::string smaller = replaced(definition(), "<memory unit='KiB'>67108864<", "<memory unit='GiB'>32<");
  CHECK(refusal(smaller, tuned()) ==
        "GPUs of VM 'train-1': its NUMA cells hold 16 vCPUs and 64 GiB, and its definition says 16 and 32 GiB");
  const std::string cells = replaced(definition(), "</cpu>", "<numa><cell id='0' cpus='0-15' memory='1'/></numa></cpu>");
  CHECK(refusal(cells, tuned()) ==
        "GPUs of VM 'train-1': its definition has NUMA cells of its own (<cpu><numa>), and its GPUs want theirs");
  CHECK_NOTHROW(with_placement(cells, with_gpus({gpu("0000:41:00.0")})));
}

TEST_CASE("a device that the definition names itself is refused") {
  const auto with_device = [](const std::string& device) {
    return replaced(definition(), "<video>", device + "<video>");
  };
  const Placement placement = with_gpus({gpu("0000:41:00.0")});
  const std::string source = "<source><address domain='0x0000' bus='0x41' slot='0x00' function='0x0'/></source>";
  CHECK(refusal(with_device("<hostdev mode='subsystem' type='pci' managed='yes'>" + source + "</hostdev>"), placement) ==
        "GPUs of VM 'train-1': its definition names '0000:41:00.0' itself");
  CHECK(refusal(with_device("<rng><alias name='ua-gpu0-0'/></rng>"), placement) ==
        "GPUs of VM 'train-1': its definition names 'ua-gpu0-0' itself");
  CHECK_NOTHROW(with_placement(with_device("<rng><alias name='ua-gpu1-0'/></rng>"), placement));
}

TEST_CASE("a function is hot-plugged alone, whatever its number") {
  PassedGpu card = gpu("0000:41:00.0");
  card.functions.push_back({"0000:41:00.1", true, 1});
  CHECK(flat(hostdev_xml(card, 1, "ua-gpu2-1", 9)) ==
        R"(<hostdev mode="subsystem" type="pci" managed="no"><driver name="vfio"/>)"
        R"(<source><address domain="0x0000" bus="0x41" slot="0x00" function="0x1"/></source>)"
        R"(<alias name="ua-gpu2-1"/><rom bar="off"/>)"
        R"(<address type="pci" domain="0x0000" bus="0x09" slot="0x00" function="0x0"/></hostdev>)");
  PassedGpu mediated;
  mediated.mdev = "c2177883-f1bb-47f0-914d-32a22e3a8804";
  CHECK(has(hostdev_xml(mediated, 0, "ua-gpu0-0", 7), R"(bus="0x07" slot="0x00" function="0x0"/></hostdev>)"));
}

TEST_CASE("host devices are read from a domain of anybody's") {
  const std::vector<DomainHostdev> found = read_hostdevs(
      "<domain><devices>"
      "<hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x0a' slot='0x1f' function='0x3'/>"
      "</source><alias name='hostdev0'/><address type='pci' bus='0x05' slot='0x00' function='0x0'/></hostdev>"
      "<interface type='hostdev'><source><address type='pci' domain='10' bus='129' slot='0' function='1'/></source>"
      "</interface>"
      "<interface type='network'><source network='default'/></interface>"
      "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>"
      "<hostdev mode='subsystem' type='mdev'><source><address uuid='u-1'/></source></hostdev>"
      "</devices></domain>");
  REQUIRE(found.size() == 4);
  CHECK(found[0].alias == "hostdev0");
  CHECK(found[0].address == "0000:0a:1f.3");
  CHECK(found[1].alias.empty());
  CHECK(found[1].address == "000a:81:00.1");
  CHECK(found[2].address.empty());
  CHECK(found[2].mdev.empty());
  CHECK(found[3].mdev == "u-1");
}

TEST_CASE("root ports are free when nothing of the guest stands on them") {
  CHECK(read_guest_room(definition()).ports == std::vector<unsigned>{7, 8, 9, 10});
  // The balloon is gone and its port free; the GPU's is its own; the host's address of the GPU is no place in the guest.
  CHECK(read_guest_room(placed(with_gpus({gpu("0000:07:00.0")}))).ports == std::vector<unsigned>{5, 7, 8, 9, 10});
  CHECK(read_guest_room("<domain/>").ports.empty());
  const Error error = error_of([] {
    static_cast<void>(read_guest_room(
        "<domain><devices><controller type='pci' index='x' model='pcie-root-port'/></devices></domain>"));
  });
  CHECK(std::string(error.what()) == "domain XML: index of <controller> is 'x', which is no such number");
}

TEST_CASE("a running guest tells which free ports are of which NUMA cell, and how large its window is") {
  const GuestRoom plain = read_guest_room(definition());
  CHECK(plain.ports.size() == 4);
  CHECK(plain.cells.empty());
  CHECK_FALSE(plain.window);

  Placement placement = tuned();
  placement.pci_hole64 = 512 * kGiB;
  std::string xml = placed(placement);
  const std::size_t from = xml.find("<hostdev"), to = xml.find("</hostdev>");
  xml.erase(from, to - from);  // the guest has let its GPU go, and the port of its pxb is free
  xml.erase(xml.find("</hostdev>"), std::string("</hostdev>").size());
  const GuestRoom room = read_guest_room(xml);
  CHECK(room.window == 512 * kGiB);
  CHECK(room.cells == std::map<unsigned, unsigned>{{1, 0}});
  const auto of_cell = std::count_if(room.ports.begin(), room.ports.end(), [&](unsigned port) { return room.cell_of(port) == 0u; });
  CHECK(of_cell == 1);

  // One of the cell, then those of none; and of another cell only when there is nothing else.
  GuestRoom taken = room;
  const std::optional<unsigned> first = taken.take_port(0);
  REQUIRE(first);
  CHECK(room.cell_of(*first) == 0u);
  const std::optional<unsigned> second = taken.take_port(0);
  REQUIRE(second);
  CHECK_FALSE(room.cell_of(*second));
  taken = room;
  for (std::size_t left = room.ports.size(); left > 1; --left) CHECK_FALSE(room.cell_of(taken.take_port(std::nullopt).value()));
  CHECK(taken.take_port(std::nullopt) == first);
  CHECK_FALSE(taken.take_port(0));

  CHECK_FALSE(read_guest_room("<domain><devices><controller type='pci' index='0' model='pcie-root'><pcihole64 unit='KiB'>"
                              "99999999999999999999</pcihole64></controller></devices></domain>")
                  .window);
}

TEST_CASE("where a host device stands in the guest is read with it") {
  const std::string domain =
      "<domain type='qemu'><name>a</name><devices><hostdev mode='subsystem' type='pci' managed='no'><source><address "
      "domain='0x0000' bus='0x41' slot='0x00' function='0x1'/></source><alias name='ua-gpu0-1'/><address type='pci' "
      "domain='0x0000' bus='0x0b' slot='0x00' function='0x1'/></hostdev></devices></domain>";
  const std::vector<DomainHostdev> devices = read_hostdevs(domain);
  REQUIRE(devices.size() == 1);
  CHECK(devices[0].address == "0000:41:00.1");
  CHECK(devices[0].port == 11);
  CHECK(devices[0].guest_function == 1);
}

// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <filesystem>

#include <unistd.h>

#include "domain/domain_xml.hpp"
#include "golden/domain_goldens.hpp"
#include "support/catch.hpp"
#include "support/source_tree.hpp"

using namespace vmgraft;

namespace {

std::string recorded(const std::string& file) {
  return read_text(source_path("tests/data/domain/" + file));
}

std::uint64_t memory_of(const std::string& element) {
  return read_domain("<domain><name>a</name>" + element + "</domain>").memory;
}

Error refusal(const std::string& xml) {
  return error_of([&] { static_cast<void>(read_domain(xml)); });
}

}  // namespace

TEST_CASE("a running domain's facts are read from its live XML") {
  const DomainFacts facts = read_domain(recorded("dev_live.xml"));
  CHECK(facts.name == "dev-1");
  CHECK(facts.uuid == "4dea22b3-1d52-d8f3-2516-782e98ab3fa0");
  CHECK(facts.store == "/var/lib/vmgraft");
  CHECK(facts.template_name == "dev");
  CHECK(facts.template_digest == "00");
  CHECK(facts.virt_type == "qemu");
  CHECK(facts.cpus == 2);
  CHECK(facts.memory == std::uint64_t{512} << 20);
  CHECK(facts.nvram == "/var/lib/vmgraft/vms/dev-1/nvram.fd");
  CHECK(facts.tpm);
  CHECK(facts.agent_connected);
  REQUIRE(facts.disks.size() == 2);
  CHECK(facts.disks[0].target == "vda");
  CHECK(facts.disks[0].path == "/var/lib/vmgraft/layers/2222.qcow2");
  CHECK(facts.disks[0].format == "qcow2");
  CHECK(facts.disks[0].backing == std::vector<std::string>{"/var/lib/vmgraft/layers/1111.qcow2"});
  CHECK_FALSE(facts.disks[0].is_cdrom);
  CHECK(facts.disks[1].is_cdrom);
  CHECK(facts.disks[1].backing.empty());
  REQUIRE(facts.nics.size() == 1);
  CHECK(facts.nics[0].mac == "52:54:00:11:22:44");
  CHECK(facts.nics[0].type == "network");
  CHECK(facts.nics[0].source == "default");
}

TEST_CASE("an inactive domain has no agent and no chain to tell") {
  const DomainFacts facts = read_domain(recorded("dev_inactive.xml"));
  CHECK_FALSE(facts.agent_connected);
  REQUIRE(facts.disks.size() == 2);
  CHECK(facts.disks[0].backing.empty());
}

TEST_CASE("a long chain is read nearest first") {
  const DomainFacts facts = read_domain(
      "<domain><devices><disk><source file='/3'/><target dev='vda'/>"
      "<backingStore><source file='/2'/><backingStore><source dev='/dev/1'/><backingStore/></backingStore>"
      "</backingStore></disk></devices></domain>");
  REQUIRE(facts.disks.size() == 1);
  CHECK(facts.disks[0].backing == std::vector<std::string>{"/2", "/dev/1"});
}

TEST_CASE("a domain without our metadata is not ours, whatever it is called") {
  CHECK(read_domain("<domain><name>a</name></domain>").store.empty());
  CHECK(read_domain("<domain><metadata><vm store='/x'/></metadata></domain>").store.empty());
  CHECK(read_domain("<domain><metadata><v:vm xmlns:v='urn:other' store='/x'/></metadata></domain>").store.empty());
  CHECK(read_domain(
            "<domain><metadata><v:vm xmlns:v='https://vmgraft.org/xmlns/domain/1' store='/x'/></metadata></domain>")
            .store == "/x");
}

TEST_CASE("elements of another namespace are not libvirt's") {
  const DomainFacts facts = read_domain(
      "<domain xmlns:x='urn:x'><x:name>wrong</x:name><name>right</name>"
      "<devices><x:disk/><disk><x:target dev='wrong'/><target dev='vda'/></disk></devices></domain>");
  CHECK(facts.name == "right");
  REQUIRE(facts.disks.size() == 1);
  CHECK(facts.disks[0].target == "vda");
}

TEST_CASE("memory is read in each unit that libvirt takes") {
  CHECK(memory_of("<memory>4</memory>") == 4096);
  CHECK(memory_of("<memory unit='KiB'> 4 </memory>") == 4096);
  CHECK(memory_of("<memory unit='b'>1073741824</memory>") == std::uint64_t{1} << 30);
  CHECK(memory_of("<memory unit='GB'>2</memory>") == 2000000000);
  CHECK(memory_of("<memory unit='G'>2</memory>") == std::uint64_t{2} << 30);
  CHECK(memory_of("<memory unit='TiB'>2</memory>") == std::uint64_t{2} << 40);
}

TEST_CASE("numbers that are none are refused with their place") {
  const auto message = [](const std::string& inside) {
    return std::string(refusal("<domain>" + inside + "</domain>").what());
  };
  CHECK(message("<memory>-1</memory>") == "domain XML: <memory> is '-1', which is no such number");
  CHECK(message("<memory unit='EiB'>99</memory>") == "domain XML: <memory> is '99', which is no such number");
  CHECK(message("<memory unit='stone'>1</memory>") == "domain XML: <memory> has the unknown unit 'stone'");
  CHECK(message("<vcpu>4294967296</vcpu>") == "domain XML: <vcpu> is '4294967296', which is no such number");
  CHECK(message("<vcpu>2x</vcpu>") == "domain XML: <vcpu> is '2x', which is no such number");
}

TEST_CASE("only an emulated TPM counts, its state is the VM's") {
  const auto tpm = [](const std::string& type) {
    return read_domain("<domain><devices><tpm><backend type='" + type + "'/></tpm></devices></domain>").tpm;
  };
  CHECK(tpm("emulator"));
  CHECK_FALSE(tpm("passthrough"));
}

TEST_CASE("XML that is not a domain's is refused") {
  CHECK(std::string(refusal("<network/>").what()) == "domain XML cannot be read: it is a <network>, not a <domain>");
  CHECK(std::string(refusal("<domain>").what()).find("domain XML cannot be read: line 1: ") == 0);
  CHECK(refusal("").code() == Errc::other);
  CHECK(refusal("\xff\xfe").code() == Errc::other);
  CHECK(refusal(std::string("<domain/>\0", 10)).code() == Errc::other);
  CHECK(std::string(refusal("<d:domain xmlns:d='urn:d'/>").what()).find("not a <domain>") != std::string::npos);
}

TEST_CASE("an undeclared prefix is refused, where a mere warning after it hid the error") {
  const std::string prefix = "<domain><v:vm/>";
  const std::string expected = "domain XML cannot be read: line 1: Namespace prefix v on vm is not defined";
  CHECK(refusal(prefix + "</domain>").what() == expected);
  CHECK(refusal(prefix + "<rng xmlns='h.'/></domain>").what() == expected);
}

TEST_CASE("hostile XML reads no file, expands no entity and is bounded in depth") {
  const std::string secret = (source_path("tests/data/domain/edited.xml")).string();
  CHECK(std::string(
            refusal("<!DOCTYPE domain [<!ENTITY x SYSTEM 'file://" + secret + "'>]><domain><name>&x;</name></domain>")
                .what()) == "domain XML cannot be read: a DOCTYPE is not accepted");
  std::string laughs = "<!DOCTYPE domain [<!ENTITY a0 'ha'>";
  for (int i = 1; i < 40; ++i) {
    const std::string below = "&a" + std::to_string(i - 1) + ";";
    laughs += "<!ENTITY a" + std::to_string(i) + " '" + below + below + "'>";
  }
  CHECK(refusal(laughs + "]><domain><name>&a39;</name></domain>").code() == Errc::other);
  std::string deep = "<domain>";
  for (int i = 0; i < 100000; ++i) deep += "<a>";
  CHECK(refusal(deep).code() == Errc::other);
}

TEST_CASE("libxml2 prints nothing about XML that it refuses") {
  std::FILE* caught = std::tmpfile();
  REQUIRE(caught != nullptr);
  std::fflush(stderr);
  const int kept = dup(STDERR_FILENO);
  dup2(fileno(caught), STDERR_FILENO);
  for (const char* bad : {"<domain", "<q:domain/>", "<domain>&x;</domain>", "<domain a='1' a='2'/>", "\xff"}) {
    static_cast<void>(refusal(bad));
  }
  std::fflush(stderr);
  dup2(kept, STDERR_FILENO);
  close(kept);
  std::fseek(caught, 0, SEEK_END);
  CHECK(std::ftell(caught) == 0);
  std::fclose(caught);
}

TEST_CASE("the QEMU user, the security model and KVM are read from the capabilities") {
  const std::string xml = recorded("capabilities.xml");
  HostFacts facts = read_capabilities(xml);
  CHECK(facts.arch == "x86_64");
  CHECK(facts.qemu_uid == 64055u);
  CHECK(facts.qemu_gid == 64055u);
  CHECK(facts.security_model == "none");
  CHECK(facts.has_kvm_domains);

  facts = read_capabilities(
      "<capabilities><host><cpu><arch>x86_64</arch></cpu><secmodel><model>apparmor</model></secmodel></host>"
      "<guest><arch name='i686'><domain type='kvm'/></arch></guest>"
      "<guest><arch name='x86_64'><domain type='qemu'/></arch></guest></capabilities>");
  CHECK_FALSE(facts.qemu_uid.has_value());
  CHECK(facts.security_model == "apparmor");
  CHECK_FALSE(facts.has_kvm_domains);
}

TEST_CASE("a session without security drivers has no QEMU user") {
  const HostFacts facts = read_capabilities("<capabilities><host><cpu><arch>x86_64</arch></cpu></host></capabilities>");
  CHECK_FALSE(facts.qemu_uid.has_value());
  CHECK_FALSE(facts.qemu_gid.has_value());
  CHECK(facts.security_model == "none");
}

TEST_CASE("the emulator, its firmware and its TPM are read from the domain capabilities") {
  const std::string xml = recorded("domain_capabilities.xml");
  const EmulatorFacts facts = read_domain_capabilities(xml);
  CHECK(facts.path == "/usr/bin/qemu-system-x86_64");
  CHECK(facts.loaders.size() == 3);
  CHECK(facts.tpm_emulator);
  CHECK_FALSE(
      read_domain_capabilities("<domainCapabilities><devices><tpm supported='no'/></devices></domainCapabilities>")
          .tpm_emulator);
  CHECK_FALSE(read_domain_capabilities("<domainCapabilities><devices><tpm supported='yes'><enum name='backendModel'>"
                                       "<value>passthrough</value></enum></tpm></devices></domainCapabilities>")
                  .tpm_emulator);
}

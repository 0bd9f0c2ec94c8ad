// SPDX-License-Identifier: Apache-2.0
// Each golden domain XML is defined on libvirt's test driver: its parser, not only its schema, takes it.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "domain/domain_xml.hpp"
#include "support/catch.hpp"
#include "support/source_tree.hpp"
#include "support/temp_folder.hpp"

namespace {

struct CloseConnection {
  void operator()(virConnect* connection) const noexcept { virConnectClose(connection); }
};
struct FreeDomain {
  void operator()(virDomain* domain) const noexcept { virDomainFree(domain); }
};
struct FreeNetwork {
  void operator()(virNetwork* network) const noexcept { virNetworkFree(network); }
};
using Domain = std::unique_ptr<virDomain, FreeDomain>;

/// A test:///FILE connection: private to it, unlike test:///default.
class TestDriver {
 public:
  TestDriver() {
    virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});  // libvirt prints by itself otherwise
    const std::filesystem::path file = folder_ / "node.xml";
    std::ofstream(file)
        << "<node><cpu><mhz>2000</mhz><model>x86_64</model><active>2</active><nodes>1</nodes>"
           "<sockets>1</sockets><cores>2</cores><threads>1</threads></cpu><memory>8388608</memory></node>";
    connection_.reset(virConnectOpen(("test://" + file.string()).c_str()));
  }

  [[nodiscard]] virConnect* get() const { return connection_.get(); }

 private:
  TempFolder folder_;
  std::unique_ptr<virConnect, CloseConnection> connection_;
};

std::string last_error() {
  const virError* error = virGetLastError();
  return error == nullptr ? "no error" : error->message;
}

}  // namespace

TEST_CASE("each golden domain XML can be defined, and says the same afterwards") {
  std::size_t defined = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_path("tests/golden/domain"))) {
    INFO(entry.path().string());
    const TestDriver driver;  // one each: the clones share a name
    REQUIRE(driver.get() != nullptr);
    const std::string xml = read_text(entry.path());
    const Domain domain(virDomainDefineXMLFlags(driver.get(), xml.c_str(), VIR_DOMAIN_DEFINE_VALIDATE));
    INFO(last_error());
    CHECK(domain != nullptr);
    if (domain == nullptr) continue;
    ++defined;

    char* text = virDomainGetXMLDesc(domain.get(), VIR_DOMAIN_XML_INACTIVE);
    REQUIRE(text != nullptr);
    const vmgraft::DomainFacts asked = vmgraft::read_domain(xml);
    const vmgraft::DomainFacts kept = vmgraft::read_domain(text);
    std::free(text);
    CHECK(kept.name == asked.name);
    CHECK(kept.uuid == asked.uuid);
    CHECK(kept.store == asked.store);
    CHECK(kept.template_name == asked.template_name);
    CHECK(kept.memory == asked.memory);
    CHECK(kept.cpus == asked.cpus);
    CHECK(kept.nvram == asked.nvram);
    CHECK(kept.tpm == asked.tpm);
    REQUIRE(kept.disks.size() == asked.disks.size());
    for (std::size_t i = 0; i < kept.disks.size(); ++i) CHECK(kept.disks[i].path == asked.disks[i].path);
    REQUIRE(kept.nics.size() == asked.nics.size());
    for (std::size_t i = 0; i < kept.nics.size(); ++i) CHECK(kept.nics[i].mac == asked.nics[i].mac);
  }
  CHECK(defined >= 12);
}

TEST_CASE("the isolated network's XML can be defined") {
  const TestDriver driver;
  REQUIRE(driver.get() != nullptr);
  const std::string xml = vmgraft::isolated_network_xml("vmgraft-isolated", "vmgraft0", 77);
  const std::unique_ptr<virNetwork, FreeNetwork> network(
      virNetworkDefineXMLFlags(driver.get(), xml.c_str(), VIR_NETWORK_DEFINE_VALIDATE));
  INFO(last_error());
  CHECK(network != nullptr);
}

// SPDX-License-Identifier: Apache-2.0
#include "gpu/capabilities.hpp"

#include "support/catch.hpp"
#include "support/fake_host.hpp"
#include "support/pci_config.hpp"

using namespace vmgraft;

namespace {

const std::string kPort = "0000:46:00.0";

struct Port {
  FakeHost host;
  explicit Port(const std::string& content) {
    host.add_pci_function(kPort, 12, "pci0000:40");
    host.add_file(host.pci_folder(kPort) + "/config", content);
  }
  [[nodiscard]] bool redirects() { return redirects_peers(host, kPort); }
  [[nodiscard]] bool ats() { return has_ats(host, kPort); }
};

}  // namespace

TEST_CASE("a port redirects when its ACS control says so, wherever in the chain that stands") {
  // What lspci -vvv shows as "ACSCap: ... ReqRedir+", "ACSCtl: ... ReqRedir+": control is the upper half of the word.
  const PciCapability aer{0x100, 0x01, 0, 0x148};
  CHECK(Port(pci_config({aer, {0x148, 0x0d, 0x001d005f, 0}})).redirects());
  CHECK(Port(pci_config({{0x100, 0x0d, 0x00040004, 0}})).redirects());
  CHECK_FALSE(Port(pci_config({aer, {0x148, 0x0d, 0x0001005f, 0}})).redirects());  // it could, and does not
  CHECK_FALSE(Port(pci_config({aer, {0x148, 0x0f, 0xffffffff, 0}})).redirects());
  CHECK_FALSE(Port(pci_config({aer, {0x148, 0x0d, 0x001d005f, 0}})).ats());
  CHECK(Port(pci_config({aer, {0x148, 0x0f, 0, 0}})).ats());
}

TEST_CASE("config space that is short, dead, absent or chained in a ring has no capability") {
  CHECK_FALSE(Port(pci_config({}, 64)).ats());                       // what others than root see
  CHECK_FALSE(Port(pci_config({}, 256)).ats());
  CHECK_FALSE(Port(pci_config({})).ats());
  CHECK_FALSE(Port(std::string(4096, '\xff')).ats());
  CHECK_FALSE(Port(std::string(4096, '\xff')).redirects());
  CHECK_FALSE(Port(pci_config({{0x100, 0x01, 0, 0x148}, {0x148, 0x02, 0, 0x100}})).ats());
  CHECK_FALSE(Port(pci_config({{0x100, 0x01, 0, 0xffc}})).ats());
  CHECK_FALSE(Port(pci_config({{0x100, 0x01, 0, 0x040}, {0x040, 0x0f, 0, 0}})).ats());  // those below 0x100 are of another kind
  std::string cut = pci_config({{0x100, 0x0d, 0x00040004, 0}});
  cut.resize(0x106);
  CHECK_FALSE(Port(cut).redirects());
  FakeHost host;
  CHECK_FALSE(has_ats(host, kPort));
}

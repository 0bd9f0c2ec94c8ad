// SPDX-License-Identifier: Apache-2.0
#include "model/pci_address.hpp"

#include "support/catch.hpp"

using namespace vmgraft;

TEST_CASE("a PCI address may be whole or short, in either case, and comes out as sysfs writes it") {
  CHECK(parse_pci_address("0000:3b:00.0") == "0000:3b:00.0");
  CHECK(parse_pci_address("3b:00.0") == "0000:3b:00.0");
  CHECK(parse_pci_address("3B:1F.7") == "0000:3b:1f.7");
  CHECK(parse_pci_address("00AF:Ff:00.1") == "00af:ff:00.1");
}

TEST_CASE("what is not a PCI address is nothing") {
  for (const std::string& text :
       {std::string(""), std::string("3b:00"), std::string("3b:00.8"), std::string("3b:20.0"), std::string("3g:00.0"),
        std::string("0000:3b:00.00"), std::string("000:3b:00.0"), std::string(":3b:00.0"), std::string("0000-3b:00.0"),
        std::string("0000:3b-00.0"), std::string("0000:3b:00:0"), std::string(" 3b:00.0"), std::string("3b:00.0\n"),
        std::string("../../:3b:00"), std::string("3b:00\0", 6), std::string("H100"), std::string("10de:2330")}) {
    INFO(text);
    CHECK(!parse_pci_address(text));
  }
}

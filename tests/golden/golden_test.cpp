// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>

#include "golden/domain_goldens.hpp"
#include "host/linux_host.hpp"
#include "support/catch.hpp"
#include "support/source_tree.hpp"

using namespace vmgraft;

namespace {

std::filesystem::path golden_path(const std::string& name) {
  return source_path("tests/golden/domain/" + name + ".xml");
}

bool is_accepting() {
  const char* value = std::getenv("VMGRAFT_TEST_ACCEPT");
  return value != nullptr && std::string(value) == "1";
}

}  // namespace

TEST_CASE("each domain XML equals its golden file") {
  for (const DomainGolden& golden : domain_goldens()) {
    const std::filesystem::path path = golden_path(golden.name);
    INFO(path.string());
    if (is_accepting()) {
      std::ofstream(path, std::ios::binary) << golden.xml;
      FAIL_CHECK("written because VMGRAFT_TEST_ACCEPT=1: read the difference, then run again without it");
    } else if (!std::filesystem::exists(path)) {
      FAIL_CHECK("this golden file is missing; VMGRAFT_TEST_ACCEPT=1 writes it");
    } else {
      CHECK(golden.xml == read_text(path));
    }
  }
}

TEST_CASE("each golden file belongs to a domain XML") {
  std::set<std::string> names;
  for (const DomainGolden& golden : domain_goldens()) names.insert(golden.name);
  for (const auto& entry : std::filesystem::directory_iterator(source_path("tests/golden/domain"))) {
    INFO(entry.path().string());
    CHECK(names.count(entry.path().stem().string()) == 1);
  }
}

TEST_CASE("each golden domain XML is valid by libvirt's schema") {
  LinuxHost host;
  const std::filesystem::path validator = host.find_program("virt-xml-validate");
  if (validator.empty() || host.find_program("xmllint").empty()) {
    std::cout << "SKIPPED: golden files against libvirt's schema: virt-xml-validate (libvirt-clients) or xmllint "
                 "(libxml2-utils) is not installed\n";
    return;
  }
  for (const DomainGolden& golden : domain_goldens()) {
    Command command;
    command.argv = {validator.string(), golden_path(golden.name).string(), "domain"};
    const CommandResult result = host.run(command);
    INFO(golden.name << ": " << result.out << result.err);
    CHECK(result.exit_code == 0);
  }
}

// SPDX-License-Identifier: Apache-2.0
#include <vmgraft/error.hpp>

#include "support/catch.hpp"

using namespace vmgraft;

TEST_CASE("each kind of error has its exit code and its word") {
  struct Row {
    Errc code;
    int exit;
    const char* word;
  };
  for (const Row& row :
       {Row{Errc::other, 1, "other"}, Row{Errc::usage, 2, "usage"}, Row{Errc::invalid_template, 3, "invalid_template"},
        Row{Errc::not_found, 4, "not_found"}, Row{Errc::conflict, 5, "conflict"},
        Row{Errc::host_unfit, 6, "host_unfit"}, Row{Errc::unreachable, 7, "unreachable"},
        Row{Errc::incomplete, 8, "incomplete"}, Row{Errc::interrupted, 130, "interrupted"}}) {
    CHECK(exit_code(row.code) == row.exit);
    CHECK(to_string(row.code) == row.word);
  }
}

TEST_CASE("what an error says is only its line") {
  Error error(Errc::conflict, "VM 'a' exists", "choose another name");
  error.add_context("while creating VM 'a'").add_context("while creating 3 VMs");
  CHECK(std::string(error.what()) == "VM 'a' exists");
  CHECK(error.hint() == "choose another name");
  CHECK(error.context() == std::vector<std::string>{"while creating VM 'a'", "while creating 3 VMs"});
  CHECK(error.code() == Errc::conflict);
  CHECK_FALSE(error.libvirt().has_value());
}

TEST_CASE("a leftover makes an error incomplete and keeps its first message") {
  Error error(Errc::unreachable, "libvirt does not answer");
  error.add_leftover("/store/layers/x.qcow2");
  CHECK(error.code() == Errc::incomplete);
  CHECK(std::string(error.what()) == "libvirt does not answer");
  CHECK(error.leftovers() == std::vector<std::string>{"/store/layers/x.qcow2"});
}

TEST_CASE("the libvirt cause is kept whole") {
  Error error(Errc::other, "no");
  error.set_libvirt({42, 10, 2, "Domain not found"});
  REQUIRE(error.libvirt().has_value());
  CHECK(error.libvirt()->code == 42);
  CHECK(error.libvirt()->domain == 10);
  CHECK(error.libvirt()->level == 2);
  CHECK(error.libvirt()->message == "Domain not found");
}

TEST_CASE("a template error says file, line and pointer") {
  const TemplateError error("ci.json", 12, "/vm/gpus/0/model", "'10de:' is not a PCI id (want vvvv:dddd)",
                            "look at it");
  CHECK(std::string(error.what()) == "ci.json:12: /vm/gpus/0/model: '10de:' is not a PCI id (want vvvv:dddd)");
  CHECK(error.code() == Errc::invalid_template);
  CHECK(error.file() == "ci.json");
  CHECK(error.line() == 12);
  CHECK(error.pointer() == "/vm/gpus/0/model");
  CHECK(error.hint() == "look at it");
  CHECK(std::string(TemplateError("a.json", 0, "/vm", "no").what()) == "a.json: /vm: no");
  CHECK(std::string(TemplateError("a.json", 3, "", "no").what()) == "a.json:3: no");
  CHECK(std::string(TemplateError("", 0, "", "no").what()) == "no");
}

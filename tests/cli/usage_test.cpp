// SPDX-License-Identifier: Apache-2.0
// What the command line refuses and how it says so. Nothing here needs libvirt or a store.
#include <iterator>
#include <sstream>

#include <vmgraft/version.hpp>

#include "cli/run_binary.hpp"
#include "support/catch.hpp"

using Words = std::vector<std::string>;

TEST_CASE("version prints name and number and asks neither libvirt nor the store") {
  const auto result = run_vmgraft({"version", "--connect", kNoLibvirt, "--store", "/nonexistent/store"});
  CHECK(result.exit_code == 0);
  CHECK(result.out == "vmgraft " + std::string(vmgraft::version()) + "\n");
  CHECK(result.err.empty());
  CHECK(run_vmgraft({"--version"}).out == result.out);
}

TEST_CASE("without arguments the help goes to stderr and the exit code is that of a usage error") {
  const auto result = run_vmgraft({});
  CHECK(result.exit_code == 2);
  CHECK(result.out.empty());
  CHECK(result.err.rfind("usage: vmgraft VERB", 0) == 0);
}

TEST_CASE("--help is a result: it goes to stdout with exit code 0") {
  const auto result = run_vmgraft({"--help"});
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  CHECK(result.out.rfind("usage: vmgraft VERB", 0) == 0);
  CHECK(run_vmgraft({"snapshot", "--help"}).out.find("snapshot create") != std::string::npos);
}

TEST_CASE("a usage error is one line with a hint, exit code 2 and an empty stdout") {
  struct Case {
    Words words;
    std::string err;
  };
  const std::vector<Case> cases{
      {{"craete"}, "unknown verb 'craete'\n  hint: did you mean 'create'?\n"},
      {{"snapshot", "lsit"}, "unknown verb 'snapshot lsit'\n  hint: did you mean 'list'?\n"},
      {{"snapshot"},
       "vmgraft snapshot needs a verb: create, list or delete\n  hint: `vmgraft snapshot --help` lists them\n"},
      {{"--json=x", "list"}, "--json takes no value\n  hint: `vmgraft --help` shows how it is used\n"},
      {{"create"}, "vmgraft create: TEMPLATE is required\n  hint: `vmgraft create --help` shows how it is used\n"},
      {{"create", "micro", "--conut", "3"},
       "vmgraft create: unknown option '--conut'\n  hint: did you mean '--count'?\n"},
      {{"create", "micro", "a", "b"},
       "vmgraft create: 'b' is one argument too many\n  hint: `vmgraft create --help` shows how it is used\n"},
      {{"create", "micro", ""}, "NAME is empty\n"},
      {{"create", "micro", "--count", "0"}, "--count: '0' is not a number from 1 to 1000\n"},
      {{"create", "micro", "--count", "1001"}, "--count: '1001' is not a number from 1 to 1000\n"},
      {{"create", "micro", "--count", "4294967297"}, "--count: '4294967297' is not a number from 1 to 1000\n"},
      {{"create", "micro", "--set", "memory"}, "--set: 'memory' is not PARAMETER=VALUE\n"},
      {{"create", "micro", "--set", "a=1", "--set", "a=2"}, "--set: 'a' is set twice\n"},
      {{"create", "micro", "--ttl", "soon"},
       "--ttl: 'soon' is not a duration\n  hint: write 90s, 5m, 8h, 2d or 1h30m; or never\n"},
      {{"create", "micro", "--on-expire", "destroy"}, "--on-expire: 'destroy' is not delete or stop\n"},
      {{"extend", "web", "0"}, "'0' is not a duration\n  hint: write 90s, 5m, 8h, 2d or 1h30m; or never\n"},
      {{"extend", "web", "nevr"}, "'nevr' is not a duration\n  hint: write 90s, 5m, 8h, 2d or 1h30m; or never\n"},
      {{"gc", "web"},
       "vmgraft gc: 'web' is one argument too many\n  hint: `vmgraft gc --help` shows how it is used\n"},
      {{"create", "micro", "--wait", "agen"},
       "--wait: 'agen' is not ready, agent, ssh or none\n  hint: did you mean 'agent'?\n"},
      {{"create", "micro", "--no-start", "--wait", "ssh"}, "--no-start and --wait exclude each other\n"},
      {{"create", "micro", "--no-start", "--explain"},
       "--explain explains nothing with --no-start: GPUs are chosen at the start\n"},
      {{"create", "micro", "--gpus", ""}, "--gpus is empty\n"},
      {{"create", "micro", "--gpus", "2", "--gpus", "modle=H100"},
       "--gpus 'modle=H100': there is no key 'modle' (want address, count, kind, model or numa)\n  hint: did you mean "
       "'model'?\n"},
      {{"snapshot", "create", "web", "--timeout", "5s"}, "--timeout waits for nothing without --memory\n"},
      {{"gpu", "lsit"}, "unknown verb 'gpu lsit'\n  hint: did you mean 'list'?\n"},
      {{"gpu", "check", "H100"},
       "'H100' is not a PCI address (want like 0000:41:00.0 or 41:00.0)\n  hint: `vmgraft gpu list` lists the GPUs\n"},
      {{"gpu", "return", "41:00.8"},
       "'41:00.8' is not a PCI address (want like 0000:41:00.0 or 41:00.0)\n  hint: `vmgraft gpu list` lists the "
       "GPUs\n"},
      {{"gpu", "attach", "web", "H100"},
       "SPEC 'H100': neither a count, a PCI address nor KEY=VALUE\n  hint: write model=H100\n"},
      {{"gpu", "attach", "web", "0"}, "SPEC asks for no GPU\n"},
      {{"gpu", "lend", "41:00.0", "--dry-run"},
       "vmgraft gpu lend has no plan to show: --dry-run does not go with it\n  hint: --dry-run goes with create, "
       "delete, "
       "snapshot create, snapshot delete, revert, clone or gc\n"},
      {{"create", "micro", "--print-xml", "--dry-run"}, "--print-xml and --dry-run exclude each other\n"},
      {{"clone", "a", "b", "--wait", "ssh"}, "--wait waits for nothing without --start\n"},
      {{"stop", "a", "--force", "--timeout", "5s"}, "--force and --timeout exclude each other\n"},
      {{"stop", "a", "--timeout", "1s", "--timeout", "2s"},
       "vmgraft stop: --timeout takes one value, and once\n  hint: `vmgraft stop --help` shows how it is used\n"},
      {{"revert", "web"},
       "'web' does not name a snapshot (want VM@SNAP)\n  hint: `vmgraft snapshot list VM` lists the snapshots of a "
       "VM\n"},
      {{"revert", "web@x", "--start", "--no-start"}, "--start and --no-start exclude each other\n"},
      {{"exec", "web"}, "no command was given\n  hint: put it behind '--': vmgraft exec web -- uptime\n"},
      {{"list", "--", "x"},
       "vmgraft list: '--' goes with exec and ssh only\n  hint: `vmgraft list --help` shows how it is used\n"},
      {{"start", "web", "--dry-run"},
       "vmgraft start has no plan to show: --dry-run does not go with it\n  hint: --dry-run goes with create, delete, "
       "snapshot create, snapshot delete, revert, clone or gc\n"},
      {{"image", "import", "f", "--format", "vdi"}, "--format: 'vdi' is not qcow2 or raw\n"},
      {{"--store", "", "list"}, "--store is empty\n"},
  };
  for (const Case& one : cases) {
    const auto result = run_vmgraft(one.words);
    INFO(result.err);
    CHECK(result.exit_code == 2);
    CHECK(result.out.empty());
    CHECK(result.err == "vmgraft: error: " + one.err);
  }
}

TEST_CASE("what an argument holds cannot write to the terminal") {
  const auto result = run_vmgraft({"\033[31mred"});
  CHECK(result.exit_code == 2);
  CHECK(result.err.find('\033') == std::string::npos);
}

TEST_CASE("a name that is not one is refused before anything is asked of libvirt or written") {
  const std::vector<std::string> names{"../etc",       "a/b", "/etc", std::string(300, 'a'),
                                       "w\xc3\xa4nde", "-",   "a b",  "a@b"};
  for (const std::string& name : names) {
    const auto result = run_vmgraft({"--connect", kNoLibvirt, "--store", "/nonexistent/store", "--templates",
                                     VMGRAFT_REPOSITORY "/templates", "create", "micro", name});
    INFO(name << ": " << result.err);
    CHECK(result.exit_code == 2);
    CHECK(result.out.empty());
  }
}

TEST_CASE("every verb explains itself and gives an example") {
  const std::string verbs = run_vmgraft({"__complete", "verbs", ""}).out;
  REQUIRE(!verbs.empty());
  std::istringstream lines(verbs);
  for (std::string verb; std::getline(lines, verb);) {
    std::istringstream parts(verb);
    Words words{std::istream_iterator<std::string>(parts), {}};
    words.push_back("--help");
    const auto result = run_vmgraft(words);
    INFO(verb);
    CHECK(result.exit_code == 0);
    CHECK(result.out.rfind("usage: vmgraft " + verb, 0) == 0);
    CHECK(result.out.find("example:\n  vmgraft " + verb) != std::string::npos);
  }
}

// SPDX-License-Identifier: Apache-2.0
// --json: exactly one record, success or failure, all fields always there.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include <vmgraft/version.hpp>

#include "cli/run_binary.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using nlohmann::json;

namespace {

const std::string kTemplates = VMGRAFT_REPOSITORY "/templates";

/// The record of a failure, its shape checked.
json failure_of(const std::vector<std::string>& words, int exit_code, const std::string& code) {
  const auto result = run_vmgraft(words);
  INFO(result.out << result.err);
  CHECK(result.exit_code == exit_code);
  json record = record_of(result);
  CHECK(record.size() == 4);
  CHECK(record.at("version") == 1);
  CHECK(record.at("ok") == false);
  CHECK(record.contains("result"));
  const json& error = record.at("error");
  CHECK(error.size() == 5);
  CHECK(error.at("code") == code);
  CHECK(error.at("message").is_string());
  CHECK(error.at("context").is_array());
  CHECK((error.at("hint").is_null() || error.at("hint").is_string()));
  CHECK(error.at("leftovers").is_array());
  // People read stderr, whatever stdout is for.
  CHECK(result.err.rfind("vmgraft: error: ", 0) == 0);
  return record;
}

json result_of(const std::vector<std::string>& words) {
  const auto result = run_vmgraft(words);
  INFO(result.out << result.err);
  CHECK(result.exit_code == 0);
  json record = record_of(result);
  CHECK(record.size() == 4);
  CHECK(record.at("version") == 1);
  CHECK(record.at("ok") == true);
  CHECK(record.at("error").is_null());
  return record.at("result");
}

}  // namespace

TEST_CASE("the record of a success is one line, with error null") {
  CHECK(run_vmgraft({"--json", "version"}).out ==
        R"({"version":1,"ok":true,"result":{"version":")" + std::string(vmgraft::version()) + "\"},\"error\":null}\n");
}

TEST_CASE("a usage error is a record too, wherever --json stands") {
  const json record = failure_of({"creat", "--json"}, 2, "usage");
  CHECK(record.at("result").is_null());
  CHECK(record.at("error").at("message") == "unknown verb 'creat'");
  CHECK(record.at("error").at("hint") == "did you mean 'create'?");
  CHECK(failure_of({"--json", "create", "micro", "--count", "x"}, 2, "usage").at("result").is_null());
  CHECK(failure_of({"--json"}, 2, "usage").at("result").is_null());
}

TEST_CASE("a libvirt that cannot be reached is exit code 7") {
  const TempFolder folder;
  const std::string bare = folder / "bare.json";
  std::ofstream(bare) << R"({"version": 1, "name": "bare", "vm": {"cpus": 1, "memory": "64MiB", "firmware": "bios"}})";
  failure_of({"--json", "--connect", kNoLibvirt, "--store", folder / "store", "create", bare, "x", "--dry-run"}, 7,
             "unreachable");
}

TEST_CASE("doctor tells what it could find out and fails as a host that is unfit") {
  const TempFolder folder;
  const json record =
      failure_of({"--json", "--connect", kNoLibvirt, "--store", folder / "store", "doctor"}, 6, "host_unfit");
  const json& checks = record.at("result").at("checks");
  REQUIRE(!checks.empty());
  for (const json& check : checks) {
    CHECK(check.size() == 4);
    for (const char* key : {"id", "health", "seen", "remedy"}) CHECK(check.contains(key));
    CHECK((check.at("health") == "ok") == check.at("remedy").is_null());
  }
}

TEST_CASE("check tells what it found without libvirt, and fails as a store that is not whole") {
  const TempFolder folder;
  const std::string store = folder / "store";
  CHECK(failure_of({"--json", "--connect", kNoLibvirt, "--store", store, "check"}, 4, "not_found").at("result").is_null());
  for (const char* const name : {"", "/layers", "/vms", "/vms/web", "/images", "/journal", "/locks", "/tmp"}) {
    std::filesystem::create_directory(store + name);
    std::filesystem::permissions(store + name, std::filesystem::perms::owner_all);
  }
  std::ofstream(store + "/version") << "1\n";
  const json record = failure_of({"--json", "--connect", kNoLibvirt, "--store", store, "check"}, 8, "incomplete");
  CHECK(record.at("error").at("message") == "the store is not whole: 1 check failed");
  const json& checks = record.at("result").at("checks");
  std::vector<std::string> lines;
  for (const json& check : checks) {
    CHECK(check.size() == 5);
    CHECK((check.at("health") == "ok") == check.at("remedy").is_null());
    lines.push_back(check.at("health").get<std::string>() + " " + check.at("id").get<std::string>() + " " +
                    check.at("place").get<std::string>());
  }
  CHECK(lines == std::vector<std::string>{"ok store store", "warn libvirt store", "fail vm-record VM web", "ok layers store"});
  const auto text = run_vmgraft({"--connect", kNoLibvirt, "--store", store, "check", "web", "--quick"});
  CHECK(text.exit_code == 8);
  CHECK(text.out.find("vm-record VM web fail") != std::string::npos);
  CHECK(text.out.find("vm-record, VM web: put back a copy of it") != std::string::npos);
  std::filesystem::remove(store + "/vms/web");
  CHECK(result_of({"--json", "--connect", kNoLibvirt, "--store", store, "check"}).at("checks").size() == 3);
  CHECK(std::filesystem::is_empty(store + "/locks"));
}

TEST_CASE("console has no record to give and says so") {
  failure_of({"--json", "console", "web"}, 2, "usage");
}

TEST_CASE("template list gives every shipped template with its parameters") {
  const json templates = result_of({"--json", "--templates", kTemplates, "template", "list"}).at("templates");
  std::vector<std::string> names;
  for (const json& one : templates) {
    names.push_back(one.at("name"));
    for (const char* key : {"name", "description", "file", "extends", "parameters"}) CHECK(one.contains(key));
    for (const json& parameter : one.at("parameters")) {
      for (const char* key : {"name", "type", "default_value", "required", "description"})
        CHECK(parameter.contains(key));
    }
  }
  for (const char* name : {"micro", "dev", "ci", "gpu-dev", "gpu-train", "inference"}) {
    INFO(name);
    CHECK(std::count(names.begin(), names.end(), name) == 1);
  }
}

TEST_CASE("template show prints what a template resolves to, with its parameters put in") {
  const json shown = result_of({"--json", "--templates", kTemplates, "template", "show", "micro"}).at("template");
  CHECK(shown.is_object());
  const auto text = run_vmgraft({"--templates", kTemplates, "template", "show", "micro"});
  CHECK(text.exit_code == 0);
  CHECK(json::parse(text.out) == shown);
}

TEST_CASE("an unknown template is not found, and the nearest is offered") {
  const json error =
      failure_of({"--json", "--templates", kTemplates, "template", "show", "micor"}, 4, "not_found").at("error");
  CHECK(error.at("hint") == "did you mean 'micro'?");
}

TEST_CASE("template check goes on after a failure, lists both and exits with the first failure's code") {
  const TempFolder folder;
  const std::string bad = folder / "bad.json";
  std::ofstream(bad) << "{ \"version\": 1,\n  \"name\": \"bad\",\n  \"vm\": { \"cpus\": \"many\" } }\n";
  const json record =
      failure_of({"--json", "--templates", kTemplates, "template", "check", bad, "micro"}, 3, "invalid_template");
  const json& result = record.at("result");
  REQUIRE(result.at("templates").size() == 1);
  CHECK(result.at("templates")[0].at("name") == "micro");
  REQUIRE(result.at("failed").size() == 1);
  CHECK(result.at("failed")[0].at("name") == bad);
  CHECK(result.at("failed")[0].at("error") == record.at("error"));
  const std::string message = record.at("error").at("message");
  CHECK(message.rfind(bad + ":3: /vm/cpus: ", 0) == 0);
}

TEST_CASE("completion answers from the store alone and never complains") {
  const TempFolder store;
  const std::string root = store.path().string();
  for (const char* folder : {"vms/web", "vms/db", "vms/half", "images"})
    std::filesystem::create_directories(store / folder);
  std::ofstream(store / "vms/web/vm.json") << R"({"name":"web","snapshots":[{"name":"clean"},{"name":"cuda"}]})";
  std::ofstream(store / "vms/db/vm.json") << "{ broken";
  std::ofstream(store / "images/micro.json") << "{}";
  const auto words = [&](const std::string& what, const std::string& prefix) {
    const auto result = run_vmgraft({"--store", root, "--connect", kNoLibvirt, "__complete", what, prefix});
    CHECK(result.exit_code == 0);
    CHECK(result.err.empty());
    return result.out;
  };
  CHECK(words("vms", "") == "db\nweb\n");
  CHECK(words("vms", "w") == "web\n");
  CHECK(words("snapshots", "web@c") == "web@clean\nweb@cuda\n");
  CHECK(words("snapshots", "web@cl") == "web@clean\n");
  CHECK(words("refs", "") == "db\nweb\nweb@clean\nweb@cuda\n");
  CHECK(words("images", "") == "micro\n");
  CHECK(words("nothing", "").empty());
  std::filesystem::remove_all(store / "vms");
  CHECK(words("vms", "").empty());
}

// bash's compgen expands the words that it is given: a folder of that name ran its command at a press of TAB.
TEST_CASE("completion offers no word that a shell would expand") {
  const TempFolder store;
  for (const char* name : {"$(touch x)", "`id`", "a;b", "a\nb", "a*", "${HOME}", "plain"}) {
    std::filesystem::create_directories(store.path() / "vms" / name);
    std::ofstream(store.path() / "vms" / name / "vm.json")
        << R"json({"snapshots":[{"name":"$(touch x)"},{"name":"clean"}]})json";
  }
  const auto words = [&](const std::string& what) {
    return run_vmgraft({"--store", store.path().string(), "--connect", kNoLibvirt, "__complete", what, ""}).out;
  };
  CHECK(words("vms") == "plain\n");
  CHECK(words("snapshots") == "plain@clean\n");
}

namespace {

/// What the program shows on a terminal.
std::string shown(const std::vector<std::string>& arguments) {
  vmgraft::Command command;
  std::string line = std::getenv("VMGRAFT_BINARY");
  for (const std::string& argument : arguments) line += " '" + argument + "'";
  command.argv = {"script", "-qec", line, "/dev/null"};  // of util-linux: a terminal
  command.environment = {"VMGRAFT_TEMPLATES=", "LC_ALL=C.UTF-8"};
  return vmgraft::LinuxHost().run(command).out;
}

/// A template whose description would steer a terminal.
void write_odd_template(const TempFolder& folder) {
  std::ofstream(folder / "odd.json") << "{\"version\": 1, \"name\": \"odd\", \"description\": \"a\xc2\x9b"
                                        "31mb\xe2\x80\xae\", \"vm\": {\"memory\": \"1GiB\"}}";
}

}  // namespace

// JSON leaves C1 controls and bidi overrides as they are.
TEST_CASE("a record on a terminal holds nothing that would steer it") {
  const TempFolder folder;
  write_odd_template(folder);
  const std::vector<std::string> arguments{"--json", "--templates", folder.path().string(), "template", "list"};
  const std::string piped = run_vmgraft(arguments).out;
  CHECK(piped.find("\xc2\x9b") != std::string::npos);  // a program gets it as it is
  const std::string text = shown(arguments);
  CHECK(text.find("\"odd\"") != std::string::npos);
  CHECK(text.find("\\u009b31mb\\u202e") != std::string::npos);
  CHECK(text.find("\xc2\x9b") == std::string::npos);
}

// It is what one looks at a stranger's template with.
TEST_CASE("a template that is shown on a terminal holds nothing that would steer it") {
  const TempFolder folder;
  write_odd_template(folder);
  const std::vector<std::string> arguments{"--templates", folder.path().string(), "template", "show", "odd"};
  CHECK(run_vmgraft(arguments).out.find("\xc2\x9b") != std::string::npos);
  const std::string text = shown(arguments);
  CHECK(text.find("\"description\": \"a\\xc2\\x9b31mb") != std::string::npos);
  CHECK(text.find("\xc2\x9b") == std::string::npos);
  CHECK(text.find("\xe2\x80\xae") == std::string::npos);
}

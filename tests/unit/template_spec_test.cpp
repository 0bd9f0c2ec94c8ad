// SPDX-License-Identifier: Apache-2.0
// Resolved JSON -> VmSpec.
#include "support/catch.hpp"

#include "template/template.hpp"

using namespace vmgraft;

namespace {

TemplateLibrary valid() {
  return TemplateLibrary({std::filesystem::path(VMGRAFT_TEST_DATA) / "templates/valid"});
}

VmSpec spec_of(const std::string& vm) {
  return parse_spec(R"({"name": "t", "version": 1, "vm": {"memory": "1GiB", )" + vm + "}}", "vm.json");
}

std::string spec_error(const std::string& text) {
  return error_of([&] { static_cast<void>(parse_spec(text, "vm.json")); }).what();
}

}  // namespace

TEST_CASE("every key of a template arrives in the spec") {
  const VmSpec spec = valid().resolve("everything", {}, {"vm-1"}).spec;
  CHECK(spec.template_name == "everything");
  CHECK(spec.description == "Every key that there is");
  CHECK(spec.cpus == 4096);
  CHECK(spec.memory == std::uint64_t{1} << 44);
  CHECK(spec.machine == "pc-q35-7.2");
  CHECK(spec.firmware == Firmware::uefi);
  CHECK(spec.accel == Accel::kvm);
  CHECK(spec.tuning == Tuning::strict);
  CHECK(spec.gpudirect);
  CHECK(spec.tpm);
  CHECK(spec.secure_boot);
  CHECK(spec.release == GpuRelease::driver);
  CHECK(spec.xml == std::vector<std::string>{"<watchdog model='itco' action='reset'/>"});
  REQUIRE(spec.disks.size() == 2);
  CHECK(spec.disks[0].name == "root");
  CHECK(spec.disks[0].image == "debian-12");
  CHECK(spec.disks[0].size == std::uint64_t{60} << 30);
  CHECK(spec.disks[0].snapshot);
  CHECK(spec.disks[1].image.empty());
  CHECK(spec.disks[1].size == 1048576 + 512);  // a whole sector
  CHECK_FALSE(spec.disks[1].snapshot);
  REQUIRE(spec.networks.size() == 4);
  CHECK(spec.networks[0].kind == NetworkKind::nat);
  CHECK(spec.networks[1].kind == NetworkKind::isolated);
  CHECK(spec.networks[2].kind == NetworkKind::user);
  CHECK(spec.networks[3].kind == NetworkKind::bridge);
  CHECK(spec.networks[3].bridge == "br-lan.10");
  REQUIRE(spec.gpus.size() == 3);  // the entry with count 0 is not there
  CHECK(spec.gpus[0].count == 2);
  CHECK(spec.gpus[0].model == "H100 (SXM5/80)");
  CHECK(spec.gpus[0].numa == NumaPolicy::required);
  CHECK(spec.gpus[1].address == "0000:3b:00.0");
  CHECK(spec.gpus[1].kind == GpuKind::vf);
  CHECK(spec.gpus[1].numa == NumaPolicy::any);
  CHECK(spec.gpus[1].count == 1);
  CHECK(spec.gpus[2].model == "10de:26b9");
  CHECK(spec.gpus[2].kind == GpuKind::mdev);
}

TEST_CASE("guest and lifecycle arrive in the spec") {
  const VmSpec spec = valid().resolve("everything", {}, {"vm-1"}).spec;
  CHECK(spec.guest.hostname == "a.b-c.example");
  CHECK(spec.guest.user == "dev");
  CHECK(spec.guest.ssh_keys == std::vector<std::string>{"~/.ssh/id_ed25519.pub"});
  REQUIRE(spec.guest.files.size() == 2);
  CHECK(spec.guest.files[0].path == "/etc/motd");
  CHECK(spec.guest.files[0].content == "hello\n");
  CHECK(spec.guest.files[0].mode == "0644");
  CHECK(spec.guest.files[0].owner.empty());
  CHECK(spec.guest.files[1].mode == "4755");
  CHECK(spec.guest.files[1].owner == "dev:users");
  CHECK(spec.guest.run == std::vector<std::string>{"apt-get install -y build-essential", "echo $HOME"});
  CHECK(spec.lifecycle.ttl == std::chrono::seconds(86400 + 7200 + 180 + 4));
  CHECK(spec.lifecycle.on_expire == OnExpire::stop);
  CHECK(spec.lifecycle.ready == Ready::ssh);
  CHECK(spec.lifecycle.ready_timeout == std::chrono::seconds(90));
}

TEST_CASE("what a template leaves out has the documented default") {
  const VmSpec spec = valid().resolve("minimal", {}, {"vm-1"}).spec;
  CHECK(spec.template_name == "minimal");
  CHECK(spec.cpus == 1);
  CHECK(spec.memory == 16777216);
  CHECK(spec.machine == "q35");
  CHECK(spec.firmware == Firmware::bios);
  CHECK(spec.accel == Accel::automatic);
  CHECK(spec.tuning == Tuning::automatic);
  CHECK(spec.disks.empty());
  CHECK(spec.networks.empty());
  CHECK(spec.gpus.empty());
  CHECK_FALSE(spec.tpm);
  CHECK(spec.release == GpuRelease::reset);
  CHECK(spec.guest.hostname.empty());
  CHECK_FALSE(spec.lifecycle.ttl);
  CHECK(spec.lifecycle.ready == Ready::agent);
  CHECK(spec.lifecycle.ready_timeout == std::chrono::minutes(5));
  CHECK(spec.lifecycle.on_expire == OnExpire::remove);
}

TEST_CASE("memory is rounded up to a whole MiB") {
  CHECK(parse_spec(R"({"name": "t", "vm": {"memory": "1GB"}})", "x").memory == std::uint64_t{954} << 20);
  CHECK(parse_spec(R"({"name": "t", "vm": {"memory": 16777217}})", "x").memory == std::uint64_t{17} << 20);
}

TEST_CASE("the limits of numbers are exact") {
  CHECK(spec_of(R"("cpus": 1)").cpus == 1);
  CHECK(spec_of(R"("cpus": 4096)").cpus == 4096);
  CHECK(spec_error(R"({"name": "t", "vm": {"memory": "1GiB", "cpus": 4097}})") ==
        "vm.json:1: /vm/cpus: 4097 is out of range (want 1 to 4096)");
  CHECK(spec_error(R"({"name": "t", "vm": {"memory": 16777215}})") ==
        "vm.json:1: /vm/memory: 16777215 is out of range (want 16 MiB to 16 TiB)");
  CHECK(spec_error(R"({"name": "t", "vm": {"memory": 17592186044417}})") ==
        "vm.json:1: /vm/memory: 17592186044417 is out of range (want 16 MiB to 16 TiB)");
  CHECK(spec_error(R"({"name": "t", "vm": {"memory": 1e10}})") ==
        "vm.json:1: /vm/memory: 10000000000.0 is not a size (want bytes, or text like \"2GiB\")");
  CHECK(spec_error(R"({"name": "t", "vm": {"memory": "1GiB", "cpus": 2.0}})") ==
        "vm.json:1: /vm/cpus: 2.0 is not a whole number (want 1 to 4096)");
  CHECK(spec_of(R"("disks": [{"name": "a", "size": 1048576}])").disks[0].size == 1048576);
  CHECK(spec_of(R"("disks": [{"name": "a", "size": "1PiB"}])").disks[0].size == std::uint64_t{1} << 50);
}

TEST_CASE("machine names are q35 and its versions") {
  for (const std::string machine : {"q35", "pc-q35-7.2", "pc-q35-10.0.1"}) {
    CHECK(spec_of("\"machine\": \"" + machine + "\"").machine == machine);
  }
  for (const std::string machine : {"", "pc", "virt", "q35x", "pc-q35-", "pc-q35-7.2'/>", "Q35"}) {
    CHECK(spec_error(R"({"name": "t", "vm": {"memory": "1GiB", "machine": ")" + machine + "\"}}") ==
          "vm.json:1: /vm/machine: '" + machine +
              "' is not a machine type that is supported (want q35, or like pc-q35-7.2)");
  }
}

TEST_CASE("a GPU model is a name or a whole PCI id") {
  const auto model = [](const std::string& text) {
    return spec_of("\"gpus\": [{\"model\": \"" + text + "\"}]").gpus.at(0).model;
  };
  CHECK(model("10DE:2330") == "10de:2330");
  CHECK(model("A100-SXM4-80GB") == "A100-SXM4-80GB");
  CHECK(model("").empty());
  for (const std::string text : {"10de:", ":2330", "10de:233", "10de:23300", "10dg:2330", "10de:2330:00"}) {
    CHECK(spec_error(R"({"name": "t", "vm": {"memory": "1GiB", "gpus": [{"model": ")" + text + "\"}]}}") ==
          "vm.json:1: /vm/gpus/0/model: '" + text + "' is not a PCI id (want vvvv:dddd)");
  }
}

TEST_CASE("host names follow RFC 1123") {
  const auto guest = [](const std::string& name) {
    return R"({"name": "t", "vm": {"memory": "1GiB"}, "guest": {"hostname": ")" + name + "\"}}";
  };
  for (const std::string name : {"a", "3com", "a-b", "vm.example.org", "A", ""}) {
    CHECK(parse_spec(guest(name), "x").guest.hostname == name);
  }
  CHECK(parse_spec(guest(std::string(63, 'a')), "x").guest.hostname.size() == 63);
  for (const std::string name : {"-a", "a-", "a..b", ".a", "a.", "a_b", "a b", "a\\nb", "\xc3\xa9"}) {
    CHECK_THAT(spec_error(guest(name)), contains("is not a host name"));
  }
  CHECK_THAT(spec_error(guest(std::string(64, 'a'))), contains("is not a host name"));
}

TEST_CASE("a resolved text is read as strictly as a template") {
  CHECK(spec_error("{}") == "vm.json:1: 'name' is missing");
  CHECK(spec_error(R"({"name": "t"})") == "vm.json:1: 'vm' is missing");
  CHECK(spec_error(R"({"name": "t", "vm": {"memory": "1GiB"}, "extends": "x"})") ==
        "vm.json:1: /extends: unknown key 'extends'");
  CHECK(spec_error(R"({"name": "t", "vm": {"memory": "1GiB", "cpus": null}})") ==
        "vm.json:1: /vm/cpus: null is not a whole number (want 1 to 4096)");
  CHECK(spec_error(R"({"name": "t", "version": 2, "vm": {"memory": "1GiB"}})") ==
        "vm.json:1: /version: 2 is not a version of the format that is known (want 1)");
  CHECK(spec_error(R"({"name": "t", "vm": {"memory": "1GiB", "cpus": "${n}"}})") ==
        "vm.json:1: /vm/cpus: '${n}' is not a whole number (want 1 to 4096)");
  CHECK(error_of([] { static_cast<void>(parse_spec("[", "x")); }).code() == Errc::invalid_template);
}

TEST_CASE("hostile text in a value is not printed as it is") {
  CHECK(spec_error("{\"name\": \"t\", \"vm\": {\"memory\": \"\\u001b[2J\\u202e\"}}") ==
        "vm.json:1: /vm/memory: '\\x1b[2J\\xe2\\x80\\xae' is not a size (want bytes, or text like \"2GiB\")");
  CHECK(spec_error("{\"name\": \"t\", \"vm\": {\"memory\": \"1GiB\", \"a\\nb\": 1}}") ==
        "vm.json:1: /vm/a\\nb: unknown key 'a\\nb'");
}

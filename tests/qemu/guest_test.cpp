// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <iostream>

#include <fmt/format.h>

#include "host/sha256.hpp"
#include "qemu/lab.hpp"

using namespace vmgraft;

TEST_CASE("exec keeps stdin, stdout and stderr apart and passes the exit code on", "[session]") {
  Lab lab;
  const std::string vm = lab.name("exec");
  lab.vmgraft({"create", "micro", vm});
  const CommandResult result =
      lab.vmgraft({"exec", vm, "--", "/bin/sh", "-c", "cat; echo wrong >&2; exit 42"}, 42, "typed\n");
  CHECK(result.out == "typed\n");
  CHECK(result.err == "wrong\n");
  CHECK(lab.vmgraft({"exec", vm, "--", "echo", "a  b", "$HOME", "'q'"}).out == "a  b $HOME 'q'\n");
  CHECK(lab.vmgraft({"exec", vm, "--", "/bin/sh", "-c", "kill -9 $$"}, 137).out.empty());
  CHECK(lab.vmgraft({"exec", vm, "--", "/bin/sh", "-c", "exit 127"}, 127).err.empty());
  CHECK(lab.error({"exec", "--no-stdin", vm, "--", "no-such-command"}, 4).at("message") ==
        "VM '" + vm + "': 'no-such-command' is not a command in the guest");
  // More than one agent reply or one RPC message can hold.
  const std::string big(std::size_t{9} << 20, 'x');
  CHECK(lab.vmgraft({"exec", vm, "--", "cat"}, 0, big).out == big);
  CHECK(lab.error({"exec", "--no-stdin", "--timeout", "2s", vm, "--", "sleep", "60"}, 7).at("code") == "unreachable");
  CHECK(lab.guest(vm, "ps | grep -c '[s]leep 60' || true") == "0\n");
}

TEST_CASE("copy takes files and trees in both directions, byte for byte", "[session][long]") {
  Lab lab;
  const std::string vm = lab.name("copy");
  lab.vmgraft({"create", "micro", vm});
  const std::filesystem::path folder = lab.store() / "tmp" / vm;
  std::filesystem::create_directories(folder / "tree/sub");
  std::string content;
  for (unsigned i = 0; i < (3u << 20); ++i) content.push_back(static_cast<char>(i * 2654435761u >> 13));
  std::ofstream(folder / "tree/file", std::ios::binary) << content;
  std::ofstream(folder / "tree/sub/odd name") << "odd";
  lab.vmgraft({"copy", (folder / "tree/file").string(), vm + ":/root/file"});
  CHECK(lab.guest(vm, "sha256sum < /root/file").substr(0, 64) == sha256_text(content));
  const nlohmann::json sent = lab.json({"copy", (folder / "tree").string(), vm + ":/root/tree"});
  CHECK(sent.at("files") == 2);
  CHECK(lab.guest(vm, "cat '/root/tree/sub/odd name'") == "odd");
  lab.vmgraft({"copy", vm + ":/root/tree", (folder / "back").string()});
  CHECK(sha256_file(folder / "back/file") == sha256_text(content));
  CHECK(lab.error({"copy", vm + ":/no/such", (folder / "x").string()}, 4).at("code") == "not_found");
  CHECK_FALSE(std::filesystem::exists(folder / "x"));
  CHECK(lab.error({"copy", "a", "b"}, 2).at("code") == "usage");
  std::filesystem::remove_all(folder);
}

TEST_CASE("the guest section is applied once, at first boot", "[session]") {
  Lab lab;
  const std::string vm = lab.name("prov");
  lab.vmgraft({"create", "provisioned", vm});
  CHECK(lab.json({"show", vm}).at("vm").at("provisioned") == true);
  CHECK(lab.guest(vm, "hostname") == "prepared\n");
  CHECK(lab.guest(vm, "cat /root/steps") == "one\ntwo\n");
  CHECK(lab.guest(vm, "cat /etc/vmgraft-test; stat -c %a /etc/vmgraft-test") == "made by \"vmgraft\" & co\n640\n");
  CHECK(lab.guest(vm, "id -un worker && grep -c ssh-ed25519 ~worker/.ssh/authorized_keys") == "worker\n1\n");
  CHECK(lab.vmgraft({"exec", "--no-stdin", "--user", "worker", vm, "--", "id", "-un"}).out == "worker\n");
  lab.vmgraft({"restart", vm});
  CHECK(lab.guest(vm, "cat /root/steps") == "one\ntwo\n");
  const std::string clone = lab.name("prov-clone");
  lab.vmgraft({"clone", vm, clone, "--start"});
  CHECK(lab.guest(clone, "hostname; cat /root/steps") == clone + "\none\ntwo\n");
  CHECK(lab.guest(clone, "cat /etc/machine-id") != lab.guest(vm, "cat /etc/machine-id"));
}

TEST_CASE("a failing guest step fails create with its output, and the VM goes unless --keep", "[session][long]") {
  Lab lab;
  const std::string vm = lab.name("fail");
  const std::vector<std::string> before = lab.inventory();
  const nlohmann::json error =
      lab.error({"create", "provisioned", vm, "--set", "last=echo the reason >&2; exit 3"}, 1);
  CHECK(error.at("message").get<std::string>().find("guest step 3 of 3 failed with exit code 3") != std::string::npos);
  CHECK(error.dump().find("the reason") != std::string::npos);
  CHECK(lab.run({"virsh", "-c", lab.uri(), "dominfo", vm}).exit_code != 0);
  CHECK(lab.inventory() == before);
  lab.error({"create", "provisioned", vm, "--keep", "--set", "last=false"}, 1);
  CHECK(lab.virsh({"domstate", vm}).starts_with("running"));
  CHECK(lab.guest(vm, "cat /root/steps") == "one\ntwo\n");
}

TEST_CASE("a VM on the NAT network gets an address, and its NIC is the one it was given") {
  Lab lab;
  if (lab.is_session()) VMGRAFT_SKIP("a session has no NAT network");
  const std::string vm = lab.name("nat");
  lab.vmgraft({"create", "networks", vm});
  lab.guest(vm, "for i in $(seq 600); do ip -4 addr show | grep -q 192.168 && exit 0; usleep 100000; done; exit 1");
  const nlohmann::json nic = lab.json({"show", vm}).at("vm").at("networks").at(0);
  CHECK(nic.at("kind") == "nat");
  REQUIRE_FALSE(nic.at("addresses").empty());
  // Written by a helper of the DHCP server's, which the guest does not wait for.
  const std::string lease =
      "for i in $(seq 100); do virsh -c \"$0\" net-dhcp-leases default | grep -q \"$1\" && exit 0; sleep 0.1; done; "
      "exit 1";
  CHECK(lab.run({"/bin/sh", "-c", lease, lab.uri(), nic.at("mac").get<std::string>()}).exit_code == 0);
}

TEST_CASE("each kind of network is what it says") {
  Lab lab;
  const std::string user = lab.name("user");
  lab.vmgraft({"create", "networks", user, "--set", "kind=user"});
  CHECK(lab.virsh({"dumpxml", user}).find("<interface type='user'>") != std::string::npos);
  const std::string none = lab.name("none");
  lab.vmgraft({"create", "networks", none, "--no-start", "--set", "kind=none"});
  CHECK(lab.virsh({"dumpxml", none}).find("<interface") == std::string::npos);
  if (lab.is_session()) return;
  const std::string isolated = lab.name("isolated");
  lab.vmgraft({"create", "networks", isolated, "--set", "kind=isolated"});
  CHECK(lab.virsh({"net-dumpxml", "vmgraft-isolated"}).find("<forward") == std::string::npos);
}

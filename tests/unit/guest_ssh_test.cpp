// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "guest/provision.hpp"
#include "host/linux_host.hpp"
#include "support/catch.hpp"
#include "support/fake_agent.hpp"

using namespace vmgraft;

namespace {

const std::string kKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJHBXgbEm8sMbpRhMzIzHEGQHrhEXjbS0AXX8OyVvJ0k me@here";

void put(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
}

}  // namespace

TEST_CASE("keys are taken as text or read from files, each once") {
  const ScratchFolder folder;
  LinuxHost host;
  put(folder.path() / "id.pub", "# mine\n\n" + kKey + "\n");
  const std::vector<std::string> keys = read_ssh_keys(host, {kKey, (folder.path() / "id.pub").string()});
  CHECK(keys == std::vector<std::string>{kKey});
  CHECK(read_ssh_keys(host, {"from=\"10.0.0.0/8\" " + kKey}).size() == 1);
}

TEST_CASE("a key that is none says what is wrong with it") {
  const ScratchFolder folder;
  LinuxHost host;
  const auto refusal = [&](const std::string& key) {
    const Error error = error_of([&] { static_cast<void>(read_ssh_keys(host, {key})); });
    CHECK(error.code() == Errc::invalid_template);
    return std::string(error.what());
  };
  const std::string missing = (folder.path() / "no.pub").string();
  CHECK(refusal(missing) == "guest: ssh key '" + missing + "': there is no such file");
  const std::string private_key = (folder.path() / "id").string();
  put(private_key, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
  CHECK(refusal(private_key) == "guest: ssh key '" + private_key + "': it holds a private key");
  const std::string empty = (folder.path() / "empty").string();
  put(empty, "");
  CHECK(refusal(empty) == "guest: ssh key '" + empty + "': it holds no public key");
  CHECK(refusal("ssh-ed25519 AAAA") == "guest: ssh key 'ssh-ed25519 AAAA' is not a public key");
  CHECK(refusal("ssh-rsa " + kKey.substr(12)).find("is not a public key") != std::string::npos);
  CHECK(refusal(kKey + "\n" + kKey).find("is not a public key") != std::string::npos);
}

TEST_CASE("ssh reaches a VM with its own known_hosts and a checked host key") {
  const ScratchFolder folder;
  LinuxHost host;
  const std::vector<std::string> argv =
      ssh_argv(host, folder.path(), "web-1", "dev", "192.168.122.7", {"", kKey + "\n"}, {"uname", "-a"});
  const std::string config = (folder.path() / "ssh_config").string();
  CHECK(argv == std::vector<std::string>{"ssh", "-F", config, "web-1", "uname", "-a"});
  CHECK(host.read_file(folder.path() / "known_hosts") == "web-1 " + kKey + "\n");
  const std::string text = host.read_file(config).value();
  for (const std::string line : {"Host web-1\n", "  HostName 192.168.122.7\n", "  User dev\n", "  HostKeyAlias web-1\n",
                                 "  StrictHostKeyChecking yes\n", "  IdentitiesOnly no\n"}) {
    CHECK(text.find(line) != std::string::npos);
  }
  CHECK(text.find("UserKnownHostsFile \"" + (folder.path() / "known_hosts").string() + "\"\n") != std::string::npos);
}

TEST_CASE("ssh itself understands the configuration") {
  LinuxHost host;
  const std::filesystem::path ssh = host.find_program("ssh");
  if (ssh.empty()) {
    WARN("SKIPPED: no ssh client");
    return;
  }
  const ScratchFolder folder;
  const std::filesystem::path odd = folder.path() / "a 100% odd folder";
  host.make_folder(odd, 0700);
  const std::vector<std::string> argv = ssh_argv(host, odd, "web-1", "", "fe80::1%eth0", {"", kKey}, {});
  Command command;
  command.argv = {ssh.string(), "-G", "-F", argv[2], argv[3]};
  const CommandResult result = host.run(command);
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("hostname fe80::1%eth0\n") != std::string::npos);
  CHECK(result.out.find("user root\n") != std::string::npos);
  CHECK(result.out.find("stricthostkeychecking true\n") != std::string::npos);
  CHECK(result.out.find("userknownhostsfile " + odd.string()) != std::string::npos);
}

TEST_CASE("values that could change the meaning of an ssh configuration are refused") {
  const ScratchFolder folder;
  LinuxHost host;
  const auto refusal = [&](const std::string& user, const std::string& address, const std::string& key) {
    return error_of([&] {
             static_cast<void>(ssh_argv(host, folder.path(), "web-1", user, address, {"", key}, {}));
           })
        .code();
  };
  CHECK(refusal("a\n  ProxyCommand x", "10.0.0.1", kKey) == Errc::usage);
  CHECK(refusal("dev", "10.0.0.1 # \"", kKey) == Errc::usage);
  CHECK(refusal("dev", "-oProxyCommand=x", kKey) == Errc::usage);
  CHECK(refusal("dev", "10.0.0.1", kKey + "\n* " + kKey) == Errc::other);
  CHECK(refusal("dev", "10.0.0.1", "") == Errc::other);
  CHECK(host.list_folder(folder.path()).empty());
}

TEST_CASE("a host key is made that ssh knows") {
  LinuxHost host;
  if (host.find_program("ssh-keygen").empty()) {
    WARN("SKIPPED: no ssh-keygen");
    return;
  }
  const ScratchFolder folder;
  const HostKey key = make_host_key(host, folder.path());
  CHECK(key.private_key.rfind("-----BEGIN OPENSSH PRIVATE KEY-----\n", 0) == 0);
  CHECK(key.public_key.rfind("ssh-ed25519 ", 0) == 0);
  CHECK(key.public_key.back() == '\n');
  CHECK(host.list_folder(folder.path()).empty());
  CHECK(make_host_key(host, folder.path()).public_key != key.public_key);
}

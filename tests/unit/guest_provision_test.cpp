// SPDX-License-Identifier: Apache-2.0
#include "guest/provision.hpp"

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

#include "host/linux_host.hpp"
#include "support/catch.hpp"
#include "support/fake_agent.hpp"

using namespace vmgraft;
namespace fs = std::filesystem;

namespace {

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

unsigned mode_of(const fs::path& path) {
  struct stat facts {};
  return ::stat(path.c_str(), &facts) == 0 ? facts.st_mode & 07777u : 0u;
}

// A guest in a folder: a static busybox and a few files of /etc. Entering it takes root.
struct BusyboxGuest {
  ScratchFolder folder;
  fs::path root = folder.path();
  FakeAgent fake{root};
  GuestAgent agent{fake, "web-1", "uuid"};

  // Nothing where such a guest cannot be; the test then says so.
  static bool possible() {
    LinuxHost host;
    if (::geteuid() != 0 || host.find_program("busybox").empty()) return false;
    BusyboxGuest probe;
    GuestCommand command;
    command.argv = {"true"};
    try {
      return probe.agent.run(command).exit_code == 0;
    } catch (const Error&) {
      return false;
    }
  }

  BusyboxGuest() {
    for (const char* name : {"bin", "etc", "root", "tmp", "run", "proc", "dev", "home", "var/tmp"}) {
      fs::create_directories(root / name);
    }
    LinuxHost host;
    const fs::path busybox = host.find_program("busybox");
    fs::copy_file(busybox, root / "bin" / "busybox");
    Command list;
    list.argv = {busybox.string(), "--list"};
    std::string names = host.run(list).out;
    for (std::size_t end = names.find('\n'); end != std::string::npos; end = names.find('\n')) {
      const std::string name = names.substr(0, end);
      names.erase(0, end + 1);
      if (name != "busybox") fs::create_symlink("busybox", root / "bin" / name);
    }
    put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nold:x:1000:1000::/home/old:/bin/sh\n");
    put("etc/group", "root:x:0:\nold:x:1000:\n");
    put("etc/shadow", "root:*:19000:0:99999:7:::\n");
    put("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 before\n");
  }

  void put(const std::string& path, const std::string& text) const { std::ofstream(root / path) << text; }
  [[nodiscard]] std::string get(const std::string& path) const { return content_of(root / path); }
};

bool skipped() {
  static const bool possible = BusyboxGuest::possible();
  if (!possible) WARN("SKIPPED: a guest in a folder needs root, mounts and a static busybox");
  return !possible;
}

const HostKey kHostKey{"-----BEGIN OPENSSH PRIVATE KEY-----\nnot real\n", "ssh-ed25519 AAAA\n"};

ProvisionRequest full_request() {
  ProvisionRequest request;
  request.guest.hostname = "web.example.org";
  request.guest.user = "dev";
  request.guest.files = {{"/opt/app/deep/conf", "a=1\n", "0640", "dev:dev"}, {"/etc/motd", "hello\n", "0644", ""}};
  request.guest.run = {"echo one >>/root/steps", "echo \"$DEBIAN_FRONTEND\" >>/root/steps; id -u >>/root/steps"};
  request.ssh_keys = {"ssh-ed25519 KEYONE me@here", "ssh-ed25519 KEYTWO"};
  request.host_key = kHostKey;
  return request;
}

}  // namespace

TEST_CASE("provisioning sets up host name, user, keys, files and runs the steps") {
  if (skipped()) return;
  BusyboxGuest guest;
  ProvisionRequest request = full_request();
  std::vector<std::string> steps;
  request.on_step = [&](const std::string& step) { steps.push_back(step); };
  provision(guest.agent, request);
  CHECK(guest.get("etc/hostname") == "web.example.org\n");
  CHECK(guest.get("etc/hosts") == "127.0.0.1 localhost\n127.0.1.1 web.example.org web\n");
  CHECK(guest.get("etc/passwd").find("dev:x:1001:1001::/home/dev:/bin/sh\n") != std::string::npos);
  CHECK(guest.get("home/dev/.ssh/authorized_keys") == "ssh-ed25519 KEYONE me@here\nssh-ed25519 KEYTWO\n");
  CHECK(mode_of(guest.root / "home/dev/.ssh") == 0700);
  CHECK(mode_of(guest.root / "home/dev/.ssh/authorized_keys") == 0600);
  CHECK(guest.get("etc/ssh/ssh_host_ed25519_key") == kHostKey.private_key);
  CHECK(mode_of(guest.root / "etc/ssh/ssh_host_ed25519_key") == 0600);
  CHECK(guest.get("opt/app/deep/conf") == "a=1\n");
  CHECK(mode_of(guest.root / "opt/app/deep/conf") == 0640);
  struct stat facts {};
  REQUIRE(::stat((guest.root / "opt/app/deep/conf").c_str(), &facts) == 0);
  CHECK(facts.st_uid == 1001);
  CHECK(guest.get("root/steps") == "one\nnoninteractive\n0\n");
  CHECK(steps == std::vector<std::string>{"host name web.example.org", "user dev", "SSH keys", "SSH host key",
                                          "file /opt/app/deep/conf", "file /etc/motd",
                                          "run 1/2: echo one >>/root/steps",
                                          "run 2/2: echo \"$DEBIAN_FRONTEND\" >>/root/steps; id -u >>/root/steps"});
}

TEST_CASE("provisioning twice gives the same guest") {
  if (skipped()) return;
  BusyboxGuest guest;
  ProvisionRequest request = full_request();
  request.guest.run.clear();
  provision(guest.agent, request);
  std::vector<std::string> before;
  const std::array<const char*, 6> files{"etc/hosts", "etc/hostname", "etc/passwd",
                                         "etc/group", "etc/shadow",   "home/dev/.ssh/authorized_keys"};
  for (const char* file : files) before.push_back(guest.get(file));
  provision(guest.agent, request);
  for (std::size_t i = 0; i < files.size(); ++i) CHECK(guest.get(files[i]) == before[i]);
}

TEST_CASE("without a user root gets the keys, and without a host name the VM's name is used") {
  if (skipped()) return;
  BusyboxGuest guest;
  ProvisionRequest request;
  request.ssh_keys = {"ssh-ed25519 KEYONE"};
  provision(guest.agent, request);
  CHECK(guest.get("root/.ssh/authorized_keys") == "ssh-ed25519 KEYONE\n");
  CHECK(guest.get("etc/hostname") == "web-1\n");
}

TEST_CASE("a failing step names itself and shows the end of its output") {
  if (skipped()) return;
  BusyboxGuest guest;
  ProvisionRequest request;
  request.guest.run = {"true", "for i in 1 2 3; do echo line $i; done; echo 'no such package' >&2; exit 7\n# more",
                       "touch /no"};
  const Error error = error_of([&] { provision(guest.agent, request); });
  CHECK(error.code() == Errc::other);
  CHECK(std::string(error.what()) ==
        "VM 'web-1': guest step 2 of 3 failed with exit code 7: for i in 1 2 3; do echo line $i; done; echo 'no such "
        "package' >&2; exit 7");
  REQUIRE(error.context().size() == 4);
  CHECK(error.context()[0] == "output: line 1");
  CHECK(error.context()[3] == "output: no such package");
  CHECK_FALSE(fs::exists(guest.root / "no"));
}

TEST_CASE("a failing cloud-init is our failure, with its log") {
  if (skipped()) return;
  BusyboxGuest guest;
  guest.put("bin/cloud-init", "#!/bin/sh\necho status: error\nexit 1\n");
  fs::permissions(guest.root / "bin/cloud-init", fs::perms(0755));
  fs::create_directories(guest.root / "var/log");
  guest.put("var/log/cloud-init-output.log", "E: broken\n");
  ProvisionRequest request;
  request.wait_cloud_init = true;
  const Error error = error_of([&] { provision(guest.agent, request); });
  CHECK(std::string(error.what()) == "VM 'web-1': cloud-init failed on the first boot");
  REQUIRE(error.context().size() == 2);
  CHECK(error.context()[1] == "output: E: broken");
  guest.put("bin/cloud-init", "#!/bin/sh\nexit 0\n");
  provision(guest.agent, request);
  fs::remove(guest.root / "bin/cloud-init");
  provision(guest.agent, request);
}

TEST_CASE("what cannot be a host name, user or mode is refused before the guest is touched") {
  FakeAgent fake;
  GuestAgent agent(fake, "a", "uuid");
  const auto refusal = [&](const std::string& hostname, const std::string& user, const std::string& mode) {
    ProvisionRequest request;
    request.guest.hostname = hostname;
    request.guest.user = user;
    request.guest.files = {{"/f", "", mode, ""}};
    return error_of([&] { provision(agent, request); }).code();
  };
  CHECK(refusal("a b", "", "0644") == Errc::invalid_template);
  CHECK(refusal("-a", "", "0644") == Errc::invalid_template);
  CHECK(refusal("a", "dev;reboot", "0644") == Errc::invalid_template);
  CHECK(refusal("a", "0", "0644") == Errc::invalid_template);
  CHECK(refusal("a", "dev", "rw-r--r--") == Errc::invalid_template);
  CHECK(refusal("a", "dev", "0948") == Errc::invalid_template);
  CHECK(refusal("a", "dev", "10000") == Errc::invalid_template);
  CHECK(fake.log.empty());
}

TEST_CASE("a clone becomes another machine") {
  if (skipped()) return;
  BusyboxGuest guest;
  fs::create_directories(guest.root / "etc/ssh");
  fs::create_directories(guest.root / "var/lib/systemd");
  guest.put("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
  guest.put("etc/ssh/ssh_host_rsa_key", "of the source");
  guest.put("var/lib/systemd/random-seed", std::string(512, 'x'));
  renew_identity(guest.agent, "clone-2", kHostKey);
  CHECK(guest.get("etc/hostname") == "clone-2\n");
  const std::string id = guest.get("etc/machine-id");
  CHECK(id.size() == 33);
  CHECK(id.find_first_not_of("0123456789abcdef\n") == std::string::npos);
  CHECK(id != "0123456789abcdef0123456789abcdef\n");
  CHECK(mode_of(guest.root / "etc/machine-id") == 0444);
  CHECK_FALSE(fs::exists(guest.root / "etc/ssh/ssh_host_rsa_key"));
  CHECK(guest.get("etc/ssh/ssh_host_ed25519_key") == kHostKey.private_key);
  CHECK(guest.get("var/lib/systemd/random-seed").size() == 512);
  CHECK(guest.get("var/lib/systemd/random-seed") != std::string(512, 'x'));
  CHECK(guest.fake.clock > 1600000000000000000);
  renew_identity(guest.agent, "clone-3", kHostKey);
  CHECK(guest.get("etc/machine-id") != id);
}

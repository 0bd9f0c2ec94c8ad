// SPDX-License-Identifier: Apache-2.0
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <future>
#include <iostream>

#include "libvirt/libvirt_hypervisor.hpp"
#include "qemu/lab.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;

namespace {

/// A file system of a few megabytes, until the end of the scope.
class SmallDisk {
 public:
  SmallDisk(std::filesystem::path folder, const char* options) : folder_(std::move(folder)) {
    if (geteuid() != 0) {
      why_not_ = "only root can mount a small file system";
      return;
    }
    std::filesystem::create_directories(folder_);
    if (mount("none", folder_.c_str(), "tmpfs", 0, options) != 0) why_not_ = "tmpfs cannot be mounted here";
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (why_not_.empty()) CHECK(umount(folder_.c_str()) == 0);
  }

  /// Empty: it is there.
  [[nodiscard]] const std::string& why_not() const { return why_not_; }
  [[nodiscard]] const std::filesystem::path& path() const { return folder_; }

 private:
  std::filesystem::path folder_;
  std::string why_not_;
};

void expect_full(const nlohmann::json& error) {
  INFO(error.dump());
  const std::string message = error.at("message");
  CHECK((message.find("full") != std::string::npos || message.find("no space left") != std::string::npos));
  CHECK(error.at("hint").is_string());
}

}  // namespace

TEST_CASE("refusals change nothing and say what to do", "[session]") {
  Lab lab;
  const std::string vm = lab.name("refuse");
  lab.vmgraft({"create", "micro", vm, "--no-start"});
  lab.vmgraft({"snapshot", "create", vm, "first"});
  const std::vector<std::string> before = lab.inventory();
  const std::string domains = lab.virsh({"list", "--all", "--uuid"});
  struct Refusal {
    std::vector<std::string> arguments;
    int exit;
    std::string message;
    std::string hint;
  };
  const std::vector<Refusal> refusals = {
      {{"create", "micro", vm}, 5, "there is a VM '" + vm + "' already", "vmgraft delete"},
      {{"create", "micro", "../escape"}, 2, "'../escape'", ""},
      {{"create", "micro", std::string(300, 'a')}, 2, "", ""},
      {{"create", "micro", "m\u00fcnchen"}, 2, "", ""},
      {{"create", "micro", ""}, 2, "", ""},
      {{"create", "mikro", lab.name("x")}, 4, "mikro", "micro"},
      {{"create", "micro", lab.name("x"), "--set", "memroy=1GiB"}, 3, "memroy", "memory"},
      {{"create", "micro", lab.name("x"), "--set", "memory=-1"}, 3, "memory", ""},
      {{"create", "micro", lab.name("x"), "--set", "memory=1KiB"}, 3, "memory", ""},
      {{"show", vm + "x"}, 4, "'" + vm + "x'", vm},
      {{"clone", vm + "@frist", lab.name("x")}, 4, "no snapshot 'frist'", "first"},
      {{"clone", vm, vm}, 5, "there is a VM", ""},
      {{"snapshot", "create", vm, "first"}, 5, "already has a snapshot 'first'", ""},
      {{"snapshot", "create", vm, "a/b"}, 2, "a/b", ""},
      {{"revert", vm + "@frist"}, 4, "no snapshot 'frist'", "first"},
      {{"snapshot", "delete", vm + "@nope"}, 4, "no snapshot 'nope'", ""},
      {{"exec", "--no-stdin", vm, "--", "true"}, 5, "is not running", "vmgraft start"},
      {{"image", "build", "mikro"}, 4, "no recipe 'mikro'", "micro"},
      {{"image", "import", "/no/such/file"}, 4, "/no/such/file", ""},
      {{"image", "delete", "nope"}, 4, "nope", ""},
  };
  for (const Refusal& refusal : refusals) {
    std::string line;
    for (const std::string& argument : refusal.arguments) line += argument + " ";
    INFO(line);
    const nlohmann::json error = lab.error(refusal.arguments, refusal.exit);
    const std::string message = error.at("message");
    INFO(error.dump());
    CHECK(message.find(refusal.message) != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
    if (!refusal.hint.empty()) CHECK(error.at("hint").get<std::string>().find(refusal.hint) != std::string::npos);
  }
  CHECK(lab.inventory() == before);
  CHECK(lab.virsh({"list", "--all", "--uuid"}) == domains);
}

TEST_CASE("a domain that is not ours is never changed", "[session]") {
  Lab lab;
  const std::string foreign = lab.name("foreign");
  const std::string file = lab.store() / "tmp" / (foreign + ".xml");
  std::ofstream(file) << "<domain type='qemu'><name>" << foreign
                      << "</name><memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>";
  lab.virsh({"define", file});
  const std::string xml = lab.virsh({"dumpxml", "--inactive", foreign});
  CHECK(lab.error({"create", "micro", foreign}, 5).at("message").get<std::string>().find("is not of the store") !=
        std::string::npos);
  for (const char* verb : {"start", "stop", "delete", "show"}) lab.error({verb, foreign}, 4);
  lab.error({"snapshot", "create", foreign}, 4);
  CHECK(lab.virsh({"dumpxml", "--inactive", foreign}) == xml);
  lab.virsh({"undefine", foreign});
  std::filesystem::remove(file);
}

TEST_CASE("a VM that was undefined by other means is shown as missing, and can be deleted", "[session]") {
  Lab lab;
  const std::string vm = lab.name("lost");
  lab.vmgraft({"create", "micro", vm, "--no-start"});
  lab.virsh({"undefine", vm});
  CHECK(lab.json({"show", vm}).at("vm").at("state") == "missing");
  CHECK(lab.error({"start", vm}, 5).at("hint").get<std::string>().find("vmgraft delete") != std::string::npos);
  lab.vmgraft({"delete", vm});
  lab.error({"show", vm}, 4);
}

TEST_CASE("a disk that was moved on by virsh is noticed before anything is changed", "[session]") {
  Lab lab;
  const std::string vm = lab.name("virsh");
  lab.vmgraft({"create", "micro", vm, "--no-start"});
  lab.virsh({"snapshot-create-as", vm, "theirs", "--disk-only"});
  const nlohmann::json error = lab.error({"snapshot", "create", vm, "ours"}, 5);
  CHECK(error.at("message").get<std::string>().find("its disk vda is now") != std::string::npos);
  for (const auto& entry : std::filesystem::directory_iterator(lab.store() / "layers"))
    if (entry.path().extension() == ".theirs") std::filesystem::remove(entry.path());
  lab.virsh({"snapshot-delete", vm, "theirs", "--metadata"});
}

TEST_CASE("images: what is not one is refused, one in use loses its name but not its layer", "[session]") {
  Lab lab;
  const std::filesystem::path folder = lab.store() / "tmp/images-test";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "text.img") << "this is no disk image, only some text\n";
  CHECK(lab.error({"image", "import", (folder / "text.img").string()}, 2).at("message").get<std::string>().find("text.img") !=
        std::string::npos);
  REQUIRE(lab.run({"qemu-img", "create", "-q", "-f", "qcow2", (folder / "base.qcow2").string(), "1M"}).exit_code == 0);
  REQUIRE(lab.run({"qemu-img", "create", "-q", "-f", "qcow2", "-b", (folder / "base.qcow2").string(), "-F", "qcow2",
                   (folder / "child.qcow2").string()})
              .exit_code == 0);
  CHECK(lab.error({"image", "import", (folder / "child.qcow2").string()}, 2).at("message").get<std::string>().find("backing") !=
        std::string::npos);
  // The micro image's own file, under another name.
  const nlohmann::json micro = lab.json({"image", "list"}).at("images").at(0);
  const std::string layer = lab.store() / "layers" / (micro.at("layer").get<std::string>() + ".qcow2");
  lab.vmgraft({"image", "import", layer, "cloudy", "--cloud-init"});
  const std::string vm = lab.name("seeded");
  lab.vmgraft({"create", "seeded", vm, "--no-start"});
  CHECK(lab.run({"sh", "-c", "head -c 40000 \"$0\" | strings | grep -c cidata", lab.store() / "vms" / vm / "seed.iso"}).exit_code == 0);
  CHECK(lab.virsh({"dumpxml", vm}).find("seed.iso") != std::string::npos);
  CHECK(lab.json({"image", "delete", "cloudy"}).at("images").at(0).at("removed_layers").empty());
  lab.check_images(vm);
  const std::string clone = lab.name("seeded-clone");
  lab.vmgraft({"clone", vm, clone});
  CHECK(lab.read(lab.store() / "vms" / vm / "seed.iso") != lab.read(lab.store() / "vms" / clone / "seed.iso"));
  lab.vmgraft({"delete", vm, clone});
  lab.error({"image", "delete", "cloudy"}, 4);
  std::filesystem::remove_all(folder);
}

TEST_CASE("a disk full in the middle of a build or an import says so and leaves nothing") {
  Lab lab;
  const SmallDisk disk(lab.store() / "tmp/small", "size=8m");
  if (!disk.why_not().empty()) VMGRAFT_SKIP(disk.why_not());
  const nlohmann::json micro = lab.json({"image", "list"}).at("images").at(0);
  const std::string file = lab.store() / "layers" / (micro.at("layer").get<std::string>() + ".qcow2");
  Lab full;
  full.use_store(disk.path() / "store");
  for (const std::vector<std::string>& verb : {std::vector<std::string>{"image", "build", "micro"}, {"image", "import", file, "small"}}) {
    expect_full(full.error(verb, 1));
    for (const char* folder : {"layers", "images", "journal"}) CHECK(std::filesystem::is_empty(full.store() / folder));
  }
}

TEST_CASE("a memory that does not fit on the disk leaves the VM running, no snapshot, and says so") {
  const TempFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0711));  // QEMU's user passes through
  const SmallDisk disk(folder / "small", "size=256m,mode=711");
  if (!disk.why_not().empty()) VMGRAFT_SKIP(disk.why_not());
  Lab full;
  full.use_store(disk.path() / "store");
  full.vmgraft({"image", "build", "micro"});
  const std::string vm = full.name("crammed-memory");
  full.vmgraft({"create", "micro", vm});
  full.guest(vm, "echo kept >/root/kept && sync");
  const std::vector<std::string> before = full.inventory();
  const std::string definition = full.virsh({"dumpxml", "--inactive", vm});
  const std::filesystem::path filler = disk.path() / "filler";
  // Room for journal and overlay, and for a part of the memory.
  for (std::ofstream out(filler, std::ios::binary); std::filesystem::space(disk.path()).available > (12U << 20U);)
    out << std::string(1U << 20U, 'x') << std::flush;
  const nlohmann::json error = full.error({"snapshot", "create", vm, "warm", "--memory"}, 1);
  INFO(error.dump());
  CHECK(error.at("message").get<std::string>().find("cannot save the memory of VM '" + vm + "'") != std::string::npos);
  REQUIRE(error.at("hint").is_string());
  CHECK(error.at("hint").get<std::string>().find("free space there, or take the snapshot without --memory") != std::string::npos);
  CHECK(full.inventory() == before);
  CHECK(full.virsh({"domstate", vm}).starts_with("running"));
  CHECK(full.virsh({"dumpxml", "--inactive", vm}) == definition);
  CHECK(full.guest(vm, "cat /root/kept; echo more >>/root/kept && sync && cat /root/kept") == "kept\nkept\nmore\n");
  CHECK(full.json({"snapshot", "list", vm}).at("snapshots").empty());
  full.vmgraft({"check", "--quick"});

  std::filesystem::remove(filler);
  full.vmgraft({"snapshot", "create", vm, "warm", "--memory"});
  full.guest(vm, "rm /root/kept && sync");
  full.vmgraft({"revert", "--yes", vm + "@warm"});
  CHECK(full.guest(vm, "cat /root/kept") == "kept\nmore\n");
  full.vmgraft({"delete", "--yes", vm});
}

TEST_CASE("on a full disk a VM can be deleted, by what is kept in reserve for that") {
  Lab lab;
  const SmallDisk disk(lab.store() / "tmp/small", "size=160m");
  if (!disk.why_not().empty()) VMGRAFT_SKIP(disk.why_not());
  const std::filesystem::path blank = disk.path() / "blank.json";
  std::ofstream(blank) << R"({ "version": 1, "name": "blank", "extends": "base", "description": "A disk and nothing to boot",
    "vm": { "memory": "64MiB", "disks": [{"name": "data", "size": "1MiB"}] }, "lifecycle": { "ready": "none" } })";
  Lab full;
  full.use_store(disk.path() / "store");
  const std::string vm = full.name("crammed");
  const std::string late = full.name("late");
  full.vmgraft({"create", blank, vm, "--no-start"});
  CHECK(std::filesystem::exists(full.store() / "reserve"));
  const std::filesystem::path filler = disk.path() / "filler";
  for (const std::size_t piece : {1U << 20U, 1U << 12U})
    for (std::ofstream out(filler, std::ios::binary | std::ios::app); out << std::string(piece, 'x') << std::flush;) continue;
  REQUIRE(std::filesystem::space(disk.path()).available == 0);
  const std::vector<std::string> before = full.inventory();
  expect_full(full.error({"create", blank, late, "--no-start"}, 1));
  CHECK(full.inventory() == before);
  CHECK(full.run({"virsh", "-c", full.uri(), "dominfo", late}).exit_code != 0);

  full.vmgraft({"delete", "--yes", vm});
  CHECK(full.run({"virsh", "-c", full.uri(), "dominfo", vm}).exit_code != 0);
  for (const char* folder : {"vms", "layers", "journal"}) CHECK(std::filesystem::is_empty(full.store() / folder));
  CHECK_FALSE(std::filesystem::exists(full.store() / "reserve"));  // there is no plenty
  std::filesystem::remove(filler);
  full.vmgraft({"create", blank, vm, "--no-start"});
  CHECK(std::filesystem::exists(full.store() / "reserve"));
}

TEST_CASE("libvirt that is not there is said with the way to start it") {
  Lab lab;
  lab.use_uri("qemu:///system?socket=/run/vmgraft-no-such-socket");
  const nlohmann::json error = lab.error({"create", "micro", "vt-nowhere"}, 7);
  CHECK(error.at("code") == "unreachable");
  CHECK(error.at("hint").is_string());
}

TEST_CASE("create, show and list agree with virsh about what exists", "[session]") {
  Lab lab;
  const std::string vm = lab.name("agree");
  const std::string xml = lab.vmgraft({"create", "micro", vm, "--print-xml"}).out;
  CHECK(xml.find("<name>" + vm + "</name>") != std::string::npos);
  const std::string plan = lab.vmgraft({"--dry-run", "create", "micro", vm}).out;
  CHECK(plan.find("define domain " + vm) != std::string::npos);
  CHECK(lab.run({"virsh", "-c", lab.uri(), "dominfo", vm}).exit_code != 0);
  lab.vmgraft({"create", "micro", vm, "--count", "2", "--no-start"});
  static_cast<void>(lab.name("agree-1"));
  static_cast<void>(lab.name("agree-2"));
  const std::string names = lab.virsh({"list", "--all", "--name"});
  const nlohmann::json vms = lab.json({"list", "--all"}).at("vms");
  for (const nlohmann::json& each : vms)
    CHECK(names.find(each.at("name").get<std::string>() + "\n") != std::string::npos);
  CHECK(names.find(vm + "-1\n") != std::string::npos);
  CHECK(names.find(vm + "-2\n") != std::string::npos);
}

namespace {

/// The QEMU of a VM, which answers nothing until it goes on.
class HeldQemu {
 public:
  HeldQemu(Lab& lab, const std::string& vm) : pid_(static_cast<pid_t>(std::stoi(lab.read("/run/libvirt/qemu/" + vm + ".pid")))) {
    REQUIRE(::kill(pid_, SIGSTOP) == 0);
  }
  HeldQemu(const HeldQemu&) = delete;
  HeldQemu& operator=(const HeldQemu&) = delete;
  ~HeldQemu() { go_on(); }
  void go_on() const { ::kill(pid_, SIGCONT); }

 private:
  pid_t pid_;
};

/// Start a program and kill it when libvirt is at work on the VM for it.
void kill_when_at_work(Lab& lab, const std::string& vm, const std::vector<std::string>& argv) {
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));  // exec takes them so
  words.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::execvp(words.front(), words.data());
    ::_exit(127);
  }
  while (lab.virsh({"domcontrol", vm}).find("ok") != std::string::npos) REQUIRE(::waitpid(child, nullptr, WNOHANG) == 0);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

}  // namespace

TEST_CASE("what libvirt still does for one who was killed is waited for, before a definition is replaced") {
  // libvirtd 9.0 died of it: a snapshot wrote to the definition that had been replaced under it.
  Lab lab;
  const std::string vm = lab.name("settle");
  lab.vmgraft({"create", "micro", vm, "--wait", "none"});
  std::string uuid = lab.virsh({"domuuid", vm});
  uuid.erase(uuid.find_last_not_of("\n") + 1);
  const HeldQemu qemu(lab, vm);
  kill_when_at_work(lab, vm, {"virsh", "-q", "-c", lab.uri(), "snapshot-create-as", vm, "s", "--disk-only", "--no-metadata"});
  const std::unique_ptr<Hypervisor> hypervisor = connect_libvirt(lab.uri());
  auto settled = std::async(std::launch::async, [&] { hypervisor->settle(uuid, nullptr); });
  CHECK(settled.wait_for(std::chrono::milliseconds(500)) == std::future_status::timeout);
  qemu.go_on();
  settled.get();
  CHECK(lab.virsh({"domblklist", vm}).find(".s") != std::string::npos);  // it was done for the dead one
}

// It was undone at once, its layers were deleted, and then libvirt put the VM on them.
TEST_CASE("a snapshot that libvirt makes for a vmgraft that was killed is finished when libvirt has made it") {
  Lab lab;
  const std::string vm = lab.name("asked");
  lab.vmgraft({"create", "micro", vm, "--wait", "none"});
  const HeldQemu qemu(lab, vm);
  const std::vector<std::string> vmgraft{lab.program("vmgraft"), "--connect", lab.uri(), "--store", lab.store()};
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.begin(), vmgraft.begin(), vmgraft.end());
    return words;
  };
  kill_when_at_work(lab, vm, with({"snapshot", "create", vm, "s1", "--memory"}));
  auto next = std::async(std::launch::async, [&] { return lab.run(with({"list"})); });
  CHECK(next.wait_for(std::chrono::seconds(2)) == std::future_status::timeout);
  qemu.go_on();
  const CommandResult ended = next.get();
  INFO(ended.err);
  CHECK(ended.exit_code == 0);
  CHECK(ended.err.find("finished 'snapshot " + vm) != std::string::npos);
  CHECK(lab.json({"snapshot", "list", vm}).at("snapshots").size() == 1);
  CHECK(lab.virsh({"domblklist", vm}).find(lab.chain(vm).front()) != std::string::npos);
  lab.vmgraft({"check", "--quick"});
}

// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "qemu/lab.hpp"
#include "store/records.hpp"

using namespace vmgraft;

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const json kNothing = json::parse(
    R"({"layers":[],"files":[],"domains":[],"manifests":[],"journals":[],"expired":[]})");

/// Names in a list of gc's, with what is done about each.
std::set<std::string> said(const json& list) {
  std::set<std::string> lines;
  for (const json& entry : list)
    lines.insert(entry.at("action").get<std::string>() + " " + entry.at("name").get<std::string>());
  return lines;
}

std::set<std::string> set_of(const std::vector<std::string>& items) { return {items.begin(), items.end()}; }

/// A store of the test's own, with the lab's image in it: gc sees the whole of a store.
class OwnStore {
 public:
  explicit OwnStore(Lab& lab)
      : lab_(lab), old_(lab.store()), root_(lab.store().string() + "-gc-" + std::to_string(getpid())) {
    const fs::path image = lab.json({"image", "list"}).at("images")[0].at("layer").get<std::string>();
    const fs::path& from = old_;
    lab.use_store(root_);
    lab.vmgraft({"list"});  // makes the folders
    lab.run({"sh", "-c", "cp -a " + (from / "layers" / image).string() + ".* " + (root_ / "layers").string()});
    lab.run({"sh", "-c", "cp -a " + (from / "images").string() + "/*.json " + (root_ / "images").string()});
  }
  ~OwnStore() {
    for (const std::string& name : vms_) {
      lab_.run({"sh", "-c", "virsh -q -c " + lab_.uri() + " destroy " + name + "; virsh -q -c " + lab_.uri() +
                                " undefine --nvram " + name + "; true"});
    }
    lab_.use_store(old_);
    fs::remove_all(root_);
  }
  std::string vm(const std::string& name) {
    vms_.push_back(lab_.name(name));
    return vms_.back();
  }
  [[nodiscard]] fs::path file(const std::string& path) const { return root_ / path; }
  void write(const std::string& path, const std::string& text) const {
    fs::create_directories(file(path).parent_path());
    std::ofstream(file(path)) << text;
  }

 private:
  Lab& lab_;
  fs::path old_;
  fs::path root_;
  std::vector<std::string> vms_;
};

Manifest manifest_of(const fs::path& file) {
  std::ifstream stream(file);
  return manifest_from_json({std::istreambuf_iterator<char>(stream), {}}, file);
}

void set_expiry(const fs::path& file, const std::string& expires) {
  Manifest manifest = manifest_of(file);
  manifest.expires = expires;
  std::ofstream(file) << to_json_text(manifest);
}

}  // namespace

TEST_CASE("gc finds each kind of leftover, its dry run changes nothing, and virsh and find agree on what went") {
  Lab lab;
  OwnStore store(lab);
  const std::string kept = store.vm("kept");
  const std::string lost = store.vm("lost");
  const std::string undefined = store.vm("undefined");
  const std::string late = store.vm("late");
  for (const std::string& vm : {kept, lost, undefined}) lab.vmgraft({"create", "micro", vm, "--no-start"});
  lab.vmgraft({"create", "micro", late, "--no-start", "--ttl", "1h"});
  lab.vmgraft({"snapshot", "create", kept, "clean"});
  lab.vmgraft({"snapshot", "create", undefined, "clean"});
  CHECK(lab.json({"gc", "--dry-run"}) == kNothing);
  const auto in_order = set_of(lab.inventory());

  // A foreign domain, which stands on a layer of ours that nothing else reaches.
  LayerRecord orphan;
  orphan.virtual_size = 1 << 20;
  orphan.made_by = "a test";
  orphan.created = "2026-01-02T03:04:05Z";
  const auto add_layer = [&](char digit) {
    orphan.id = std::string(32, digit);
    lab.run({"qemu-img", "create", "-q", "-f", "qcow2", store.file("layers/" + orphan.id + ".qcow2"), "1M"});
    store.write("layers/" + orphan.id + ".json", to_json_text(orphan));
  };
  add_layer('d');
  const std::string used = orphan.id;
  const std::string foreign = store.vm("foreign");
  store.write("tmp/foreign.xml",
              "<domain type='qemu'><name>" + foreign + "</name><memory>65536</memory><os><type arch='x86_64' "
              "machine='q35'>hvm</type></os><devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
              "<source file='" + store.file("layers/" + used + ".qcow2").string() +
              "'/><target dev='vda' bus='virtio'/></disk></devices></domain>");
  lab.virsh({"define", store.file("tmp/foreign.xml")});
  add_layer('e');
  const auto with_user = set_of(lab.inventory());

  // Leftovers, made by hand.
  const std::string expired_head = manifest_of(store.file("vms/" + late + "/vm.json")).heads.at(0).layer;
  const std::string lost_head = manifest_of(store.file("vms/" + lost + "/vm.json")).heads.at(0).layer;
  fs::remove(store.file("vms/" + lost + "/vm.json"));
  const std::string before_undefine = lab.virsh({"dumpxml", "--inactive", undefined});
  lab.virsh({"undefine", undefined});
  set_expiry(store.file("vms/" + late + "/vm.json"), "2026-01-02T03:04:05Z");
  store.write("vms/half/nvram.fd", "x");
  store.write("vms/" + kept + "/.vm.json.999999999.0.tmp", "x");
  store.write("tmp/" + std::string(32, 'a') + "/disk", "x");

  const auto with_leftovers = set_of(lab.inventory());
  const std::string domains = lab.virsh({"list", "--all", "--uuid"});
  const json foretold = lab.json({"gc", "--dry-run"});
  CHECK(set_of(lab.inventory()) == with_leftovers);
  CHECK(lab.virsh({"list", "--all", "--uuid"}) == domains);
  CHECK(said(foretold.at("expired")) == std::set<std::string>{"remove " + late});
  CHECK(said(foretold.at("domains")) == std::set<std::string>{"remove " + lost});
  CHECK(said(foretold.at("manifests")) == std::set<std::string>{"define " + undefined});
  CHECK(said(foretold.at("journals")).empty());
  CHECK(said(foretold.at("files")) ==
        std::set<std::string>{"remove " + store.file("vms/" + lost).string(), "remove " + store.file("vms/half").string(),
                              "remove " + store.file("vms/" + kept + "/.vm.json.999999999.0.tmp").string(),
                              "remove " + store.file("tmp/" + std::string(32, 'a')).string()});
  CHECK(said(foretold.at("layers")) == std::set<std::string>{"remove " + orphan.id, "remove " + expired_head,
                                                             "remove " + lost_head, "keep " + used});

  const json done = lab.json({"gc"});
  for (const auto& list : done)
    for (const json& entry : list) {
      INFO(entry.dump());
      CHECK(entry.at("done") == (entry.at("action") != "keep"));
    }
  for (const char* list : {"layers", "files", "domains", "manifests", "journals", "expired"})
    CHECK(said(done.at(list)) == said(foretold.at(list)));

  // By other means: what stood there in order is there still, but for what expired or lost its manifest.
  std::set<std::string> want = with_user;
  std::erase_if(want, [&](const std::string& path) {
    return path.find("vms/" + late) != std::string::npos || path.find("vms/" + lost) != std::string::npos ||
           path.find(expired_head) != std::string::npos || path.find(lost_head) != std::string::npos ||
           path.find(orphan.id) != std::string::npos;
  });
  CHECK(set_of(lab.inventory()) == want);
  const std::string left = lab.virsh({"list", "--all", "--name"});
  for (const std::string& vm : {kept, undefined, foreign}) CHECK(left.find(vm) != std::string::npos);
  for (const std::string& vm : {lost, late}) CHECK(left.find(vm) == std::string::npos);
  CHECK(lab.virsh({"dumpxml", "--inactive", undefined}) == before_undefine);
  lab.check_images(kept);
  lab.check_images(undefined);
  const json again = lab.json({"gc"});
  CHECK(said(again.at("layers")) == std::set<std::string>{"keep " + used});
  lab.virsh({"undefine", foreign});
  CHECK(said(lab.json({"gc"}).at("layers")) == std::set<std::string>{"remove " + used});
  CHECK(lab.json({"gc"}) == kNothing);
  CHECK(in_order.size() > want.size());
}

TEST_CASE("a VM defined again by gc without a snapshot starts, and one that expires while it runs stops or goes") {
  Lab lab;
  OwnStore store(lab);
  const std::string again = store.vm("again");
  const std::string stops = store.vm("stops");
  const std::string goes = store.vm("goes");
  lab.vmgraft({"create", "micro", again, "--no-start"});
  lab.vmgraft({"create", "micro", stops, "--ttl", "1h", "--on-expire", "stop", "--wait", "none"});
  lab.vmgraft({"create", "micro", goes, "--ttl", "1h", "--wait", "none"});
  lab.vmgraft({"snapshot", "create", goes, "s1"});
  const std::string clone = store.vm("clone");
  lab.vmgraft({"clone", goes + "@s1", clone, "--ttl", "2h", "--on-expire", "stop"});
  CHECK(lab.json({"show", clone}).at("vm").at("on_expire") == "stop");
  CHECK(lab.json({"show", goes}).at("vm").at("on_expire") == "delete");
  store.write("tmp/hour.json", R"({"version": 1, "name": "hour", "extends": "micro", "lifecycle": {"ttl": "1h"}})");
  const std::string hour = store.vm("hour");
  const std::string stays = store.vm("stays");
  lab.vmgraft({"create", store.file("tmp/hour.json").string(), hour, "--no-start"});
  lab.vmgraft({"clone", hour, stays, "--ttl", "never"});
  CHECK_FALSE(lab.json({"show", hour}).at("vm").at("expires").is_null());
  CHECK(lab.json({"show", stays}).at("vm").at("expires").is_null());
  lab.vmgraft({"delete", "--yes", hour, stays});
  CHECK(lab.json({"gc", "--dry-run"}) == kNothing);

  lab.virsh({"undefine", again});
  for (const std::string& vm : {stops, goes}) set_expiry(store.file("vms/" + vm + "/vm.json"), "2026-01-02T03:04:05Z");
  const json done = lab.json({"gc"});
  CHECK(said(done.at("expired")) == std::set<std::string>{"stop " + stops, "remove " + goes});
  CHECK(said(done.at("manifests")) == std::set<std::string>{"define " + again});
  CHECK(lab.virsh({"domstate", stops}).find("shut off") == 0);
  CHECK(lab.virsh({"list", "--all", "--name"}).find(goes + "\n") == std::string::npos);
  lab.check_images(clone);
  CHECK(lab.json({"gc"}) == kNothing);
  lab.vmgraft({"start", again});
  CHECK(lab.guest(again, "echo alive") == "alive\n");
  lab.vmgraft({"delete", "--yes", again, clone, stops});
  CHECK(lab.json({"gc", "--dry-run"}) == kNothing);
}

namespace {

/// Creates \p vm-1 to \p vm-20, and is killed when it has made the folder of the \p nth: its plan is not done yet. It
/// may be over before this process gets its turn: false, and nothing is left of it.
bool create_and_kill(Lab& lab, const OwnStore& store, const std::string& vm, int nth) {
  const std::string binary = std::getenv("VMGRAFT_BINARY");
  const std::string folder = store.file("");
  const std::string templates = std::getenv("VMGRAFT_TEST_TEMPLATES");
  const pid_t child = fork();
  if (child == 0) {
    execl(binary.c_str(), binary.c_str(), "--quiet", "--connect", lab.uri().c_str(), "--store", folder.c_str(),
          "--templates", templates.c_str(), "create", "micro", vm.c_str(), "--count", "20", "--no-start", nullptr);
    _exit(127);
  }
  const fs::path sign = store.file("vms/" + vm + "-" + std::to_string(nth));
  int status = 0;
  pid_t ended = 0;
  while (!fs::exists(sign) && (ended = waitpid(child, &status, WNOHANG)) == 0) {
  }
  if (ended == 0) {
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
  }
  if (!fs::is_empty(store.file("journal"))) return true;
  REQUIRE((WIFSIGNALED(status) || WEXITSTATUS(status) == 0));
  std::vector<std::string> undo{"delete", "--yes"};
  for (int i = 1; i <= 20; ++i) undo.push_back(vm + "-" + std::to_string(i));
  lab.vmgraft(undo);
  return false;
}

}  // namespace

TEST_CASE("a create that was killed is told by gc --dry-run, undone by gc, and gone") {
  Lab lab;
  OwnStore store(lab);
  const auto before = set_of(lab.inventory());
  const std::string domains = lab.virsh({"list", "--all", "--uuid"});
  for (const int nth : {1, 7, 15}) {
    const std::string vm = store.vm("killed" + std::to_string(nth));
    int tries = 0;
    while (!create_and_kill(lab, store, vm, nth)) REQUIRE(++tries < 10);

    const auto killed = set_of(lab.inventory());
    REQUIRE(killed != before);
    const json foretold = lab.json({"gc", "--dry-run"});
    CHECK(set_of(lab.inventory()) == killed);
    REQUIRE(foretold.at("journals").size() == 1);
    const json& journal = foretold.at("journals")[0];
    CHECK(journal.at("action") == "recover");
    CHECK(journal.at("what").get<std::string>().find("'create " + vm + "-1 .. " + vm + "-20', which process") == 0);
    CHECK(foretold.at("layers").empty());
    CHECK(foretold.at("domains").empty());
    CHECK(foretold.at("files").empty());

    const json done = lab.json({"gc"});
    REQUIRE(done.at("journals").size() == 1);
    CHECK(done.at("journals")[0].at("done") == true);
    CHECK(done.at("journals")[0].at("note").get<std::string>().find("undid 'create") == 0);
    CHECK(set_of(lab.inventory()) == before);
    CHECK(lab.virsh({"list", "--all", "--uuid"}) == domains);
    CHECK(lab.json({"gc", "--dry-run"}) == kNothing);
  }
}

TEST_CASE("gc takes nothing from those who create, clone and delete meanwhile") {
  Lab lab;
  OwnStore store(lab);
  lab.vmgraft({"create", "micro", store.vm("base"), "--no-start"});
  const auto before = set_of(lab.inventory());
  const std::string script =
      "v() { \"$VMGRAFT_BINARY\" --quiet --connect " + lab.uri() + " --store " + store.file("").string() +
      " --templates \"$VMGRAFT_TEST_TEMPLATES\" \"$@\"; }; P=" + lab.name("race") + "; B=" + lab.name("base") +
      "; rc=0; for w in 1 2 3; do (for i in 1 2 3 4 5; do v create micro $P-$w-$i --no-start && v snapshot create $P-$w-$i s && "
      "v clone $P-$w-$i@s $P-$w-$i-c && v clone $B $P-$w-$i-b && v delete --yes $P-$w-$i && "
      "qemu-img check -q -f qcow2 $(v show --json $P-$w-$i-c | sed 's/.*\"path\":\"\\([^\"]*\\)\".*/\\1/') && "
      "v delete --yes $P-$w-$i-c $P-$w-$i-b || exit 1; done) & pids=\"$pids $!\"; done; "
      "(while [ ! -e " + store.file("tmp/stop").string() + " ]; do v gc || exit 1; done) & g=$!; "
      "for p in $pids; do wait $p || rc=1; done; touch " + store.file("tmp/stop").string() + "; wait $g || rc=2; rm " +
      store.file("tmp/stop").string() + "; exit $rc";
  const CommandResult result = lab.run({"sh", "-c", script});
  INFO(result.out << result.err);
  CHECK(result.exit_code == 0);
  // base stands on a layer more: it was cloned while it was there.
  const json found = lab.json({"gc"});
  CHECK(found == kNothing);
  CHECK(lab.json({"list", "--all"}).at("vms").size() == 1);
  lab.check_images(lab.name("base"));
  CHECK(set_of(lab.inventory()).size() >= before.size());
}

// SPDX-License-Identifier: Apache-2.0
// What a user does to our VMs with virsh and rm, on a real libvirt: noticed at the next verb, refused where going on would do
// harm, and each refusal with a way out that is walked here.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include <unistd.h>

#include "qemu/lab.hpp"

using namespace vmgraft;
namespace fs = std::filesystem;

namespace {

/// A stopped VM with one snapshot, "first", and some verbs in short.
struct OutsideLab : Lab {
  std::string vm;
  explicit OutsideLab(const std::string& suffix) : vm(name(suffix)) {
    vmgraft({"create", "micro", vm, "--no-start"});
    vmgraft({"snapshot", "create", vm, "first"});
  }
  /// virsh may have left the image that all tests stand on with QEMU's user: the remedy that check tells.
  ~OutsideLab() {
    if (geteuid() != 0) return;
    for (const fs::directory_entry& file : fs::directory_iterator(store() / "layers"))
      if (file.path().extension() == ".qcow2" && (file.status().permissions() & fs::perms::owner_write) == fs::perms::none)
        static_cast<void>(!chown(file.path().c_str(), 0, 0));
  }
  void start() { vmgraft({"start", "--wait", "none", vm}); }
  void power_off() { vmgraft({"stop", "--timeout", "0s", vm}); }

  [[nodiscard]] std::string message(const std::vector<std::string>& verb, int exit = 5) { return error(verb, exit).at("message"); }
  [[nodiscard]] std::string hint(const std::vector<std::string>& verb) { return error(verb, 5).at("hint"); }
  /// Everything that would record or build on the disks is refused with this, and changes nothing.
  void refuses_new_layers(const std::string& words) {
    const std::vector<std::string> before = inventory();
    const std::string copy = name(vm.substr(vm.rfind('-') + 1) + "-copy");
    for (const std::vector<std::string>& verb : {std::vector<std::string>{"snapshot", "create", vm, "ours"},
                                                 {"revert", vm + "@first", "--yes"},
                                                 {"clone", vm, copy},
                                                 {"--dry-run", "snapshot", "create", vm, "ours"}}) {
      INFO(verb.at(0));
      CHECK_THAT(message(verb), contains(words));
    }
    CHECK(inventory() == before);
  }
  [[nodiscard]] std::string notes() {
    std::string text;
    const nlohmann::json shown = json({"show", vm}).at("vm");
    for (const nlohmann::json& note : shown.at("notes")) text += note.get<std::string>() + "\n";
    return text;
  }
  [[nodiscard]] std::string listed() {
    const nlohmann::json vms = json({"list"}).at("vms");
    for (const nlohmann::json& each : vms)  // without --all: who needs a look is told
      if (each.at("name") == vm) return each.at("notes").dump();
    return "not listed";
  }
  [[nodiscard]] std::string disk() { return json({"show", vm}).at("vm").at("disks").at(0).at("path"); }
  [[nodiscard]] fs::path manifest() { return store() / "vms" / vm / "vm.json"; }
  /// "fail domain-disk" ... of the VM and its layers.
  [[nodiscard]] std::vector<std::string> findings(int want_exit) {
    const nlohmann::json record = nlohmann::json::parse(vmgraft({"--json", "check", vm}, want_exit).out);
    std::vector<std::string> lines;
    for (const nlohmann::json& row : record.at("result").at("checks"))
      // Whether libvirt gave a layer below to QEMU's user depends on who used that layer last.
      if (row.at("health") != "ok" && row.at("id") != "layer-mode") lines.push_back(row.at("health").get<std::string>() + " " + row.at("id").get<std::string>());
    return lines;
  }
  /// The part of a hint from \p start to the next ';' or ',', as a shell runs it.
  void follow(const std::string& text, const std::string& start) {
    const std::size_t at = text.find(start);
    INFO(text);
    REQUIRE(at != std::string::npos);
    const std::string line = text.substr(at, text.find_first_of(";,", at) - at);
    const CommandResult result = run({"sh", "-c", "export LIBVIRT_DEFAULT_URI=\"$0\"; " + line, uri()});
    INFO(line << "\n" << result.err);
    REQUIRE(result.exit_code == 0);
  }
  std::string redefine(const std::string& from, const std::string& to) {
    const std::string before = virsh({"dumpxml", "--inactive", vm});
    std::string xml = before;
    const std::size_t at = xml.find(from);
    REQUIRE(at != std::string::npos);
    xml.replace(at, from.size(), to);
    define(xml);
    return before;
  }
  void define(const std::string& xml) {
    const fs::path file = store() / "tmp" / (vm + ".xml");
    std::ofstream(file) << xml;
    virsh({"define", file});
    fs::remove(file);
  }
};

bool has(const std::vector<std::string>& lines, const std::string& line) {
  return std::find(lines.begin(), lines.end(), line) != lines.end();
}

}  // namespace

TEST_CASE("outside: virsh destroy and suspend are only another state", "[session]") {
  OutsideLab lab("destroy");
  lab.start();
  lab.virsh({"suspend", lab.vm});
  CHECK(lab.json({"show", lab.vm}).at("vm").at("state") == "paused");
  CHECK(lab.hint({"start", lab.vm}) == "virsh resume " + lab.vm);
  lab.vmgraft({"snapshot", "create", lab.vm, "paused"});
  lab.virsh({"resume", lab.vm});
  lab.virsh({"destroy", lab.vm});
  CHECK(lab.json({"show", lab.vm}).at("vm").at("state") == "shut_off");
  lab.vmgraft({"stop", lab.vm});
  lab.vmgraft({"revert", lab.vm + "@first", "--yes"});
  CHECK(lab.findings(0).empty());
  lab.check_images(lab.vm);
}

TEST_CASE("outside: another domain under the name of an undefined VM is not touched", "[session]") {
  OutsideLab lab("undefined");
  const std::string uuid = lab.json({"show", lab.vm}).at("vm").at("uuid");
  lab.virsh({"undefine", lab.vm});
  lab.define("<domain type='qemu'><name>" + lab.vm +
             "</name><memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>");
  const std::string theirs = lab.virsh({"dumpxml", lab.vm});
  CHECK_THAT(lab.listed(), contains("undefined by other means"));
  CHECK_THAT(lab.notes(), contains("is another one, which vmgraft does not touch"));
  CHECK(lab.findings(8) == std::vector<std::string>{"fail domain"});
  for (const char* verb : {"start", "stop"}) CHECK_THAT(lab.hint({verb, lab.vm}), contains("vmgraft gc"));
  lab.refuses_new_layers("libvirt has no domain of it any more");
  const std::string copy = lab.name("undefined-snap");
  lab.vmgraft({"clone", lab.vm + "@first", copy});
  lab.check_images(copy);
  lab.vmgraft({"delete", "--yes", lab.vm});
  CHECK(lab.virsh({"dumpxml", lab.vm}) == theirs);
  lab.virsh({"undefine", lab.vm});
}

TEST_CASE("outside: a running VM that was undefined can be stopped, and gets no new layers", "[session]") {
  OutsideLab lab("transient");
  lab.start();
  lab.virsh({"undefine", lab.vm});
  CHECK_THAT(lab.listed(), contains("is gone when it is off"));
  lab.refuses_new_layers("has no definition any more");
  lab.power_off();
  CHECK(lab.json({"show", lab.vm}).at("vm").at("state") == "missing");
  lab.vmgraft({"delete", "--yes", lab.vm});
}

TEST_CASE("outside: a domain that lost our metadata is not touched until it is given back", "[session]") {
  OutsideLab lab("stripped");
  const std::string xml = lab.virsh({"dumpxml", "--inactive", lab.vm});
  const std::size_t from = xml.find("<metadata>");
  const std::size_t to = xml.find("</metadata>") + 11;
  lab.redefine(xml.substr(from, to - from), "");
  const std::string stripped = lab.virsh({"dumpxml", "--inactive", lab.vm});
  for (const std::vector<std::string>& verb :
       {std::vector<std::string>{"start", lab.vm}, {"stop", lab.vm}, {"delete", "--yes", lab.vm}, {"--dry-run", "delete", lab.vm}})
    CHECK_THAT(lab.message(verb), contains("has lost the metadata that says so"));
  lab.refuses_new_layers("has lost the metadata");
  CHECK(lab.virsh({"dumpxml", "--inactive", lab.vm}) == stripped);
  CHECK(lab.findings(8) == std::vector<std::string>{"fail domain-owner"});
  lab.follow(lab.hint({"start", lab.vm}), "virsh metadata");
  CHECK(lab.findings(0).empty());
  lab.start();
  lab.power_off();
}

// libvirt shows no password, and what was defined again of that had none.
TEST_CASE("outside: the password of a console is kept when its VM is defined again, and in no file of the store",
          "[session]") {
  OutsideLab lab("console");
  lab.redefine("</devices>", "<graphics type='vnc' autoport='yes' listen='127.0.0.1' passwd='geheim17'/></devices>");
  const auto is_protected = [&] {
    return lab.virsh({"dumpxml", "--inactive", "--security-info", lab.vm}).find("passwd='geheim17'") !=
           std::string::npos;
  };
  REQUIRE(is_protected());
  lab.vmgraft({"snapshot", "create", lab.vm, "protected"});
  const std::string disk = lab.disk();
  lab.vmgraft({"revert", lab.vm + "@protected", "--yes"});
  REQUIRE(lab.disk() != disk);  // so it was defined again
  CHECK(is_protected());
  CHECK(lab.run({"grep", "-rl", "geheim17", lab.store().string()}).out.empty());
}

TEST_CASE("outside: a renamed domain is told, and renamed back by the hint", "[session]") {
  OutsideLab lab("renamed");
  const std::string other = lab.name("other-name");
  lab.virsh({"domrename", lab.vm, other});
  CHECK_THAT(lab.listed(), contains("renamed to '" + other + "'"));
  lab.refuses_new_layers("its domain was renamed to '" + other + "'");
  CHECK_THAT(lab.message({"create", "micro", other}), contains("of this store"));
  lab.virsh({"start", other});
  lab.power_off();  // by whatever name, it can be stopped
  lab.follow(lab.hint({"start", lab.vm}), "virsh domrename");
  CHECK(lab.findings(0).empty());
}

TEST_CASE("outside: a disk taken out of the definition was not missed by snapshots and clones", "[session]") {
  OutsideLab lab("detached");
  lab.virsh({"detach-disk", lab.vm, "vda", "--config"});
  CHECK_THAT(lab.notes(), contains("is not in its definition any more"));
  CHECK_THAT(lab.message({"start", lab.vm}), contains("its disk 'root' (vda)"));
  lab.refuses_new_layers("its disk 'root' (vda) is not in its definition any more");
  CHECK(lab.findings(8) == std::vector<std::string>{"fail domain-disk"});
  lab.follow(lab.hint({"start", lab.vm}), "virsh attach-disk");
  CHECK(lab.findings(0).empty());
  lab.start();
  lab.power_off();
}

TEST_CASE("outside: other memory and another disk are told and kept", "[session]") {
  OutsideLab lab("edited");
  const std::string xml = lab.virsh({"dumpxml", "--inactive", lab.vm});
  const fs::path extra = lab.store() / "tmp" / (lab.vm + "-extra.qcow2");
  REQUIRE(lab.run({"qemu-img", "create", "-q", "-f", "qcow2", extra, "1M"}).exit_code == 0);
  lab.redefine("<memory unit='KiB'>262144</memory>", "<memory unit='KiB'>270336</memory>");
  lab.virsh({"attach-disk", lab.vm, extra, "vdz", "--config", "--subdriver", "qcow2"});
  const std::string notes = lab.notes();
  CHECK_THAT(notes, contains("264 MiB of memory, its template gave it 256 MiB"));
  CHECK_THAT(notes, contains("its disk vdz"));
  CHECK(lab.findings(0) == std::vector<std::string>{"warn domain-extra-disk", "warn domain-hardware"});
  lab.vmgraft({"snapshot", "create", lab.vm, "edited"});
  CHECK_THAT(lab.virsh({"dumpxml", "--inactive", lab.vm}), contains("270336"));
  const std::string copy = lab.name("edited-copy");
  CHECK_THAT(lab.message({"clone", lab.vm, copy}), contains("vdz"));
  CHECK(fs::exists(extra));
  lab.vmgraft({"delete", "--yes", lab.vm});
  CHECK(fs::exists(extra));
  fs::remove(extra);
}

TEST_CASE("outside: a disk plugged into the running VM is left alone by a live snapshot") {
  // libvirt was not told to, and failed for want of an overlay of it.
  OutsideLab lab("plugged");
  const fs::path extra = lab.store() / "tmp" / (lab.vm + "-extra.qcow2");
  REQUIRE(lab.run({"qemu-img", "create", "-q", "-f", "qcow2", extra, "1M"}).exit_code == 0);
  fs::permissions(lab.store() / "tmp", fs::perms::owner_all | fs::perms::others_exec);
  fs::permissions(extra, fs::perms::all);
  lab.start();
  lab.virsh({"attach-disk", lab.vm, extra, "vdz", "--live", "--subdriver", "qcow2"});
  lab.vmgraft({"snapshot", "create", lab.vm, "live"});
  CHECK_THAT(lab.virsh({"domblklist", lab.vm}), contains(extra.string()));
  CHECK_THAT(lab.virsh({"domblklist", lab.vm}), contains(lab.disk()));
  lab.power_off();
  fs::permissions(lab.store() / "tmp", fs::perms::owner_all);
  fs::remove(extra);
  lab.check_images(lab.vm);
}

TEST_CASE("outside: an external snapshot by virsh of a stopped VM", "[session]") {
  OutsideLab lab("external");
  const std::string head = lab.disk();
  lab.virsh({"snapshot-create-as", lab.vm, "theirs", "--disk-only"});
  const std::string overlay = head.substr(0, head.rfind('.')) + ".theirs";
  CHECK_THAT(lab.message({"start", lab.vm}), contains("its disk vda is now '" + overlay + "'"));
  lab.refuses_new_layers("its disk vda is now '" + overlay + "'");
  CHECK_THAT(lab.notes(), contains(overlay));
  CHECK(has(lab.findings(8), "fail domain-disk"));
  lab.vmgraft({"stop", lab.vm});
  // What was written since is not wanted: the definition gets the file that the hint names.
  CHECK_THAT(lab.hint({"start", lab.vm}), contains(head));
  lab.virsh({"snapshot-delete", lab.vm, "theirs", "--metadata"});
  lab.redefine(overlay, head);
  fs::remove(overlay);
  CHECK(lab.findings(0).empty());
  lab.start();
  lab.power_off();
  lab.check_images(lab.vm);
}

TEST_CASE("outside: an external snapshot by virsh of a running VM, and the way back with what was written", "[session]") {
  OutsideLab lab("external-live");
  lab.start();
  const std::string head = lab.disk();
  lab.virsh({"snapshot-create-as", lab.vm, "theirs", "--disk-only"});
  const std::string overlay = head.substr(0, head.rfind('.')) + ".theirs";
  lab.refuses_new_layers("its disk vda is now '" + overlay + "'");
  lab.power_off();
  CHECK_THAT(lab.message({"start", lab.vm}), contains(overlay));
  lab.virsh({"start", lab.vm});
  lab.follow(lab.hint({"snapshot", "create", lab.vm}), "virsh blockcommit");
  CHECK_THAT(lab.virsh({"domblklist", lab.vm}), contains(head));
  lab.virsh({"snapshot-delete", lab.vm, "theirs", "--metadata"});
  lab.vmgraft({"snapshot", "create", lab.vm, "ours"});
  lab.power_off();
  fs::remove(overlay);
  CHECK(lab.findings(0).empty());
  lab.check_images(lab.vm);
}

TEST_CASE("outside: an internal snapshot by virsh is told, and in nobody's way", "[session]") {
  OutsideLab lab("internal");
  lab.virsh({"snapshot-create-as", lab.vm, "inner"});
  CHECK(lab.findings(0) == std::vector<std::string>{"warn layer-inner"});
  lab.vmgraft({"snapshot", "create", lab.vm, "ours"});
  lab.vmgraft({"revert", lab.vm + "@first", "--yes"});
  lab.check_images(lab.vm);
  lab.vmgraft({"delete", "--yes", lab.vm});
  CHECK(lab.run({"virsh", "-c", lab.uri(), "dominfo", lab.vm}).exit_code != 0);
}

TEST_CASE("outside: a VM whose memory virsh saved got new disks under it, and never started again") {
  OutsideLab lab("saved");
  lab.start();
  lab.virsh({"managedsave", lab.vm});
  CHECK_THAT(lab.listed(), contains("managedsave"));
  lab.refuses_new_layers("its memory was saved by other means");
  CHECK(lab.findings(0) == std::vector<std::string>{"warn domain-saved"});
  lab.start();
  CHECK(lab.json({"show", lab.vm}).at("vm").at("state") == "running");
  lab.vmgraft({"snapshot", "create", lab.vm, "awake"});
  lab.virsh({"managedsave", lab.vm});
  lab.virsh({"managedsave-remove", lab.vm});
  lab.vmgraft({"snapshot", "create", lab.vm, "dropped"});
  lab.start();
  lab.virsh({"managedsave", lab.vm});
  lab.vmgraft({"delete", "--yes", lab.vm});
  CHECK(lab.virsh({"list", "--all", "--name"}).find(lab.vm) == std::string::npos);
}

TEST_CASE("outside: block jobs by virsh cannot write to frozen layers") {
  OutsideLab lab("blockcommit");
  lab.start();
  lab.vmgraft({"snapshot", "create", lab.vm, "second"});
  const std::vector<std::string> chain = lab.chain(lab.vm);
  const auto sums = [&] {
    std::string text;
    for (std::size_t i = 1; i < chain.size(); ++i) text += lab.run({"sha256sum", lab.store() / "layers" / chain[i]}).out;
    return text;
  };
  const std::string before = sums();
  CHECK(lab.run({"virsh", "-c", lab.uri(), "blockcommit", lab.vm, "vda", "--active", "--pivot", "--wait"}).exit_code != 0);
  lab.power_off();
  CHECK(sums() == before);
  // Before it found out, libvirt gave the layers to QEMU's user.
  const nlohmann::json checks = lab.json({"check", lab.vm}).at("checks");
  for (const nlohmann::json& row : checks)
    if (row.at("health") != "ok") {
      CHECK(row.at("id") == "layer-mode");
      lab.follow(row.at("remedy"), "chown");
    }
  CHECK(lab.findings(0).empty());
}

TEST_CASE("outside: an older vm.json that was put back did cost the newer layers at the next sweep", "[session]") {
  OutsideLab lab("older");
  const std::string old = lab.read(lab.manifest());
  lab.start();
  lab.vmgraft({"snapshot", "create", lab.vm, "second"});
  lab.power_off();
  const std::string newer = lab.read(lab.manifest());
  const std::string head = lab.disk();
  std::ofstream(lab.manifest()) << old;
  CHECK_THAT(lab.message({"start", lab.vm}), contains("an older vm.json was put in place"));
  lab.refuses_new_layers("an older vm.json was put in place");
  CHECK(has(lab.findings(8), "fail vm-head"));
  const std::string other = lab.name("older-other");
  lab.vmgraft({"create", "micro", other, "--no-start"});
  CHECK_THAT(lab.vmgraft({"delete", "--yes", other}).err, contains("is kept"));
  CHECK(fs::exists(head));
  std::ofstream(lab.manifest()) << newer;
  CHECK(lab.findings(0).empty());
  lab.start();
  lab.power_off();
  lab.check_images(lab.vm);
}

TEST_CASE("outside: a deleted vm.json did cost the VM's disks at the next sweep", "[session]") {
  OutsideLab lab("forgotten");
  const std::string kept = lab.read(lab.manifest());
  const std::string head = lab.disk();
  fs::remove(lab.manifest());
  CHECK_THAT(lab.message({"show", lab.vm}, 4), contains("has no vm.json"));
  CHECK_THAT(lab.message({"create", "micro", lab.vm}), contains("of this store"));
  const std::vector<std::string> found = lab.findings(8);
  CHECK(has(found, "fail vm-record"));
  CHECK(has(found, "fail domain-orphan"));
  const std::string other = lab.name("forgotten-other");
  lab.vmgraft({"create", "micro", other, "--no-start"});
  lab.vmgraft({"delete", "--yes", other});
  CHECK(fs::exists(head));
  std::ofstream(lab.manifest()) << kept;
  fs::permissions(lab.manifest(), fs::perms::owner_read | fs::perms::owner_write);
  CHECK(lab.findings(0).empty());
}

TEST_CASE("outside: a vm.json that cannot be read hides no other VM and sweeps nothing", "[session]") {
  OutsideLab lab("garbled");
  const std::string kept = lab.read(lab.manifest());
  const std::string head = lab.disk();
  std::ofstream(lab.manifest()) << "{";
  CHECK_THAT(lab.listed(), contains("vmgraft check " + lab.vm));
  const std::string other = lab.name("garbled-other");
  lab.vmgraft({"create", "micro", other, "--no-start"});
  CHECK_THAT(lab.vmgraft({"delete", "--yes", other}).err, contains("unused layers are kept"));
  CHECK(fs::exists(head));
  CHECK(lab.findings(8) == std::vector<std::string>{"fail vm-record"});
  std::ofstream(lab.manifest()) << kept;
}

TEST_CASE("outside: a layer deleted or replaced by hand is told before QEMU opens it", "[session]") {
  OutsideLab lab("layer");
  lab.start();
  lab.power_off();
  lab.vmgraft({"snapshot", "create", lab.vm, "second"});
  const std::string file = lab.disk();
  const fs::path kept = lab.store() / "tmp" / (lab.vm + ".kept");
  fs::rename(file, kept);
  CHECK_THAT(lab.notes(), contains("is missing"));
  CHECK_THAT(lab.message({"start", lab.vm}), contains("its file '" + file + "' is missing"));
  lab.refuses_new_layers("is missing");
  CHECK(lab.findings(8) == std::vector<std::string>{"fail layer-file"});
  const std::string copy = lab.name("layer-copy");
  lab.vmgraft({"clone", lab.vm + "@first", copy});  // its layers are others
  REQUIRE(lab.run({"qemu-img", "create", "-q", "-f", "qcow2", file, "128M"}).exit_code == 0);
  CHECK_THAT(lab.message({"start", lab.vm}), contains("stands on nothing"));
  CHECK(has(lab.findings(8), "fail layer-backing"));
  fs::remove(file);
  fs::rename(kept, file);
  CHECK(lab.findings(0).empty());
  fs::remove(file);
  lab.vmgraft({"delete", "--yes", lab.vm});
  lab.check_images(copy);
}

TEST_CASE("outside: NVRAM deleted by hand is told, and a snapshot brings it back") {
  Lab lab;
  const std::string vm = lab.name("nvram");
  lab.vmgraft({"create", "firmware", vm, "--no-start"});
  lab.vmgraft({"start", "--wait", "none", vm});
  lab.vmgraft({"stop", "--timeout", "0s", vm});
  lab.vmgraft({"snapshot", "create", vm, "kept"});
  const fs::path nvram = lab.store() / "vms" / vm / "nvram.fd";
  const std::string sum = lab.run({"sha256sum", nvram}).out;
  fs::remove(nvram);
  const CommandResult check = lab.vmgraft({"check", "--quick", vm});
  CHECK_THAT(check.out, contains("vm-nvram"));
  CHECK_THAT(lab.vmgraft({"start", "--wait", "none", vm}).err, contains("its NVRAM"));
  lab.vmgraft({"stop", "--timeout", "0s", vm});
  fs::remove(nvram);
  lab.vmgraft({"revert", vm + "@kept", "--yes", "--no-start"});
  CHECK(lab.run({"sha256sum", nvram}).out == sum);
  // A revert of the running VM powered it off before it saw that the snapshot's NVRAM was gone, and stayed half done.
  fs::remove(lab.store() / "vms" / vm / "snapshots/kept/nvram.fd");
  lab.vmgraft({"start", "--wait", "none", vm});
  const std::vector<std::string> before = lab.inventory();
  CHECK_THAT(lab.error({"revert", vm + "@kept", "--yes"}, 5).at("message").get<std::string>(),
             contains("nvram.fd is missing"));
  CHECK(lab.inventory() == before);
  CHECK(lab.json({"show", vm}).at("vm").at("state") == "running");
  CHECK_THAT(lab.vmgraft({"check", "--quick", vm}, 8).out, contains("snapshot-files"));
  lab.vmgraft({"snapshot", "delete", vm + "@kept"});
  lab.vmgraft({"check", "--quick", vm});
}

// SPDX-License-Identifier: Apache-2.0
// The vm section. The guest and lifecycle sections are in spec_guest.cpp.
#include "template/spec_reader.hpp"

#include <algorithm>
#include <regex>

#include "model/names.hpp"

namespace vmgraft {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kTiB = std::uint64_t{1} << 40;
constexpr std::uint64_t kSector = 512;
constexpr std::size_t kMostDisks = 26;  // vda to vdz
constexpr std::size_t kMostNetworks = 32;
constexpr std::size_t kMostGpus = 64;
constexpr std::size_t kMostXml = 64;

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

/// std::regex recurses once per character: only bounded patterns, on bounded text.
bool fits(const std::string& text, const std::regex& pattern) {
  return text.size() <= 256 && std::regex_match(text, pattern);
}

/// \p pattern  lives as long as the program: compiling one costs more than all the rest of reading.
TextRule rule(const std::regex& pattern, const char* why) {
  return [&pattern, why](const std::string& text) {
    return fits(text, pattern) ? std::nullopt : std::optional<std::string>(why);
  };
}

std::optional<std::string> gpu_model_rule(const std::string& text) {
  static const std::regex id("[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}");
  static const std::regex name("[A-Za-z0-9][A-Za-z0-9 ._/+()-]{0,63}");
  if (text.empty() || fits(text, id)) return std::nullopt;
  if (text.find(':') != std::string::npos) return "is not a PCI id (want vvvv:dddd)";
  if (fits(text, name)) return std::nullopt;
  return "is not a GPU model (want part of its name like \"H100\", or vvvv:dddd)";
}

void lower_case(std::string& text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
}

class VmReader {
 public:
  VmReader(Findings& findings, Value value, VmSpec& spec)
      : findings_(findings), fields_(findings, std::move(value), TemplateFields::Nulls::remove), spec_(spec) {}

  void read() {
    static const std::regex machine("(pc-)?q35(-[0-9.]{1,16})?");
    fields_.integer("cpus", 1, 4096, spec_.cpus);
    fields_.require("memory", R"(write "memory": "1GiB")");
    if (fields_.size("memory", 16 * kMiB, 16 * kTiB, spec_.memory)) spec_.memory = round_up(spec_.memory, kMiB);
    fields_.text("machine", spec_.machine,
                 rule(machine, "is not a machine type that is supported (want q35, or like pc-q35-7.2)"));
    fields_.word<Firmware>(
        "firmware", {{"uefi", Firmware::uefi}, {"bios", Firmware::bios}, {"direct", Firmware::direct}}, spec_.firmware);
    fields_.word<Accel>("accel", {{"auto", Accel::automatic}, {"kvm", Accel::kvm}, {"tcg", Accel::tcg}}, spec_.accel);
    fields_.word<Tuning>("tuning", {{"auto", Tuning::automatic}, {"none", Tuning::none}, {"strict", Tuning::strict}},
                         spec_.tuning);
    fields_.list("disks", kMostDisks, [this](Value item) { read_disk(std::move(item)); });
    fields_.list("networks", kMostNetworks, [this](Value item) { read_network(std::move(item)); });
    fields_.list("gpus", kMostGpus, [this](Value item) { read_gpu(std::move(item)); });
    fields_.word<GpuRelease>("release",
                             {{"reset", GpuRelease::reset}, {"driver", GpuRelease::driver}, {"keep", GpuRelease::keep}},
                             spec_.release);
    fields_.flag("gpudirect", spec_.gpudirect);
    fields_.flag("tpm", spec_.tpm);
    fields_.flag("secure_boot", spec_.secure_boot);
    fields_.texts("xml", kMostXml, spec_.xml, [](const std::string& text) -> std::optional<std::string> {
      if (text.find_first_not_of(" \t\r\n") == std::string::npos) return "is empty (want a libvirt device element)";
      return std::nullopt;
    });
    fields_.finish();
    check_together();
  }

 private:
  void read_disk(Value item) {
    const std::size_t before = findings_.errors().size();
    TemplateFields disk(findings_, std::move(item), TemplateFields::Nulls::refused);
    DiskSpec out;
    disk.require("name", R"(write "name": "root")");
    if (disk.text("name", out.name, name_rule("disk"))) {
      const bool taken = std::any_of(spec_.disks.begin(), spec_.disks.end(),
                                     [&](const DiskSpec& other) { return other.name == out.name; });
      if (taken) disk.fail("name", "'" + out.name + "' is the name of two disks");
    }
    disk.text("image", out.image,
              [](const std::string& text) { return text.empty() ? std::nullopt : name_rule("image")(text); });
    if (std::uint64_t size = 0; disk.size("size", kMiB, 1024 * kTiB, size)) out.size = round_up(size, kSector);
    disk.flag("snapshot", out.snapshot);
    disk.finish();
    const bool no_image = !disk.has("image") || (disk.get("image") && out.image.empty());
    if (no_image && !disk.has("size") && findings_.errors().size() == before) {
      findings_.add(disk.pointer(), "a disk needs an image or a size",
                    R"(write "image": "debian-12" or "size": "20GiB")");
    }
    spec_.disks.push_back(std::move(out));
  }

  void read_network(Value item) {
    static const std::regex bridge("[A-Za-z0-9._-]{1,15}");
    TemplateFields network(findings_, std::move(item), TemplateFields::Nulls::refused);
    NetworkSpec out;
    network.require("kind", R"(write "kind": "nat")");
    const bool known = network.word<NetworkKind>("kind",
                                                 {{"nat", NetworkKind::nat},
                                                  {"isolated", NetworkKind::isolated},
                                                  {"user", NetworkKind::user},
                                                  {"bridge", NetworkKind::bridge},
                                                  {"none", NetworkKind::none}},
                                                 out.kind);
    network.text("bridge", out.bridge, rule(bridge, "is not a bridge name (want 1 to 15 of a-z A-Z 0-9 . _ -)"));
    if (known && out.kind == NetworkKind::bridge && !network.has("bridge")) {
      findings_.add(network.pointer(), "kind 'bridge' needs the name of a bridge", R"(write "bridge": "br0")");
    }
    if (known && out.kind != NetworkKind::bridge && network.has("bridge")) {
      network.fail("bridge", "only for a network of kind 'bridge'");
    }
    network.finish();
    spec_.networks.push_back(std::move(out));
  }

  void read_gpu(Value item) {
    static const std::regex address("|[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[01][0-9A-Fa-f]\\.[0-7]");
    TemplateFields gpu(findings_, std::move(item), TemplateFields::Nulls::refused);
    GpuSpec out;
    gpu.integer("count", 0, kMostGpus, out.count);
    gpu.text("model", out.model, gpu_model_rule);
    gpu.text("address", out.address, rule(address, "is not a PCI address (want like 0000:3b:00.0)"));
    gpu.word<NumaPolicy>(
        "numa", {{"required", NumaPolicy::required}, {"preferred", NumaPolicy::preferred}, {"any", NumaPolicy::any}},
        out.numa);
    gpu.word<GpuKind>("kind", {{"gpu", GpuKind::gpu}, {"vf", GpuKind::vf}, {"mdev", GpuKind::mdev}}, out.kind);
    gpu.finish();
    // sysfs and libvirt write both in lower case; a name keeps its case.
    if (out.model.find(':') != std::string::npos) lower_case(out.model);
    lower_case(out.address);
    if (out.count == 0) return;
    if (!out.address.empty() && out.count > 1) {
      gpu.fail("address", "an address is one GPU, but count is " + std::to_string(out.count));
    }
    const auto same = [&](const GpuSpec& other) { return !out.address.empty() && other.address == out.address; };
    if (std::any_of(spec_.gpus.begin(), spec_.gpus.end(), same))
      gpu.fail("address", "'" + out.address + "' is asked for twice");
    spec_.gpus.push_back(std::move(out));
  }

  /// Rules over several keys. In a draft they may come from different files.
  void check_together() {
    if (findings_.is_draft()) return;
    if (spec_.secure_boot && spec_.firmware != Firmware::uefi && !fields_.is_open("firmware")) {
      fields_.fail("secure_boot", "only with firmware 'uefi'", R"(write "firmware": "uefi")");
    }
    const auto is_none = [](const NetworkSpec& network) { return network.kind == NetworkKind::none; };
    if (spec_.networks.size() > 1 && std::any_of(spec_.networks.begin(), spec_.networks.end(), is_none)) {
      fields_.fail("networks", "a network of kind 'none' stands alone");
    }
    unsigned total = 0;
    for (const GpuSpec& gpu : spec_.gpus) total += gpu.count;
    if (total > kMostGpus) {
      fields_.fail("gpus",
                   std::to_string(total) + " GPUs are too many (want at most " + std::to_string(kMostGpus) + ")");
    }
  }

  Findings& findings_;
  TemplateFields fields_;
  VmSpec& spec_;
};

}  // namespace

TextRule name_rule(const char* what) {
  return [what](const std::string& text) -> std::optional<std::string> {
    try {
      require_name(what, text);  // the one home of the rule
      return std::nullopt;
    } catch (const Error&) {
      return name_rule_broken(what);
    }
  };
}

void read_version(TemplateFields& root) {
  const auto version = root.get("version");
  if (!version || (version->json->is_number_integer() && *version->json == 1)) return;
  root.fail("version", shown(*version->json) + " is not a version of the format that is known (want 1)");
}

void read_spec(TemplateFields& root, VmSpec& spec) {
  root.text("description", spec.description, [](const std::string& text) {
    return text.size() <= 1024 ? std::nullopt : std::optional<std::string>("is longer than 1024 bytes");
  });
  Findings& findings = root.findings();
  root.require("vm", R"(write "vm": {"memory": "1GiB"})");
  if (const auto vm = root.get("vm")) VmReader(findings, *vm, spec).read();
  if (const auto guest = root.get("guest")) read_guest(findings, *guest, spec.guest);
  if (const auto lifecycle = root.get("lifecycle")) read_lifecycle(findings, *lifecycle, spec.lifecycle);
  const bool can_ssh = std::any_of(spec.networks.begin(), spec.networks.end(),
                                   [](const NetworkSpec& network) { return network.kind != NetworkKind::none; });
  const bool no_networks = !can_ssh && findings.errors().empty() && !findings.is_draft();
  if (spec.lifecycle.ready == Ready::ssh && no_networks) {
    findings.add("/lifecycle/ready", "'ssh' needs a network, and the VM has none", R"(write "ready": "agent")");
  }
}

}  // namespace vmgraft

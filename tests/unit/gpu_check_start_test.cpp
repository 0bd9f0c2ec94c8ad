// SPDX-License-Identifier: Apache-2.0
// `gpu check --for TEMPLATE` and the start of that template say the same.
#include <algorithm>

#include "gpu/check.hpp"
#include "gpu/choose.hpp"
#include "gpu/place.hpp"
#include "model/size.hpp"
#include "support/catch.hpp"
#include "support/recorded_host.hpp"

using namespace vmgraft;

namespace {

GpuFacts facts_of(const std::string& name, const GpuConfig& config = {}) {
  FakeHost host = recorded_host(name);
  GpuFacts facts;
  facts.devices = read_devices(host, config);
  std::vector<std::string> addresses;
  for (const PciFunction& each : facts.devices.functions) addresses.push_back(each.address);
  facts.use = read_use(host, facts.devices, addresses);
  facts.settings = read_settings(host);
  facts.gpus = find_gpus(facts.devices, {}, {});
  return facts;
}

VmSpec asking(const std::vector<GpuSpec>& gpus) {
  VmSpec spec;
  spec.cpus = 4;
  spec.memory = 8 * kGiB;
  spec.gpus = gpus;
  return spec;
}

GpuSpec wish(unsigned count, GpuKind kind = GpuKind::gpu) {
  GpuSpec spec;
  spec.count = count;
  spec.kind = kind;
  return spec;
}

GpuSpec at(const std::string& address) {
  GpuSpec spec;
  spec.address = address;
  return spec;
}

GpuCheck row(const std::vector<GpuCheck>& rows, const std::string& id, const std::string& address = {}) {
  const auto found =
      std::find_if(rows.begin(), rows.end(), [&](const auto& each) { return each.id == id && each.address == address; });
  INFO("no row " << id << " of " << address);
  REQUIRE(found != rows.end());
  return *found;
}

bool has_row(const std::vector<GpuCheck>& rows, const std::string& id, const std::string& address) {
  return std::any_of(rows.begin(), rows.end(),
                     [&](const auto& each) { return each.id == id && each.address == address; });
}

bool has(const std::string& text, const std::string& piece) {
  UNSCOPED_INFO(text);
  return text.find(piece) != std::string::npos;
}

/// What a start says to the request; empty: it takes GPUs.
std::string refusal_of_start(const GpuFacts& facts, const VmSpec& spec) {
  CheckFor wanted;
  wanted.spec = &spec;
  try {
    static_cast<void>(choose_gpus(facts, spec, wanted));
  } catch (const Error& error) {
    return std::string(error.what()) + " / " + error.hint();
  }
  return {};
}

/// The same of the report.
std::string refusal_of_report(const std::vector<GpuCheck>& rows) {
  const GpuCheck found = row(rows, "choice");
  return found.health == Health::fail ? found.seen + " / " + found.remedy : std::string();
}

/// Eight GPUs and one partition of the first four.
GpuFacts board_with_partition(std::vector<std::string>& partition) {
  const GpuFacts all = facts_of("sxm-8gpu");
  for (const std::string& address : all.devices.gpus)
    if (partition.size() < 4 && !all.devices.find(address)->boot_vga) partition.push_back(address);
  GpuConfig config;
  config.partitions = {{"left", partition}};
  return facts_of("sxm-8gpu", config);
}

}  // namespace

TEST_CASE("three GPUs of a board with NVSwitches are refused by the report as by the start") {
  const GpuFacts facts = facts_of("sxm-8gpu");
  const VmSpec spec = asking({wish(3)});
  const GpuCheck choice = row(check_start(facts, spec, ""), "choice");
  CHECK(choice.health == Health::fail);
  CHECK(has(choice.seen, "3 GPUs wanted: "));
  CHECK(has(choice.seen, "[fabric-partition]"));
  CHECK(has(choice.remedy, "name the partitions in /etc/vmgraft/gpus.json"));
}

TEST_CASE("the report and the start agree on whatever is asked for, on every recorded host") {
  GpuSpec required = wish(2);
  required.numa = NumaPolicy::required;
  GpuSpec model = wish(1);
  model.model = "10de:ffff";
  std::vector<VmSpec> asked{asking({wish(1)}),
                            asking({wish(2)}),
                            asking({required}),
                            asking({model}),
                            asking({wish(1, GpuKind::vf)}),
                            asking({wish(3, GpuKind::vf)}),
                            asking({wish(1, GpuKind::mdev)}),
                            asking({wish(99)}),
                            asking({at("0000:17:00.0")})};
  asked.push_back(asking({wish(1)}));
  asked.back().memory = 16384 * kGiB;
  std::size_t taken = 0, refused = 0;
  for (const char* name : {"lab", "laptop-1gpu", "sxm-8gpu", "pcie-2socket", "mxgpu-amd", "acs-override", "no-iommu"}) {
    const GpuFacts facts = facts_of(name);
    for (const VmSpec& spec : asked) {
      const std::string wanted = refusal_of_start(facts, spec);
      INFO(name << ": " << wanted);
      CHECK(refusal_of_report(check_start(facts, spec, "")) == wanted);
      ++(wanted.empty() ? taken : refused);
    }
  }
  CHECK(taken > 10);
  CHECK(refused > 10);
}

TEST_CASE("a start by address is refused when another card stands there than the one that was asked for") {
  const GpuFacts facts = facts_of("pcie-2socket");
  for (const std::string& address : facts.devices.gpus) {
    GpuSpec named = at(address);
    if (!refusal_of_start(facts, asking({named})).empty()) continue;
    named.identity = identity_of(*facts.devices.find(address));
    CHECK(refusal_of_start(facts, asking({named})).empty());
    named.identity = "10de:2330 10de:ffff";
    const std::string refusal = refusal_of_start(facts, asking({named}));
    CHECK(has(refusal, "GPU " + address + ": is "));
    CHECK(has(refusal, "but vmgraft knows 10de:2330 10de:ffff at this address: cards have moved [bdf-moved] / "));
    CHECK(has(refusal, "vmgraft gpu request VM ADDRESS"));
    return;
  }
  FAIL("no GPU of the recorded host is free");
}

TEST_CASE("the window and the rows of several GPUs are those of the set that a start would take") {
  std::vector<std::string> four;
  const GpuFacts facts = board_with_partition(four);
  const VmSpec spec = asking({wish(4)});
  const std::vector<GpuCheck> rows = check_start(facts, spec, "");
  const GpuCheck choice = row(rows, "choice");
  CHECK(choice.health == Health::ok);
  CHECK(has(choice.seen, "a start would take " + four[0] + " + " + four[1] + " + " + four[2] + " + " + four[3] + ": "));
  CHECK(has(choice.seen, "(the only set)"));
  CHECK(choice.remedy.empty());
  CheckFor together;
  together.spec = &spec;
  together.together = four;
  for (const std::string& each : four) {
    const std::vector<GpuCheck> of_set = check_gpu(facts, *facts.find(each), together);
    CHECK(row(rows, "mmio-window", each).seen == row(of_set, "mmio-window", each).seen);
  }
  const std::vector<GpuCheck> alone = check_start(facts, asking({wish(1)}), four[0]);
  CHECK(row(rows, "mmio-window", four[0]).seen != row(alone, "mmio-window", four[0]).seen);
  // One that is not of the set is told without what only a set has.
  const std::string other = facts.devices.gpus.back();
  REQUIRE(std::find(four.begin(), four.end(), other) == four.end());
  CHECK(has_row(rows, "group-not-viable", other));
  CHECK(has_row(rows, "fabric-partition", other));
  CHECK_FALSE(has_row(rows, "mmio-window", other));
}

TEST_CASE("a template of VFs gets rows of what makes VFs and of free ones, and none of GPUs as a whole") {
  const GpuFacts facts = facts_of("mxgpu-amd");
  const std::string split = "0000:05:00.0", vf = "0000:05:02.0", maker = "0000:26:00.0", whole = "0000:46:00.0";
  const std::vector<GpuCheck> rows = check_start(facts, asking({wish(1, GpuKind::vf)}), "");
  CHECK(has(row(rows, "choice").seen, "a start would take " + vf + ": on node 0 "));
  CHECK(has_row(rows, "pf-in-use", vf));
  CHECK(has_row(rows, "mmio-window", vf));
  CHECK(has_row(rows, "vfs-in-use", maker));  // it stays on its driver, whoever shares its group
  CHECK_FALSE(has_row(rows, "group-not-viable", maker));
  CHECK_FALSE(has_row(rows, "no-reset", maker));
  for (const std::string& none : {split, whole}) CHECK_FALSE(has_row(rows, "absent", none));
  for (const GpuCheck& each : rows) {
    INFO(each.address << " " << each.id << ": " << each.seen);
    CHECK(each.health != Health::fail);
  }
  const std::vector<GpuCheck> two = check_start(facts, asking({wish(2, GpuKind::vf)}), maker);
  CHECK(has(row(two, "choice").seen, "a start would take " + maker + " + "));
  CHECK_FALSE(has_row(two, "group-not-viable", maker));
}

TEST_CASE("a GPU that is asked about is one of those that the start takes") {
  const GpuFacts facts = facts_of("pcie-2socket");
  const std::string first = "0000:17:00.0", second = "0000:31:00.0", busy = "0000:b1:00.0";
  const std::vector<GpuCheck> rows = check_start(facts, asking({wish(1)}), second);
  CHECK(has(row(rows, "choice").seen, "a start would take " + second + ": "));
  CHECK_FALSE(has_row(rows, "absent", first));
  CHECK(has(row(check_start(facts, asking({wish(2)}), second), "choice").seen, second + " + " + first + ": "));
  // One that is in use is refused, though a start without it would find others.
  const GpuCheck refused = row(check_start(facts, asking({wish(1)}), busy), "choice");
  CHECK(refused.health == Health::fail);
  CHECK(has(refused.seen, "GPU " + busy + ": pid 4242 (python3"));
  // A template without GPUs gets it as with --gpus ADDRESS.
  CHECK(has(row(check_start(facts, asking({}), second), "choice").seen, "a start would take " + second + ": "));
  // Each entry of the request may be the one that means it.
  GpuSpec other_model = wish(1);
  other_model.model = "10de:ffff";
  CHECK(has(row(check_start(facts, asking({at(first), wish(1)}), second), "choice").seen, first + " + " + second + ": "));
  const GpuCheck elsewhere = row(check_start(facts, asking({at(first)}), second), "choice");
  CHECK(elsewhere.health == Health::fail);
  CHECK(elsewhere.seen == "the template asks for " + first + ", not for " + second);
  CHECK(elsewhere.remedy == "ask for it with --gpus " + second);
}

TEST_CASE("what a start would do for the GPUs of a template is told beforehand, and so is its refusal") {
  const GpuFacts facts = facts_of("pcie-2socket");
  PlaceFor kvm;
  kvm.is_kvm = true;
  kvm.libvirt_version = 9'000'000;
  VmSpec spec = asking({wish(1)});
  const GpuCheck placed = row(check_start(facts, spec, "", &kvm), "placement");
  CHECK(placed.health == Health::ok);
  CHECK(has(placed.seen, "huge pages"));
  const PlaceFor emulated;
  const GpuCheck untuned = row(check_start(facts, spec, "", &emulated), "placement");
  CHECK(untuned.health == Health::warn);
  CHECK(untuned.seen == "no pinning, NUMA cells, huge pages or locked memory: software emulation");
  CHECK(has(untuned.remedy, "\"strict\""));
  spec.tuning = Tuning::strict;
  const GpuCheck refused = row(check_start(facts, spec, "", &emulated), "placement");
  CHECK(refused.health == Health::fail);
  CHECK(refused.seen == "tuning \"strict\" cannot be had: " + untuned.seen);
  CHECK(has(refused.remedy, "\"auto\""));
  spec.tuning = Tuning::none;
  CHECK(row(check_start(facts, spec, "", &kvm), "placement").seen == "window of 512 GiB for the GPUs' memory");
  // Without libvirt, and where nothing is given, there is nothing to be placed.
  CHECK_FALSE(has_row(check_start(facts, spec, ""), "placement", ""));
  CHECK_FALSE(has_row(check_start(facts, asking({wish(99)}), "", &kvm), "placement", ""));
  // A VF that a start would make first.
  const GpuFacts board = facts_of("mxgpu-amd");
  CHECK_FALSE(has_row(check_start(board, asking({wish(2, GpuKind::vf)}), "0000:26:00.0", &kvm), "placement", ""));
}

TEST_CASE("a template that asks for no GPU has every GPU judged for its VM") {
  const GpuFacts facts = facts_of("pcie-2socket");
  const std::vector<GpuCheck> rows = check_start(facts, asking({wish(0)}), "");
  CHECK(row(rows, "choice").health == Health::ok);
  CHECK(row(rows, "choice").seen == "the template asks for no GPU");
  for (const Gpu& gpu : facts.gpus) CHECK(has_row(rows, "mmio-window", gpu.address));
}

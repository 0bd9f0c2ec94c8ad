// SPDX-License-Identifier: Apache-2.0
#include "gpu/choose.hpp"

#include <algorithm>
#include <cctype>

#include <vmgraft/error.hpp>

#include "gpu/check_rows.hpp"
#include "gpu/choose_sets.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

std::string lower(std::string text) {
  for (char& each : text) each = static_cast<char>(std::tolower(static_cast<unsigned char>(each)));
  return text;
}

std::string kind_name(GpuKind kind, unsigned count = 1) {
  const std::string plural = count == 1 ? "" : "s";
  if (kind == GpuKind::vf) return "VF" + plural;
  return (kind == GpuKind::mdev ? "mediated device" : "GPU") + plural;
}

bool is_of_model(const GpuFacts& facts, const PciFunction& function, const std::string& model) {
  const std::string wanted = lower(model);
  if (wanted == pci_id(function.vendor, function.device)) return true;
  const auto name = facts.names.find(function.address);
  return name != facts.names.end() && lower(name->second).find(wanted) != std::string::npos;
}

bool matches(const GpuFacts& facts, const Candidate& candidate, const GpuSpec& spec) {
  if (candidate.one.kind != spec.kind) return false;
  if (!spec.address.empty() && candidate.one.address != lower(spec.address)) return false;
  if (spec.model.empty()) return true;
  if (spec.kind != GpuKind::mdev) return is_of_model(facts, *candidate.function, spec.model);
  const auto& types = candidate.function->mdev_types;
  const auto type = std::find_if(types.begin(), types.end(),
                                 [&](const GpuMdevType& each) { return each.id == candidate.one.mdev_type; });
  return lower(type->id) == lower(spec.model) || lower(type->name).find(lower(spec.model)) != std::string::npos;
}

// What the VM has already is not given to it once more; a lease that it holds while it does not run is.
bool is_in_asking_vm(const GpuFacts& facts, const std::string& address, const CheckFor& wanted) {
  return std::any_of(facts.domains.begin(), facts.domains.end(), [&](const DomainUse& domain) {
    return domain.is_running && !wanted.vm_uuid.empty() && domain.uuid == wanted.vm_uuid &&
           std::find(domain.functions.begin(), domain.functions.end(), address) != domain.functions.end();
  });
}

// Rows that only a whole set can be judged by are left for it: another GPU of the group may come along in the set.
CheckFor check_alone(const GpuFacts& facts, const Candidate& candidate, const CheckFor& wanted, const VmSpec& spec) {
  CheckFor alone = wanted;
  alone.spec = &spec;
  alone.kind = candidate.one.kind;
  alone.together = {candidate.one.address};
  for (const std::string& other : candidate.gpu->strangers)
    if (facts.find(other) != nullptr) alone.together.push_back(other);
  return alone;
}

// What is to be made on a GPU is made by its driver.
void judge_maker(Candidate& candidate) {
  const std::string& driver = candidate.function->driver;
  if (driver.empty() || is_vfio_driver(driver)) {
    candidate.why_not = "on " + (driver.empty() ? "no driver" : printable(driver)) + ": only its host driver makes " +
                        kind_name(candidate.one.kind, 2) + " of it";
  } else if (candidate.copies == 0) {
    candidate.why_not = "no more of " + printable(candidate.one.mdev_type) + " can be made on it";
    candidate.is_held = true;
    candidate.copies = 1;  // at least one of it would be free again
  }
}

void judge(const GpuFacts& facts, Candidate& candidate, const CheckFor& wanted, const VmSpec& spec) {
  if (is_in_asking_vm(facts, candidate.one.address, wanted)) {
    candidate.why_not = "this VM has it already";
    return;
  }
  candidate.is_held = true;
  for (const GpuCheck& row : check_gpu_alone(facts, *candidate.gpu, check_alone(facts, candidate, wanted, spec))) {
    if (row.health != Health::fail) continue;
    const bool is_holder = is_holder_check(row.id);
    // What is unfit stays so when its holder lets go.
    if (candidate.why_not.empty() || (candidate.is_held && !is_holder)) candidate.why_not = row.seen;
    candidate.is_held = candidate.is_held && is_holder;
  }
  candidate.is_held = candidate.is_held && !candidate.why_not.empty();
  if (!candidate.is_function() && candidate.why_not.empty()) judge_maker(candidate);
}

void add_candidates(std::vector<Candidate>& candidates, const Gpu& gpu, const PciFunction& function, GpuKind kind) {
  const auto add = [&](GpuChoice::One one, unsigned copies) {
    one.address = gpu.address;
    one.kind = kind;
    candidates.push_back({std::move(one), &gpu, &function, copies, false, {}});
  };
  if (!offers(function, kind)) return;
  if (kind != GpuKind::mdev) {
    GpuChoice::One one;
    one.make_vf = kind == GpuKind::vf && function.physical_function.empty();
    return add(one, one.make_vf ? function.most_vfs : 1);
  }
  for (const GpuMdevType& type : function.mdev_types) {
    GpuChoice::One one;
    one.mdev_type = type.id;
    add(one, type.available);
  }
}

std::vector<Candidate> find_candidates(const GpuFacts& facts, const VmSpec& spec, const CheckFor& wanted) {
  std::set<GpuKind> kinds;
  for (const GpuSpec& each : spec.gpus)
    if (each.count > 0) kinds.insert(each.kind);
  std::vector<Candidate> candidates;
  for (const Gpu& gpu : facts.gpus)
    if (const PciFunction* function = facts.devices.find(gpu.address))
      for (const GpuKind kind : kinds) add_candidates(candidates, gpu, *function, kind);
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.one.address < b.one.address; });
  for (Candidate& each : candidates) judge(facts, each, wanted, spec);
  return candidates;
}

std::vector<Wish> find_wishes(const GpuFacts& facts, const VmSpec& spec, const std::vector<Candidate>& candidates,
                              bool with_held) {
  std::vector<Wish> wishes;
  for (const GpuSpec& each : spec.gpus) {
    if (each.count == 0) continue;
    Wish wish{&each, {}};
    for (std::size_t index = 0; index < candidates.size(); ++index)
      if ((candidates[index].why_not.empty() || (with_held && candidates[index].is_held)) &&
          matches(facts, candidates[index], each))
        wish.matches.push_back(index);
    wishes.push_back(std::move(wish));
  }
  return wishes;
}

std::string node_text(const GpuFacts& facts, const PciFunction& function, const std::string& vm_uuid) {
  if (function.numa_node < 0) return "on a node that the host does not tell";
  for (const HostNode& node : facts.settings.nodes)
    if (static_cast<int>(node.number) == function.numa_node)
      return "on node " + std::to_string(function.numa_node) + " with " +
             std::to_string(free_cpus(facts, node, vm_uuid)) + " CPUs free";
  return "on node " + std::to_string(function.numa_node);
}

std::string candidate_name(const Candidate& candidate) {
  const std::string address = printable(candidate.one.address);
  return candidate.one.kind == GpuKind::mdev ? address + " " + printable(candidate.one.mdev_type) : address;
}

std::string place_text(const GpuFacts& facts, const CheckFor& wanted, const Candidate& candidate, std::size_t times) {
  const std::string text = node_text(facts, *candidate.function, wanted.vm_uuid);
  if (!candidate.is_function()) {
    const std::string what = candidate.one.make_vf ? kind_name(GpuKind::vf) : printable(candidate.one.mdev_type);
    return text + ", " + std::to_string(times) + " " + what + " to be made on it";
  }
  const std::string& driver = candidate.function->driver;
  if (is_vfio_driver(driver)) return text + ", on " + printable(driver) + " already";
  return text + ", " + (driver.empty() ? "without a driver" : "on " + printable(driver));
}

std::string span_text(const SetSearch& search, const std::vector<Candidate>& candidates, const CandidateSet& set) {
  static constexpr std::array<const char*, 6> kSpans{"one board",       "one PCIe switch", "one root port",
                                                     "one host bridge", "one NUMA node",   "across NUMA nodes"};
  unsigned most = 0;
  std::set<int> nodes;
  for (const std::size_t a : set) {
    nodes.insert(candidates[a].function->numa_node);
    for (const std::size_t b : set) most = std::max(most, search.scorer().distance(a, b));
  }
  std::string text = nodes == std::set<int>{-1} && most == 4 ? "NUMA not told" : kSpans.at(most);
  if (nodes.contains(-1)) return text;
  const char* separator = nodes.size() == 1 ? ", node " : ", nodes ";
  for (const int node : nodes) {
    text += separator + std::to_string(node);
    separator = " and ";
  }
  return text;
}

std::string set_text(const SetSearch& search, const std::vector<Candidate>& candidates, std::size_t rank) {
  const CandidateSet& set = search.best()[rank].set;
  std::string text;
  for (const std::size_t member : set) text += (text.empty() ? "" : " + ") + candidate_name(candidates[member]);
  text += ": " + span_text(search, candidates, set);
  if (rank > 0) return text + " (number " + std::to_string(rank + 1) + ")";
  const std::size_t all = search.fitting();
  return text + (all == 1 ? " (the only set)" : " (best of " + std::to_string(all) + " sets)");
}

std::string lost_text(const SetScore& lost, const SetScore& won, bool is_alone) {
  static constexpr std::array<const char*, kScoreParts> kReasons{"its sets span more NUMA nodes",
                                                                 "its sets are farther apart",
                                                                 "its node lacks the CPUs or the free memory of the VM",
                                                                 "an idle GPU would have to be split into VFs",
                                                                 "it would break up a larger free fabric partition",
                                                                 "it would break up a switch with more free ones",
                                                                 "it would break up a node with more free ones",
                                                                 "not on vfio-pci yet"};
  for (std::size_t part = 0; part < kScoreParts; ++part)
    if (lost[part] > won[part]) return std::string("free, but ") + kReasons[part];
  return is_alone ? "free, and as good: the lower address is taken"
                  : "free, and its sets are as good: lower addresses are taken";
}

std::string verdict(const GpuFacts& facts, const VmSpec& spec, const Candidate& candidate) {
  const bool is_wanted = std::any_of(spec.gpus.begin(), spec.gpus.end(), [&](const GpuSpec& each) {
    return each.count > 0 && matches(facts, candidate, each);
  });
  if (!is_wanted) return "not taken: not what was asked for";
  return candidate.why_not.empty() ? "free" : "not taken: " + candidate.why_not;
}

// Without a set: the candidates as they are.
std::vector<std::string> explain_none(const GpuFacts& facts, const VmSpec& spec,
                                      const std::vector<Candidate>& candidates) {
  std::vector<std::string> lines;
  for (const Candidate& each : candidates) lines.push_back(candidate_name(each) + ": " + verdict(facts, spec, each));
  return lines;
}

std::vector<std::string> explain(const GpuFacts& facts, const VmSpec& spec, const CheckFor& wanted,
                                 const std::vector<Candidate>& candidates, const SetSearch& search) {
  std::vector<std::string> lines;
  const auto& won = search.best().front();
  for (std::size_t each = 0; each < candidates.size(); ++each) {
    const auto times = static_cast<std::size_t>(std::count(won.set.begin(), won.set.end(), each));
    std::string text = verdict(facts, spec, candidates[each]);
    if (times != 0)
      text = "taken: " + place_text(facts, wanted, candidates[each], times);
    else if (const auto best = search.best_with().find(each); best != search.best_with().end())
      text = "not taken: " + lost_text(best->second, won.score, won.set.size() == 1);
    else if (text == "free")
      text = "not taken: free, but in no set that fits";
    lines.push_back(candidate_name(candidates[each]) + ": " + text);
  }
  if (won.set.size() < 2) return lines;
  for (std::size_t rank = 0; rank < search.best().size(); ++rank)
    lines.push_back(set_text(search, candidates, rank));
  return lines;
}

std::string summary(const GpuFacts& facts, const CheckFor& wanted, const std::vector<Candidate>& candidates,
                    const SetSearch& search) {
  const CandidateSet& won = search.best().front().set;
  if (won.size() > 1) return set_text(search, candidates, 0);
  const Candidate& only = candidates[won.front()];
  return candidate_name(only) + ": " + place_text(facts, wanted, only, 1);
}

std::string wish_text(const GpuSpec& spec) {
  std::string text = std::to_string(spec.count) + " " + kind_name(spec.kind, spec.count);
  if (!spec.model.empty()) text += " of model '" + printable(spec.model) + "'";
  if (!spec.address.empty()) text += " at " + printable(spec.address);
  return text;
}

// The address is there, but not as what is asked for.
void refuse_other_kind(const GpuFacts& facts, const GpuSpec& spec, const std::vector<Candidate>& candidates) {
  if (spec.address.empty()) return;
  const std::string address = lower(spec.address);
  if (std::any_of(candidates.begin(), candidates.end(),
                  [&](const Candidate& each) { return each.one.address == address && each.one.kind == spec.kind; }))
    return;
  const PciFunction* function = facts.devices.find(address);
  if (spec.kind == GpuKind::gpu)
    throw Error(Errc::host_unfit, printable(address) + " is a VF, not a whole GPU", "ask for it with kind=vf");
  const bool is_split = spec.kind == GpuKind::vf && function != nullptr && function->vfs > 0;
  throw Error(
      Errc::host_unfit,
      "GPU " + printable(address) + (is_split ? " is split into VFs already" : " makes no " + kind_name(spec.kind, 2)),
      is_split ? "name one of its VFs, or leave out the address" : "vmgraft gpu list shows what each can do");
}

void refuse_unknown(const GpuFacts& facts, const VmSpec& spec, const std::vector<Candidate>& candidates) {
  std::vector<std::string> addresses;
  std::set<std::string> models;
  for (const Gpu& each : facts.gpus) addresses.push_back(each.address);
  for (const Candidate& each : candidates) {
    const auto name = facts.names.find(each.one.address);
    models.insert(each.one.kind == GpuKind::mdev ? printable(each.one.mdev_type)
                  : name == facts.names.end()    ? pci_id(each.function->vendor, each.function->device)
                                                 : printable(name->second));
  }
  for (const GpuSpec& each : spec.gpus) {
    if (each.count == 0) continue;
    if (!each.address.empty() && facts.find(lower(each.address)) == nullptr)
      throw Error(Errc::not_found, "no GPU " + printable(each.address) + " on this host",
                  did_you_mean(each.address, addresses, "vmgraft gpu list shows those that are there"));
    refuse_other_kind(facts, each, candidates);
    const auto is_model = [&](const Candidate& candidate) {
      GpuSpec any = each;
      any.address.clear();
      return matches(facts, candidate, any);
    };
    if (each.model.empty() || std::any_of(candidates.begin(), candidates.end(), is_model)) continue;
    std::string there;
    for (const std::string& model : models) there += (there.empty() ? "there are: " : "; ") + model;
    throw Error(Errc::not_found,
                "no " + kind_name(each.kind) + " of model '" + printable(each.model) + "' on this host",
                there.empty() ? "vmgraft gpu list shows what is there" : there);
  }
}

struct Count {
  std::size_t all = 0, free = 0, held = 0;
};

Count count_matching(const GpuFacts& facts, const std::vector<Candidate>& candidates, const GpuSpec& spec) {
  Count count;
  for (const Candidate& each : candidates) {
    if (!matches(facts, each, spec)) continue;
    const std::size_t copies = each.copies;
    count.all += copies;
    if (each.why_not.empty()) count.free += copies;
    if (each.is_held) count.held += copies;
  }
  return count;
}

std::string count_text(const GpuFacts& facts, const std::vector<Candidate>& candidates, const GpuSpec& spec) {
  const Count count = count_matching(facts, candidates, spec);
  std::string text = wish_text(spec) + " wanted: ";
  if (count.all == 0) return text + "there is none";
  text +=
      std::to_string(count.all) + (count.all == 1 ? " is" : " are") + " there, " + std::to_string(count.free) + " free";
  if (count.held != 0) text += ", " + std::to_string(count.held) + " held by others";
  if (const std::size_t unfit = count.all - count.free - count.held; unfit != 0)
    text += ", " + std::to_string(unfit) + " not usable";
  return text;
}

// Who names a GPU is told of that GPU all that hinders it.
void refuse_named(const GpuFacts& facts, const VmSpec& spec, const CheckFor& wanted,
                  const std::vector<Candidate>& candidates) {
  for (const GpuSpec& each : spec.gpus)
    for (const Candidate& candidate : candidates)
      if (each.count > 0 && !each.address.empty() && !candidate.why_not.empty() && matches(facts, candidate, each))
        refuse_failures(check_gpu_alone(facts, *candidate.gpu, check_alone(facts, candidate, wanted, spec)));
}

[[noreturn]] void refuse(const GpuFacts& facts, const VmSpec& spec, const CheckFor& wanted,
                         const std::vector<Candidate>& candidates, const SetSearch& search) {
  refuse_unknown(facts, spec, candidates);
  refuse_named(facts, spec, wanted, candidates);
  const auto with_held = find_wishes(facts, spec, candidates, true);
  SetSearch if_free(facts, spec, wanted, candidates, with_held);
  if_free.run();
  std::string text;
  for (const GpuSpec& each : spec.gpus)
    if (each.count > 0) text += (text.empty() ? "" : "; ") + count_text(facts, candidates, each);
  std::string hint = "vmgraft gpu check says what hinders each and what to do";
  if (!search.refusal().empty()) {
    text += ", but no set of them fits: " + search.refusal();
    if (!search.remedy().empty()) hint = search.remedy();
  }
  const bool is_held = !if_free.best().empty();
  if (is_held) hint = "wait until the holders let go, or ask for fewer or others: vmgraft gpu list shows who has which";
  Error error(is_held ? Errc::conflict : Errc::host_unfit, text, hint);
  for (std::string& line : explain_none(facts, spec, candidates)) error.add_context(std::move(line));
  throw error;
}

}  // namespace

bool offers(const PciFunction& function, GpuKind kind) {
  const bool is_vf = !function.physical_function.empty();
  if (kind == GpuKind::gpu) return !is_vf;
  if (kind == GpuKind::vf) return is_vf || (function.most_vfs > 0 && function.vfs == 0);
  return !function.mdev_types.empty();
}

GpuChoice choose_gpus(const GpuFacts& facts, const VmSpec& spec, const CheckFor& wanted) {
  const auto candidates = find_candidates(facts, spec, wanted);
  const auto wishes = find_wishes(facts, spec, candidates, false);
  if (wishes.empty()) return {};
  SetSearch search(facts, spec, wanted, candidates, wishes);
  search.run();
  if (search.best().empty()) refuse(facts, spec, wanted, candidates, search);
  GpuChoice choice;
  for (const std::size_t each : search.best().front().set) choice.gpus.push_back(candidates[each].one);
  choice.summary = summary(facts, wanted, candidates, search);
  choice.explanation = explain(facts, spec, wanted, candidates, search);
  return choice;
}

}  // namespace vmgraft

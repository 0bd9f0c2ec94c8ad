// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vmgraft/error.hpp>

#include "gpu/check_rows.hpp"
#include "gpu/choose.hpp"
#include "gpu/place.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

// The request with the GPU at \p address as one of it: a way for each entry that can mean it.
std::vector<VmSpec> naming(const VmSpec& spec, const std::string& address) {
  std::vector<VmSpec> ways;
  for (std::size_t each = 0; each < spec.gpus.size(); ++each) {
    const GpuSpec& entry = spec.gpus[each];
    if (!entry.address.empty() && entry.address != address) continue;
    VmSpec way = spec;
    GpuSpec named = entry;
    named.address = address;
    named.count = 1;
    if (--way.gpus[each].count == 0) way.gpus.erase(way.gpus.begin() + static_cast<std::ptrdiff_t>(each));
    way.gpus.insert(way.gpus.begin() + static_cast<std::ptrdiff_t>(each), named);
    ways.push_back(std::move(way));
  }
  return ways;
}

CheckFor for_vm(const VmSpec& spec) {
  CheckFor wanted;
  wanted.spec = &spec;
  return wanted;
}

// What the first way gives that gives anything; else what is wrong with the first.
GpuChoice choose_first(const GpuFacts& facts, const std::vector<VmSpec>& ways) {
  std::optional<Error> refusal;
  for (const VmSpec& way : ways) {
    try {
      return choose_gpus(facts, way, for_vm(way));
    } catch (const Error& error) {
      if (!refusal) refusal = error;
    }
  }
  throw *refusal;
}

std::string addresses_of(const VmSpec& spec) {
  std::vector<std::string> words;
  for (const GpuSpec& each : spec.gpus) words.push_back(printable(each.address));
  return some_of(words);
}

// Functions that the VM gets. What is made on a GPU stands on none of the host yet.
std::vector<std::string> functions_of_choice(const GpuChoice& choice) {
  std::vector<std::string> found;
  for (const GpuChoice::One& one : choice.gpus)
    if (one.kind != GpuKind::mdev && !one.make_vf) found.push_back(one.address);
  return found;
}

const GpuChoice::One* find_chosen(const GpuChoice& choice, const std::string& address) {
  const auto found =
      std::find_if(choice.gpus.begin(), choice.gpus.end(), [&](const auto& one) { return one.address == address; });
  return found == choice.gpus.end() ? nullptr : &*found;
}

// As which of the things asked for the GPU is judged; nothing when it can be none of them.
std::optional<GpuKind> kind_asked(const VmSpec& spec, const PciFunction& function) {
  for (const GpuSpec& each : spec.gpus)
    if (offers(function, each.kind)) return each.kind;
  return std::nullopt;
}

class StartReport {
 public:
  StartReport(const GpuFacts& facts, const VmSpec& spec, const std::string& address, const PlaceFor* host)
      : facts_(facts), spec_(spec), address_(address), host_(host) {
    std::erase_if(spec_.gpus, [](const GpuSpec& each) { return each.count == 0; });
    // As with --gpus ADDRESS.
    if (spec_.gpus.empty() && !address.empty()) spec_.gpus.emplace_back().address = address;
  }

  [[nodiscard]] std::vector<GpuCheck> rows() {
    std::vector<GpuCheck> rows = check_host(facts_);
    const auto add = [&rows](std::vector<GpuCheck> more) {
      rows.insert(rows.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    };
    add(choose());
    add(place_choice());
    for (const Gpu& gpu : facts_.gpus)
      if (address_.empty() || gpu.address == address_) add(rows_of(gpu));
    return rows;
  }

 private:
  std::vector<GpuCheck> choose() {
    CheckRows rows({});
    const std::vector<VmSpec> ways = address_.empty() ? std::vector<VmSpec>{spec_} : naming(spec_, address_);
    if (spec_.gpus.empty()) {
      rows.ok(CheckId::choice, "the template asks for no GPU");
    } else if (ways.empty()) {
      rows.fail(CheckId::choice, "the template asks for " + addresses_of(spec_) + ", not for " + printable(address_),
                "ask for it with --gpus " + printable(address_));
    } else {
      try {
        choice_ = choose_first(facts_, ways);
        rows.ok(CheckId::choice, "a start would take " + choice_.summary);
      } catch (const Error& refusal) {
        rows.fail(CheckId::choice, refusal.what(), refusal.hint());
      }
    }
    return rows.take();
  }

  // A VF that is still to be made stands on no bus yet, and cannot be placed.
  [[nodiscard]] std::vector<GpuCheck> place_choice() const {
    const bool is_there = std::none_of(choice_.gpus.begin(), choice_.gpus.end(), [](const auto& one) { return one.make_vf; });
    if (host_ == nullptr || choice_.gpus.empty() || !is_there) return {};
    CheckRows rows({});
    try {
      const Placement placement = place(facts_, choice_, spec_, *host_);
      const std::string done = fmt::format("{}", fmt::join(placement.done, "; "));
      if (!placement.not_done.empty())
        rows.warn(CheckId::placement, fmt::format("{}", fmt::join(placement.not_done, "; ")),
                  "the VM starts without that; with \"tuning\": \"strict\" it would not");
      else
        rows.ok(CheckId::placement, done.empty() ? "nothing is tuned" : done);
    } catch (const Error& refusal) {
      rows.fail(CheckId::placement, refusal.what(), refusal.hint());
    }
    return rows.take();
  }

  [[nodiscard]] std::vector<GpuCheck> rows_of(const Gpu& gpu) const {
    CheckFor wanted = for_vm(spec_);
    if (const GpuChoice::One* one = find_chosen(choice_, gpu.address)) {
      wanted.kind = one->kind;
      wanted.together = functions_of_choice(choice_);
      return check_gpu(facts_, gpu, wanted);
    }
    const PciFunction* function = facts_.devices.find(gpu.address);
    if (!spec_.gpus.empty() && function != nullptr) {
      const std::optional<GpuKind> kind = kind_asked(spec_, *function);
      if (!kind && address_.empty()) return {};
      wanted.kind = kind.value_or(spec_.gpus.front().kind);
    }
    std::vector<GpuCheck> rows = check_gpu_alone(facts_, gpu, wanted);
    // It is in no set that the VM gets, so there is nothing to sum up; one that is asked for alone is a set of its own.
    if (units() > 1) wanted.spec = nullptr;
    for (GpuCheck& row : check_gpu_together(facts_, gpu, wanted)) rows.push_back(std::move(row));
    return rows;
  }

  [[nodiscard]] std::size_t units() const {
    std::size_t count = 0;
    for (const GpuSpec& each : spec_.gpus) count += each.count;
    return count;
  }

  const GpuFacts& facts_;
  VmSpec spec_;
  const std::string& address_;
  const PlaceFor* host_;
  GpuChoice choice_;
};

}  // namespace

std::vector<GpuCheck> check_start(const GpuFacts& facts, const VmSpec& spec, const std::string& address,
                                  const PlaceFor* host) {
  return StartReport(facts, spec, address, host).rows();
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "gpu/devices.hpp"
#include "gpu/sysfs.hpp"

namespace vmgraft {
namespace {

/// Far above what a kernel can have (NR_CPUS): a damaged text must not fill the memory.
constexpr std::uint64_t kMostCpus = 65536;

}  // namespace

std::vector<unsigned> parse_cpu_list(const std::string& text) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  std::string_view rest = text;
  rest = rest.substr(0, rest.find_last_not_of(" \n") + 1);
  while (!rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view range = rest.substr(0, comma);
    const std::size_t dash = range.find('-');
    const auto first = sysfs::number(range.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : sysfs::number(range.substr(dash + 1));
    if (first && last && *first <= *last && *last < kMostCpus) ranges.emplace_back(*first, *last);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  // Each CPU once, though a text may name all of them many times.
  std::sort(ranges.begin(), ranges.end());
  std::vector<unsigned> cpus;
  std::uint64_t next = 0;
  for (const auto& [first, last] : ranges) {
    for (next = std::max(next, first); next <= last; ++next) cpus.push_back(static_cast<unsigned>(next));
  }
  return cpus;
}

std::string format_cpu_list(const std::vector<unsigned>& cpus) {
  std::vector<unsigned> sorted = cpus;
  if (!std::is_sorted(sorted.begin(), sorted.end())) std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  std::string text;
  for (auto first = sorted.begin(); first != sorted.end();) {
    auto last = first;
    auto next = std::next(first);
    while (next != sorted.end() && *next == *last + 1) last = next++;
    if (!text.empty()) text += ",";
    text += std::to_string(*first);
    if (last != first) text += "-" + std::to_string(*last);
    first = next;
  }
  return text;
}

}  // namespace vmgraft

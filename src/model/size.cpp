// SPDX-License-Identifier: Apache-2.0
#include "model/size.hpp"

#include <array>
#include <charconv>
#include <limits>

namespace vmgraft {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};

constexpr std::uint64_t binary(unsigned power) {
  return std::uint64_t{1} << (10 * power);
}

// A single letter is binary, as in QEMU, LVM and systemd.
constexpr std::array kUnits{
    Unit{"", 1},
    Unit{"B", 1},
    Unit{"K", binary(1)},
    Unit{"KiB", binary(1)},
    Unit{"KB", 1'000},
    Unit{"M", binary(2)},
    Unit{"MiB", binary(2)},
    Unit{"MB", 1'000'000},
    Unit{"G", binary(3)},
    Unit{"GiB", binary(3)},
    Unit{"GB", 1'000'000'000},
    Unit{"T", binary(4)},
    Unit{"TiB", binary(4)},
    Unit{"TB", 1'000'000'000'000},
    Unit{"PiB", binary(5)},
};

struct Part {
  char name;
  std::int64_t seconds;
};
constexpr std::array kParts{Part{'d', 86400}, Part{'h', 3600}, Part{'m', 60}, Part{'s', 1}};

// Far above any use, far below where adding it to a clock in nanoseconds overflows.
constexpr std::int64_t kLongest = std::int64_t{100} * 365 * 86400;

/// Digits at the start of \p text, taken off it; nothing when there are none or too many.
template <typename Number>
std::optional<Number> take_number(std::string_view& text) {
  // from_chars takes a '-' for signed types, and never a '+' or a space.
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const auto number = take_number<std::uint64_t>(text);
  if (!number) return std::nullopt;
  if (text.size() > 1 && text.front() == ' ') text.remove_prefix(1);
  for (const Unit& unit : kUnits) {
    if (unit.name != text) continue;
    if (*number > std::numeric_limits<std::uint64_t>::max() / unit.bytes) return std::nullopt;
    return *number * unit.bytes;
  }
  return std::nullopt;
}

std::string format_size(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 7> names{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t power = 0;
  while (power + 1 < names.size() && (bytes >> (10 * (power + 1))) != 0) ++power;
  const auto tenths_in = [bytes](std::size_t of) {
    const std::uint64_t unit = std::uint64_t{1} << (10 * of);
    return bytes / unit * 10 + (bytes % unit * 10 + unit / 2) / unit;
  };
  std::uint64_t tenths = power == 0 ? bytes * 10 : tenths_in(power);
  if (tenths >= 10240 && power + 1 < names.size()) tenths = tenths_in(++power);  // 1023.96 MiB is 1 GiB, not 1024 MiB
  std::string text = std::to_string(tenths / 10);
  if (tenths % 10 != 0) text += "." + std::to_string(tenths % 10);
  return text.append(" ").append(names[power]);
}

std::optional<std::chrono::seconds> parse_duration(std::string_view text) {
  if (text.empty()) return std::nullopt;
  std::int64_t total = 0;
  std::size_t next = 0;  // parts come in falling order, each at most once
  while (!text.empty()) {
    const auto number = take_number<std::int64_t>(text);
    if (!number || text.empty()) return std::nullopt;
    while (next < kParts.size() && kParts[next].name != text.front()) ++next;
    if (next == kParts.size() || *number > kLongest / kParts[next].seconds) return std::nullopt;
    total += *number * kParts[next++].seconds;
    text.remove_prefix(1);
  }
  if (total > kLongest) return std::nullopt;
  return std::chrono::seconds(total);
}

std::string format_duration(std::chrono::seconds duration) {
  std::int64_t rest = duration.count();
  if (rest == 0) return "0s";
  std::string text;
  if (rest < 0) {
    text = "-";
    rest = rest == std::numeric_limits<std::int64_t>::min() ? std::numeric_limits<std::int64_t>::max() : -rest;
  }
  for (const Part& part : kParts) {
    if (rest < part.seconds) continue;
    text += std::to_string(rest / part.seconds) + part.name;
    rest %= part.seconds;
  }
  return text;
}

}  // namespace vmgraft

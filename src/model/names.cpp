// SPDX-License-Identifier: Apache-2.0
#include "model/names.hpp"

#include <algorithm>
#include <array>

#include <vmgraft/error.hpp>

namespace vmgraft {
namespace {

constexpr std::size_t kLongestName = 63;

bool is_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Edits (insert, delete, replace, swap of neighbours) from \p a to \p b; letters that differ in case are equal.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) above[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool same = lower(a[i - 1]) == lower(b[j - 1]);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]);
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(above);
    above.swap(row);
  }
  return above[b.size()];
}

struct CodePoint {
  char32_t value = 0;
  std::size_t length = 0;  ///< bytes; 0: not valid UTF-8
};

/// The code point at the start of \p text. Overlong forms, surrogates and what lies past U+10FFFF are not valid.
CodePoint decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return {};
  char32_t value = first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80U) return {};
    value = (value << 6) | (byte(i) & 0x3fU);
  }
  constexpr std::array<char32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
  if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {};
  return {value, length};
}

/// True for what would steer a terminal or make a line read as something else than it is.
bool is_unfit(char32_t c) {
  if (c < 0x20 || (c >= 0x7f && c <= 0x9f)) return true;                          // C0, DEL, C1
  if (c == 0x061c || c == 0x200e || c == 0x200f) return true;                     // direction marks
  if ((c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069)) return true;  // bidi overrides, isolates
  if (c >= 0x200b && c <= 0x200d) return true;                                    // zero width
  if (c == 0x2028 || c == 0x2029 || c == 0xfeff) return true;                     // line separators, BOM
  return c >= 0xe0000 && c <= 0xe007f;                                            // invisible tag characters
}

void append_escaped(std::string& out, std::string_view bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  if (bytes == "\n") {
    out += "\\n";
    return;
  }
  if (bytes == "\t") {
    out += "\\t";
    return;
  }
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out.append("\\x").append(1, digits[byte >> 4]).append(1, digits[byte & 0xf]);
  }
}

}  // namespace

void require_name(std::string_view what, std::string_view name) {
  const auto allowed = [](char c) { return is_alnum(c) || c == '.' || c == '_' || c == '-'; };
  const bool good = !name.empty() && name.size() <= kLongestName && is_alnum(name.front()) &&
                    std::all_of(name.begin(), name.end(), allowed);
  if (good) return;
  throw Error(Errc::usage, "'" + printable(name, 80) + "' " + name_rule_broken(what));
}

std::string name_rule_broken(std::string_view what) {
  return std::string("is not a name for ") + (what == "image" ? "an " : "a ") + std::string(what) +
         " (want 1 to 63 of a-z A-Z 0-9 . _ -, first a letter or digit)";
}

std::pair<std::string, std::string> split_ref(std::string_view ref) {
  const std::size_t at = ref.find('@');
  if (at == std::string_view::npos) return {std::string(ref), {}};
  if (at + 1 == ref.size()) {
    // Taken as "no snapshot" it would act on the VM itself, which is not what was half typed.
    throw Error(Errc::usage, "'" + printable(ref, 80) + "' names no snapshot (want VM or VM@SNAP)");
  }
  return {std::string(ref.substr(0, at)), std::string(ref.substr(at + 1))};
}

std::string nearest(std::string_view wanted, const std::vector<std::string>& candidates) {
  // One slip in a short word, more in a longer one: "a" is no slip of "b".
  const std::size_t most = wanted.size() < 3 ? 0 : wanted.size() < 6 ? 1 : wanted.size() < 10 ? 2 : 3;
  const std::string* best = nullptr;
  std::size_t best_distance = most + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t apart =
        candidate.size() > wanted.size() ? candidate.size() - wanted.size() : wanted.size() - candidate.size();
    if (apart >= best_distance) continue;
    const std::size_t distance = edit_distance(wanted, candidate);
    if (distance >= best_distance) continue;
    best = &candidate;
    best_distance = distance;
  }
  return best == nullptr ? std::string() : *best;
}

std::string did_you_mean(std::string_view wanted, const std::vector<std::string>& candidates, std::string otherwise) {
  const std::string near = nearest(wanted, candidates);
  return near.empty() ? otherwise : "did you mean '" + printable(near) + "'?";
}

std::string printable(std::string_view text, std::size_t most) {
  std::string out;
  while (!text.empty()) {
    const CodePoint point = decode(text);
    const std::string_view bytes = text.substr(0, point.length == 0 ? 1 : point.length);
    const std::size_t before = out.size();
    if (point.length == 0 || is_unfit(point.value)) {
      append_escaped(out, bytes);
    } else {
      out += bytes;
    }
    if (out.size() > most) {
      out.resize(before);
      return out + "...";
    }
    text.remove_prefix(bytes.size());
  }
  return out;
}

}  // namespace vmgraft

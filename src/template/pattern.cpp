// SPDX-License-Identifier: Apache-2.0
#include "template/pattern.hpp"

#include <algorithm>
#include <charconv>
#include <regex>
#include <string_view>

namespace vmgraft {
namespace {

constexpr std::size_t kLongestPattern = 256;
// "(a?){9000}x" has 11 bytes, and kept std::regex busy for minutes on a text of 1024.
constexpr std::size_t kMostPlaces = 1000;

/// How many places a pattern has once its counted repetitions are written out: what matching one character can cost.
class Places {
 public:
  explicit Places(std::string_view pattern) : rest_(pattern) {}

  /// Of all up to the ')' that closes the group, or the end. Counting stops beyond kMostPlaces.
  std::size_t count() {
    std::size_t all = 0;
    while (!rest_.empty() && rest_.front() != ')') {
      const std::size_t one = repeated(atom());
      all = std::min(all + one, kMostPlaces + 1);
    }
    return all;
  }

  /// What was counted has a "\1": nothing matches that in linear time, and std::regex overflows at one of twenty digits.
  bool refers_back() const { return refers_back_; }

 private:
  std::size_t atom() {
    const char first = rest_.front();
    rest_.remove_prefix(1);
    if (first == '\\') {
      refers_back_ = refers_back_ || (!rest_.empty() && rest_.front() >= '1' && rest_.front() <= '9');
      skip(1);
    } else if (first == '[') {
      while (!rest_.empty() && rest_.front() != ']') skip(rest_.front() == '\\' ? 2 : 1);
      skip(1);
    } else if (first == '(') {
      const std::size_t inside = count();
      skip(1);
      return inside + 1;
    }
    return 1;
  }

  std::size_t repeated(std::size_t places) {
    while (!rest_.empty() && rest_.front() == '{') {
      std::size_t most = 1;
      for (skip(1); !rest_.empty() && rest_.front() != '}'; skip(1)) {
        std::size_t number = 0;
        const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), number);
        if (end == rest_.data()) continue;
        most = std::max(most, error == std::errc{} ? number : kMostPlaces + 1);
        skip(static_cast<std::size_t>(end - rest_.data()) - 1);
      }
      skip(1);
      places = std::min(places, kMostPlaces + 1) * std::min(most, kMostPlaces + 1);
    }
    return std::min(places, kMostPlaces + 1);
  }

  void skip(std::size_t count) { rest_.remove_prefix(std::min(count, rest_.size())); }

  std::string_view rest_;
  bool refers_back_ = false;
};

std::regex compiled(const std::string& pattern) {
#ifdef __GLIBCXX__
  // Keeps "(a+)+$" from running for ever.
  return std::regex(pattern, std::regex::ECMAScript | std::regex_constants::__polynomial);
#else
  return std::regex(pattern, std::regex::ECMAScript);
#endif
}

}  // namespace

std::optional<std::string> pattern_fault(const std::string& pattern) {
  if (pattern.empty() || pattern.size() > kLongestPattern) return "is not a pattern (want 1 to 256 bytes)";
  Places places(pattern);
  if (places.count() > kMostPlaces) return "repeats too much (want at most 1000 places, repetitions written out)";
  if (places.refers_back()) return "refers back to a group, which patterns cannot";
  try {
    static_cast<void>(compiled(pattern));
    return std::nullopt;
  } catch (const std::regex_error&) {
    return "is not a regular expression";
  }
}

bool fits_pattern(const std::string& text, const std::string& pattern) {
  // One match that begins anywhere: regex_search would begin a new one at each character.
  return std::regex_match(text, compiled("[^]*(?:" + pattern + ")[^]*"));
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "model/moment.hpp"

#include <cstdlib>
#include <ctime>

namespace vmgraft {
namespace {

using std::chrono::seconds;
using std::chrono::sys_seconds;

/// Two or four digits at \p at; -1 when there is something else.
int digits(std::string_view text, std::size_t at, std::size_t count) {
  int value = 0;
  for (const char digit : text.substr(at, count)) {
    if (digit < '0' || digit > '9') return -1;
    value = value * 10 + (digit - '0');
  }
  return value;
}

}  // namespace

sys_seconds this_second() { return std::chrono::floor<seconds>(std::chrono::system_clock::now()); }

std::string to_rfc3339(sys_seconds time) {
  const std::time_t seconds_since = time.time_since_epoch().count();
  std::tm parts{};
  gmtime_r(&seconds_since, &parts);
  char text[sizeof "-2147481748-01-02T03:04:05Z"];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

std::optional<sys_seconds> parse_rfc3339(std::string_view text) {
  constexpr std::string_view kShape = "0000-00-00T00:00:00Z";
  if (text.size() != kShape.size()) return std::nullopt;
  for (const std::size_t at : {4U, 7U, 10U, 13U, 16U, 19U})
    if (text[at] != kShape[at]) return std::nullopt;
  const int year = digits(text, 0, 4);
  const int month = digits(text, 5, 2);
  const int day = digits(text, 8, 2);
  const int hour = digits(text, 11, 2);
  const int minute = digits(text, 14, 2);
  const int second = digits(text, 17, 2);
  if (year < 0 || month < 0 || day < 0 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59)
    return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) + seconds(second);
}

bool is_over(const std::string& expires, const std::string& now) {
  const auto end = parse_rfc3339(expires);
  const auto moment = parse_rfc3339(now);
  return end && moment && *end <= *moment;
}

std::string time_left(const std::string& expires, const std::string& now) {
  const auto end = parse_rfc3339(expires);
  const auto moment = parse_rfc3339(now);
  if (!end || !moment) return expires;
  if (*end <= *moment) return "expired";
  const long long left = (*end - *moment).count();
  constexpr long long kMinute = 60;
  constexpr long long kHour = 60 * kMinute;
  constexpr long long kDay = 24 * kHour;
  if (left < 2 * kMinute) return "in " + std::to_string(left) + " s";
  if (left < 2 * kHour) return "in " + std::to_string(left / kMinute) + " min";
  if (left < 2 * kDay) return "in " + std::to_string(left / kHour) + " h";
  return "in " + std::to_string(left / kDay) + " d";
}

}  // namespace vmgraft

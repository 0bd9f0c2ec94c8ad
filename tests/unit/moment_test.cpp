// SPDX-License-Identifier: Apache-2.0
#include "model/moment.hpp"

#include <vmgraft/error.hpp>
#include <vmgraft/requests.hpp>

#include "run/fresh.hpp"

#include "support/catch.hpp"

using namespace vmgraft;

TEST_CASE("a moment is read back as it was written, and nothing else is a moment") {
  for (const char* text : {"1970-01-01T00:00:00Z", "2026-02-28T23:59:59Z", "2028-02-29T12:00:00Z", "9999-12-31T23:59:59Z"}) {
    INFO(text);
    REQUIRE(parse_rfc3339(text));
    CHECK(to_rfc3339(*parse_rfc3339(text)) == text);
  }
  CHECK(parse_rfc3339("2026-01-02T03:04:05Z")->time_since_epoch().count() == 1767323045);  // date -u -d ... +%s
  for (const char* text : {"", "soon", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-02T24:00:00Z",
                           "2026-01-02T03:60:05Z", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05", "2026-01-02T03:04:05+01:00",
                           "2026-01-02T03:04:05Zx", "-026-01-02T03:04:05Z", "2026-1a-02T03:04:05Z"}) {
    INFO(text);
    CHECK_FALSE(parse_rfc3339(text));
  }
}

TEST_CASE("time is over at its second, and never for what has no end") {
  const std::string now = "2026-01-02T03:04:05Z";
  CHECK(is_over("2026-01-02T03:04:05Z", now));
  CHECK(is_over("2025-12-31T23:59:59Z", now));
  CHECK_FALSE(is_over("2026-01-02T03:04:06Z", now));
  CHECK_FALSE(is_over("", now));
  CHECK_FALSE(is_over("0000", now));
}

TEST_CASE("what is left is told in one unit, never more than there is") {
  const std::string now = "2026-01-02T03:04:05Z";
  CHECK(time_left("2026-01-02T03:04:05Z", now) == "expired");
  CHECK(time_left("2026-01-02T03:04:06Z", now) == "in 1 s");
  CHECK(time_left("2026-01-02T03:06:04Z", now) == "in 119 s");
  CHECK(time_left("2026-01-02T03:06:05Z", now) == "in 2 min");
  CHECK(time_left("2026-01-02T05:04:04Z", now) == "in 119 min");
  CHECK(time_left("2026-01-02T06:59:05Z", now) == "in 3 h");
  CHECK(time_left("2026-01-04T03:04:04Z", now) == "in 47 h");
  CHECK(time_left("2026-01-04T03:04:05Z", now) == "in 2 d");
  CHECK(time_left("soon", now) == "soon");
}

TEST_CASE("what is asked for decides how long a new VM lives, then the template; never has no end") {
  using std::chrono::hours;
  const auto left = [](const std::string& expires) { return *parse_rfc3339(expires) - this_second(); };
  CHECK(left(fresh_expiry(hours(8), hours(2))) > hours(7));
  CHECK(left(fresh_expiry(std::nullopt, hours(2))) > hours(1));
  CHECK(left(fresh_expiry(std::nullopt, hours(2))) <= hours(2));
  CHECK(fresh_expiry(std::nullopt, std::nullopt).empty());
  CHECK(fresh_expiry(kForever, hours(2)).empty());
  CHECK_THROWS_AS(require_life(hours(0)), Error);
  CHECK_NOTHROW(require_life(std::nullopt));
}

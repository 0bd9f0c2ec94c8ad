// SPDX-License-Identifier: Apache-2.0
#include "model/size.hpp"

#include "support/catch.hpp"

using namespace vmgraft;
using std::chrono::seconds;

TEST_CASE("sizes are whole numbers with a binary or decimal unit") {
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("4096") == 4096);
  CHECK(parse_size("7B") == 7);
  CHECK(parse_size("1KiB") == 1024);
  CHECK(parse_size("1K") == 1024);
  CHECK(parse_size("1KB") == 1000);
  CHECK(parse_size("512MiB") == 512ULL << 20);
  CHECK(parse_size("64GiB") == 64ULL << 30);
  CHECK(parse_size("64 GiB") == 64ULL << 30);
  CHECK(parse_size("2G") == 2ULL << 30);
  CHECK(parse_size("1GB") == 1'000'000'000ULL);
  CHECK(parse_size("1TiB") == 1ULL << 40);
  CHECK(parse_size("3TB") == 3'000'000'000'000ULL);
  CHECK(parse_size("2PiB") == 2ULL << 50);
  CHECK(parse_size("18446744073709551615") == UINT64_MAX);
}

TEST_CASE("what is not a size is nothing, not a guess") {
  for (const char* text :
       {"", " ", "GiB", "-1", "+1", "1.5GiB", " 1", "1 ", "1  GiB", "1gib", "1Gib", "1GiBs", "0x10", "1,000", "1e3",
        "18446744073709551616", "16384PiB", "99999999999999999999TiB", "\xef\xbc\x91"}) {
    INFO("'" << text << "'");
    CHECK_FALSE(parse_size(text).has_value());
  }
}

TEST_CASE("a size with an embedded NUL is refused") {
  CHECK_FALSE(parse_size(std::string_view("1\0K", 3)).has_value());
}

TEST_CASE("sizes are shown in the largest unit with at most one decimal") {
  CHECK(format_size(0) == "0 B");
  CHECK(format_size(1) == "1 B");
  CHECK(format_size(1023) == "1023 B");
  CHECK(format_size(1024) == "1 KiB");
  CHECK(format_size(1536) == "1.5 KiB");
  CHECK(format_size(512ULL << 20) == "512 MiB");
  CHECK(format_size((1ULL << 30) + (1ULL << 29)) == "1.5 GiB");
  CHECK(format_size((1ULL << 30) - 1) == "1 GiB");
  CHECK(format_size(1234567) == "1.2 MiB");
  CHECK(format_size(UINT64_MAX) == "16 EiB");
}

TEST_CASE("durations are parts of falling unit") {
  CHECK(parse_duration("90s") == seconds(90));
  CHECK(parse_duration("5m") == seconds(300));
  CHECK(parse_duration("8h") == seconds(8 * 3600));
  CHECK(parse_duration("2d") == seconds(2 * 86400));
  CHECK(parse_duration("1h30m") == seconds(5400));
  CHECK(parse_duration("1d2h3m4s") == seconds(93784));
  CHECK(parse_duration("0s") == seconds(0));
  CHECK(parse_duration("36500d") == seconds(36500LL * 86400));
}

TEST_CASE("what is not a duration is nothing") {
  for (const char* text : {"", "5", "m", "-5m", "5 m", "5M", "1m1h", "1h1h", "1.5h", "1h30", "36501d", "36500d1s",
                           "99999999999999999999s", "9223372036854775807d"}) {
    INFO("'" << text << "'");
    CHECK_FALSE(parse_duration(text).has_value());
  }
}

TEST_CASE("a shown duration reads back as itself") {
  for (const long count : {0L, 1L, 59L, 60L, 61L, 3600L, 5400L, 86399L, 86400L, 93784L}) {
    CHECK(parse_duration(format_duration(seconds(count))) == seconds(count));
  }
  CHECK(format_duration(seconds(5400)) == "1h30m");
  CHECK(format_duration(seconds(172800)) == "2d");
  CHECK(format_duration(seconds(0)) == "0s");
  CHECK(format_duration(seconds(-90)) == "-1m30s");
}

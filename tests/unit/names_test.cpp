// SPDX-License-Identifier: Apache-2.0
#include "model/names.hpp"

#include <vmgraft/doctor.hpp>
#include <vmgraft/vm.hpp>

#include "support/catch.hpp"

using namespace vmgraft;

TEST_CASE("a name is 1 to 63 letters, digits, dots, dashes and underscores, first a letter or digit") {
  for (const std::string& name :
       {std::string("a"), std::string("7"), std::string("ci-7"), std::string("a.b_c-D"), std::string(63, 'x')}) {
    INFO(name);
    CHECK_NOTHROW(require_name("VM", name));
  }
  for (const std::string& name :
       {std::string(""), std::string("."), std::string(".."), std::string("-a"), std::string("_a"), std::string(".a"),
        std::string("a/b"), std::string("../a"), std::string("/a"), std::string("a b"), std::string("a@b"),
        std::string(64, 'x'), std::string(300, 'x'), std::string("\xc3\xa4"), std::string("a\n"),
        std::string("a\0b", 3), std::string("a*"), std::string("a%s")}) {
    INFO(printable(name));
    CHECK(error_of([&] { require_name("VM", name); }).code() == Errc::usage);
  }
}

TEST_CASE("a refused name is said with its rule and without its escapes") {
  CHECK(std::string(error_of([] { require_name("VM", "a b"); }).what()) ==
        "'a b' is not a name for a VM (want 1 to 63 of a-z A-Z 0-9 . _ -, first a letter or digit)");
  CHECK(std::string(error_of([] { require_name("image", "/a"); }).what()).starts_with("'/a' is not a name for an image (want"));
  const std::string what = error_of([] { require_name("VM", "\x1b[31mred"); }).what();
  CHECK(what.find('\x1b') == std::string::npos);
  CHECK(std::string(error_of([] { require_name("VM", std::string(5000, 'x')); }).what()).size() < 250);
}

TEST_CASE("a reference is split at its first at sign") {
  CHECK(split_ref("vm") == std::pair<std::string, std::string>("vm", ""));
  CHECK(split_ref("vm@snap") == std::pair<std::string, std::string>("vm", "snap"));
  CHECK(split_ref("a@b@c") == std::pair<std::string, std::string>("a", "b@c"));
  CHECK(split_ref("@b") == std::pair<std::string, std::string>("", "b"));
  CHECK(error_of([] { (void)split_ref("vm@"); }).code() == Errc::usage);
}

TEST_CASE("the nearest candidate is offered when it is a slip away, and only then") {
  const std::vector<std::string> names{"micro", "debian-12", "gpu-train"};
  CHECK(nearest("mirco", names) == "micro");
  CHECK(nearest("MICRO", names) == "micro");
  CHECK(nearest("debian12", names) == "debian-12");
  CHECK(nearest("gpu-trian", names) == "gpu-train");
  CHECK(nearest("fedora", names).empty());
  CHECK(nearest("a", {"b"}).empty());
  CHECK(nearest("", names).empty());
  CHECK(nearest("micro", {}).empty());
  CHECK(did_you_mean("mirco", names) == "did you mean 'micro'?");
  CHECK(did_you_mean("fedora", names, "vmgraft image list") == "vmgraft image list");
  CHECK(did_you_mean("fedora", names).empty());
}

TEST_CASE("printable leaves ordinary text of any language as it is") {
  const std::string text = "plain text, \xc3\xa4\xc3\xb6\xc3\xbc, \xe6\xbc\xa2\xe5\xad\x97, \xf0\x9f\x8c\xb1";
  CHECK(printable(text) == text);
}

TEST_CASE("printable lets no control character, bidi override or broken UTF-8 through") {
  CHECK(printable("\x1b[2J") == "\\x1b[2J");
  CHECK(printable("a\nb\tc\rd") == "a\\nb\\tc\\x0dd");
  CHECK(printable(std::string("\0\x7f", 2)) == "\\x00\\x7f");
  CHECK(printable("\xc2\x9b"
                  "31m") == "\\xc2\\x9b31m");             // C1 CSI
  CHECK(printable("\xe2\x80\xae") == "\\xe2\\x80\\xae");  // U+202E
  CHECK(printable("\xe2\x81\xa6") == "\\xe2\\x81\\xa6");  // U+2066
  CHECK(printable("\xff\xfe") == "\\xff\\xfe");
  CHECK(printable("\xc0\xaf") == "\\xc0\\xaf");           // overlong '/'
  CHECK(printable("\xe0\x80\x9b") == "\\xe0\\x80\\x9b");  // overlong C1
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");  // surrogate
  CHECK(printable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
  CHECK(printable("\xe2\x80") == "\\xe2\\x80");  // cut short
}

TEST_CASE("no byte pair whatever gets a control character through printable") {
  for (unsigned first = 0; first < 256; ++first) {
    for (unsigned second = 0; second < 256; ++second) {
      const std::string text{static_cast<char>(first), static_cast<char>(second)};
      const std::string shown = printable(text);
      bool is_fit = true;
      for (std::size_t i = 0; i < shown.size(); ++i) {
        const auto byte = static_cast<unsigned char>(shown[i]);
        const bool is_c1 = byte == 0xc2 && static_cast<unsigned char>(shown[i + 1]) < 0xa0;
        is_fit = is_fit && byte >= 0x20 && byte != 0x7f && !is_c1;
      }
      if (!is_fit) FAIL("bytes " << first << " " << second);
    }
  }
  SUCCEED();
}

TEST_CASE("printable cuts long text between characters and marks the cut") {
  CHECK(printable("abcdef", 6) == "abcdef");
  CHECK(printable("abcdefg", 6) == "abcdef...");
  CHECK(printable("ab\xc3\xa4", 3) == "ab...");
  CHECK(printable("ab\n", 3) == "ab...");
}

TEST_CASE("the words of the public enumerations are as documented") {
  CHECK(to_string(VmState::running) == "running");
  CHECK(to_string(VmState::paused) == "paused");
  CHECK(to_string(VmState::shut_off) == "shut_off");
  CHECK(to_string(VmState::crashed) == "crashed");
  CHECK(to_string(VmState::missing) == "missing");
  CHECK(to_string(Consistency::clean) == "clean");
  CHECK(to_string(Consistency::frozen) == "frozen");
  CHECK(to_string(Consistency::crash) == "crash");
  CHECK(to_string(Health::ok) == "ok");
  CHECK(to_string(Health::warn) == "warn");
  CHECK(to_string(Health::fail) == "fail");
}

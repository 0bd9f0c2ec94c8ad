// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <fstream>

#include <sys/stat.h>

#include "support/temp_folder.hpp"
#include "template/document.hpp"

using namespace vmgraft;

namespace {

std::string read_error(const std::string& text) {
  return error_of([&] { static_cast<void>(read_document(text, "t.json")); }).what();
}

unsigned line_of(const Document& document, const std::string& pointer) {
  return document.origins.at(pointer).line;
}

}  // namespace

TEST_CASE("the reader knows the line of every value") {
  const Document document = read_document(
      "// first\n{\n  \"a\": 1,\n  \"b\": -2\n,\n  \"c\": [\n    1.5,\n    \"x\",\n    true\n    ,null\n  ],\n"
      "  /* two\n lines */ \"d\": {\"e/f~g\":\n  3\n}}\n",
      "t.json");
  CHECK(line_of(document, "") == 2);
  CHECK(line_of(document, "/a") == 3);
  CHECK(line_of(document, "/b") == 4);
  CHECK(line_of(document, "/c") == 6);
  CHECK(line_of(document, "/c/0") == 7);
  CHECK(line_of(document, "/c/1") == 8);
  CHECK(line_of(document, "/c/2") == 9);
  CHECK(line_of(document, "/c/3") == 10);
  CHECK(line_of(document, "/d") == 13);
  CHECK(line_of(document, "/d/e~1f~0g") == 14);
  CHECK(*document.origins.at("/a").file == "t.json");
  CHECK(document.origin("/c/7/nothing").line == 6);
  CHECK(document.root["d"]["e/f~g"] == 3);
  CHECK(document.root["b"] == -2);
}

TEST_CASE("a key that is there twice is refused with both lines") {
  CHECK(read_error("{\n\"a\": 1,\n\"b\": {\n\"c\": 1,\n\"c\": 2}}") ==
        "t.json:5: /b/c: the key 'c' is there twice (first in line 4)");
  CHECK(read_document("{\"a\": {\"c\": 1}, \"b\": {\"c\": 2}}", "t.json").root.size() == 2);
}

TEST_CASE("what is not JSON is refused at its line and pointer") {
  CHECK(read_error("") == "t.json:1: the file is empty");
  CHECK(read_error(" \n\n") == "t.json:1: the file is empty");
  CHECK(read_error("{\n\"a\": [1,\n2\n").rfind("t.json:3: /a: not JSON: ", 0) == 0);
  CHECK(read_error("{\n\"a\": tru\n}").rfind("t.json:2: not JSON: ", 0) == 0);
  CHECK(read_error("{\n\"a\": \"x\ny\"}").rfind("t.json:2: not JSON: ", 0) == 0);
  CHECK(read_error("{\n\"a\": 1 \"b\": 2}").rfind("t.json:2: not JSON: ", 0) == 0);
  CHECK(read_error("{} {}").rfind("t.json:1: not JSON: ", 0) == 0);
  CHECK(read_error("{\"a\": \"\\ud800\"}").rfind("t.json:1: not JSON: ", 0) == 0);
  CHECK(read_error("{\"a\": 1e999}").rfind("t.json:1: not JSON: ", 0) == 0);
  CHECK(read_error("/* no end").rfind("t.json:1: not JSON: ", 0) == 0);
}

TEST_CASE("the slips of people who write JSON by hand get a remedy") {
  CHECK(error_of([] { static_cast<void>(read_document("{\"a\": [1,\n]}", "t")); }).hint() ==
        "remove the comma before ']'");
  CHECK(error_of([] { static_cast<void>(read_document("{\"a\": 1,}", "t")); }).hint() == "remove the comma before '}'");
  CHECK(error_of([] { static_cast<void>(read_document("{'a': 1}", "t")); }).hint() ==
        "JSON text stands in double quotes");
  CHECK(error_of([] { static_cast<void>(read_document("{]", "t")); }).hint().empty());
}

TEST_CASE("text that no template has is refused before it is parsed") {
  CHECK(read_error(std::string("{\n\0}", 4)) == "t.json:2: holds a NUL byte: not a text file");
  CHECK(read_error("{\"a\":\n\"\xc3\x28\"}") == "t.json:2: not valid UTF-8");
  CHECK(read_error("// \xed\xa0\x80\n{}") == "t.json:1: not valid UTF-8");
  CHECK(read_error("{\"a\": \"\xf4\x90\x80\x80\"}") == "t.json:1: not valid UTF-8");
  CHECK(read_error("{\"a\": \"\xc0\x80\"}") == "t.json:1: not valid UTF-8");
  CHECK(read_error("{\"a\": \"b\\u0000c\"}") == "t.json:1: /a: text with a NUL character");
  CHECK(read_error("{\"a\\u0000\": 1}") == "t.json:1: text with a NUL character");
  CHECK(read_document("{\"a\": \"\xc3\xa9\xf0\x9f\x8c\xb1\"}", "t").root["a"] == "\xc3\xa9\xf0\x9f\x8c\xb1");
}

TEST_CASE("64 levels are read and 65 are not") {
  CHECK(read_document(std::string(64, '[') + std::string(64, ']'), "t").root.is_array());
  CHECK_THAT(read_error(std::string(65, '[') + std::string(65, ']')),
             Catch::Matchers::EndsWith("nested deeper than 64 levels"));
  CHECK_THAT(read_error(std::string(500000, '[')), Catch::Matchers::EndsWith("nested deeper than 64 levels"));
}

TEST_CASE("what a small file can make of memory is bounded") {
  CHECK(read_error("\"" + std::string(1 << 20, 'a') + "\"") == "t.json: larger than 1 MiB");
  CHECK(read_document("\"" + std::string((1 << 20) - 2, 'a') + "\"", "t").root.is_string());
  std::string many = "[0";
  for (int i = 0; i < 20000; ++i) many += ",0";
  CHECK(read_error(many + "]") == "t.json:1: more than 20000 values");
  CHECK(read_error("{\"" + std::string(65, 'k') + "\": 1}") ==
        "t.json:1: the key '" + std::string(40, 'k') + "...' is longer than 64 bytes");
}

TEST_CASE("only a regular file is read as a template") {
  const TempFolder folder;
  const auto error = [&](const char* name) {
    return std::string(error_of([&] { static_cast<void>(read_document_file(folder / name)); }).what());
  };
  std::filesystem::create_directory(folder / "folder.json");
  CHECK(error("folder.json") == (folder / "folder.json").string() + ": not a regular file");
  REQUIRE(::mkfifo((folder / "pipe.json").c_str(), 0600) == 0);
  CHECK(error("pipe.json") == (folder / "pipe.json").string() + ": not a regular file");
  std::ofstream(folder / "big.json") << std::string(3 << 20, ' ');
  CHECK(error("big.json") == (folder / "big.json").string() + ": larger than 1 MiB");
  CHECK(error("none.json") == (folder / "none.json").string() + ": not a regular file");
}

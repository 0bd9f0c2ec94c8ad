// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "image/image_maker.hpp"
#include "support/image_files.hpp"
#include "support/source_tree.hpp"

using namespace vmgraft;

namespace {

std::string entry(const std::string& name, const std::string& more = {}) {
  return R"({"name": ")" + name + R"(", "description": "d", "url": "https://example.org/)" + name + R"(.qcow2",
    "checksum_url": "https://example.org/SUMS", "sha256": "", "default_user": "u", "cloud_init": true, "agent": false)" +
         more + "}";
}

std::string catalogue(const std::string& entries) {
  return R"({"version": 1, "images": [)" + entries + "]}";
}

void make_catalogue(const ImageBench& bench, const std::string& folder, const std::string& text) {
  std::filesystem::create_directory(bench.temp / folder);
  bench.write(folder + "/catalogue.json", text);
}

std::string refusal(const std::string& text) {
  ImageBench bench;
  make_catalogue(bench, "a", text);
  const auto message = std::string(error_of([&] { (void)read_catalogue(bench.host, {bench.temp / "a"}); }).what());
  const auto where = (bench.temp / "a/catalogue.json").string();
  REQUIRE(message.rfind(where, 0) == 0);
  return message.substr(where.size());
}

}  // namespace

TEST_CASE("The shipped catalogue can be read, and each entry can be verified over https") {
  ImageBench bench;
  const auto entries = read_catalogue(bench.host, {source_path("src/image")});
  REQUIRE(entries.size() >= 6);
  for (const auto& item : entries) {
    INFO(item.name);
    CHECK(item.url.rfind("https://", 0) == 0);
    CHECK((item.checksum_url.rfind("https://", 0) == 0 || item.sha256.size() == 64));
    CHECK(item.cloud_init);
    CHECK_FALSE(item.default_user.empty());
  }
}

TEST_CASE("The first folder that has a name wins, and folders without a catalogue are passed over") {
  ImageBench bench;
  make_catalogue(bench, "a", catalogue(entry("one")));
  auto second = entry("one");
  second.replace(second.find("\"d\""), 3, "\"late\"");
  make_catalogue(bench, "b", catalogue(second + "," + entry("two")));
  const auto entries = read_catalogue(bench.host, {bench.temp / "none", bench.temp / "a", bench.temp / "b"});
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].description == "d");
  CHECK(entries[1].name == "two");
}

TEST_CASE("An entry that nothing verifies, an unknown key and a bad URL are refused with their place") {
  auto unverified = entry("one");
  unverified.replace(unverified.find("https://example.org/SUMS"), 24, "");
  CHECK(refusal(catalogue(unverified)) == ": /images/0/checksum_url: '' is not an http or https URL");
  CHECK(refusal(catalogue(entry("one", R"(, "colour": "red")"))).find("colour") != std::string::npos);
  auto file = entry("one");
  file.replace(file.find("https://example.org/one"), 23, "file:///etc/passwd");
  CHECK(refusal(catalogue(file)) == ": /images/0/url: 'file:///etc/passwd.qcow2' is not an http or https URL");
}

TEST_CASE("A catalogue of a newer format is refused") {
  CHECK(refusal(R"({"version": 2, "images": []})").find("newer vmgraft") != std::string::npos);
}

// SPDX-License-Identifier: Apache-2.0
// The schema that editors use and the reader that the program uses must agree.
#include "support/catch.hpp"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include <nlohmann/json.hpp>

#include "template/document.hpp"
#include "template/schema.hpp"
#include "template/template.hpp"

using namespace vmgraft;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

const fs::path kShipped = fs::path(VMGRAFT_REPOSITORY) / "templates";
const fs::path kData = fs::path(VMGRAFT_TEST_DATA) / "templates";

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

std::vector<std::string> stems(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path& path = entry.path();
    if (path.extension() == ".json" && path.stem().extension() != ".schema") names.push_back(path.stem().string());
  }
  std::sort(names.begin(), names.end());
  REQUIRE(names.size() >= 6);
  return names;
}

bool accepted(const json& document) {
  try {
    static_cast<void>(parse_spec(document.dump(), "x"));
    return true;
  } catch (const TemplateError&) {
    return false;
  }
}

/// Keys of the objects in the document, at any depth.
void collect_keys(const json& value, std::set<std::string>& keys) {
  for (const auto& [key, member] : value.items()) {
    if (value.is_object()) keys.insert(key);
    if (member.is_structured()) collect_keys(member, keys);
  }
}

/// Names under "properties" in the schema, at any depth.
void collect_properties(const json& schema, std::set<std::string>& names) {
  if (!schema.is_structured()) return;
  if (schema.is_object() && schema.contains("properties")) {
    for (const auto& [name, property] : schema["properties"].items()) names.insert(name);
  }
  for (const auto& [key, member] : schema.items()) collect_properties(member, names);
}

/// Pointers of every value of the document.
void collect_pointers(const json& value, const std::string& pointer, std::vector<std::string>& pointers) {
  pointers.push_back(pointer);
  if (!value.is_structured()) return;
  for (const auto& [key, member] : value.items()) collect_pointers(member, pointer_to(pointer, key), pointers);
}

}  // namespace

TEST_CASE("the schema in the library is the schema in the tree") {
  CHECK(template_schema_text() == text_of(kShipped / "template.schema.json"));
}

TEST_CASE("every key of the schema is described, and closed objects stay closed") {
  const json schema = json::parse(template_schema_text());
  const auto check = [](const auto& self, const json& node) -> void {
    if (!node.is_structured()) return;
    if (node.is_object() && node.contains("properties")) {
      CHECK(node.contains("additionalProperties"));
      CHECK(node["additionalProperties"] == false);
      for (const auto& [name, property] : node["properties"].items()) {
        INFO(name);
        CHECK(property.contains("description"));
      }
    }
    for (const auto& [key, member] : node.items()) self(self, member);
  };
  check(check, schema);
}

TEST_CASE("every key of the schema occurs in a valid template") {
  std::set<std::string> used;
  for (const fs::path& folder : {kShipped, kData / "valid"}) {
    for (const std::string& name : stems(folder)) {
      collect_keys(read_document_file(folder / (name + ".json")).root, used);
    }
  }
  std::set<std::string> known;
  collect_properties(json::parse(template_schema_text()), known);
  CHECK(known.size() > 40);
  for (const std::string& key : known) {
    INFO(key);
    CHECK(used.count(key) == 1);
  }
}

TEST_CASE("valid templates pass the schema as written and as resolved") {
  const TemplateSchema schema;
  for (const fs::path& folder : {kShipped, kData / "valid"}) {
    const TemplateLibrary library({folder});
    for (const std::string& name : stems(folder)) {
      INFO(name);
      CHECK(schema.violations(read_document_file(folder / (name + ".json")).root).empty());
      CHECK(library.check(name).empty());
      const ParameterValues values =
          name == "required" ? ParameterValues{{"image", "i"}, {"cores", "1"}} : ParameterValues{};
      const ResolvedTemplate resolved = library.resolve(name, values, {"vm-1"});
      // "${" that was escaped is text in the resolved form, and looks like a reference only to the schema.
      CHECK(schema.violations(json::parse(resolved.json)).empty());
      CHECK(accepted(json::parse(resolved.json)));
    }
  }
}

TEST_CASE("every invalid template is refused with the line that stands beside it") {
  const fs::path folder = kData / "invalid";
  const TemplateLibrary library({folder});
  const std::string prefix = folder.string() + "/";
  for (const std::string& name : stems(folder)) {
    INFO(name);
    const std::vector<TemplateError> errors = library.check(name);
    REQUIRE_FALSE(errors.empty());
    std::string first = errors.front().what();
    REQUIRE(first.rfind(prefix, 0) == 0);
    first.erase(0, prefix.size());
    std::string wanted = text_of(folder / (name + ".txt"));
    REQUIRE(wanted.size() > 1);
    wanted.pop_back();  // newline
    // What follows "not JSON: " is the JSON library's.
    if (wanted.size() > 3 && wanted.compare(wanted.size() - 3, 3, "...") == 0 &&
        wanted.find("not JSON") != std::string::npos) {
      wanted.resize(wanted.size() - 3);
      first.resize(std::min(first.size(), wanted.size()));
    }
    CHECK(first == wanted);
    const Error thrown = error_of([&] { static_cast<void>(library.resolve(name, {}, {"vm-1"})); });
    CHECK(std::string(thrown.what()) == errors.front().what());
    for (const TemplateError& error : errors) {
      CHECK(std::string(error.what()).find("does not fit the schema") == std::string::npos);
    }
  }
}

TEST_CASE("what the reader accepts, the schema accepts") {
  const TemplateSchema schema;
  const json whole = json::parse(TemplateLibrary({kData / "valid"}).resolve("everything", {}, {"vm-1"}).json);
  std::vector<std::string> pointers;
  collect_pointers(whole, "", pointers);
  const std::vector<json> others = {nullptr,
                                    true,
                                    false,
                                    0,
                                    1,
                                    -1,
                                    2,
                                    64,
                                    65,
                                    4096,
                                    4097,
                                    1.5,
                                    1e300,
                                    18446744073709551615U,
                                    16777216,
                                    "",
                                    " ",
                                    "a",
                                    "A b",
                                    "a_b",
                                    "1",
                                    "-",
                                    "1GiB",
                                    "1 GiB",
                                    "4096 ",
                                    "1PB",
                                    "99999999999999999999",
                                    "1h",
                                    "5m1h",
                                    "1d1d",
                                    "2m3s",
                                    "/",
                                    "/a",
                                    "//a",
                                    "../a",
                                    "none",
                                    "uefi",
                                    "10de:2330",
                                    "0000:00:1f.7",
                                    "0000:00:20.0",
                                    "q35",
                                    "pc-q35-7",
                                    "ssh-ed25519 AAAA",
                                    "644",
                                    "00644",
                                    "0999",
                                    "root:root",
                                    "bridge",
                                    "any",
                                    std::string(64, 'a'),
                                    std::string(300, 'a'),
                                    std::string(10000, 'a'),
                                    std::string(5000, '.'),
                                    json::array(),
                                    json::object(),
                                    json::array({json::object()}),
                                    json::array({"x"}),
                                    json{{"name", "x"}}};
  std::size_t good = 0;
  std::size_t refused = 0;
  std::size_t both = 0;
  for (const std::string& pointer : pointers) {
    const bool far_in_list = pointer.find("/2") != std::string::npos || pointer.find("/3") != std::string::npos;
    if (pointer.empty() || far_in_list) continue;  // read as the items before them
    for (const json& other : others) {
      json mutant = whole;
      mutant[json::json_pointer(pointer)] = other;
      const bool fits_schema = schema.violations(mutant).empty();
      const bool fits_reader = accepted(mutant);
      INFO(pointer << " = " << other.dump().substr(0, 80));
      CHECK((fits_schema || !fits_reader));
      good += fits_reader ? 1 : 0;
      refused += fits_reader ? 0 : 1;
      both += !fits_reader && !fits_schema ? 1 : 0;
    }
  }
  CHECK(good > 300);
  // The schema is no mere formality: it sees nearly all that the reader refuses.
  CHECK(both > refused * 8 / 10);
}

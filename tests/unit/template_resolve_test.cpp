// SPDX-License-Identifier: Apache-2.0
// extends, parameters and references: from files to one resolved text.
#include "support/catch.hpp"

#include <fstream>

#include <nlohmann/json.hpp>

#include "host/sha256.hpp"
#include "support/temp_folder.hpp"
#include "template/template.hpp"

using namespace vmgraft;
using nlohmann::json;

namespace {

TemplateLibrary valid() {
  return TemplateLibrary({std::filesystem::path(VMGRAFT_TEST_DATA) / "templates/valid"});
}

json resolved(const TemplateLibrary& library, const std::string& name, const ParameterValues& values = {}) {
  return json::parse(library.resolve(name, values, {"vm-1"}).json);
}

/// A folder of templates made by the test.
class Folder {
 public:
  void add(const std::string& name, const std::string& text) { std::ofstream(folder_ / (name + ".json")) << text; }
  [[nodiscard]] TemplateLibrary library() const { return TemplateLibrary({folder_.path()}); }
  [[nodiscard]] std::string file(const std::string& name) const { return (folder_.path() / (name + ".json")).string(); }
  [[nodiscard]] Error error(const std::string& name, const ParameterValues& values = {}) const {
    return error_of([&] { static_cast<void>(library().resolve(name, values, {"vm-1"})); });
  }

 private:
  TempFolder folder_;
};

}  // namespace

TEST_CASE("a value that is only a reference keeps the type of its parameter") {
  const json document = resolved(valid(), "references");
  CHECK(document["vm"]["cpus"] == 2);
  CHECK(document["vm"]["cpus"].is_number_integer());
  CHECK(document["vm"]["memory"] == "1GiB");
  CHECK(document["vm"]["tpm"] == true);
  CHECK(document["vm"]["disks"][0]["size"] == 1073741824);
  CHECK(document["vm"]["gpus"][0]["count"] == 2);
  CHECK(document["lifecycle"]["ttl"] == "8h");
}

TEST_CASE("a reference inside a longer text is put in as text") {
  const json document = resolved(valid(), "references", {{"tpm", "false"}, {"cores", "3"}});
  CHECK(document["vm"]["disks"][0]["name"] == "d-3");
  CHECK(document["guest"]["files"][0]["content"] == "3 1GiB 1073741824 false 8h a $ b {c}");
  CHECK(document["guest"]["hostname"] == "vm-1");
  CHECK(document["guest"]["files"][0]["path"] == "/etc/vm-1");
}

TEST_CASE("an escaped reference stays text, and what is put in is not looked at again") {
  const json document = resolved(valid(), "references", {{"word", "$ {} $"}});
  CHECK(document["guest"]["run"][0] == "echo ${HOME} $HOME $ {} $$ {} $");
  CHECK(document["guest"]["run"][1] == "echo ${cores} $$");
  Folder folder;
  folder.add("t", R"({"version": 1, "parameters": {"a": {"type": "string"}, "b": {"type": "string", "default": "B"}},
                      "vm": {"memory": "1GiB"}, "guest": {"run": ["${a}", "x${a}"]}})");
  const json literal = resolved(folder.library(), "t", {{"a", "${b}$${b}"}});
  CHECK(literal["guest"]["run"][0] == "${b}$${b}");
  CHECK(literal["guest"]["run"][1] == "x${b}$${b}");
}

TEST_CASE("values from outside are converted by type and judged by the declaration") {
  const auto error = [](const ParameterValues& values) {
    return std::string(error_of([&] { static_cast<void>(valid().resolve("references", values, {"vm-1"})); }).what());
  };
  const std::string place = "template 'references': parameter ";
  CHECK(error({{"cores", "two"}}) == place + "'cores': 'two' is not a whole number");
  CHECK(error({{"cores", "2.5"}}) == place + "'cores': '2.5' is not a whole number");
  CHECK(error({{"cores", ""}}) == place + "'cores': '' is not a whole number");
  CHECK(error({{"cores", " 2"}}) == place + "'cores': ' 2' is not a whole number");
  CHECK(error({{"cores", "99999999999999999999"}}) == place + "'cores': '99999999999999999999' is not a whole number");
  CHECK(error({{"cores", "9"}}) == place + "'cores': '9' is out of range (want 1 to 8)");
  CHECK(error({{"cores", "-1"}}) == place + "'cores': '-1' is out of range (want 1 to 8)");
  CHECK(error({{"ram", "256MiB"}}) == place + "'ram': '256MiB' is out of range (want 512MiB to 17179869184)");
  CHECK(error({{"ram", "lots"}}) == place + "'ram': 'lots' is not a size (want bytes, or text like \"2GiB\")");
  CHECK(error({{"ram", "-1"}}) == place + "'ram': '-1' is not a size (want bytes, or text like \"2GiB\")");
  CHECK(error({{"tpm", "yes"}}) == place + "'tpm': 'yes' is not true or false");
  CHECK(error({{"ttl", "3d"}}) == place + "'ttl': '3d' is out of range (want 2d or less)");
  CHECK(error({{"ttl", "soon"}}) ==
        place + "'ttl': 'soon' is not a duration (want text like \"90s\", \"5m\", \"1h30m\")");
  CHECK(error({{"kind", "bridge"}}) == place + "'kind': 'bridge' is not one of nat, user");
  CHECK(error({{"word", "A"}}) == place + "'word': 'A' does not match ^[a-z $ {}]*$");
  CHECK(error({{"word", "a\xff"}}) == place + "'word': 'a\\xff' is not UTF-8 text");
  CHECK(error({{"word", std::string("a\0b", 3)}}) == place + "'word': 'a\\x00b' is not UTF-8 text");
  CHECK(error({{"word", std::string(5000, 'a')}}).find("is longer than 1024 bytes") != std::string::npos);
}

TEST_CASE("an unknown or missing parameter is refused with a remedy") {
  const Error unknown = error_of([] { static_cast<void>(valid().resolve("references", {{"core", "1"}}, {"vm-1"})); });
  CHECK(unknown.what() == std::string("template 'references': there is no parameter 'core'"));
  CHECK(unknown.code() == Errc::invalid_template);
  CHECK(unknown.hint() == "did you mean 'cores'?");
  const Error far = error_of([] { static_cast<void>(valid().resolve("required", {{"zzz", "1"}}, {"vm-1"})); });
  CHECK(far.hint() == "it has: cores, image");
  const Error none = error_of([] { static_cast<void>(valid().resolve("minimal", {{"a", "1"}}, {"vm-1"})); });
  CHECK(none.hint() == "it has no parameters");
  const Error missing = error_of([] { static_cast<void>(valid().resolve("required", {{"image", "x"}}, {"vm-1"})); });
  CHECK(missing.what() == std::string("template 'required': parameter 'cores': a value is required"));
  CHECK(missing.hint() == "give it with --set cores=VALUE");
  const ResolvedTemplate both = valid().resolve("required", {{"image", "micro"}, {"cores", "3"}}, {"vm-1"});
  CHECK(both.spec.cpus == 3);
  CHECK(both.spec.disks.at(0).image == "micro");
}

TEST_CASE("a regular expression of a template cannot hang the program") {
  Folder folder;
  folder.add(
      "t",
      R"({"version": 1, "parameters": {"a": {"type": "string", "pattern": "^(a+)+$"}}, "vm": {"memory": "1GiB"}})");
  CHECK_THAT(folder.error("t", {{"a", std::string(1000, 'a') + "b"}}).what(),
             contains("does not match ^(a+)+$"));
}

TEST_CASE("a small expression that repeats much is refused, where it kept the program busy for minutes") {
  // 11 and 17 bytes; the second took 3 s to be compiled alone.
  for (const std::string pattern : {"(a?){9000}x", "((a{200}){200}){2}", "((a*)*){5000}x", "a{1,99999999999999999999}"}) {
    Folder folder;
    folder.add("t", R"({"version": 1, "parameters": {"a": {"type": "string", "pattern": ")" + pattern +
                        R"("}}, "vm": {"memory": "1GiB"}})");
    const Error error = folder.error("t", {{"a", std::string(1000, 'a')}});
    CHECK_THAT(error.what(), contains("'" + pattern + "' repeats too much"));
  }
}

TEST_CASE("an expression that refers back to a group is refused, where a number of twenty digits overflowed") {
  for (const std::string pattern : {R"((a)\\1)", R"(x\\18446744073709551616)", R"([)]\\9)"}) {
    Folder folder;
    folder.add("t", R"({"version": 1, "parameters": {"a": {"type": "string", "pattern": ")" + pattern +
                        R"("}}, "vm": {"memory": "1GiB"}})");
    CHECK_THAT(folder.error("t", {{"a", "aa"}}).what(), contains("refers back to a group, which patterns cannot"));
  }
}

TEST_CASE("an expression matches anywhere in a text, and what it anchors stays anchored") {
  const auto is_taken = [](const std::string& pattern, const std::string& text) {
    Folder folder;
    folder.add("t", R"({"version": 1, "parameters": {"a": {"type": "string", "pattern": ")" + pattern +
                        R"("}}, "vm": {"memory": "1GiB"}, "guest": {"hostname": "h"}})");
    try {
      static_cast<void>(folder.library().resolve("t", {{"a", text}}, {"vm"}));
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  CHECK(is_taken("b|c", "abd"));
  CHECK(is_taken("^ab", "abd"));
  CHECK_FALSE(is_taken("^b|^c", "abd"));
  CHECK(is_taken("d$", "a\nbd"));
  CHECK_FALSE(is_taken("a$", "abd"));
  CHECK(is_taken("^([0-9a-f]{2}:){5}[0-9a-f]{2}$", "52:54:00:ab:cd:ef"));
  CHECK(is_taken(R"(^\\{9000\\}$)", "{9000}"));
  CHECK(is_taken("[{9000}]{100}", std::string(100, '9')));
}

TEST_CASE("references that multiply are stopped before they fill memory") {
  Folder folder;
  std::string many;
  for (int i = 0; i < 10000; ++i) many += "${a}";
  folder.add(
      "t", R"({"version": 1, "parameters": {"a": {"type": "string"}}, "vm": {"memory": "1GiB"}, "guest": {"run": [")" +
               many + "\", \"x\"]}}");
  CHECK(folder.error("t", {{"a", std::string(60000, 'a')}}).what() ==
        folder.file("t") + ":1: /guest/run/0: the parameters make the template larger than 4 MiB");
}

TEST_CASE("extends merges objects key by key, replaces lists and scalars, and null removes") {
  const json document = resolved(valid(), "child");
  CHECK(document["vm"]["cpus"] == 4);
  CHECK(document["vm"]["memory"] == "2GiB");
  CHECK(document["vm"]["firmware"] == "uefi");
  CHECK(document["vm"]["tpm"] == true);
  CHECK_FALSE(document["vm"].contains("secure_boot"));
  CHECK(document["vm"]["disks"] == json::parse(R"([{"name": "root", "image": "micro"}])"));
  CHECK(document["vm"]["networks"].size() == 1);
  CHECK_FALSE(document.contains("guest"));
  CHECK(document["lifecycle"] == json::parse(R"({"ready_timeout": "1m"})"));
  CHECK(document["name"] == "child");
  CHECK_FALSE(document.contains("description"));
  const json third = resolved(valid(), "grandchild");
  CHECK(third["vm"]["cpus"] == 3);
  CHECK(third["vm"]["networks"].empty());
  CHECK(third["vm"]["disks"][0]["image"] == "micro");
  CHECK(third["guest"] == json::parse(R"({"user": "ops"})"));
}

TEST_CASE("parameters of a parent are inherited, changed and removed") {
  const TemplateInfo info = valid().info("child");
  CHECK(info.extends == "parent");
  REQUIRE(info.parameters.size() == 1);
  CHECK(info.parameters[0].name == "cores");
  CHECK(info.parameters[0].type == "integer");
  CHECK(info.parameters[0].default_value == "4");
  CHECK(info.parameters[0].description == "Virtual CPUs");
  CHECK_FALSE(info.parameters[0].required);
  CHECK(valid().resolve("child", {{"cores", "64"}}, {"v"}).spec.cpus == 64);  // the maximum is gone
  CHECK(error_of([] {
          static_cast<void>(valid().resolve("parent", {{"cores", "64"}}, {"v"}));
        }).what() == std::string("template 'parent': parameter 'cores': '64' is out of range (want 8 or less)"));
  CHECK(valid().info("required").parameters[0].required);
}

TEST_CASE("a fault in a parent names the parent's file and line") {
  Folder folder;
  folder.add("base",
             "{\"version\": 1,\n\"vm\": {\n\"memory\": \"1GiB\",\n\"cpus\": 0,\n\"disks\": [{\"name\": \"${x}\", "
             "\"size\": 1}]}}");
  folder.add("top", "{\"version\": 1, \"extends\": \"base\"}");
  CHECK(folder.error("top").what() == folder.file("base") + ":4: /vm/cpus: 0 is out of range (want 1 to 4096)");
  const auto errors = folder.library().check("top");
  REQUIRE(errors.size() == 2);
  CHECK(errors[0].file() == folder.file("base"));
  CHECK(errors[1].line() == 5);
  CHECK(errors[1].pointer() == "/vm/disks/0/size");
}

TEST_CASE("a value that a child changed is blamed on the child") {
  Folder folder;
  folder.add("base",
             "{\"version\": 1,\n\"vm\": {\"memory\": \"1GiB\", \"firmware\": \"uefi\",\n\"secure_boot\": true}}");
  folder.add("top", "{\"version\": 1, \"extends\": \"base\",\n\n\n\n\"vm\": {\n\"firmware\": \"bios\"}}");
  CHECK(folder.error("top").what() == folder.file("base") + ":3: /vm/secure_boot: only with firmware 'uefi'");
  folder.add("base", "{\"version\": 1, \"vm\": {\"memory\": \"1GiB\"}}");
  folder.add("top", "{\"version\": 1, \"extends\": \"base\",\n\"vm\": {\n\"secure_boot\": true}}");
  CHECK(folder.error("top").what() == folder.file("top") + ":3: /vm/secure_boot: only with firmware 'uefi'");
}

TEST_CASE("a circle of extends is refused and drawn") {
  Folder folder;
  folder.add("a", "{\"version\": 1,\n\"extends\": \"b\"}");
  folder.add("b", "{\"version\": 1,\n\n\"extends\": \"./c.json\"}");
  folder.add("c", "{\"version\": 1, \"extends\": \"a\"}");
  folder.add("outside", "{\"version\": 1, \"extends\": \"a\"}");
  CHECK(folder.error("a").what() ==
        folder.file("c") + ":1: /extends: the templates extend each other in a circle: a -> b -> c -> a");
  CHECK(folder.error("outside").what() ==
        folder.file("c") + ":1: /extends: the templates extend each other in a circle: a -> b -> c -> a");
  CHECK(folder.error("b").code() == Errc::invalid_template);
}

TEST_CASE("16 templates may extend one another and 17 may not") {
  Folder folder;
  folder.add("t1", R"({"version": 1, "vm": {"memory": "1GiB"}})");
  for (int i = 2; i <= 17; ++i) {
    folder.add("t" + std::to_string(i), "{\"version\": 1, \"extends\": \"t" + std::to_string(i - 1) + "\"}");
  }
  CHECK(folder.library().check("t16").empty());
  CHECK(folder.error("t17").what() == folder.file("t2") + ":1: /extends: more than 16 templates extend one another");
}

TEST_CASE("a parent that is not there is refused at the line that names it") {
  Folder folder;
  folder.add("micro", R"({"version": 1, "vm": {"memory": "1GiB"}})");
  folder.add("t", "{\"version\": 1,\n\"extends\": \"mirco\"}");
  CHECK(folder.error("t").what() == folder.file("t") + ":2: /extends: there is no template 'mirco'");
  CHECK(folder.error("t").hint() == "did you mean 'micro'?");
  folder.add("t", R"({"version": 1, "extends": "./none.json"})");
  CHECK(folder.error("t").what() ==
        folder.file("t") + ":1: /extends: there is no template file '" + folder.file("none") + "'");
  folder.add("t", "{\"version\": 1, \"extends\": \"a b\"}");
  CHECK(folder.error("t").what() == folder.file("t") +
                                        ":1: /extends: 'a b' is not a name for a template (want 1 to 63 of a-z A-Z 0-9 "
                                        ". _ -, first a letter or digit)");
}

TEST_CASE("the resolved text is canonical and its digest is of that text") {
  Folder folder;
  folder.add("a", R"({"version": 1, "name": "a", "vm": {"memory": "1GiB", "cpus": 2}})");
  const ResolvedTemplate first = folder.library().resolve("a", {}, {"v"});
  folder.add("a", "// the same\n{\"vm\": {\"cpus\": 2, \"memory\": \"1GiB\"}, \"$schema\": \"x\", \"version\": 1}");
  const ResolvedTemplate second = folder.library().resolve("a", {}, {"v"});
  CHECK(first.json == second.json);
  CHECK(first.digest == sha256_text(first.json));
  CHECK(first.digest == second.digest);
  CHECK(first.json ==
        "{\n  \"name\": \"a\",\n  \"version\": 1,\n  \"vm\": {\n    \"cpus\": 2,\n    \"memory\": \"1GiB\"\n  }\n}");
  folder.add("a", R"({"version": 1, "vm": {"memory": "1GiB", "cpus": 3}})");
  CHECK(folder.library().resolve("a", {}, {"v"}).digest != first.digest);
}

TEST_CASE("a hostile VM name never reaches a template") {
  CHECK(error_of([] { static_cast<void>(valid().resolve("references", {}, {"a\xff"})); }).code() == Errc::usage);
  CHECK(error_of([] { static_cast<void>(valid().resolve("references", {}, {"../x"})); }).code() == Errc::usage);
}

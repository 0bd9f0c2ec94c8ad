// SPDX-License-Identifier: Apache-2.0
// Names, folders, and the templates that are shipped.
#include "support/catch.hpp"

#include <algorithm>
#include <fstream>
#include <set>

#include <sys/stat.h>

#include "support/temp_folder.hpp"
#include "template/template.hpp"

using namespace vmgraft;

namespace {

const std::filesystem::path kShipped = std::filesystem::path(VMGRAFT_REPOSITORY) / "templates";

void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file) << text;
}

const std::string kGood = R"({"version": 1, "vm": {"memory": "1GiB"}})";

}  // namespace

TEST_CASE("the shipped templates are there, resolve, and their text parses again") {
  const TemplateLibrary library({kShipped});
  std::set<std::string> names;
  for (const TemplateInfo& info : library.list()) {
    INFO(info.name);
    names.insert(info.name);
    CHECK(info.description.rfind("broken", 0) != 0);
    CHECK_FALSE(info.description.empty());
    CHECK(info.file == (kShipped / (info.name + ".json")).string());
    CHECK(library.check(info.name).empty());
    const ResolvedTemplate resolved = library.resolve(info.name, {}, {"vm-1"});
    CHECK(resolved.name == info.name);
    CHECK(resolved.json.find("${") == std::string::npos);
    const VmSpec again = parse_spec(resolved.json, info.name);
    CHECK(again.memory == resolved.spec.memory);
    CHECK(again.disks.size() == resolved.spec.disks.size());
    for (const TemplateParameter& parameter : info.parameters) {
      INFO(parameter.name);
      CHECK_FALSE(parameter.description.empty());
      CHECK_FALSE(parameter.required);
      // The default, given as text, is what the default is.
      const ResolvedTemplate same = library.resolve(info.name, {{parameter.name, parameter.default_value}}, {"vm-1"});
      CHECK(same.json == resolved.json);
    }
  }
  CHECK(names == std::set<std::string>{"base", "ci", "dev", "gpu-dev", "gpu-train", "inference", "micro"});
}

TEST_CASE("the shipped templates say what their names promise") {
  const TemplateLibrary library({kShipped});
  const auto spec = [&](const char* name) { return library.resolve(name, {}, {"vm-1"}).spec; };
  CHECK(spec("micro").memory == std::uint64_t{256} << 20);
  CHECK(spec("micro").firmware == Firmware::direct);
  CHECK(spec("micro").networks.empty());
  CHECK(spec("micro").disks.at(0).image == "micro");
  CHECK(spec("dev").firmware == Firmware::uefi);
  CHECK(spec("dev").cpus == 2);
  CHECK(spec("dev").guest.user == "dev");
  CHECK(spec("dev").disks.at(0).size == std::uint64_t{20} << 30);
  CHECK(spec("ci").lifecycle.ttl == std::chrono::hours(2));
  CHECK(spec("ci").firmware == Firmware::direct);
  CHECK(spec("gpu-dev").gpus.at(0).count == 1);
  CHECK(spec("gpu-dev").lifecycle.on_expire == OnExpire::stop);
  CHECK_FALSE(spec("gpu-train").disks.at(1).snapshot);
  CHECK(spec("inference").gpus.at(0).numa == NumaPolicy::required);
  const VmSpec two = library.resolve("gpu-train", {{"gpus", "2"}, {"model", "H100"}}, {"vm-1"}).spec;
  CHECK(two.gpus.at(0).count == 2);
  CHECK(two.gpus.at(0).model == "H100");
  CHECK(library.resolve("gpu-train", {{"gpus", "0"}}, {"vm-1"}).spec.gpus.empty());
}

TEST_CASE("the first folder that has a name wins, in the list too") {
  const TempFolder first;
  const TempFolder second;
  write(first / "a.json", R"({"version": 1, "description": "mine", "vm": {"memory": "1GiB"}})");
  write(second / "a.json", R"({"version": 1, "description": "theirs", "vm": {"memory": "1GiB"}})");
  write(second / "b.json", R"({"version": 1, "extends": "a"})");
  const TemplateLibrary library({first.path(), first / "not-there", second.path()});
  const auto list = library.list();
  REQUIRE(list.size() == 2);
  CHECK(list[0].name == "a");
  CHECK(list[0].description == "mine");
  CHECK(list[0].file == (first / "a.json").string());
  CHECK(list[1].name == "b");
  CHECK(list[1].extends == "a");
}

TEST_CASE("a broken template is listed with its fault and the others are not hurt") {
  const TempFolder folder;
  write(folder / "bad.json", "{\"version\": 1,\n\"vm\": {\"memory\": \"1GiB\", \"cpu\": 1}}");
  write(folder / "good.json", kGood);
  write(folder / "text.json", "hello");
  std::filesystem::create_directory(folder / "folder.json");
  std::filesystem::create_symlink("nowhere", folder / "link.json");
  write(folder / "template.schema.json", "{}");
  write(folder / "a b.json", kGood);
  write(folder / "notes.txt", "x");
  const auto list = TemplateLibrary({folder.path()}).list();
  REQUIRE(list.size() == 4);
  CHECK(list[0].name == "bad");
  CHECK(list[0].description == "broken: " + (folder / "bad.json").string() + ":2: /vm/cpu: unknown key 'cpu'");
  CHECK(list[1].name == "good");
  CHECK(list[2].description == "broken: there is no template 'link'");
  CHECK(list[3].name == "text");
}

TEST_CASE("a name that is no name is refused before any file is looked at") {
  const TemplateLibrary library({kShipped});
  for (const std::string& name :
       {std::string(), std::string(300, 'a'), std::string("caf\xc3\xa9"), std::string("a b"), std::string(".."),
        std::string("-x"), std::string("a\0b", 3), std::string("/a\0b", 4)}) {
    const Error error = error_of([&] { static_cast<void>(library.resolve(name, {}, {"vm-1"})); });
    CHECK(error.code() == Errc::usage);
    CHECK_THAT(error.what(), contains("is not a name for a template"));
  }
}

TEST_CASE("a template that is not there is not found, with the nearest name") {
  const TemplateLibrary library({kShipped});
  const Error error = error_of([&] { static_cast<void>(library.info("mcro")); });
  CHECK(error.code() == Errc::not_found);
  CHECK(error.what() == std::string("there is no template 'mcro'"));
  CHECK(error.hint() == "did you mean 'micro'?");
  const Error far = error_of([&] { static_cast<void>(library.check("postgres")); });
  CHECK(far.hint() == "'vmgraft template list' shows those that are there");
  const Error path = error_of([&] { static_cast<void>(library.info("../x")); });
  CHECK(path.code() == Errc::not_found);
  CHECK(path.what() == std::string("there is no template file '../x'"));
  CHECK(error_of([&] { static_cast<void>(library.info("template.schema")); }).code() == Errc::not_found);
}

TEST_CASE("a path is a template whose parents are beside it or in the folders") {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "sub");
  write(folder / "near.json", R"({"version": 1, "extends": "micro", "vm": {"cpus": 3}})");
  write(folder / "sub/far.json", R"({"version": 1, "name": "other", "extends": "../near.json"})");
  const TemplateLibrary library({kShipped});
  const ResolvedTemplate resolved =
      library.resolve((folder / "sub/far.json").string(), {{"memory", "512MiB"}}, {"vm-1"});
  CHECK(resolved.name == "other");
  CHECK(resolved.file == folder / "sub/far.json");
  CHECK(resolved.spec.cpus == 3);
  CHECK(resolved.spec.memory == std::uint64_t{512} << 20);
  CHECK(resolved.spec.template_name == "other");
  write(folder / "my machine.json", kGood);
  CHECK(error_of([&] { static_cast<void>(library.info((folder / "my machine.json").string())); }).what() ==
        (folder / "my machine.json").string() + ":1: 'name' is missing, and 'my machine' of the file is not a name");
}

TEST_CASE("check tells everything that is wrong, in the order of the file") {
  const TempFolder folder;
  write(folder / "t.json",
        "{\n\"version\": 1,\n\"vm\": {\n\"memory\": \"1MiB\",\n\"cpus\": 0,\n\"cpu\": 1,\n\"disks\": [{\"nmae\": "
        "\"x\"}]\n},\n"
        "\"guest\": {\"user\": \"A\"},\n\"lifecycle\": {\"ready\": \"yes\"}\n}");
  std::vector<std::string> lines;
  for (const TemplateError& error : TemplateLibrary({folder.path()}).check("t")) {
    lines.push_back(std::to_string(error.line()) + " " + error.pointer());
  }
  CHECK(lines == std::vector<std::string>{"4 /vm/memory", "5 /vm/cpus", "6 /vm/cpu", "7 /vm/disks/0/nmae",
                                          "7 /vm/disks/0", "9 /guest/user", "10 /lifecycle/ready"});
}

TEST_CASE("a file with a great many faults says the first hundred") {
  const TempFolder folder;
  std::string text = "{\"version\": 1, \"vm\": {\"memory\": \"1GiB\"}, \"guest\": {\"run\": [0";
  for (int i = 0; i < 1000; ++i) text += ", 0";
  write(folder / "t.json", text + "]}}");
  CHECK(TemplateLibrary({folder.path()}).check("t").size() == 100);
}

// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "support/catch.hpp"

namespace {

struct Include {
  std::string file;    ///< "src/plan/facts.cpp"
  std::string layer;   ///< "plan"
  std::string header;  ///< as written
};

std::vector<Include> includes() {
  const std::filesystem::path root = VMGRAFT_REPOSITORY;
  const std::regex line_of(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
  std::vector<Include> all;
  for (const char* top : {"src", "include"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / top)) {
      if (entry.path().extension() != ".cpp" && entry.path().extension() != ".hpp") continue;
      const std::string file = std::filesystem::relative(entry.path(), root);
      std::ifstream in(entry.path());
      std::smatch match;
      for (std::string line; std::getline(in, line);)
        if (std::regex_search(line, match, line_of))
          all.push_back({file, entry.path().parent_path().filename(), match[1]});
    }
  }
  return all;
}

// Top to bottom; each may include only itself and what stands below.
const std::vector<std::string> kLayers = {"cli",  "run",      "image", "guest",   "plan", "gpu", "domain",
                                          "template", "store", "libvirt", "host", "model"};
// Value types that every layer speaks.
const std::set<std::string> kValues = {"vmgraft/error.hpp",    "vmgraft/vm.hpp",       "vmgraft/image.hpp",  "vmgraft/template.hpp",
                                       "vmgraft/requests.hpp", "vmgraft/doctor.hpp", "vmgraft/version.hpp", "vmgraft/progress.hpp",
                                       "vmgraft/gpu.hpp",      "vmgraft/gc.hpp"};

std::size_t rank(const std::string& layer) {
  const auto at = std::find(kLayers.begin(), kLayers.end(), layer);
  return static_cast<std::size_t>(at - kLayers.begin());
}

}  // namespace

TEST_CASE("each layer includes only what stands below it") {
  const std::vector<Include> all = includes();
  REQUIRE(all.size() > 500);
  for (const Include& include : all) {
    const std::string folder = include.header.substr(0, include.header.find('/'));
    if (!include.file.starts_with("src/") || rank(folder) == kLayers.size()) continue;
    INFO(include.file << " includes " << include.header);
    CHECK(rank(folder) >= rank(include.layer));
  }
  for (const Include& include : all) {
    if (!include.header.starts_with("vmgraft/") || kValues.contains(include.header)) continue;
    INFO(include.file << " includes " << include.header);
    CHECK((include.layer == "run" || include.layer == "cli" || include.layer == "vmgraft"));
  }
}

TEST_CASE("third-party headers stay in their folders, and out of the public API") {
  const std::map<std::string, std::set<std::string>> homes = {
      {"libvirt/libvirt.h", {"libvirt"}}, {"libvirt/libvirt-", {"libvirt"}}, {"libvirt/virterror", {"libvirt"}}, {"libxml/", {"domain"}}, {"CLI/", {"cli"}},
      {"valijson/", {"template"}},      {"nlohmann/", {"template", "store", "guest", "image", "run", "cli"}},
      {"curl/", {"image"}},             {"archive", {"guest", "image"}},    {"openssl/", {"host", "guest", "image"}},
      {"libsmartcols", {"cli"}}};
  for (const Include& include : includes()) {
    for (const auto& [prefix, folders] : homes) {
      if (!include.header.starts_with(prefix)) continue;
      INFO(include.file << " includes " << include.header);
      CHECK(folders.contains(include.layer));
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
#include "image/libraries.hpp"

#include <fmt/format.h>

#include <deque>
#include <optional>
#include <set>

#include <sys/utsname.h>

#include <vmgraft/error.hpp>

#include "image/elf.hpp"

namespace vmgraft {

namespace {

/// Where the loader looks without configuration, in a Debian and in a Fedora layout.
std::vector<std::string> library_folders() {
  utsname system{};
  const std::string machine = uname(&system) == 0 ? static_cast<const char*>(system.machine) : "x86_64";
  const auto triplet = machine + "-linux-gnu";
  return {"lib/" + triplet, "usr/lib/" + triplet, "lib64", "usr/lib64", "lib", "usr/lib"};
}

struct Found {
  std::string guest_path;
  std::filesystem::path file;
};

std::optional<Found> find_in(Host& host, const std::vector<std::filesystem::path>& roots,
                             const std::vector<std::string>& places) {
  for (const auto& root : roots) {
    for (const auto& place : places) {
      if (const auto info = host.stat(root / place); info && !info->is_folder) return Found{"/" + place, root / place};
    }
  }
  return std::nullopt;
}

}  // namespace

LibraryClosure find_libraries(Host& host, const std::vector<std::filesystem::path>& programs,
                              const std::vector<std::filesystem::path>& roots) {
  const auto folders = library_folders();
  LibraryClosure closure;
  std::deque<std::filesystem::path> queue(programs.begin(), programs.end());
  std::set<std::string> seen;
  while (!queue.empty()) {
    const auto file = queue.front();
    queue.pop_front();
    const auto bytes = host.read_file(file);
    if (!bytes) throw Error(Errc::other, fmt::format("cannot read '{}'", file.string()));
    const auto facts = read_elf(*bytes, file.string());
    std::vector<std::pair<std::string, std::vector<std::string>>> wanted;
    if (!facts.interpreter.empty()) wanted.push_back({facts.interpreter, {facts.interpreter.substr(1)}});
    for (const auto& name : facts.needed) {
      std::vector<std::string> places;
      for (const auto& folder : folders) places.push_back(folder + "/" + name);
      wanted.push_back({name, std::move(places)});
    }
    for (const auto& [name, places] : wanted) {
      if (!seen.insert(name).second) continue;
      if (const auto found = find_in(host, roots, places)) {
        closure.files.emplace(found->guest_path, found->file);
        queue.push_back(found->file);
      } else {
        closure.missing.push_back(name);
      }
    }
  }
  return closure;
}

}  // namespace vmgraft

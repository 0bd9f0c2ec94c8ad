// SPDX-License-Identifier: Apache-2.0
#include "image/packages.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <vmgraft/error.hpp>

#include "image/programs.hpp"

namespace vmgraft {

bool has_apt(Host& host) {
  return !host.find_program("apt-get").empty() && !host.find_program("apt-cache").empty() &&
         !host.find_program("dpkg-deb").empty();
}

std::string debian_architecture(ImageWork& work) {
  ToolRun run;
  run.what = "ask dpkg for the architecture";
  run.argv = {need_program(work.host, "dpkg", "dpkg").string(), "--print-architecture"};
  const auto lines = lines_of(run_tool(work, run).out);
  if (lines.size() != 1) throw Error(Errc::host_unfit, "dpkg --print-architecture gave no architecture");
  return lines.front();
}

std::vector<std::string> parse_depends(const std::string& text, const std::vector<std::string>& prefixes) {
  std::vector<std::string> names;
  for (const auto& line : lines_of(text)) {
    // A package stands at the beginning of a line, its dependencies below it, indented.
    if (line.front() == ' ' || line.front() == '<' || line.front() == '|') continue;
    const auto name = line.substr(0, line.find(':'));
    const bool wanted =
        std::any_of(prefixes.begin(), prefixes.end(), [&](const auto& prefix) { return name.rfind(prefix, 0) == 0; });
    if (wanted && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

std::vector<std::string> dependency_closure(ImageWork& work, const std::string& package,
                                            const std::vector<std::string>& prefixes) {
  ToolRun run;
  run.what = fmt::format("ask apt what '{}' depends on", package);
  run.argv = {need_program(work.host, "apt-cache", "apt").string(),
              "depends",
              "--recurse",
              "--no-recommends",
              "--no-suggests",
              "--no-conflicts",
              "--no-breaks",
              "--no-replaces",
              "--no-enhances",
              package};
  run.may_fail = true;
  const auto result = run_tool(work, run);
  if (result.exit_code != 0) return {};
  return parse_depends(result.out, prefixes);
}

void unpack_packages(ImageWork& work, const std::vector<std::string>& packages, const std::filesystem::path& target) {
  const auto downloads = work.folder / "packages";
  work.host.make_folder(downloads, 0755);
  work.host.make_folder(target, 0755);
  ToolRun fetch;
  fetch.what = fmt::format("download the package '{}'", packages.front());
  fetch.argv = {need_program(work.host, "apt-get", "apt").string(), "-q", "download"};
  fetch.argv.insert(fetch.argv.end(), packages.begin(), packages.end());
  fetch.folder = downloads;
  fetch.may_fail = true;
  const auto result = run_tool(work, fetch);
  if (result.exit_code != 0) {
    const auto error = tool_error(fetch.what, result.err, work.folder);
    throw Error(error.code(), error.what(),
                error.hint().empty()
                    ? "refresh the package lists (apt-get update) and see that the mirror can be reached"
                    : error.hint());
  }
  for (const auto& file : work.host.list_folder(downloads)) {
    if (file.size() < 4 || file.compare(file.size() - 4, 4, ".deb") != 0) continue;
    ToolRun unpack;
    unpack.what = fmt::format("unpack '{}'", file);
    unpack.argv = {need_program(work.host, "dpkg-deb", "dpkg").string(), "-x", (downloads / file).string(),
                   target.string()};
    run_tool(work, unpack);
  }
  work.host.remove(downloads);
}

}  // namespace vmgraft

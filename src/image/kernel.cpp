// SPDX-License-Identifier: Apache-2.0
#include "image/kernel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include <sys/utsname.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "image/elf.hpp"
#include "image/packages.hpp"
#include "image/programs.hpp"

namespace vmgraft {

namespace {

std::string module_name(std::string file) {
  file.resize(file.find(".ko"));
  std::replace(file.begin(), file.end(), '-', '_');
  return file;
}

void collect_modules(Host& host, const std::filesystem::path& folder,
                     std::map<std::string, std::filesystem::path>& found) {
  for (const auto& name : host.list_folder(folder)) {
    const auto path = folder / name;
    if (name.find(".ko") != std::string::npos) {
      found.emplace(module_name(name), path);
    } else if (const auto info = host.stat(path); info && info->is_folder) {
      collect_modules(host, path, found);
    }
  }
}

std::vector<std::string> split_list(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::string part;
  for (const char c : text + separator) {
    if (c != separator) {
      part += c;
    } else if (!part.empty()) {
      parts.push_back(std::move(part));
      part.clear();
    }
  }
  return parts;
}

/// Orders modules so that each follows what it depends on (modinfo's "depends", as depmod reads it).
class ModuleLoader {
 public:
  ModuleLoader(Host& host, const Kernel& kernel) : host_(host), kernel_(kernel) {}

  void add(const std::string& name, bool required) {
    if (!seen_.insert(name).second) return;
    const auto found = kernel_.modules.find(name);
    if (found == kernel_.modules.end()) {
      if (required && !is_builtin(name)) {
        throw Error(Errc::host_unfit, fmt::format("kernel {} has no module '{}'", kernel_.release, name),
                    "install a kernel made for virtual machines: apt-get install linux-image-cloud-amd64");
      }
      return;
    }
    const auto bytes = host_.read_file(found->second);
    if (!bytes) throw Error(Errc::other, fmt::format("cannot read '{}'", found->second.string()));
    auto content = decompressed(*bytes, found->second.string());
    for (const auto& list : modinfo_values(read_elf(content, found->second.string()), "depends")) {
      for (auto needed : split_list(list, ',')) {
        std::replace(needed.begin(), needed.end(), '-', '_');
        add(needed, required);
      }
    }
    ArchiveFile file;
    file.path = name + ".ko";
    file.content = std::move(content);
    loaded_.push_back(std::move(file));
  }

  [[nodiscard]] std::vector<ArchiveFile> take() { return std::move(loaded_); }

 private:
  [[nodiscard]] bool is_builtin(const std::string& name) const {
    const auto lines = lines_of(kernel_.builtin);
    return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
      const auto file = std::filesystem::path(line).filename().string();
      return file.find(".ko") != std::string::npos && module_name(file) == name;
    });
  }

  Host& host_;
  const Kernel& kernel_;
  std::set<std::string> seen_;
  std::vector<ArchiveFile> loaded_;
};

/// Of the packages, one that is installed already, whose kernel may be read: nothing has to be fetched.
std::optional<Kernel> installed_kernel(Host& host, const std::vector<std::string>& packages) {
  constexpr std::string_view prefix = "linux-image-";
  for (const std::string& package : packages) {
    if (!package.starts_with(prefix)) continue;
    const std::string release = package.substr(prefix.size());
    const auto image = host.stat("/boot/vmlinuz-" + release);
    // Some distributions let root alone read it.
    if (!image || (geteuid() != 0 && (image->mode & 0004) == 0) || !host.stat("/lib/modules/" + release)) continue;
    return kernel_under(host, "/", release);
  }
  return std::nullopt;
}

}  // namespace

Kernel kernel_under(Host& host, const std::filesystem::path& root, std::string release) {
  const std::string prefix = "vmlinuz-";
  if (release.empty()) {
    for (const auto& name : host.list_folder(root / "boot")) {
      if (name.compare(0, prefix.size(), prefix) == 0) release = name.substr(prefix.size());
    }
  }
  Kernel kernel;
  kernel.release = release;
  kernel.image = root / "boot" / (prefix + release);
  if (release.empty() || !host.stat(kernel.image)) {
    throw Error(Errc::host_unfit, fmt::format("there is no kernel '{}'", kernel.image.string()),
                "install one: apt-get install linux-image-cloud-amd64");
  }
  for (const auto* base : {"lib/modules", "usr/lib/modules"}) {
    const auto folder = root / base / release;
    collect_modules(host, folder / "kernel", kernel.modules);
    kernel.builtin += host.read_file(folder / "modules.builtin").value_or("");
    if (!kernel.builtin.empty()) break;
  }
  if (kernel.modules.empty() && kernel.builtin.empty()) {
    throw Error(Errc::host_unfit, fmt::format("the modules of kernel {} are not under '{}'", release, root.string()));
  }
  return kernel;
}

Kernel find_kernel(ImageWork& work) {
  if (has_apt(work.host)) {
    const auto architecture = debian_architecture(work);
    for (const auto& name :
         {"linux-image-cloud-" + architecture, "linux-image-" + architecture, std::string("linux-image-virtual")}) {
      auto packages = dependency_closure(work, name, {"linux-image-", "linux-modules-"});
      // The name itself is an empty package that points to the current version.
      packages.erase(std::remove(packages.begin(), packages.end(), name), packages.end());
      if (packages.empty()) continue;
      if (auto installed = installed_kernel(work.host, packages)) return *std::move(installed);
      tell(work, fmt::format("fetching {}", packages.front()));
      const auto target = work.folder / "kernel-package";
      unpack_packages(work, packages, target);
      return kernel_under(work.host, target);
    }
  }
  utsname running{};
  if (uname(&running) != 0) throw Error(Errc::host_unfit, "uname fails: the running kernel is not known");
  return kernel_under(work.host, "/", static_cast<const char*>(running.release));
}

std::vector<ArchiveFile> load_modules(Host& host, const Kernel& kernel, const std::vector<WantedModule>& wanted) {
  ModuleLoader loader(host, kernel);
  for (const auto& module : wanted) loader.add(module.name, module.required);
  return loader.take();
}

}  // namespace vmgraft

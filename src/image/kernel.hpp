// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "image/archive_io.hpp"
#include "image/image_maker.hpp"

namespace vmgraft {

/// A kernel on the host's disk, and its modules.
struct Kernel {
  std::filesystem::path image;                           ///< vmlinuz
  std::string release;                                   ///< "6.1.0-1-cloud-amd64"
  std::map<std::string, std::filesystem::path> modules;  ///< by name, '_' for '-'
  std::string builtin;                                   ///< text of modules.builtin
};

/// The distribution's kernel, small flavour first: the installed one, else fetched and unpacked into the work folder;
/// without apt the running one. \throws Error host_unfit: neither is there.
[[nodiscard]] Kernel find_kernel(ImageWork& work);

/// The kernel whose files stand under \p root (boot/vmlinuz-RELEASE, [usr/]lib/modules/RELEASE).
/// \throws Error host_unfit: none, or no modules with it.
[[nodiscard]] Kernel kernel_under(Host& host, const std::filesystem::path& root, std::string release = {});

struct WantedModule {
  std::string name;
  bool required = false;
};

/// The modules and all they depend on, decompressed, each after what it needs; what is built into the kernel is left
/// out. \throws Error host_unfit: a required one is neither a module nor built in.
[[nodiscard]] std::vector<ArchiveFile> load_modules(Host& host, const Kernel& kernel,
                                                    const std::vector<WantedModule>& wanted);

}  // namespace vmgraft

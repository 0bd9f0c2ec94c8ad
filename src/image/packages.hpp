// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "image/image_maker.hpp"

namespace vmgraft {

/// True when this host has apt and dpkg: packages of its distribution can be fetched without installing them.
[[nodiscard]] bool has_apt(Host& host);

/// Debian's name of this machine's architecture, "amd64". Source: dpkg --print-architecture.
[[nodiscard]] std::string debian_architecture(ImageWork& work);

/// \p package and what it depends on, transitively, as far as the names begin with one of \p prefixes.
/// Empty when apt does not know \p package. Source: apt-cache depends --recurse.
[[nodiscard]] std::vector<std::string> dependency_closure(ImageWork& work, const std::string& package,
                                                          const std::vector<std::string>& prefixes);

/// Download the packages and unpack them (no scripts run, nothing installed) into \p target.
/// \throws Error other: apt cannot fetch one; the hint says `apt-get update`.
void unpack_packages(ImageWork& work, const std::vector<std::string>& packages, const std::filesystem::path& target);

/// Package names of `apt-cache depends --recurse` text, in order, the ones without a leading "<" (virtual packages).
[[nodiscard]] std::vector<std::string> parse_depends(const std::string& text, const std::vector<std::string>& prefixes);

}  // namespace vmgraft

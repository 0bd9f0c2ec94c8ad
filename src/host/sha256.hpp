// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace vmgraft {

/// Hex sha256. Source: OpenSSL EVP.
[[nodiscard]] std::string sha256_text(std::string_view text);
/// \throws Error other: the file cannot be read.
[[nodiscard]] std::string sha256_file(const std::filesystem::path& path);

}  // namespace vmgraft

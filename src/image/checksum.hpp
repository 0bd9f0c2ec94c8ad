// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "image/image_maker.hpp"

namespace vmgraft {

/// What a file must be.
struct Checksum {
  enum class Algorithm { sha256, sha512 } algorithm = Algorithm::sha256;
  std::string hex;  ///< lower case
  friend bool operator==(const Checksum&, const Checksum&) = default;
};

[[nodiscard]] bool is_hex(std::string_view text);
[[nodiscard]] std::string to_string(Checksum::Algorithm algorithm);

/// \param hex  64 digits (sha256) or 128 (sha512), any case. Nothing when it is neither.
[[nodiscard]] std::optional<Checksum> parse_checksum(std::string_view hex);

/// The sum of \p file in a list as projects publish them: "HEX  FILE", "HEX *FILE", "SHA256 (FILE) = HEX",
/// comments, signatures and other lines left aside; a list that is nothing but one sum is that file's.
/// Where both are there, sha512 wins over sha256 only by standing first.
[[nodiscard]] std::optional<Checksum> find_checksum(const std::string& list, const std::string& file);

/// The sum of a file on disk, with progress. Source: OpenSSL EVP. \throws Error interrupted; other: it cannot be read.
[[nodiscard]] Checksum checksum_file(ImageWork& work, const std::filesystem::path& path, Checksum::Algorithm algorithm,
                                     const std::string& what);

}  // namespace vmgraft

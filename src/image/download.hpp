// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "image/image_maker.hpp"

namespace vmgraft {

/// A URL that may be shown and kept, and the file it names.
struct DownloadUrl {
  std::string full;   ///< as it is fetched
  std::string shown;  ///< without user, password and query, which may hold a key
  std::string file;   ///< last part of its path, decoded; "" when it ends in "/"
  bool is_private = false;  ///< nobody between us and the server: https, or this host itself
};

/// \throws Error usage: not an http or https URL.
[[nodiscard]] DownloadUrl parse_url(const std::string& url);

/// Fetch into \p target, going on where an earlier call stopped when the server can and has the same file still
/// (its ETag or Last-Modified is kept in \p target + ".validator"). A connection that breaks is taken up again.
/// \throws Error interrupted, unreachable (what was fetched is kept); not_found: 404 or 410; other: the server's
/// refusal; disk full. Source: libcurl; RFC 9110, 14 (Range, If-Range).
void download(ImageWork& work, const DownloadUrl& url, const std::filesystem::path& target, const std::string& what);

/// A small text, as a list of checksums. \throws Error as download(); other: larger than \p most bytes.
[[nodiscard]] std::string fetch_text(ImageWork& work, const DownloadUrl& url, std::size_t most);

}  // namespace vmgraft

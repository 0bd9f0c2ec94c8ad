// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace vmgraft {

/// Where a value was read.
struct Origin {
  std::shared_ptr<const std::string> file;
  unsigned line = 0;  ///< 1-based
};

/// JSON that knows where each of its values came from. Keys of the maps are JSON pointers (RFC 6901).
struct Document {
  nlohmann::json root;
  std::map<std::string, Origin> origins;
  /// Values that depend on a parameter which has no value yet: there, but not to be judged.
  std::set<std::string> unknown;

  /// The origin of \p pointer, or of the nearest value around it.
  [[nodiscard]] Origin origin(std::string pointer) const;
};

[[nodiscard]] std::string pointer_to(const std::string& parent, std::string_view key);
[[nodiscard]] std::string pointer_to(const std::string& parent, std::size_t index);

/// Read JSON with comments, strictly: no duplicate keys, no NUL, valid UTF-8, at most 64 deep and 1 MiB.
/// \param file  said in errors.
/// \throws TemplateError
[[nodiscard]] Document read_document(std::string_view text, const std::string& file);

/// \throws TemplateError  also for what is not a readable regular file: a template is never a pipe or a device.
[[nodiscard]] Document read_document_file(const std::filesystem::path& file);

/// Put \p top over \p base: objects key by key, anything else replaced, null removes the key.
void overlay(Document& base, const Document& top);

}  // namespace vmgraft

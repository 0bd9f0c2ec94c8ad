// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "template/document.hpp"
#include "template/fields.hpp"
#include "template/schema.hpp"

namespace vmgraft {

/// One file of an `extends` chain.
struct TemplateFile {
  std::string name;
  std::filesystem::path path;
  std::string extends;
  std::string description;
  Document document;
};

/// Finds template files and reads them with those that they extend.
class TemplateLoader {
 public:
  explicit TemplateLoader(const std::vector<std::filesystem::path>& folders) : folders_(&folders) {}

  /// True for a path instead of a name: contains '/' or ends in ".json".
  [[nodiscard]] static bool is_path(const std::string& name);
  /// Names of the templates in the folders, sorted, each once.
  [[nodiscard]] std::vector<std::string> names() const;
  /// \throws Error usage: not a name. not_found.
  [[nodiscard]] std::filesystem::path find(const std::string& name) const;
  /// The template and those it extends, itself first. What is wrong goes to \p errors; then the chain may be short.
  [[nodiscard]] std::vector<TemplateFile> chain(const std::string& name, std::vector<TemplateError>& errors) const;

 private:
  [[nodiscard]] TemplateFile read(const std::string& name, const std::filesystem::path& path,
                                  std::vector<TemplateError>& errors) const;

  const std::vector<std::filesystem::path>* folders_;
  TemplateSchema schema_;
};

}  // namespace vmgraft

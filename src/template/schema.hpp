// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace vmgraft {

/// templates/template.schema.json, as it was when the library was built.
[[nodiscard]] std::string_view template_schema_text();

/// The JSON Schema of templates: the same one that editors use. It judges; the words of an error are ours
/// (spec_reader).
class TemplateSchema {
 public:
  TemplateSchema();
  ~TemplateSchema();
  TemplateSchema(const TemplateSchema&) = delete;
  TemplateSchema& operator=(const TemplateSchema&) = delete;

  /// Not to be called from two threads at once: compiled expressions are kept.
  /// JSON pointers of the values that do not fit, each once; a value stands before those around it.
  [[nodiscard]] std::vector<std::string> violations(const nlohmann::json& document) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vmgraft

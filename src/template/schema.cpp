// SPDX-License-Identifier: Apache-2.0
#include "template/schema.hpp"

#include <set>

// valijson is not clean under our warnings, and is included in this file only: it takes seconds to compile.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wpedantic"
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>
#pragma GCC diagnostic pop

#include "template/document.hpp"

namespace vmgraft {

struct TemplateSchema::Impl {
  valijson::Schema schema;
  valijson::Validator validator;  // keeps the compiled regular expressions
};

TemplateSchema::TemplateSchema() : impl_(std::make_unique<Impl>()) {
  const nlohmann::json text = nlohmann::json::parse(template_schema_text());
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(text), impl_->schema);
}

TemplateSchema::~TemplateSchema() = default;

std::vector<std::string> TemplateSchema::violations(const nlohmann::json& document) const {
  const valijson::adapters::NlohmannJsonAdapter target(document);
  // Most documents are good, and the quick verdict gathers no text.
  if (impl_->validator.validate(impl_->schema, target, nullptr)) return {};
  valijson::ValidationResults results;
  impl_->validator.validate(impl_->schema, target, &results);
  std::vector<std::string> pointers;
  std::set<std::string> seen;
  for (const auto& error : results) {
    std::string pointer;
    for (std::size_t i = 1; i < error.context.size(); ++i) {  // [0] is "<root>", then "[key]" or "[index]"
      const std::string& part = error.context[i];
      pointer = pointer_to(pointer, part.size() < 2 ? part : part.substr(1, part.size() - 2));
    }
    if (seen.insert(pointer).second) pointers.push_back(std::move(pointer));
  }
  if (pointers.empty()) pointers.emplace_back();
  return pointers;
}

}  // namespace vmgraft

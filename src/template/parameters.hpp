// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <vmgraft/template.hpp>

#include "template/fields.hpp"

namespace vmgraft {

enum class ParameterType { string, integer, boolean, size, duration };

/// A declared parameter. Sizes and durations stay as they were written, "64GiB", wherever they are used.
struct Parameter {
  std::string name;
  std::optional<ParameterType> type;  ///< absent only in a draft, or after a finding
  std::string description;
  std::optional<nlohmann::json> default_value;
  std::optional<nlohmann::json> minimum, maximum;
  std::vector<nlohmann::json> choices;
  std::string pattern;
  std::string pointer;
};

/// What each parameter stands for; nothing while it has no value.
using ParameterBindings = std::map<std::string, std::optional<nlohmann::json>>;

/// Read the section "parameters"; what is wrong with a declaration goes to the findings.
[[nodiscard]] std::vector<Parameter> read_parameters(TemplateFields& root);

/// Values for the parameters: those given, else the defaults. Given text is converted by the parameter's type.
/// \param who  the template, said in errors.
/// \throws Error invalid_template: unknown parameter, value that does not fit, value missing (not with \p
/// allow_missing).
[[nodiscard]] ParameterBindings bind_parameters(const std::vector<Parameter>& parameters, const ParameterValues& given,
                                                const std::string& who, bool allow_missing);

[[nodiscard]] TemplateParameter describe(const Parameter& parameter);

}  // namespace vmgraft

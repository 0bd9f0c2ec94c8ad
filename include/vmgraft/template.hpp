// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

namespace vmgraft {

struct TemplateParameter {
  std::string name;
  std::string type;           ///< "string", "integer", "boolean", "size", "duration"
  std::string default_value;  ///< as it would be written after --set; "" when required
  bool required = false;
  std::string description;
};

struct TemplateInfo {
  std::string name;
  std::string description;
  std::string file;
  std::string extends;        ///< "" when it stands alone
  std::vector<TemplateParameter> parameters;
};

/// Values for a template's parameters, as after --set: text, converted by the parameter's type.
using ParameterValues = std::map<std::string, std::string>;

}  // namespace vmgraft

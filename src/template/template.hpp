// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <vmgraft/error.hpp>
#include <vmgraft/template.hpp>

#include "model/vm_spec.hpp"

namespace vmgraft {

/// A template with `extends` merged and parameters put in.
struct ResolvedTemplate {
  std::string name;
  std::filesystem::path file;
  VmSpec spec;
  std::string json;    ///< canonical text of the result (keys sorted, no parameters, no extends): what parse_spec reads
  std::string digest;  ///< sha256 of json, hex
};

/// Facts of the VM that templates may refer to as ${vm.name}.
struct TemplateFacts {
  std::string vm_name;
};

/// The templates in a list of folders, the first folder that has a name wins.
class TemplateLibrary {
 public:
  explicit TemplateLibrary(std::vector<std::filesystem::path> folders);

  /// Every template found, by name. A broken one is listed with its error as the description.
  [[nodiscard]] std::vector<TemplateInfo> list() const;
  /// \param name  a name, or a path (contains '/' or ends in ".json").
  /// \throws Error not_found (nearest name as hint), TemplateError.
  [[nodiscard]] TemplateInfo info(const std::string& name) const;
  /// \throws Error not_found, TemplateError: file, line, pointer, why. Unknown parameter: usage... as invalid_template.
  [[nodiscard]] ResolvedTemplate resolve(const std::string& name, const ParameterValues& values,
                                         const TemplateFacts& facts) const;
  /// Everything that is wrong with it, the first first; empty when nothing is.
  [[nodiscard]] std::vector<TemplateError> check(const std::string& name) const;

 private:
  std::vector<std::filesystem::path> folders_;
};

/// The spec in a resolved template's JSON text. \param where  said in errors.
[[nodiscard]] VmSpec parse_spec(std::string_view json, const std::string& where);

}  // namespace vmgraft

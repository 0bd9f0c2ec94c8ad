// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "template/fields.hpp"
#include "template/parameters.hpp"

namespace vmgraft {

/// Put values in the place of ${name} in every text of the sections vm, guest and lifecycle. A text that is one
/// reference and nothing else becomes the value with its type; "$${" becomes "${". Values are put in as they are: no
/// recursion. A text that refers to a parameter without a value is noted in document.unknown. \param facts  what may be
/// referred to besides parameters, as "vm.name".
void substitute(Document& document, const ParameterBindings& bindings, const std::map<std::string, std::string>& facts,
                Findings& findings);

}  // namespace vmgraft

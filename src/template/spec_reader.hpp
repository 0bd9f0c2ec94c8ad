// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/vm_spec.hpp"
#include "template/fields.hpp"

namespace vmgraft {

/// Judge the sections vm, guest and lifecycle and the description, and make a VmSpec of them.
/// The spec is worth something only when the findings stay empty.
void read_spec(TemplateFields& root, VmSpec& spec);

/// The version of the format; absent is for the caller to judge.
void read_version(TemplateFields& root);

void read_guest(Findings& findings, Value value, GuestSpec& guest);
void read_lifecycle(Findings& findings, Value value, LifecycleSpec& lifecycle);

/// Rules that more than one reader uses.
[[nodiscard]] TextRule name_rule(const char* what);

}  // namespace vmgraft

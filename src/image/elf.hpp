// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vmgraft {

/// What a 64-bit little-endian ELF file asks for: read, never run.
struct ElfFacts {
  std::string interpreter;           ///< PT_INTERP; empty: static, or a library
  std::vector<std::string> needed;   ///< DT_NEEDED, in order
  std::vector<std::string> modinfo;  ///< "key=value" of a kernel module's .modinfo
};

/// \param where  the file's name, for errors.
/// \throws Error other: not such a file, or its tables point outside it.
/// Source: the System V ABI, chapters 4 and 5.
[[nodiscard]] ElfFacts read_elf(std::string_view bytes, const std::string& where);

/// The values of a key: "depends" of {"depends=a,b"} is {"a,b"}.
[[nodiscard]] std::vector<std::string> modinfo_values(const ElfFacts& facts, std::string_view key);

}  // namespace vmgraft

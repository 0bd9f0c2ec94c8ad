// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "support/fake_host.hpp"

namespace vmgraft {

// A host as one text file, tests/data/hosts/NAME.host:
//
//   # comment; empty lines are skipped too
//   /proc/swaps = one line            a file; the same path again: its next line
//   /sys/.../driver -> ../../nvidia   a symbolic link
//   /sys/bus/pci/drivers/vfio-pci/    an empty folder
//   config :hex de 10 30 23           a binary file; without a '/' at its start, a path stands below the last ...
//   [/sys/devices/pci0000:00]         ... folder named like this

/// \throws std::runtime_error: there is none of this name, or the line that is wrong.
[[nodiscard]] FakeHost recorded_host(const std::string& name);
/// The same from text. \param where  said in errors.
[[nodiscard]] FakeHost recorded_host_from(const std::string& text, const std::string& where);

/// The same as a real tree of files below \p root. Links that stand for absolute paths stay as they are.
void expand_recorded_host(const std::string& name, const std::filesystem::path& root);

}  // namespace vmgraft

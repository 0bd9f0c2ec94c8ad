// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <vmgraft/error.hpp>

#include "image/image_maker.hpp"

namespace vmgraft {

/// Path of a program. \throws Error host_unfit: not installed; the hint says which Debian package has it.
std::filesystem::path need_program(Host& host, const std::string& name, const std::string& package);

/// A child process of image making that must succeed.
struct ToolRun {
  std::vector<std::string> argv;
  std::string what;              ///< what it does, for the error: "cannot WHAT: ..."
  std::filesystem::path folder;  ///< working folder; empty: ours
  std::string input;
  std::vector<std::string> environment;  ///< LC_ALL=C is always added: messages are read
  std::chrono::seconds deadline{1800};
  std::function<void(std::string_view)> on_line;
  bool may_fail = false;  ///< return the result whatever the exit code
};

/// Run it. \throws Error interrupted; other: it failed, with its last words; a full disk says so and what to do.
CommandResult run_tool(ImageWork& work, const ToolRun& run);

/// Error(other) for text that a failed program left; ENOSPC is recognised and gets its remedy.
[[nodiscard]] Error tool_error(const std::string& what, const std::string& output, const std::filesystem::path& folder);

/// \throws Error interrupted: somebody asked us to stop.
void stop_if_interrupted(const ImageWork& work);

void tell(const ImageWork& work, std::string what, std::uint64_t done = 0, std::uint64_t total = 0);

/// The error that a qemu-img reports which ends with 0 all the same: what it cannot write of a qcow2's tables as it
/// closes the file costs it no exit code. Empty: none.
[[nodiscard]] std::string error_at_close(const CommandResult& result);

/// Convert a disk file into a fresh qcow2 without backing file, with progress; the source's format is always said,
/// never probed.
void convert_to_qcow2(ImageWork& work, const std::filesystem::path& source, const std::string& format,
                      const std::filesystem::path& target, const std::string& what);

/// Split at newlines, "\r" and empty lines dropped.
[[nodiscard]] std::vector<std::string> lines_of(std::string_view text);

}  // namespace vmgraft

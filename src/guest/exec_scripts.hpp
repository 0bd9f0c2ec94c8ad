// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string_view>

namespace vmgraft {

/// Where a command's folder may stand in the guest, best first: on disk, so that long output fits; in memory when the
/// disk is full or read-only. The scripts below name the same three.
inline constexpr std::array<std::string_view, 3> kSpoolParents{"/var/tmp", "/tmp", "/run"};

// In all of them $1 and $2 are two random words A and B. The folder is "vmgraft-AB". The mark that ends an output is
// "BA", which stands nowhere in the guest: not in a path, not in the command line of a process, so that even
// `ps` or `find` as a command cannot print it.

/// Makes the folder of a command and prints its path.
extern const char* const kMakeFolderScript;

/// Runs one command with its output spooled to the files "o" and "e" of its folder.
///   $3 user, "" for root   $4 folder made before, whose file "i" is stdin; "" for none
///   $5 most bytes of output that are handed over by this script itself   $6... argv
/// Exit 0: out and err of the script are the two files, whole, and the folder is gone. 9: they stayed in the folder.
/// 3: no folder could be made. Each file ends with the line "BA VERDICT": the exit code, 128 + signal; "nocommand";
/// "nouser".
extern const char* const kRunScript;

/// Ends a command with everything it started, and removes its folder.
extern const char* const kKillScript;

/// Removes what is left of a command that has ended.
extern const char* const kCleanScript;

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

// Scripts that set up a guest, for dash, bash and busybox ash, run as root. They work with systemd and without, and
// done twice they give the same guest.

namespace vmgraft {

/// $1 host name.
extern const char* const kHostnameScript;
/// $1 user. Makes the user with a home folder, no password, and sudo rights where sudo is.
extern const char* const kUserScript;
/// $1 user; $2... public keys, appended to those that are there.
extern const char* const kKeysScript;
/// Makes sshd take its host key anew when it runs.
extern const char* const kReloadSshScript;
/// $1 folder. As mkdir -p.
extern const char* const kFolderScript;
/// $1 new machine id, 32 hex digits. Only where the guest has one.
extern const char* const kMachineIdScript;
/// Stdin: random bytes, mixed into the kernel's pool and the seed for the next boot.
extern const char* const kEntropyScript;
/// Asks for addresses anew, by whatever client runs.
extern const char* const kDhcpScript;

}  // namespace vmgraft

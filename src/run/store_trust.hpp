// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "run/executor.hpp"

namespace vmgraft {

// A store may come from elsewhere: a backup, another host, an archive. What its journals and kept definitions say is
// carried out with our rights and libvirt's, so it is held against what vmgraft would have written.

/// Every name, id, path and mode in the journal is one that vmgraft writes for this store. Pure.
/// \param name        of the journal's file, without ".json"
/// \param tpm_folder  where libvirt keeps TPM states, one folder a UUID
/// \throws Error other: it is not; nothing of it is to be carried out.
void require_own_journal(const JournalEntry& entry, const std::string& name, const Store& store,
                         const std::filesystem::path& tpm_folder);

/// The same of a plan just made: what it removes, writes and replaces lies in the store. What it copies from may be
/// elsewhere, when libvirt said so.
void require_own_targets(const Plan& plan, const Store& store, const std::filesystem::path& tpm_folder);

/// UUIDs of the domains that the plan acts on.
[[nodiscard]] std::set<std::string> domains_of(const Plan& plan, const std::filesystem::path& tpm_folder);

/// The domains that the journal names are of this store, or are not there; what it would define is, too, and gives a VM
/// nothing of the host that it does not have; a device of the host is one that is leased to the VM.
/// \throws Error conflict: it is not so.
void require_own_domains(World& world, const JournalEntry& entry);

/// Definitions kept in the store give a VM nothing of the host that libvirt does not know it to have.
/// \param what  "snapshot a@b"; \param uuid  the VM's
/// \throws Error conflict: it reaches more.
void require_known_reach(Hypervisor& hypervisor, const Store& store, const std::string& what, const std::string& uuid,
                         const std::string& xml);

/// The plan changes the host's devices: it holds until the host boots, and its journal is none after that.
[[nodiscard]] bool touches_devices(const Plan& plan);

}  // namespace vmgraft

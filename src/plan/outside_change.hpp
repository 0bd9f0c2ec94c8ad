// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "domain/domain_xml.hpp"
#include "libvirt/hypervisor.hpp"
#include "model/vm_spec.hpp"
#include "plan/facts.hpp"

namespace vmgraft {

/// What libvirt says of a VM, read at one moment.
struct DomainSight {
  std::optional<DomainState> domain;    ///< by UUID; nothing: undefined
  std::optional<DomainState> namesake;  ///< another domain that has the VM's name
  DomainFacts defined;                  ///< its definition, when there is a domain
  std::optional<DomainFacts> live;      ///< while it runs
};

/// A way in which a VM's domain is not as vmgraft left it.
struct OutsideChange {
  enum class Kind {
    undefined,   ///< no domain any more
    not_ours,    ///< our metadata is gone, or names another store
    renamed,     ///< the domain has another name
    transient,   ///< it runs, but has no definition any more
    disk_gone,   ///< a head is on no disk of the domain
    disk_moved,  ///< a disk is on another file than its head
    saved,       ///< libvirt keeps a memory in which it starts next
    disk_added,  ///< a writable disk that no snapshot holds
    hardware,    ///< other CPUs or memory than its template gave
  };
  Kind kind = Kind::undefined;
  std::string id;      ///< of the row in a check: "domain", "domain-disk" ...
  std::string what;    ///< "its disk vda is now on '/x.qcow2' ..."
  std::string remedy;
};

/// What a verb is about to do to a VM whose domain may have been changed.
enum class Act {
  start,
  stop,
  guest,   ///< work inside: exec, copy, console
  disks,   ///< give it new layers, or others: snapshot, revert, clone
  remove,
};

/// What other programs did to the domain and its disks, the worst first.
/// \param layers  of the store: whether a file that a disk stands on is one of ours.
[[nodiscard]] std::vector<OutsideChange> outside_changes(const Store& store, const Manifest& manifest,
                                                         const LayerMap& layers, const DomainSight& sight);

/// Other CPUs or memory than the template gave: the user's right, and worth telling.
[[nodiscard]] std::vector<OutsideChange> hardware_changes(const Manifest& manifest, const VmSpec& spec,
                                                          const DomainSight& sight);

/// Whether \p act may not be done while things are so.
[[nodiscard]] bool forbids(OutsideChange::Kind kind, Act act);

/// \throws Error conflict: the first change that forbids \p act, with its remedy.
void require_unchanged(const Manifest& manifest, const std::vector<OutsideChange>& changes, Act act);

}  // namespace vmgraft

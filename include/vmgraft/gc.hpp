// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vmgraft {

struct GcRequest {
  bool dry_run = false;         ///< look only
};

/// What gc does about what it found.
enum class GcAction {
  remove,   ///< it goes
  define,   ///< a manifest's domain is defined again
  stop,     ///< an expired VM is shut down
  recover,  ///< the operation of a dead process is finished or undone
  keep,     ///< it is only told: gc may not, or cannot, do anything about it
};

[[nodiscard]] std::string to_string(GcAction action);

/// One thing that gc found.
struct GcEntry {
  std::string name;             ///< id of a layer or journal, path of a file, name of a domain or VM
  std::string what;             ///< one line: where it comes from
  std::uint64_t size = 0;       ///< bytes on disk that go with it
  GcAction action = GcAction::keep;
  bool done = false;            ///< always false in a dry run
  std::string note = {};        ///< why it is kept, or what failed, or how it was done; empty: nothing to say
};

struct GcResult {
  bool dry_run = false;
  std::vector<GcEntry> layers;     ///< that no image, snapshot or VM reaches
  std::vector<GcEntry> files;      ///< half-made ones of processes that died, and those of no VM
  std::vector<GcEntry> domains;    ///< of this store, without a manifest
  std::vector<GcEntry> manifests;  ///< VMs without a domain
  std::vector<GcEntry> journals;   ///< operations that dead processes left half done
  std::vector<GcEntry> expired;    ///< VMs beyond their time

  /// Bytes of what was removed; in a dry run of what would be.
  [[nodiscard]] std::uint64_t freed() const;
};

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <vmgraft/gc.hpp>

#include "plan/plan_sweep.hpp"

namespace vmgraft {

/// A file or folder that stands in the store. Folders of VMs are listed with what is in them, work folders are not.
struct StoreFile {
  std::string path;             ///< below the store: "vms/ci-7/nvram.fd"
  std::uint64_t size = 0;       ///< bytes on disk, of a folder with all that is in it
  bool is_folder = false;
  bool is_held = false;         ///< a work folder or temporary file whose process lives
};

struct GcDomain {
  std::string name;
  std::string uuid;
  bool is_active = false;
  bool is_ours = false;         ///< its metadata says this store, and the UUID that it has
  std::set<std::string> paths;  ///< what it names below the store, absolute
  std::string stuck = {};       ///< why it could not be removed, when that was tried
};

/// An operation that is not finished: of a living process, or one that could not be recovered.
struct GcJournal {
  std::vector<std::string> vms;
  std::string text;             ///< all of it: what it mentions is its own
  std::int64_t pid = 0;         ///< of its process: what that did not finish writing goes with the journal
};

/// How a VM's domain can be defined again.
struct Redefinition {
  std::string xml;
  std::string note = {};        ///< what is not as it was
  std::string why_not = {};     ///< then there is no xml
};

/// What gc goes by, read under the sweep lock: nothing in the store is being made or taken away meanwhile, but what the
/// holder of a VM's own lock does to that VM.
struct GcFacts {
  const Store& store;
  StoreFacts refs;
  std::map<std::string, std::uint64_t> layer_sizes;     ///< bytes on disk
  std::vector<StoreFile> files;
  std::vector<GcDomain> domains;
  std::vector<GcJournal> journals;
  std::set<std::string> held;                           ///< VMs that somebody is at work on
  std::map<std::string, Redefinition> redefinitions;    ///< by VM: those without a domain
  std::set<std::string> running;                        ///< VMs that have a QEMU
  /// Why nothing is done to VMs: libvirt knows none of them, so that it looks like the wrong one. Empty: it is not so.
  std::string wrong_libvirt = {};
};

/// One thing found, with the steps that see to it; none when it is only told.
struct GcItem {
  GcEntry entry;
  Plan plan;
};

struct GcPlan {
  std::vector<GcItem> domains;
  std::vector<GcItem> manifests;
  std::vector<GcEntry> layers;
  std::vector<GcEntry> files;
  Plan removal;                 ///< of the layers and files, all in one
};

[[nodiscard]] GcPlan plan_gc(const GcFacts& facts);

/// VMs whose time is over and with which something is to be done.
[[nodiscard]] std::vector<GcEntry> plan_expiry(const GcFacts& facts, const std::string& now);

/// As if the VM had been deleted: what its expiry leaves for the rest of gc.
void forget_vm(GcFacts& facts, const std::string& vm);

/// Whether a file of that name is a write that was cut off, and by which process: ".vm.json.123.0.tmp".
/// \returns  the process id's digits; empty: it is no such file.
[[nodiscard]] std::string writer_of(const std::string& file);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "store/records.hpp"

namespace vmgraft {

// Each step is plain data, and so is its undo: a process that dies leaves a journal from which another can finish or undo.
// Apply and undo are idempotent: recovery does not know how far the dead process came.

/// Make a folder of ours. Undo: remove it with all that is in it.
struct MakeFolder {
  std::string path;
  unsigned mode = 0710;
};

/// Write a new empty layer (overlay of record.parent) and its record. Undo: remove both.
struct CreateLayer {
  LayerRecord record;
};

/// Copy a chain into a new layer without parent, with its boot files. Undo: remove it.
struct FlattenLayer {
  std::string from;
  LayerRecord record;
};

/// Make a head immutable: 0444, and root's where labels are ours. Undo: a head again.
struct FreezeLayer {
  std::string id;
};

/// Replace a file at once. Undo: put back `previous`, or remove the file when it had none.
struct WriteFile {
  std::string path;
  std::string content;
  unsigned mode = 0600;
  bool existed = false;
  std::string previous = {};
};

/// Copy a file or tree into a place that is free. Undo: remove the copy.
struct CopyPath {
  std::string from;
  std::string to;
};

/// Put a kept copy in the place of what is there. Undo: put `undo_from` there (or nothing when that is empty).
struct ReplacePath {
  std::string from;        ///< empty: just remove `to`
  std::string to;
  std::string undo_from;
};

/// Move a finished temporary file into its place in the store. Undo: remove it.
struct AdoptFile {
  std::string from;
  std::string to;
  unsigned mode = 0444;
};

/// Define a domain. Undo: define `previous`, or undefine when it is empty.
struct DefineDomain {
  std::string name;
  std::string uuid;
  std::string xml;
  std::string previous;
  bool is_derived = false;              ///< from what libvirt told us: its schema has seen it
};

/// Undo: power off.
struct StartDomain {
  std::string name;
  std::string uuid;
  std::string xml = {};                 ///< what it is started by for this run; empty: its own definition
  std::string memory = {};              ///< file of saved memory in which it wakes; empty: it boots
};

/// Move a PCI function of the host to a driver, by driver_override. Undo: back to where it was.
struct BindDriver {
  std::string address;
  std::string driver;                   ///< empty: none
  std::string driver_override;          ///< empty: unset
  std::string from_driver;
  std::string from_override;
};

/// Write to an attribute of sysfs. Undo: write `previous`.
struct WriteAttribute {
  std::string path;
  std::string value;
  std::string previous;
};

/// Make a mediated device on a GPU. Undo: remove it.
struct MakeMdev {
  std::string parent;                   ///< PCI address
  std::string type;                     ///< "nvidia-11"
  std::string uuid;
};

/// Ask the guest to let a device go, and wait until it has. Undo: plug it in again.
struct DetachDevice {
  std::string name;
  std::string uuid;
  std::string alias;
  std::string xml;
  unsigned timeout = 60;                ///< seconds
};

/// Plug a device into a running domain. Undo: ask for it back.
struct AttachDevice {
  std::string name;
  std::string uuid;
  std::string alias;
  std::string xml;
};

/// One disk that moves on to a new head while the VM runs.
struct SwitchDisk {
  std::string target;
  std::string layer;
};

/// Live disk snapshot: all disks move to their new heads at one instant. Whether it happened is asked of the domain.
struct SwitchDisks {
  std::string name;
  std::string uuid;
  std::vector<SwitchDisk> disks;
  std::vector<std::string> untouched;   ///< targets left alone
  bool freeze = false;                  ///< through the agent; fails with FreezeFailed, nothing changed, when it cannot
  std::string memory = {};              ///< file that its memory is written to in the same instant; empty: disks alone
  std::vector<CopyPath> sidecars;       ///< copied in the same freeze: NVRAM, TPM state
};

/// From here on the operation is finished, not undone, by whoever comes.
struct Commit {};

// --- only after Commit
struct PowerOff {
  std::string name;
  std::string uuid;
};
struct UndefineDomain {
  std::string name;
  std::string uuid;
  bool keep_tpm = false;
};
struct DeleteLayer {
  std::string id;
};
struct RemovePath {
  std::string path;
};
struct RemoveMdev {
  std::string uuid;
};
/// Copy what stands between `layer` and `base` into `layer`, offline. Guest data is the same before, during and after.
struct RebaseLayer {
  LayerRecord layer;       ///< as it is afterwards: its parent is the new base
};
/// The same for the active layer of a running domain.
struct PullLayer {
  std::string name;
  std::string uuid;
  std::string target;
  LayerRecord layer;       ///< as it is afterwards
};

using Step = std::variant<MakeFolder, CreateLayer, FlattenLayer, FreezeLayer, WriteFile, CopyPath, ReplacePath, AdoptFile,
                          DefineDomain, StartDomain, SwitchDisks, Commit, PowerOff, UndefineDomain, DeleteLayer, RemovePath,
                          RebaseLayer, PullLayer, BindDriver, WriteAttribute, DetachDevice, AttachDevice,
                          MakeMdev, RemoveMdev>;

/// What a verb is going to do.
struct Plan {
  std::string verb;                    ///< "create ci-7": said in journals, lock files and messages
  std::vector<std::string> vms;        ///< whose locks are held
  std::vector<Step> steps;
};

/// One line for people: "write layer 3f2a… on 77b0… (60 GiB)".
[[nodiscard]] std::string describe(const Step& step);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <vmgraft/vm.hpp>

namespace vmgraft {

/// layers/<id>.json: one immutable (or, as a head, still growing) qcow2 file and its place in the tree.
struct LayerRecord {
  std::string id;                    ///< 32 hex digits
  std::string parent;                ///< id; empty: a root layer
  std::uint64_t virtual_size = 0;    ///< bytes
  std::string made_by;               ///< "create ci-7", "image micro"
  std::string created;               ///< RFC 3339, UTC
  std::string sha256;                ///< of the file, hex: root layers of images; empty: not recorded
  // Root layers of images only: how the image boots, kept with the data so that it outlives the image's name.
  bool boot_direct = false;          ///< <id>.kernel and <id>.initrd stand beside the layer
  std::string cmdline;               ///< kernel command line of direct boot, the console= part included
  bool boot_bios = false;
  bool boot_uefi = false;
  bool agent = false;                ///< a guest agent answers on first boot
  bool cloud_init = false;           ///< it reads a NoCloud seed
  std::string default_user;
  friend bool operator==(const LayerRecord&, const LayerRecord&) = default;
};

/// images/<name>.json: a name for a root layer.
struct ImageRecord {
  std::string name;
  std::string layer;
  std::string sha256;
  std::string origin;
  std::string created;
  friend bool operator==(const ImageRecord&, const ImageRecord&) = default;
};

/// One disk of a VM: its place in the guest and its head layer.
struct HeadRecord {
  std::string name;                  ///< "root"
  std::string target;                ///< "vda"
  std::string layer;
  bool snapshot = true;
  friend bool operator==(const HeadRecord&, const HeadRecord&) = default;
};

/// A GPU that a VM's request names by its address, and the card that was seen there first. An address is the slot's, and
/// moves when cards are added: this VM is not to get another card for it.
struct NamedGpu {
  std::string address;               ///< "0000:41:00.0"
  std::string identity;              ///< as in GpuRecord
  friend bool operator==(const NamedGpu&, const NamedGpu&) = default;
};

/// What a snapshot remembers of one disk.
struct SnapshotDisk {
  std::string name;
  std::string layer;                 ///< immutable
  friend bool operator==(const SnapshotDisk&, const SnapshotDisk&) = default;
};

struct SnapshotRecord {
  std::string name;
  std::string parent;                ///< snapshot; empty: taken on the VM as created
  std::string created;
  Consistency consistency = Consistency::clean;
  std::string description;
  std::vector<SnapshotDisk> disks;
  bool nvram = false;                ///< snapshots/<name>/nvram.fd is there
  bool tpm = false;                  ///< snapshots/<name>/tpm/ is there
  bool memory = false;               ///< snapshots/<name>/memory is there
  friend bool operator==(const SnapshotRecord&, const SnapshotRecord&) = default;
};

/// vms/<name>/vm.json: what libvirt does not know of a VM.
struct Manifest {
  std::string name;
  std::string uuid;
  std::string spec;                  ///< the resolved template, JSON text
  std::string template_name;
  std::string template_digest;       ///< sha256 of spec
  std::string owner;
  std::string created;
  std::string expires;               ///< empty: never
  std::string source;                ///< "VM" or "VM@SNAP" it was cloned from; empty: created
  std::vector<HeadRecord> heads;
  std::string current;               ///< snapshot the heads stand on; empty: none
  std::vector<SnapshotRecord> snapshots;   ///< parents before children
  std::vector<std::string> ssh_keys; ///< public keys, text
  std::vector<NamedGpu> named_gpus;  ///< of the addresses that its spec asks for, those at which a card was seen yet
  bool provisioned = false;          ///< the guest section is done
  bool identity_pending = false;     ///< a clone that has not yet got its own host name, machine-id and host keys
  friend bool operator==(const Manifest&, const Manifest&) = default;
};

/// 32 of 0-9 a-f.
[[nodiscard]] bool is_layer_id(std::string_view text);

[[nodiscard]] const SnapshotRecord* find_snapshot(const Manifest& manifest, const std::string& name);

// JSON text of each, two-space indented, read back strictly: every key must be there, none besides. Names and ids are checked
// by the rules of names.hpp and is_layer_id(), for they become paths. A spec comes back compact, its keys in the same order.
// \throws Error other: \p where and what is wrong; a newer format version asks for a newer vmgraft.
[[nodiscard]] std::string to_json_text(const LayerRecord& record);
[[nodiscard]] std::string to_json_text(const ImageRecord& record);
[[nodiscard]] std::string to_json_text(const Manifest& record);
[[nodiscard]] LayerRecord layer_from_json(const std::string& text, const std::string& where);
[[nodiscard]] ImageRecord image_from_json(const std::string& text, const std::string& where);
[[nodiscard]] Manifest manifest_from_json(const std::string& text, const std::string& where);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace vmgraft {

/// What libvirt says of the domain. `missing`: the manifest is there, the domain is not.
enum class VmState { running, paused, shut_off, crashed, missing };

[[nodiscard]] std::string to_string(VmState state);

/// What gc does with a VM beyond its time.
enum class OnExpire {
  remove,  ///< "delete": as the verb delete
  stop,    ///< "stop": as the verb stop; the VM stays
};

[[nodiscard]] std::string to_string(OnExpire on_expire);

/// How the disks of a snapshot or clone were caught.
enum class Consistency {
  clean,   ///< the VM was shut off
  frozen,  ///< file systems were frozen through the guest agent
  crash,   ///< running and not frozen: as after a power cut
};

[[nodiscard]] std::string to_string(Consistency consistency);

struct DiskInfo {
  std::string name;                ///< the template's name, "root"
  std::string target;              ///< in the guest, "vda"
  std::string layer;               ///< id of the head layer
  std::string path;                ///< of the head layer's file
  std::uint64_t size = 0;          ///< virtual size, bytes
  std::uint64_t depth = 0;         ///< layers in the chain, the head included
  bool snapshot = true;            ///< false: scratch, left out of snapshots
};

struct NicInfo {
  std::string kind;                ///< nat, isolated, user, bridge
  std::string mac;
  std::vector<std::string> addresses;  ///< as far as lease or agent tell; "192.168.122.7"
};

struct SnapshotInfo {
  std::string name;
  std::optional<std::string> parent;  ///< the snapshot it was taken after
  std::string created;                ///< RFC 3339, UTC
  Consistency consistency = Consistency::clean;
  bool memory = false;
  bool current = false;               ///< the head stands on it
  std::string description;
  std::vector<DiskInfo> disks;        ///< the layers it names
};

/// One line of `list`.
struct VmSummary {
  std::string name;
  std::string uuid;
  VmState state = VmState::missing;
  std::string template_name;
  unsigned cpus = 0;
  std::uint64_t memory = 0;             ///< bytes
  std::size_t snapshots = 0;
  std::string created;                  ///< RFC 3339, UTC
  std::optional<std::string> expires;   ///< RFC 3339, UTC
  OnExpire on_expire = OnExpire::remove;  ///< only with expires
  std::vector<std::string> notes;       ///< what is unusual: changed by other means, merges pending, networks mapped ...
};

/// One entry of what a VM asks for at its starts.
struct GpuAsked {
  std::string request;                  ///< as `create --gpus` takes it: "2", "model=H100,count=2" or an address
  std::string identity;                 ///< of an address: the card that is meant, "10de:2330 10de:16c1"; empty: none was seen yet
};

/// Everything `show` tells.
struct VmInfo : VmSummary {
  std::string template_digest;          ///< sha256 of the resolved template
  std::string owner;                    ///< login name of who made it
  std::string accel;                    ///< "kvm" or "tcg"
  std::string firmware;                 ///< "direct", "bios" or "uefi"
  bool tpm = false;
  bool agent_connected = false;
  bool provisioned = false;             ///< the guest section has been applied
  std::optional<std::string> snapshot;  ///< the snapshot the head stands on
  std::optional<std::string> source;    ///< "VM" or "VM@SNAP" it was cloned from
  std::string console_log;              ///< path of the kept serial log
  std::vector<DiskInfo> disks;
  std::vector<NicInfo> networks;
  std::vector<GpuAsked> gpu_request;    ///< what it gets GPUs by at its next start
  std::vector<std::string> gpus;        ///< addresses of the GPUs that it holds now, UUIDs of mediated devices
  std::vector<std::string> tuning_done;      ///< what was done for speed at its last start, while it runs
  std::vector<std::string> tuning_not_done;  ///< what could not be, and why
  std::vector<SnapshotInfo> snapshot_tree;  ///< parents before children
};

}  // namespace vmgraft

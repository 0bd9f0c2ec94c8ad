// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <vmgraft/vm.hpp>

namespace vmgraft {

enum class Firmware { direct, bios, uefi };
enum class Accel { automatic, kvm, tcg };  // JSON: auto | kvm | tcg
enum class Tuning { none, automatic, strict };
enum class NetworkKind { nat, isolated, user, bridge, none };
enum class NumaPolicy { any, preferred, required };
enum class Ready { agent, ssh, none };
enum class GpuKind { gpu, vf, mdev };
enum class GpuRelease { reset, driver, keep };

struct DiskSpec {
  std::string name;
  std::string image;                   ///< empty: an empty disk
  std::optional<std::uint64_t> size;   ///< bytes; absent: the image's
  bool snapshot = true;
};

struct NetworkSpec {
  NetworkKind kind = NetworkKind::nat;
  std::string bridge;                  ///< host bridge; only with kind bridge
};

struct GpuSpec {
  unsigned count = 1;
  std::string model;                   ///< name or "vvvv:dddd"; empty: any
  std::string address;                 ///< "0000:3b:00.0"; empty: chosen at start
  NumaPolicy numa = NumaPolicy::preferred;
  GpuKind kind = GpuKind::gpu;
  std::string identity = {};           ///< with an address: the card that is meant, as in GpuRecord; empty: whichever is there
};

struct GuestFile {
  std::string path;                    ///< absolute, in the guest
  std::string content;
  std::string mode = "0644";           ///< octal
  std::string owner;                   ///< "user" or "user:group"; empty: root
};

struct GuestSpec {
  std::string hostname;
  std::string user;
  std::vector<std::string> ssh_keys;   ///< public key text, or path of a .pub file on the host
  std::vector<GuestFile> files;
  std::vector<std::string> run;        ///< each by /bin/sh -c, as root
};

struct LifecycleSpec {
  std::optional<std::chrono::seconds> ttl;
  OnExpire on_expire = OnExpire::remove;
  Ready ready = Ready::agent;
  std::chrono::seconds ready_timeout{300};
};

/// What a VM should be: a template with its parameters resolved.
struct VmSpec {
  std::string template_name;
  std::string description;
  unsigned cpus = 1;
  std::uint64_t memory = 0;            ///< bytes
  std::string machine = "q35";
  Firmware firmware = Firmware::bios;
  Accel accel = Accel::automatic;
  Tuning tuning = Tuning::automatic;
  std::vector<DiskSpec> disks;
  std::vector<NetworkSpec> networks;
  std::vector<GpuSpec> gpus;           ///< entries with count 0 are left out
  GpuRelease release = GpuRelease::reset;  ///< what becomes of a GPU when the VM is gone
  bool gpudirect = false;              ///< NVIDIA GPUs below one switch may talk to each other directly
  bool tpm = false;
  bool secure_boot = false;
  std::vector<std::string> xml;        ///< extra device elements
  GuestSpec guest;
  LifecycleSpec lifecycle;
};

}  // namespace vmgraft

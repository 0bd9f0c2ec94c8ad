// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/vm_spec.hpp"

namespace vmgraft {

struct DomainDisk {
  std::string target;  ///< "vda"; virtio bus
  std::string path;    ///< head layer
  std::string format = "qcow2";
  std::string serial;  ///< the disk's name in the template
};

struct DomainNic {
  NetworkKind kind = NetworkKind::nat;
  std::string source;  ///< libvirt network (nat, isolated) or bridge; empty for user
  std::string mac;
};

/// Everything the domain XML is made from: the spec, resolved against host and store. Plain data.
struct DomainConfig {
  std::string name;
  std::string uuid;
  std::string title;  ///< shown by virt-manager; may be empty
  std::string description;
  // metadata of our namespace
  std::string store;  ///< absolute path of the store
  std::string template_name;
  std::string template_digest;

  std::string virt_type;  ///< "kvm" or "qemu"
  std::string emulator;   ///< absolute path; empty: libvirt's default
  std::string arch = "x86_64";
  std::string machine = "q35";
  unsigned cpus = 1;
  std::uint64_t memory = 0;  ///< bytes

  Firmware firmware = Firmware::bios;
  bool secure_boot = false;
  /// Path of the VM's own varstore, with uefi. Code and template are chosen by libvirt (<os firmware='efi'>).
  std::string nvram;
  std::string kernel, initrd, cmdline;  ///< with direct

  std::vector<DomainDisk> disks;
  std::string seed;  ///< path of a NoCloud ISO; empty: none
  std::vector<DomainNic> nics;
  bool tpm = false;
  std::string console_log;  ///< path; kept by virtlogd
  /// Access to the disks is set by us: <seclabel model='dac' relabel='no'/> on each, and no chown by libvirt. The seed
  /// is left to libvirt. Only where libvirt has the dac driver, which a session has not.
  bool own_labels = false;
  std::vector<std::string> extra_devices;  ///< XML elements of the template's "xml"
};

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "guest/agent.hpp"
#include "host/host.hpp"
#include "model/vm_spec.hpp"

namespace vmgraft {

/// An ed25519 SSH host key, made on the host so that the first connection is verified.
struct HostKey {
  std::string private_key;  ///< OpenSSH text
  std::string public_key;   ///< "ssh-ed25519 AAAA... "
};

/// Source: ssh-keygen as a child process. \throws Error host_unfit when it is not installed.
[[nodiscard]] HostKey make_host_key(Host& host, const std::filesystem::path& scratch_folder);

/// The user's keys of a template as public key text: paths ("~" expanded) are read, text is kept.
/// \throws Error invalid_template: a path that cannot be read, or text that is not a public key.
[[nodiscard]] std::vector<std::string> read_ssh_keys(Host& host, const std::vector<std::string>& keys);

struct ProvisionRequest {
  GuestSpec guest;                    ///< hostname empty: vm_name
  std::vector<std::string> ssh_keys;  ///< public key text
  HostKey host_key;
  bool wait_cloud_init = false;  ///< cloud-init works on the first boot: wait for it, and take its failure as ours
  std::function<void(const std::string&)> on_step;  ///< "run 2/3: apt-get install ..."; may be empty
};

/// Apply the guest section through the agent: hostname, user (made with sudo rights where sudo is), keys, files, then
/// the run steps in order. Done twice it gives the same guest. \throws Error other: a step failed; the message names
/// it, the context frames hold the last lines of its output.
void provision(GuestAgent& agent, const ProvisionRequest& request);

/// Make a clone another machine inside: hostname, machine-id, SSH host keys, DHCP identity, clock, fresh entropy; then
/// DHCP again.
void renew_identity(GuestAgent& agent, const std::string& hostname, const HostKey& host_key);

/// A NoCloud seed for cloud-init.
struct SeedConfig {
  std::string instance_id;  ///< new for each VM, clone and revert
  std::string hostname;
  std::string user;               ///< empty: the image's default user gets the keys
  std::vector<std::string> macs;  ///< of its NICs, in order; empty: whatever is driven by virtio_net
  std::vector<std::string> ssh_keys;
  HostKey host_key;
  std::vector<GuestFile> files;  ///< only used when the image has no agent
  std::vector<std::string> run;  ///< likewise
  bool install_agent = false;    ///< ask cloud-init to install and start qemu-guest-agent
};

/// user-data, meta-data and network-config as they stand in the seed: JSON is YAML, so it is written as JSON (no
/// injection from any field).
struct SeedFiles {
  std::string user_data, meta_data, network_config;
};
[[nodiscard]] SeedFiles seed_files(const SeedConfig& config);
/// An ISO 9660 image (Joliet and Rock Ridge) with the volume id "cidata". Source: libarchive's iso9660 writer.
[[nodiscard]] std::string seed_iso(const SeedFiles& files);

/// argv of ssh for a VM, with its config and known_hosts written to \p folder.
[[nodiscard]] std::vector<std::string> ssh_argv(Host& host, const std::filesystem::path& folder,
                                                const std::string& vm_name, const std::string& user,
                                                const std::string& address, const HostKey& host_key,
                                                const std::vector<std::string>& arguments);

/// Copy files or trees between host and guest: "VM:PATH" on one side. Trees go as a tar stream (libarchive here, tar
/// there).
struct CopyCount {
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
};
/// As `cp -r`: into the destination when that is a folder. Owners become root there and the caller here; set-id bits
/// go. \throws Error not_found: no source, or no folder to put it in. conflict: a file where a folder must be, or the
/// reverse.
CopyCount copy_to_guest(GuestAgent& agent, const std::filesystem::path& source, const std::string& destination);
/// The guest is not trusted: nothing is written outside \p destination, whatever its tar says. A file or new folder
/// appears under its name only when it is complete.
CopyCount copy_from_guest(GuestAgent& agent, const std::string& source, const std::filesystem::path& destination);

}  // namespace vmgraft

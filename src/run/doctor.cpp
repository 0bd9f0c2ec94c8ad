// SPDX-License-Identifier: Apache-2.0
#include "run/doctor.hpp"

#include <sstream>
#include <string>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "run/doctor_checks.hpp"

namespace vmgraft {
namespace {

constexpr const char* kKvm = "/dev/kvm";

/// Hardware virtualisation as the kernel reports it: "vmx", "svm"; "" for none; nothing where the CPU is not an x86.
std::optional<std::string> virtualisation_flag(Host& host) {
  std::istringstream lines(host.read_file("/proc/cpuinfo").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("flags", 0) != 0) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      if (word == "vmx" || word == "svm") return word;
    }
    return "";
  }
  return std::nullopt;
}

std::string version_text(std::uint32_t version) {
  return fmt::format("{}.{}.{}", version / 1000000, version / 1000 % 1000, version % 1000);
}

DoctorRow check_kvm(const DoctorFacts& facts) {
  const auto flag = virtualisation_flag(facts.host);
  const bool has_device = facts.host.stat(kKvm).has_value();
  if (flag && flag->empty()) {
    return warn_row(has_device
                        ? "/dev/kvm is there, but the CPU has neither vmx nor svm: guests on it would hang, so VMs are "
                          "emulated (slow)"
                        : "the CPU has neither vmx nor svm: VMs are emulated (slow)",
                    "switch on VT-x or AMD-V in the firmware; in a VM: nested virtualisation of its host");
  }
  if (!has_device) {
    return warn_row("the CPU can, but there is no /dev/kvm: VMs are emulated (slow)",
                    "sudo modprobe kvm_intel (or kvm_amd)");
  }
  const std::string seen = fmt::format("{} and /dev/kvm", flag.value_or("hardware virtualisation"));
  if (facts.capabilities && !facts.capabilities->has_kvm_domains) {
    return warn_row(seen + " are there, but libvirt offers no KVM: VMs are emulated (slow)",
                    "see the row kvm-access, then restart libvirtd (or virtqemud)");
  }
  return ok_row(seen);
}

DoctorRow check_kvm_access(const DoctorFacts& facts) {
  const auto device = facts.host.stat(kKvm);
  if (!device) return ok_row("there is no /dev/kvm to open");
  if (may_access(facts.host, facts.qemu, kKvm, Access::read_write)) {
    return ok_row(fmt::format("QEMU's user '{}' can open /dev/kvm", facts.qemu.name));
  }
  const std::string seen = fmt::format(
      "QEMU's user '{}' cannot open /dev/kvm: no KVM, and libvirt 9 probes QEMU anew at every "
      "call (a minute for each new VM)",
      facts.qemu.name);
  const long group = group_id(facts.host, "kvm");
  if (group >= 0 && (device->gid != static_cast<gid_t>(group) || (device->mode & 060) != 060)) {
    return fail_row(seen, "sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm (udev's rule does it on a usual host)");
  }
  const std::string join = facts.qemu.name == std::to_string(facts.qemu.uid)
                               ? fmt::format("add the user with uid {} to the group kvm", facts.qemu.uid)
                               : fmt::format("sudo adduser {} kvm", facts.qemu.name);
  const char* then = facts.hypervisor->is_session ? ", then log in again" : ", then restart libvirtd (or virtqemud)";
  return fail_row(seen, join + then);
}

DoctorRow check_libvirt(const DoctorFacts& facts) {
  if (!facts.refusal.empty()) {
    return fail_row(facts.refusal,
                    facts.refusal_remedy.empty() ? "see the log of libvirtd (or virtqemud)" : facts.refusal_remedy);
  }
  const std::uint32_t version = facts.hypervisor->libvirt_version;
  const std::string seen = fmt::format("libvirt {} at {}", version_text(version), facts.hypervisor->uri);
  if (version < 8000000) return fail_row(seen + " is too old", "libvirt 8.0 or newer is needed");
  if (version < 8009000)
    return warn_row(seen + " loses a VM's TPM state when its definition is replaced", "libvirt 8.9 or newer is better");
  // virjson's depth limit came with json-c: chains of more than about 25 layers do not start.
  if (version >= 10008000 && version < 12000000)
    return ok_row(seen + " (starts no chain of more than 25 layers; vmgraft keeps them short)");
  return ok_row(seen);
}

DoctorRow check_qemu(const DoctorFacts& facts) {
  const std::uint32_t version = facts.hypervisor->hypervisor_version;
  if (version == 0) return fail_row("libvirt finds no QEMU", "sudo apt-get install qemu-system-x86");
  const std::string seen = fmt::format("QEMU {}", version_text(version));
  if (version < 6002000) return fail_row(seen + " is too old", "QEMU 6.2 or newer is needed");
  if (!can_merge_live(*facts.hypervisor))
    return ok_row(seen + " (layers of a running VM are merged when it is stopped next; live from 8.2)");
  return ok_row(seen);
}

DoctorRow check_virtlogd(const DoctorFacts& facts) {
  // A session's virtlogd is started by libvirt as it needs it.
  if (facts.hypervisor->is_session) return ok_row("started by libvirt with the first VM");
  const std::string sockets = facts.host.read_file("/proc/net/unix").value_or("");
  if (sockets.find("/virtlogd-sock") != std::string::npos) return ok_row("virtlogd listens: console logs are kept");
  return fail_row("virtlogd does not run: VMs with a console log do not start",
                  "sudo systemctl start virtlogd.socket; without systemd: sudo virtlogd -d");
}

DoctorRow check_ovmf(const DoctorFacts& facts) {
  for (const std::string& loader : facts.emulator.loaders) {
    if (facts.host.stat(loader)) return ok_row(loader);
  }
  return warn_row("no UEFI firmware: templates with \"firmware\": \"uefi\" do not start", "sudo apt-get install ovmf");
}

DoctorRow check_swtpm(const DoctorFacts& facts) {
  const bool has_programs =
      !facts.host.find_program("swtpm").empty() && !facts.host.find_program("swtpm_setup").empty();
  if (has_programs && facts.emulator.tpm_emulator) return ok_row("swtpm is there, libvirt offers emulated TPMs");
  if (has_programs) return warn_row("swtpm is there, but libvirt does not offer it", "restart libvirtd (or virtqemud)");
  return warn_row("no swtpm: templates with \"tpm\": true do not start", "sudo apt-get install swtpm swtpm-tools");
}

/// Programs of which each has a package: a row that names what is missing.
DoctorRow check_programs(Host& host, const std::vector<std::pair<std::string, std::string>>& wanted,
                         const std::string& without) {
  std::string missing;
  std::string packages;
  std::string all;
  for (const auto& [program, package] : wanted) {
    all += (all.empty() ? "" : ", ") + program;
    if (!host.find_program(program).empty()) continue;
    missing += (missing.empty() ? "" : ", ") + program;
    packages += ' ' + package;
  }
  if (missing.empty()) return ok_row(all);
  return warn_row(fmt::format("missing: {}: {}", missing, without), "sudo apt-get install" + packages);
}

DoctorRow check_network(const DoctorFacts& facts) {
  if (facts.hypervisor->is_session) return ok_row("a session's VMs use QEMU's user network: no bridge is needed");
  if (facts.host.stat("/sys/class/net/virbr0")) return ok_row("libvirt's default network runs (virbr0)");
  DoctorRow row = check_programs(facts.host, {{"dnsmasq", "dnsmasq-base"}, {"iptables", "iptables"}},
                                 "libvirt's networks do not start (kinds nat and isolated)");
  if (row.health == Health::ok) row.seen = "libvirt's default network is not running; it is started with the first VM";
  return row;
}

DoctorRow check_apparmor(const DoctorFacts& facts) {
  const std::string enabled = facts.host.read_file("/sys/module/apparmor/parameters/enabled").value_or("N");
  if (enabled.empty() || enabled.front() != 'Y') return ok_row("not active");
  if (facts.capabilities && facts.capabilities->security_model == "apparmor") {
    // Its profiles deny writing to backing files until libvirt 12.1, which breaks block commits.
    return ok_row(
        "confines QEMU; vmgraft merges layers by block pull, which the profiles allow (block commit they do not)");
  }
  return ok_row("active, does not confine libvirt's VMs");
}

DoctorRow check_agent(const DoctorFacts& facts) {
  if (!facts.host.find_program("qemu-ga").empty()) return ok_row("qemu-ga, for 'image build micro', is on this host");
  if (!facts.host.find_program("apt-get").empty())
    return ok_row("the guest agent for 'image build micro' is taken from the package archive");
  return warn_row("no guest agent to put into images that are built here", "sudo apt-get install qemu-guest-agent");
}

Account qemu_account(const DoctorFacts& facts) {
  if (facts.capabilities && facts.capabilities->qemu_uid && facts.capabilities->qemu_gid) {
    return account_of(facts.host, *facts.capabilities->qemu_uid, *facts.capabilities->qemu_gid);
  }
  return own_account(facts.host);  // a session: libvirt and QEMU are ours
}

DoctorFacts read_facts(const DoctorInput& input) {
  DoctorFacts facts{input.host, input.uri, input.store, {}, {}, {}, {}, {}, {}};
  std::error_code ignored;  // what cannot be resolved is taken as it stands
  if (auto resolved = std::filesystem::weakly_canonical(input.store, ignored); !resolved.empty())
    facts.store = resolved;
  try {
    Hypervisor& hypervisor = input.connect();
    facts.hypervisor = hypervisor.info();
    facts.capabilities = read_capabilities(hypervisor.capabilities_xml());
    // Where no QEMU is installed libvirt has nothing to tell of it: the row qemu says so.
    if (facts.hypervisor->hypervisor_version != 0) {
      facts.emulator = read_domain_capabilities(hypervisor.domain_capabilities_xml("q35", "qemu"));
    }
  } catch (const Error& error) {
    facts.refusal = error.what();
    facts.refusal_remedy = error.hint();
  }
  facts.qemu = qemu_account(facts);
  return facts;
}

DoctorRow look(const DoctorCheck& check, const DoctorFacts& facts) {
  DoctorRow row;
  if (check.needs_libvirt && !facts.hypervisor) {
    row = warn_row("not checked: libvirt is not reachable", "see the row libvirt");
  } else {
    try {
      row = check.look(facts);
    } catch (const std::exception& error) {
      row = warn_row(fmt::format("could not be checked: {}", error.what()), "see the message");
    }
  }
  row.id = check.id;
  return row;
}

}  // namespace

std::vector<DoctorCheck> host_checks() {
  return {
      {"kvm", false, check_kvm},
      {"kvm-access", true, check_kvm_access},
      {"libvirt", false, check_libvirt},
      {"qemu", true, check_qemu},
      {"qemu-img", false,
       [](const DoctorFacts& facts) {
         const auto path = facts.host.find_program("qemu-img");
         return path.empty() ? fail_row("no qemu-img: images cannot be imported, layers not merged",
                                        "sudo apt-get install qemu-utils")
                             : ok_row(path.string());
       }},
      {"virtlogd", true, check_virtlogd},
      {"ovmf", true, check_ovmf},
      {"swtpm", true, check_swtpm},
      {"network", true, check_network},
      {"apparmor", false, check_apparmor},
      {"image-tools", false,
       [](const DoctorFacts& facts) {
         return check_programs(facts.host,
                               {{"mmdebstrap", "mmdebstrap"}, {"mke2fs", "e2fsprogs"}, {"busybox", "busybox-static"}},
                               "'image build' needs them");
       }},
      {"agent", false, check_agent},
      {"ssh-keygen", false,
       [](const DoctorFacts& facts) {
         return check_programs(facts.host, {{"ssh-keygen", "openssh-client"}},
                               "'vmgraft ssh' cannot know a guest's host key");
       }},
  };
}

std::vector<DoctorRow> check_host(const DoctorInput& input) {
  const DoctorFacts facts = read_facts(input);
  std::vector<DoctorRow> rows;
  for (const auto& checks : {host_checks(), store_checks()}) {
    for (const DoctorCheck& check : checks) rows.push_back(look(check, facts));
  }
  return rows;
}

bool kvm_usable(Host& host, bool libvirt_offers_kvm) {
  if (!libvirt_offers_kvm || !host.stat(kKvm)) return false;
  const auto flag = virtualisation_flag(host);
  return !flag || !flag->empty();  // other architectures do not list it
}

}  // namespace vmgraft

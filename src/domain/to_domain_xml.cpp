// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/device_xml.hpp"
#include "domain/domain_xml.hpp"
#include "domain/xml_tree.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

// Control characters cannot be kept in XML. In what only people read they are replaced; names and paths are refused by
// xml::add_text instead, since another name would be another thing.
std::string for_people(const std::string& text) {
  return xml::made_holdable(text);
}

std::string one_line(std::string text) {
  // libvirt refuses a title of several lines.
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  return text;
}

void require_supported(const DomainConfig& config) {
  if (config.arch != "x86_64") {
    throw Error(Errc::invalid_template, fmt::format("/vm: architecture '{}' is not supported", printable(config.arch)),
                "vmgraft makes x86_64 machines");
  }
  const bool is_q35 = config.machine == "q35" || config.machine.starts_with("pc-q35-");
  if (!is_q35) {
    throw Error(Errc::invalid_template, fmt::format("/vm/machine: '{}' is not supported", printable(config.machine)),
                "use 'q35', or a version of it such as 'pc-q35-7.2'");
  }
}

void add_identity(xmlNode* domain, const DomainConfig& config) {
  xml::add_text(domain, "name", config.name);
  xml::add_text(domain, "uuid", config.uuid);
  // Empty: libvirt makes one up, and a new one whenever the VM goes back in time.
  xml::add(domain, "genid");
  if (!config.title.empty()) xml::add_text(domain, "title", one_line(for_people(config.title)));
  if (!config.description.empty()) xml::add_text(domain, "description", for_people(config.description));

  xmlNode* vm = xml::add_in_namespace(xml::add(domain, "metadata"), "vm", "vmgraft", kMetadataNamespace);
  xml::set_attribute(vm, "id", config.uuid);
  xml::set_attribute(vm, "store", config.store);
  xml::set_attribute(vm, "template", config.template_name);
  xml::set_attribute(vm, "digest", config.template_digest);
}

void add_size(xmlNode* domain, const DomainConfig& config) {
  const std::string bytes = std::to_string(config.memory);
  xml::set_attribute(xml::add_text(domain, "memory", bytes), "unit", "b");
  xml::set_attribute(xml::add_text(domain, "currentMemory", bytes), "unit", "b");
  xml::set_attribute(xml::add_text(domain, "vcpu", std::to_string(config.cpus)), "placement", "static");
}

void add_os(xmlNode* domain, const DomainConfig& config) {
  xmlNode* os = xml::add(domain, "os");
  xmlNode* type = xml::add_text(os, "type", "hvm");
  xml::set_attribute(type, "arch", config.arch);
  xml::set_attribute(type, "machine", config.machine);
  switch (config.firmware) {
    case Firmware::uefi: {
      // libvirt chooses the build from its firmware descriptors. Both features are said, or a host whose first
      // descriptor has Secure Boot (Debian) would choose that for everybody.
      xml::set_attribute(os, "firmware", "efi");
      const std::string_view secure = config.secure_boot ? "yes" : "no";
      xmlNode* features = xml::add(os, "firmware");
      xml::add(features, "feature", {{"enabled", secure}, {"name", "enrolled-keys"}});
      xml::add(features, "feature", {{"enabled", secure}, {"name", "secure-boot"}});
      xml::add_text(os, "nvram", config.nvram);
      break;
    }
    case Firmware::direct:
      xml::add_text(os, "kernel", config.kernel);
      if (!config.initrd.empty()) xml::add_text(os, "initrd", config.initrd);
      if (!config.cmdline.empty()) xml::add_text(os, "cmdline", config.cmdline);
      break;
    case Firmware::bios:
      break;
  }
  xml::add(os, "bootmenu", {{"enable", "no"}});
}

void add_cpu(xmlNode* domain, const DomainConfig& config) {
  // TCG: "maximum" is everything that QEMU emulates; distributions that want x86-64-v2 or v3 do not boot on less.
  const bool is_kvm = config.virt_type == "kvm";
  xmlNode* cpu = xml::add(domain, "cpu",
                          {{"mode", is_kvm ? "host-passthrough" : "maximum"}, {"check", "none"}, {"migratable", "on"}});
  // Unsaid, each vCPU is a socket of its own, which some systems limit by licence.
  xml::add(cpu, "topology",
           {{"sockets", "1"}, {"dies", "1"}, {"cores", std::to_string(config.cpus)}, {"threads", "1"}});
}

void add_clock(xmlNode* domain, const DomainConfig& config) {
  xmlNode* clock = xml::add(domain, "clock", {{"offset", "utc"}});
  // Measured under TCG (QEMU 7.2, Linux 6.1): without the HPET Linux falls back to acpi_pm and boots slower.
  if (config.virt_type != "kvm") return;
  xml::add(clock, "timer", {{"name", "rtc"}, {"tickpolicy", "catchup"}});
  xml::add(clock, "timer", {{"name", "pit"}, {"tickpolicy", "delay"}});
  // kvm-clock and the TSC are better, and an emulated HPET costs exits.
  xml::add(clock, "timer", {{"name", "hpet"}, {"present", "no"}});
}

void add_behaviour(xmlNode* domain, const DomainConfig& config) {
  xmlNode* features = xml::add(domain, "features");
  xml::add(features, "acpi");
  xml::add(features, "apic");
  // Firmware with Secure Boot keeps its variables from the guest by system management mode.
  if (config.firmware == Firmware::uefi && config.secure_boot) xml::add(features, "smm", {{"state", "on"}});
  add_cpu(domain, config);
  add_clock(domain, config);
  xml::add_text(domain, "on_poweroff", "destroy");
  xml::add_text(domain, "on_reboot", "restart");
  // "preserve" would keep a dead guest's memory until somebody looks, which in CI nobody does.
  xml::add_text(domain, "on_crash", "destroy");
  // A guest that puts itself to sleep is out of the agent's reach.
  xmlNode* pm = xml::add(domain, "pm");
  xml::add(pm, "suspend-to-mem", {{"enabled", "no"}});
  xml::add(pm, "suspend-to-disk", {{"enabled", "no"}});
}

}  // namespace

std::string to_domain_xml(const DomainConfig& config) {
  require_supported(config);
  const xml::Document document = xml::new_document("domain");
  xmlNode* domain = xml::root_of(document);
  xml::set_attribute(domain, "type", config.virt_type);
  add_identity(domain, config);
  add_size(domain, config);
  add_os(domain, config);
  add_behaviour(domain, config);
  add_devices(domain, config);
  return xml::to_text(document, true);
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/device_xml.hpp"
#include "domain/disk_paths.hpp"
#include "domain/domain_xml.hpp"
#include "domain/xml_tree.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

/// Rewrites one domain, in place, as another's. Each method is one thing that two machines must not share.
class Cloning {
 public:
  Cloning(xmlNode* domain, const CloneIdentity& identity)
      : domain_(domain), identity_(identity), source_name_(xml::text_of(xml::child(domain, "name"))) {
    devices_ = xml::child(domain_, "devices");
    if (devices_ == nullptr) devices_ = xml::add(domain_, "devices");
  }

  void run() {
    set_sysinfo();
    restore_firmware_choice();
    set_nvram();
    set_direct_boot();
    drop_seclabels();
    drop_host_devices();
    set_disks();
    set_seed();
    set_nics();
    for (xmlNode* device : xml::children(devices_)) set_device(device);
    set_identity();  // last: until here messages speak of the source
  }

 private:
  Error refused(Errc code, const std::string& why, const std::string& hint) const {
    return Error(code, fmt::format("clone of '{}': {}", printable(source_name_), why), hint);
  }

  void set_or_add(const char* name, const std::string& text) {
    xmlNode* element = xml::child(domain_, name);
    if (element == nullptr) element = xml::add(domain_, name);
    xml::set_text(element, text);
  }

  void set_identity() {
    xml::drop_attribute(domain_, "id");
    set_or_add("name", identity_.name);
    set_or_add("uuid", identity_.uuid);
    xmlNode* vm = xml::child_in_namespace(xml::child(domain_, "metadata"), "vm", kMetadataNamespace);
    if (vm != nullptr) xml::set_attribute(vm, "id", identity_.uuid);
    // An empty one makes libvirt generate a new value; a VM without stays without.
    if (xmlNode* genid = xml::child(domain_, "genid"); genid != nullptr) xml::set_text(genid, "");
    // A title that says the source's name would be a lie on the clone.
    xmlNode* title = xml::child(domain_, "title");
    if (title != nullptr && xml::text_of(title).find(source_name_) != std::string::npos) xml::remove(title);
  }

  // libvirt refuses a domain whose <sysinfo> says another UUID than <uuid>.
  void set_sysinfo() {
    for (const xmlNode* sysinfo : xml::children(domain_, "sysinfo")) {
      for (xmlNode* entry : xml::children(xml::child(sysinfo, "system"), "entry")) {
        if (xml::attribute_or_empty(entry, "name") == "uuid") xml::set_text(entry, identity_.uuid);
      }
    }
  }

  // The live XML of libvirt 9.0 says the loader it chose in the place of firmware='efi', keeps <firmware>, and then
  // refuses the two together ("cannot use feature-based firmware autoselection when firmware autoselection is
  // disabled").
  void restore_firmware_choice() {
    xmlNode* os = xml::child(domain_, "os");
    if (xml::child(os, "firmware") == nullptr || xml::attribute(os, "firmware")) return;
    xml::set_attribute(os, "firmware", "efi");
    if (xmlNode* loader = xml::child(os, "loader"); loader != nullptr) xml::remove(loader);
    if (xmlNode* nvram = xml::child(os, "nvram"); nvram != nullptr) xml::drop_attribute(nvram, "template");
  }

  // The file is another; the template from which libvirt makes it and its format stay.
  void set_nvram() {
    xmlNode* os = xml::child(domain_, "os");
    xmlNode* nvram = xml::child(os, "nvram");
    if (identity_.nvram.empty()) {
      if (nvram == nullptr) return;
      throw refused(Errc::other, "it has NVRAM, and the clone was given no file for its own",
                    "two machines must not write one NVRAM file");
    }
    if (os == nullptr) os = xml::add(domain_, "os");
    if (nvram == nullptr) {
      xmlNode* before = xml::child(os, "loader");
      if (before == nullptr) before = xml::child(os, "type");
      nvram = before == nullptr ? xml::add(os, "nvram") : xml::add_after(before, "nvram");
    }
    xml::drop_attribute(nvram, "type");
    xml::set_text(nvram, identity_.nvram);
  }

  void set_direct_boot() {
    const xmlNode* os = xml::child(domain_, "os");
    for (const auto& [name, path] : {std::pair{"kernel", &identity_.kernel}, std::pair{"initrd", &identity_.initrd}}) {
      if (xmlNode* element = xml::child(os, name); element != nullptr && !path->empty()) xml::set_text(element, *path);
    }
  }

  // A dynamic label names the source's process; libvirt makes one for each start. What the user chose stays.
  void drop_seclabels() {
    for (xmlNode* label : xml::children(domain_, "seclabel")) {
      if (xml::attribute(label, "type").value_or("dynamic") != "dynamic") continue;
      if (xml::child(label, "baselabel") == nullptr) {
        xml::remove(label);
        continue;
      }
      for (const char* made : {"label", "imagelabel"}) {
        for (xmlNode* element : xml::children(label, made)) xml::remove(element);
      }
    }
  }

  // The clone carries the request for a device (in its manifest), never the device.
  void drop_host_devices() {
    for (xmlNode* device : xml::children(devices_)) {
      const std::string_view name = xml::name_of(device);
      const bool is_host_nic = name == "interface" && xml::attribute_or_empty(device, "type") == "hostdev";
      if (name == "hostdev" || is_host_nic) xml::remove(device);
    }
  }

  void set_disks() {
    set_disk_paths(domain_, identity_.disks);
    for (xmlNode* disk : xml::children(devices_, "disk")) {
      for (const char* made : {"backingStore", "mirror"}) {
        for (xmlNode* element : xml::children(disk, made)) xml::remove(element);
      }
      if (xmlNode* source = xml::child(disk, "source"); source != nullptr) xml::drop_attribute(source, "index");
      require_own(disk);
    }
  }

  // A disk that the clone has no layer for would be written by two machines.
  void require_own(const xmlNode* disk) const {
    const std::string kind = xml::attribute(disk, "device").value_or("disk");
    const bool is_writable = (kind == "disk" || kind == "lun") && xml::child(disk, "readonly") == nullptr;
    const bool is_shared = xml::child(disk, "shareable") != nullptr || xml::child(disk, "transient") != nullptr;
    const std::string target = disk_target(disk);
    if (!is_writable || is_shared || identity_.disks.contains(target)) return;
    throw refused(
        Errc::conflict,
        fmt::format("disk '{}' was not made by vmgraft, and the clone would write to the same one", printable(target)),
        fmt::format("detach it (virsh detach-disk {} {} --config), or mark it <readonly/> or <shareable/>",
                    printable(source_name_), printable(target)));
  }

  void set_seed() {
    xmlNode* seed = nullptr;
    std::set<std::string> targets;
    for (xmlNode* disk : xml::children(devices_, "disk")) {
      if (xml::text_of(xml::child(disk, "serial")) == kSeedSerial) seed = disk;
      targets.insert(disk_target(disk));
    }
    if (identity_.seed.empty()) {
      if (seed != nullptr) xml::remove(seed);
    } else if (seed != nullptr) {
      set_disk_path(seed, identity_.seed);
    } else {
      std::string target = "sda";
      while (targets.contains(target) && target.back() < 'z') ++target.back();
      add_seed(devices_, target, identity_.seed);
    }
  }

  void set_nics() {
    const std::vector<xmlNode*> nics = xml::children(devices_, "interface");
    if (nics.size() != identity_.macs.size()) {
      throw refused(
          Errc::other,
          fmt::format("it has {} NICs, and the clone was given {} addresses", nics.size(), identity_.macs.size()),
          "its definition was changed meanwhile; try again");
    }
    for (std::size_t i = 0; i < nics.size(); ++i) {
      xmlNode* mac = xml::child(nics[i], "mac");
      if (mac == nullptr) mac = xml::add(nics[i], "mac");
      xml::set_attribute(mac, "address", identity_.macs[i]);
      // The host's end of the cable: one name each. libvirt makes a new one.
      if (xmlNode* target = xml::child(nics[i], "target"); target != nullptr) xml::drop_attribute(target, "dev");
      drop_if_empty(nics[i], "target");
      xmlNode* source = xml::child(nics[i], "source");
      if (source == nullptr) continue;
      xml::drop_attribute(source, "portid");
      if (xml::attribute_or_empty(nics[i], "type") == "network") xml::drop_attribute(source, "bridge");
    }
  }

  static void drop_if_empty(const xmlNode* parent, const char* name) {
    xmlNode* element = xml::child(parent, name);
    if (element != nullptr && element->properties == nullptr && xml::children(element).empty()) xml::remove(element);
  }

  void set_device(xmlNode* device) {
    const std::string_view name = xml::name_of(device);
    for (xmlNode* alias : xml::children(device, "alias")) {
      // "ua-" is what libvirt keeps for the user; all others it counts anew.
      if (!xml::attribute_or_empty(alias, "name").starts_with("ua-")) xml::remove(alias);
    }
    if (name == "serial" || name == "console" || name == "parallel" || name == "channel") set_character_device(device);
    if (name == "graphics") set_graphics(device);
    if (name == "vsock") set_vsock(device);
    // libvirt keeps the state of an emulated TPM under the domain's UUID; a path in the XML is the source's.
    if (name == "tpm") {
      xmlNode* backend = xml::child(device, "backend");
      const bool is_emulator = xml::attribute_or_empty(backend, "type") == "emulator";
      if (xmlNode* source = xml::child(backend, "source"); is_emulator && source != nullptr) xml::remove(source);
    }
  }

  void set_character_device(xmlNode* device) {
    const std::string type = xml::attribute_or_empty(device, "type");
    xml::drop_attribute(device, "tty");
    if (xmlNode* target = xml::child(device, "target"); target != nullptr) xml::drop_attribute(target, "state");
    if (xmlNode* source = xml::child(device, "source"); source != nullptr) set_character_source(device, source, type);
    if (xmlNode* log = xml::child(device, "log"); log != nullptr) {
      if (identity_.console_log.empty()) {
        xml::remove(log);
      } else {
        xml::set_attribute(log, "file", own_file(xml::attribute_or_empty(log, "file"), device));
      }
    }
  }

  void set_character_source(xmlNode* device, xmlNode* source, const std::string& type) {
    const bool is_listener = type == "unix" && xml::attribute(source, "mode").value_or("bind") == "bind";
    if (type == "pty" || (is_listener && xml::name_of(device) == "channel")) {
      xml::remove(source);  // /dev/pts/N, and the socket's path: libvirt makes a new one
    } else if ((type == "file" || is_listener) && !identity_.console_log.empty()) {
      xml::set_attribute(source, "path", own_file(xml::attribute_or_empty(source, "path"), device));
    }
  }

  /// The clone's file in the place of one that the source writes: the console log, or one beside it.
  [[nodiscard]] std::string own_file(const std::string& path, const xmlNode* device) const {
    if (is_console(device)) return identity_.console_log;
    const std::filesystem::path log(identity_.console_log);
    const std::filesystem::path own = log.parent_path() / std::filesystem::path(path).filename();
    // virtlogd opens a file once: two devices cannot log into one.
    return own == log ? own.string() + "." + std::string{xml::name_of(device)} : own.string();
  }

  /// The first serial port, or the <console> that is the same device by another name.
  [[nodiscard]] bool is_console(const xmlNode* device) const {
    const std::string_view name = xml::name_of(device);
    const xmlNode* serial = xml::child(devices_, "serial");
    if (name == "serial") return device == serial;
    const bool is_serial = xml::attribute(xml::child(device, "target"), "type").value_or("serial") == "serial";
    return name == "console" && device == xml::child(devices_, "console") && (is_serial || serial == nullptr);
  }

  // Two machines cannot listen on one port or socket.
  static void set_graphics(xmlNode* graphics) {
    for (const char* made : {"port", "tlsPort", "websocket", "socket"}) xml::drop_attribute(graphics, made);
    const std::string type = xml::attribute_or_empty(graphics, "type");
    if (type == "vnc" || type == "spice" || type == "rdp") xml::set_attribute(graphics, "autoport", "yes");
    for (xmlNode* listen : xml::children(graphics, "listen")) xml::drop_attribute(listen, "socket");
  }

  static void set_vsock(const xmlNode* vsock) {
    xmlNode* cid = xml::child(vsock, "cid");
    if (cid == nullptr) return;
    xml::drop_attribute(cid, "address");
    xml::set_attribute(cid, "auto", "yes");
  }

  xmlNode* domain_;
  const CloneIdentity& identity_;
  std::string source_name_;
  xmlNode* devices_ = nullptr;
};

}  // namespace

std::string clone_domain_xml(const std::string& source_xml, const CloneIdentity& identity) {
  const xml::Document document = xml::parse_or_throw(source_xml, "domain", "domain XML");
  Cloning(xml::root_of(document), identity).run();
  return xml::to_text(document, false);
}

}  // namespace vmgraft

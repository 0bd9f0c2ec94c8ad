// SPDX-License-Identifier: Apache-2.0
#include "domain/host_reach.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>

#include "domain/xml_tree.hpp"

namespace vmgraft {
namespace {

/// Words in which the guest's own paths may stand, and that reach nothing.
constexpr std::array<std::string_view, 6> kOnlyText{"metadata", "name", "title", "description", "cmdline", "sysinfo"};
/// Devices that are the host's, whatever they say.
constexpr std::array<std::string_view, 7> kHostDevices{"hostdev",   "filesystem",     "redirdev", "shmem",
                                                       "smartcard", "launchSecurity", "lease"};

/// Where a name that does not begin with a slash is a file all the same, beside whatever QEMU runs in.
constexpr std::array<std::string_view, 4> kFileAttributes{"file", "path", "dir", "dev"};
constexpr std::array<std::string_view, 7> kFileTexts{"emulator", "loader", "nvram", "kernel", "initrd", "dtb", "table"};

template <std::size_t N>
bool is_one_of(std::string_view word, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_below(const std::string& path, std::string_view folder) {
  return path.starts_with(folder) && std::filesystem::path(path).lexically_normal() == path;
}

bool is_emulator(const std::string& path) {
  return is_below(path, "/usr/bin/qemu-system-") || path == "/usr/bin/kvm" || path == "/usr/bin/qemu-kvm" ||
         path == "/usr/libexec/qemu-kvm";
}

/// A path that libvirt itself puts into the XML of every VM.
bool is_common(const xmlNode* element, std::string_view key, const std::string& path) {
  const std::string_view name = xml::name_of(element);
  if (name == "emulator") return is_emulator(path);
  if (name == "loader" || name == "nvram") return is_below(path, "/usr/share/");
  if (name == "backend") return path == "/dev/urandom" || path == "/dev/random";
  if (name == "partition") return path == "/machine";
  // The other end of a terminal, and of the agent's channel.
  if (key == "tty") return is_below(path, "/dev/pts/");
  if (key != "path" || name != "source") return false;
  const std::string type = xml::attribute_or_empty(element->parent, "type");
  if (type == "pty") return is_below(path, "/dev/pts/");
  return type == "unix" && is_below(path, "/") && path.find("/libvirt/qemu/channel/") != std::string::npos;
}

bool is_local(const std::string& address) {
  return address.empty() || address == "localhost" || address == "::1" || address.starts_with("127.");
}

class Reach {
 public:
  Reach(std::string store, std::set<std::string>& found) : store_(std::move(store) + "/"), found_(found) {}

  void read(const xmlNode* element, bool is_root) {
    const std::string name(xml::name_of(element));
    if (element->ns != nullptr) return add_all(element, name + " of QEMU's own");
    if (is_one_of(name, kOnlyText)) return;
    for (const xmlAttr* each = element->properties; each != nullptr; each = each->next)
      add_path(element, reinterpret_cast<const char*>(each->name), value_of(each));
    bool has_elements = false;
    for (const xmlNode* below = element->children; below != nullptr; below = below->next) {
      if (below->type != XML_ELEMENT_NODE) continue;
      has_elements = true;
      read(below, false);
    }
    if (!has_elements) add_path(element, "", xml::text_of(element));
    if (!is_root) read_kind(element, name);
  }

 private:
  static std::string value_of(const xmlAttr* attribute) {
    return xml::text_of(reinterpret_cast<const xmlNode*>(attribute));
  }

  void add(const std::string& name, const std::string& key, const std::string& value) {
    found_.insert(fmt::format("<{}> {}{}'{}'", name, key, key.empty() ? "" : "=", value));
  }

  void add_path(const xmlNode* element, std::string_view key, const std::string& value) {
    const std::string_view name = xml::name_of(element);
    const bool is_file = is_one_of(key, kFileAttributes) ? name == "source" || name == "log"
                                                         : key.empty() && is_one_of(name, kFileTexts);
    if (value.empty() || (!is_file && !value.starts_with('/'))) return;
    if (!is_below(value, store_) && !is_common(element, key, value)) add(std::string(name), std::string(key), value);
  }

  /// Everything that an element names.
  void add_all(const xmlNode* element, const std::string& name) {
    add(name, "", "");
    for (const xmlAttr* each = element->properties; each != nullptr; each = each->next)
      add(name, reinterpret_cast<const char*>(each->name), value_of(each));
    for (const xmlNode* below = element->children; below != nullptr; below = below->next)
      // libvirt's names for the guest's side, which it may give anew.
      if (below->type == XML_ELEMENT_NODE && xml::name_of(below) != "alias" &&
          (below->ns != nullptr || !is_guest_address(below)))
        add_all(below, name + "/" + std::string(xml::name_of(below)));
  }

  static bool is_guest_address(const xmlNode* element) {
    return xml::name_of(element) == "address" && xml::name_of(element->parent) != "source";
  }

  void read_kind(const xmlNode* element, const std::string& name) {
    const std::string type = xml::attribute_or_empty(element, "type");
    if (is_one_of(name, kHostDevices)) return add_all(element, name);
    if (name == "interface" && type != "network" && type != "bridge" && type != "user") return add_all(element, name);
    if (name == "disk") return read_disk(element, type);
    if (name == "input" && (type == "passthrough" || type == "evdev")) return add_all(element, name);
    if (name == "seclabel" && xml::name_of(element->parent) == "domain") {
      if (type != "dynamic" || xml::attribute(element, "relabel").value_or("yes") != "yes") add_all(element, name);
    }
    if (name == "graphics" || name == "listen") {
      for (const char* key : {"listen", "address"})
        if (const std::string host = xml::attribute_or_empty(element, key); !is_local(host)) add(name, key, host);
    }
    const bool is_character_device = name == "serial" || name == "console" || name == "parallel" || name == "channel";
    if (is_character_device && !type.empty() && type != "pty" && type != "unix" && type != "file" && type != "null" &&
        type != "spicevmc")
      return add_all(element, name);
    if (name == "backend") read_backend(element, type);
  }

  void read_disk(const xmlNode* disk, const std::string& type) {
    if (type != "file") return add_all(disk, "disk");
    const std::string file = xml::attribute_or_empty(xml::child(disk, "source"), "file");
    const std::string format = xml::attribute_or_empty(xml::child(disk, "driver"), "type");
    // Taken for raw, a layer's header would be the guest's to write, with any backing file in it.
    if (is_below(file, store_ + "layers/") && format != "qcow2") add("disk", "format", format);
  }

  void read_backend(const xmlNode* backend, const std::string& type) {
    const std::string_view of = xml::name_of(backend->parent);
    if (of == "tpm" && type != "emulator") add_all(backend->parent, "tpm");
    if (of == "rng" && xml::attribute_or_empty(backend, "model") == "egd") add_all(backend->parent, "rng");
  }

  std::string store_;
  std::set<std::string>& found_;
};

}  // namespace

std::set<std::string> host_reach(const std::string& domain_xml, const std::string& store) {
  const xml::Document document = xml::parse_or_throw(domain_xml, "domain", "domain XML");
  std::set<std::string> found;
  Reach(store, found).read(xml::root_of(document), true);
  return found;
}

}  // namespace vmgraft

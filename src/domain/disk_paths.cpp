// SPDX-License-Identifier: Apache-2.0
#include "domain/disk_paths.hpp"

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

/// A disk that was a block device, a volume or on the network: its <source> means nothing for a file.
void make_file_source(xmlNode* disk, xmlNode* source) {
  for (xmlNode* below : xml::children(source)) {
    if (xml::name_of(below) != "seclabel") xml::remove(below);
  }
  while (source->properties != nullptr) xmlRemoveProp(source->properties);  // those of other namespaces too
  xml::set_attribute(disk, "type", "file");
}

}  // namespace

std::string disk_target(const xmlNode* disk) {
  return xml::attribute_or_empty(xml::child(disk, "target"), "dev");
}

void set_disk_path(xmlNode* disk, const std::string& path) {
  xmlNode* source = xml::child(disk, "source");
  if (source == nullptr) source = xml::add(disk, "source");  // an empty cdrom drive
  if (xml::attribute_or_empty(disk, "type") != "file") make_file_source(disk, source);
  xml::set_attribute(source, "file", path);
  // libvirt reads the chain from the file itself when the XML does not say it.
  for (xmlNode* backing : xml::children(disk, "backingStore")) xml::remove(backing);
}

void set_disk_paths(const xmlNode* domain, const std::map<std::string, std::string>& disks) {
  const std::vector<xmlNode*> elements = xml::children(xml::child(domain, "devices"), "disk");
  for (const auto& [target, path] : disks) {
    bool is_set = false;
    for (xmlNode* disk : elements) {
      if (disk_target(disk) != target) continue;
      set_disk_path(disk, path);
      is_set = true;
    }
    if (!is_set) {
      throw Error(
          Errc::other,
          fmt::format("domain '{}' has no disk '{}'", printable(xml::text_of(xml::child(domain, "name"))), target),
          "its definition was changed by other means; put the disk back with virsh edit");
    }
  }
}

std::string with_disk_paths(const std::string& xml, const std::map<std::string, std::string>& disks) {
  const xml::Document document = xml::parse_or_throw(xml, "domain", "domain XML");
  set_disk_paths(xml::root_of(document), disks);
  return xml::to_text(document, false);
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "libvirt/snapshot_xml.hpp"

#include <fmt/format.h>

#include <vmgraft/error.hpp>

namespace vmgraft {

std::string escape_attribute(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&apos;";
        break;
      case '"':
        out += "&quot;";
        break;
      // A parser turns these into blanks unless they are written as references.
      case '\t':
        out += "&#9;";
        break;
      case '\n':
        out += "&#10;";
        break;
      case '\r':
        out += "&#13;";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          throw Error(Errc::other, fmt::format("'{}': byte {:#04x} cannot be written in XML", std::string(text),
                                               static_cast<unsigned>(static_cast<unsigned char>(c))));
        }
        out += c;
    }
  }
  return out;
}

namespace {

/// The list of disks, and the end of the document.
std::string disks_xml(const std::vector<OverlayTarget>& disks, const std::vector<std::string>& untouched) {
  std::string xml = "  <disks>\n";
  for (const OverlayTarget& disk : disks) {
    xml += fmt::format("    <disk name='{}' snapshot='external' type='file'>\n      <driver type='qcow2'/>\n",
                       escape_attribute(disk.target));
    const std::string path = escape_attribute(disk.overlay);
    xml += disk.own_label
               ? fmt::format(
                     "      <source file='{}'>\n        <seclabel model='dac' relabel='no'/>\n      </source>\n", path)
               : fmt::format("      <source file='{}'/>\n", path);
    xml += "    </disk>\n";
  }
  for (const std::string& target : untouched) {
    xml += fmt::format("    <disk name='{}' snapshot='no'/>\n", escape_attribute(target));
  }
  return xml + "  </disks>\n</domainsnapshot>\n";
}

}  // namespace

std::string overlay_snapshot_xml(const std::vector<OverlayTarget>& disks, const std::vector<std::string>& untouched) {
  return "<domainsnapshot>\n" + disks_xml(disks, untouched);
}

std::string memory_snapshot_xml(const std::string& file, const std::vector<OverlayTarget>& disks,
                                const std::vector<std::string>& untouched) {
  return fmt::format("<domainsnapshot>\n  <memory snapshot='external' file='{}'/>\n", escape_attribute(file)) +
         disks_xml(disks, untouched);
}

}  // namespace vmgraft

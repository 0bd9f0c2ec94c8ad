// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace vmgraft {

struct ImageInfo {
  std::string name;
  std::string layer;                  ///< id of the root layer
  std::uint64_t virtual_size = 0;     ///< bytes
  std::uint64_t disk_size = 0;        ///< bytes taken on the host
  std::string sha256;                 ///< of the root layer's file, or of what was downloaded or imported (see origin)
  std::string origin;                 ///< "build micro", "import /a/b.qcow2", "pull https://..."
  std::string created;                ///< RFC 3339, UTC
  std::vector<std::string> boot;      ///< how it can boot: "direct", "bios", "uefi"
  bool agent = false;                 ///< a guest agent answers on first boot
  bool cloud_init = false;            ///< it reads a NoCloud seed
  std::string default_user;           ///< "" when unknown
  std::size_t used_by = 0;            ///< VMs (heads and snapshots) that stand on it
};

/// An entry of the shipped catalogue.
struct CatalogueEntry {
  std::string name;                   ///< "debian-12-cloud"
  std::string description;
  std::string url;
  std::string checksum_url;           ///< list of sums beside the image; empty when sha256 is fixed
  std::string sha256;                 ///< empty when the list says
  std::string default_user;
  bool cloud_init = false;            ///< it reads a NoCloud seed
  bool agent = false;                 ///< it comes with a guest agent
};

struct ImageBuildRequest {
  std::string recipe;                 ///< "micro" or "debian-12"
  std::string name;                   ///< image name; empty = the recipe's
  bool force = false;                 ///< replace an image of that name (VMs on the old one keep their layers)
};

struct ImageImportRequest {
  std::filesystem::path file;         ///< qcow2 or raw
  std::string name;                   ///< empty = the file's stem
  std::string format;                 ///< "qcow2", "raw"; empty = by the file's magic, raw only when named *.raw or *.img
  bool force = false;
  bool agent = false;
  bool cloud_init = false;
  std::string default_user;
};

struct ImagePullRequest {
  std::string source;                 ///< catalogue name or http(s) URL
  std::string name;                   ///< image name; empty = the catalogue's name or the URL's stem
  std::string sha256;                 ///< what it must be; empty = the catalogue's
  bool force = false;
};

}  // namespace vmgraft

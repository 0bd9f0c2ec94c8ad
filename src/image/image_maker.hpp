// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <vmgraft/image.hpp>
#include <vmgraft/progress.hpp>

#include "host/host.hpp"
#include "store/records.hpp"

namespace vmgraft {

/// Where an image is made and who is told.
struct ImageWork {
  Host& host;
  std::filesystem::path folder;  ///< an empty folder of ours; removed by the caller whatever happens
  std::function<void(const Progress&)> on_progress;  ///< may be empty
  const std::atomic<bool>* interrupted = nullptr;
};

/// A finished image, still in the work folder: the caller moves the files into the store and writes the records.
struct MadeImage {
  std::filesystem::path disk;            ///< qcow2, no backing file, no internal snapshots
  std::filesystem::path kernel, initrd;  ///< empty unless layer.boot_direct
  LayerRecord layer;                     ///< all but id, created, made_by
  std::string sha256;                    ///< hex
  std::string origin;
};

/// A small Linux (busybox, guest agent) on the distribution's kernel: boots in seconds, without KVM too. No root needed.
/// \throws Error host_unfit: a program or package is missing, with its package's name.
[[nodiscard]] MadeImage build_micro(ImageWork& work);
/// Debian 12 minimal by mmdebstrap with systemd, sshd, guest agent, sudo; boots direct, by BIOS and by UEFI.
[[nodiscard]] MadeImage build_debian(ImageWork& work, const std::string& suite);
/// Recipes that build: "micro", "debian-12".
[[nodiscard]] std::vector<std::string> recipes();

/// Take a user's qcow2 or raw file: validated, converted once to qcow2, hashed. The file itself is not touched.
/// \throws Error usage: not an image, encrypted, damaged, has a backing file or external data file. not_found: no such
/// file.
[[nodiscard]] MadeImage import_image(ImageWork& work, const ImageImportRequest& request);

/// Download (with resume over \p cache), verify sha256, then import.
/// \param cache  folder that keeps partial downloads between calls.
[[nodiscard]] MadeImage pull_image(ImageWork& work, const ImagePullRequest& request,
                                   const std::vector<CatalogueEntry>& catalogue, const std::filesystem::path& cache);

/// Entries of catalogue.json files in the given folders, the first folder that has a name wins.
[[nodiscard]] std::vector<CatalogueEntry> read_catalogue(Host& host, const std::vector<std::filesystem::path>& folders);

}  // namespace vmgraft

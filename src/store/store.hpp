// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "host/host.hpp"
#include "store/records.hpp"

namespace vmgraft {

/// Who may read the layers besides us: the QEMU user of a system libvirtd.
struct StoreAccess {
  bool own_labels = false;   ///< we run as root under a system libvirtd: heads are given to uid:gid, frozen layers are root's
  unsigned uid = 0;
  unsigned gid = 0;
};

/// The remedy where a folder of a store is a link.
inline constexpr const char* kNoLinkedFolder =
    "what is in a store stays in it: move the folder back, mount the other disk there, or move the whole store";

/// Paths and reading of a store. Nothing here writes but prepare() and the reserve: changes are plan steps.
/// Names and ids in paths are checked: none leads out of the store. \throws Error usage: not a name; other: not an id.
class Store {
 public:
  Store(Host& host, std::filesystem::path root, StoreAccess access = {});

  /// Make the folders where they are missing; refuse a store of a newer format, a root that is not a store and not
  /// empty, and one in which others than root and us may plant what they like.
  void prepare();

  /// What prepare() refuses of a store that is there, but for links in it: who keeps beneath it can tell of each.
  void require_readable() const;

  /// Room held back for a disk that is full: what frees room there has a journal to write before. Made where it is missing
  /// and there is plenty; that it cannot be made is no error.
  void keep_reserve();
  /// Give that room away, if there is hardly any other.
  void spend_reserve() const;

  [[nodiscard]] const std::filesystem::path& root() const { return root_; }
  [[nodiscard]] const StoreAccess& access() const { return access_; }

  // --- paths
  [[nodiscard]] std::filesystem::path layers_folder() const { return root_ / "layers"; }
  [[nodiscard]] std::filesystem::path layer_file(const std::string& id) const;       ///< layers/<id>.qcow2
  [[nodiscard]] std::filesystem::path layer_record(const std::string& id) const;     ///< layers/<id>.json
  [[nodiscard]] std::filesystem::path kernel_file(const std::string& id) const;      ///< layers/<id>.kernel
  [[nodiscard]] std::filesystem::path initrd_file(const std::string& id) const;      ///< layers/<id>.initrd
  [[nodiscard]] std::filesystem::path images_folder() const { return root_ / "images"; }
  [[nodiscard]] std::filesystem::path image_record(const std::string& name) const;   ///< images/<name>.json
  [[nodiscard]] std::filesystem::path vms_folder() const { return root_ / "vms"; }
  [[nodiscard]] std::filesystem::path vm_folder(const std::string& name) const;      ///< vms/<name>
  [[nodiscard]] std::filesystem::path manifest_file(const std::string& name) const;  ///< vms/<name>/vm.json
  [[nodiscard]] std::filesystem::path nvram_file(const std::string& name) const;     ///< vms/<name>/nvram.fd
  [[nodiscard]] std::filesystem::path seed_file(const std::string& name) const;      ///< vms/<name>/seed.iso
  [[nodiscard]] std::filesystem::path console_log(const std::string& name) const;    ///< vms/<name>/console.log
  [[nodiscard]] std::filesystem::path ssh_folder(const std::string& name) const;     ///< vms/<name>/ssh
  [[nodiscard]] std::filesystem::path snapshot_folder(const std::string& vm, const std::string& snapshot) const;
  [[nodiscard]] std::filesystem::path journal_folder() const { return root_ / "journal"; }
  [[nodiscard]] std::filesystem::path locks_folder() const { return root_ / "locks"; }
  [[nodiscard]] std::filesystem::path tmp_folder() const { return root_ / "tmp"; }
  [[nodiscard]] std::filesystem::path reserve_file() const { return root_ / "reserve"; }

  // --- reading
  /// \throws Error not_found, with the nearest name as hint.
  [[nodiscard]] Manifest manifest(const std::string& name) const;
  [[nodiscard]] std::optional<Manifest> find_manifest(const std::string& name) const;
  [[nodiscard]] std::vector<std::string> vm_names() const;
  [[nodiscard]] std::vector<Manifest> manifests() const;
  /// \throws Error not_found, with the nearest name, or how to build or pull it, as hint.
  [[nodiscard]] ImageRecord image(const std::string& name) const;
  [[nodiscard]] std::optional<ImageRecord> find_image(const std::string& name) const;
  [[nodiscard]] std::vector<ImageRecord> images() const;
  [[nodiscard]] LayerRecord layer(const std::string& id) const;
  /// From \p id down to its root, \p id first. \throws Error other: a broken or circular chain.
  [[nodiscard]] std::vector<LayerRecord> chain(const std::string& id) const;
  [[nodiscard]] std::map<std::string, LayerRecord> layers() const;
  [[nodiscard]] bool has_layer(const std::string& id) const;
  /// Whether a path is of something in one of the store's folders: spelt in one way, and not the folder itself.
  [[nodiscard]] bool holds(const std::filesystem::path& path) const;
  /// True when nothing has been written to the layer since it was made (no cluster of data is allocated).
  [[nodiscard]] bool is_untouched(const std::string& id) const;

 private:
  void let_through(const std::filesystem::path& folder);
  void refuse_strangers() const;
  void refuse_links() const;
  void refuse_others_hands() const;
  [[nodiscard]] std::optional<LayerRecord> find_layer(const std::string& id) const;

  Host& host_;
  std::filesystem::path root_;
  StoreAccess access_;
};

}  // namespace vmgraft

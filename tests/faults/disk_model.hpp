// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "faults/tracer.hpp"

namespace vmgraft {

/// What a folder's file system has on the disk for certain, followed by the calls of one run: a file's content and
/// rights as of its last fsync, a folder's names as of its own. What was there before the run is there for certain.
class DiskModel {
 public:
  /// What a power loss takes of what was not synced.
  enum class Loss {
    everything,  ///< names, rights and content
    content      ///< the file system had written names, rights and sizes down, and not yet what stands in the files
  };

  /// \param kept  a copy of the folder as it was before the run. \param folder  where the run finds it.
  DiskModel(const std::filesystem::path& kept, std::filesystem::path folder);
  /// A call of the run, recorded with data. Calls that did not come back have not happened.
  void see(const Call& call);
  /// Make of the folder what is left of it after a power loss. Files that the run's own calls did not make (libvirt's,
  /// QEMU's) stay where their folder does.
  void lose_power(Loss loss);

 private:
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  using Names = std::map<std::string, NodePtr>;

  [[nodiscard]] NodePtr read(const std::filesystem::path& kept);
  [[nodiscard]] Names* names_above(const std::string& path);
  [[nodiscard]] NodePtr find(const std::string& path);
  void see_open(const Call& call);
  void see_rename(const Call& call);
  void see_sync(const Call& call);
  void put(const Node& node, const std::filesystem::path& place) const;
  void keep_strangers(const Node& node, const std::filesystem::path& was, const std::filesystem::path& place) const;
  void lose_content(const Node& node, const std::filesystem::path& place) const;

  std::filesystem::path folder_;
  NodePtr root_;
};

}  // namespace vmgraft

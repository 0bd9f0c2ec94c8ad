// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/host.hpp"

namespace vmgraft {

/// A qcow2 file as laid out by us: its bytes and its length.
struct Qcow2Layout {
  std::uint64_t size = 0;            ///< bytes, sparse
  std::vector<Extent> extents;
};

/// An empty qcow2 v3 file: 128 KiB clusters, extended L2 (4 KiB subclusters), 16-bit refcounts.
/// \param backing  file name in the same folder, always qcow2; empty: none.
/// Source: docs/interop/qcow2.txt.
[[nodiscard]] Qcow2Layout new_qcow2(std::uint64_t virtual_size, const std::string& backing);

/// What the header of a qcow2 file says.
struct Qcow2Header {
  unsigned version = 0;
  std::uint64_t virtual_size = 0;    ///< bytes
  unsigned cluster_bits = 0;
  std::string backing_file;          ///< "" for none
  std::string backing_format;        ///< "" when it does not say
  bool encrypted = false;
  std::string data_file;             ///< external data file's name, "" for none; "?" when it has one without a name
  bool extended_l2 = false;
  bool corrupt = false;
  std::uint64_t l1_offset = 0;
  std::uint32_t l1_entries = 0;
  std::uint32_t snapshots = 0;       ///< internal snapshots
};

/// As much of a file's start as read_qcow2() ever needs.
inline constexpr std::size_t kQcow2Start = 128 << 10;

/// Nothing when \p start is not qcow2. \param start  the first kQcow2Start bytes of the file.
/// \throws Error other: qcow2, but malformed.
[[nodiscard]] std::optional<Qcow2Header> read_qcow2(std::string_view start);

}  // namespace vmgraft

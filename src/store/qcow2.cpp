// SPDX-License-Identifier: Apache-2.0
#include "store/qcow2.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include <vmgraft/error.hpp>

namespace vmgraft {
namespace {

// The format, from docs/interop/qcow2.txt. All numbers are big-endian.
constexpr std::uint32_t kMagic = 0x514649fb;  // "QFI\xfb"
constexpr std::uint32_t kEndExtension = 0;
constexpr std::uint32_t kBackingFormatExtension = 0xe2792aca;
constexpr std::uint32_t kDataFileExtension = 0x44415441;
constexpr std::uint64_t kCorruptBit = 1U << 1;
constexpr std::uint64_t kDataFileBit = 1U << 2;
constexpr std::uint64_t kExtendedL2Bit = 1U << 4;
constexpr std::uint64_t kKnownIncompatible = 0x1f;  // dirty, corrupt, data file, compression type, extended L2
constexpr std::size_t kLongestBackingName = 1023;
constexpr std::size_t kHeaderV2 = 72;
constexpr std::size_t kHeaderV3 = 104;
constexpr std::uint64_t kMostL1Bytes = 32U << 20;  // QEMU's QCOW_MAX_L1_SIZE

// What we write.
constexpr unsigned kClusterBits = 17;
constexpr std::uint64_t kCluster = std::uint64_t{1} << kClusterBits;
constexpr std::uint64_t kPerL2 = kCluster / 16 * kCluster;  // an extended L2 entry has 16 bytes: 1 GiB for each table
constexpr std::uint64_t kHeaderLength = 112;                // with the compression type and its padding

std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) {
  return value / by + (value % by == 0 ? 0 : 1);
}

void put(std::string& out, std::uint64_t value, unsigned bytes) {
  for (unsigned i = bytes; i-- > 0;) out += static_cast<char>((value >> (8 * i)) & 0xff);
}

std::string make_header(std::uint64_t virtual_size, std::uint64_t l1_entries, const std::string& backing) {
  const std::string format = "qcow2";
  const std::uint64_t extensions = backing.empty() ? 8 : 8 + 8 + 8;
  std::string out;
  put(out, kMagic, 4);
  put(out, 3, 4);
  put(out, backing.empty() ? 0 : kHeaderLength + extensions, 8);
  put(out, backing.size(), 4);
  put(out, kClusterBits, 4);
  put(out, virtual_size, 8);
  put(out, 0, 4);  // no encryption
  put(out, l1_entries, 4);
  put(out, 3 * kCluster, 8);  // L1 table
  put(out, 1 * kCluster, 8);  // refcount table
  put(out, 1, 4);             // its clusters
  put(out, 0, 4);             // internal snapshots
  put(out, 0, 8);
  put(out, kExtendedL2Bit, 8);  // incompatible features
  put(out, 0, 8);               // compatible
  put(out, 0, 8);               // autoclear
  put(out, 4, 4);               // refcounts of 1 << 4 bits
  put(out, kHeaderLength, 4);
  put(out, 0, 8);  // compression type: zlib, and padding
  if (!backing.empty()) {
    put(out, kBackingFormatExtension, 4);
    put(out, format.size(), 4);
    out += format;
    put(out, 0, 8 - static_cast<unsigned>(format.size()));
  }
  put(out, kEndExtension, 4);
  put(out, 0, 4);
  return out + backing;
}

[[noreturn]] void fail(const std::string& why) {
  throw Error(Errc::other, "not a sound qcow2 file: " + why, "check it with qemu-img check");
}

/// Numbers out of the start of a file; none is read past its end.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  [[nodiscard]] std::uint32_t u32(std::size_t at) const { return static_cast<std::uint32_t>(number(at, 4)); }
  [[nodiscard]] std::uint64_t u64(std::size_t at) const { return number(at, 8); }
  [[nodiscard]] std::string_view range(std::uint64_t at, std::uint64_t length) const {
    if (at > bytes_.size() || length > bytes_.size() - at) fail("it ends within its header");
    return bytes_.substr(static_cast<std::size_t>(at), static_cast<std::size_t>(length));
  }

 private:
  [[nodiscard]] std::uint64_t number(std::size_t at, std::size_t length) const {
    std::uint64_t value = 0;
    for (const char c : range(at, length)) value = value << 8 | static_cast<unsigned char>(c);
    return value;
  }
  std::string_view bytes_;
};

std::string name_at(const Reader& reader, std::uint64_t at, std::uint64_t length, const char* what) {
  const std::string_view name = reader.range(at, length);
  // QEMU would read up to the NUL and we past it: two names for one file.
  if (name.find('\0') != std::string_view::npos) fail(std::string("the name of its ") + what + " holds a NUL");
  return std::string(name);
}

/// Walk the header extensions. \param end  where the cluster, or the backing file's name, begins.
void read_extensions(const Reader& reader, std::uint64_t at, std::uint64_t end, Qcow2Header& header) {
  while (end - at >= 8) {
    const std::uint32_t type = reader.u32(at);
    const std::uint64_t length = reader.u32(at + 4);
    if (type == kEndExtension) return;
    at += 8;
    if (length > end - at) fail("a header extension is longer than the header");
    if (type == kBackingFormatExtension) header.backing_format = name_at(reader, at, length, "backing format");
    if (type == kDataFileExtension) header.data_file = name_at(reader, at, length, "data file");
    const std::uint64_t padded = (length + 7) / 8 * 8;
    at += std::min(padded, end - at);
  }
}

void check_l1(const Qcow2Header& header) {
  const std::uint64_t cluster = std::uint64_t{1} << header.cluster_bits;
  const std::uint64_t per_l2 = cluster / (header.extended_l2 ? 16 : 8) * cluster;
  if (header.virtual_size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    fail("its size is absurd");
  if (std::uint64_t{header.l1_entries} * 8 > kMostL1Bytes) fail("its L1 table is too large");
  if (header.l1_entries < divide_up(header.virtual_size, per_l2)) fail("its L1 table is too small for its size");
  if (header.l1_offset % cluster != 0 || (header.l1_entries != 0 && header.l1_offset == 0)) {
    fail("its L1 table is in no place for one");
  }
  if (header.l1_offset > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) - kMostL1Bytes) {
    fail("its L1 table lies beyond any file");
  }
}

}  // namespace

Qcow2Layout new_qcow2(std::uint64_t virtual_size, const std::string& backing) {
  // A protocol ("nbd:...", "json:...") or a path would make QEMU read something else than the layer beside this one.
  if (backing.find_first_of(":/") != std::string::npos || backing.size() > kLongestBackingName) {
    throw std::logic_error("a backing file is named by a plain file name");
  }
  constexpr std::uint64_t most = kMostL1Bytes / 8 * kPerL2;
  if (virtual_size > most) {
    throw Error(Errc::usage, "a disk of " + std::to_string(virtual_size) + " bytes is too large (at most 4 PiB)");
  }
  virtual_size = divide_up(virtual_size, 512) * 512;  // QEMU counts sectors, and would cut off the rest
  const std::uint64_t l1_entries = std::max<std::uint64_t>(1, divide_up(virtual_size, kPerL2));
  const std::uint64_t clusters = 3 + divide_up(l1_entries * 8, kCluster);  // at most 259: one refcount block has 65536

  Qcow2Layout layout;
  layout.size = clusters * kCluster;
  layout.extents.push_back({0, make_header(virtual_size, l1_entries, backing)});
  std::string table;
  put(table, 2 * kCluster, 8);
  layout.extents.push_back({1 * kCluster, std::move(table)});
  std::string refcounts;
  for (std::uint64_t i = 0; i < clusters; ++i) put(refcounts, 1, 2);
  layout.extents.push_back({2 * kCluster, std::move(refcounts)});
  return layout;
}

std::optional<Qcow2Header> read_qcow2(std::string_view start) {
  const Reader reader(start);
  if (start.size() < 4 || reader.u32(0) != kMagic) return std::nullopt;
  Qcow2Header header;
  header.version = reader.u32(4);
  if (header.version != 2 && header.version != 3) fail("version " + std::to_string(header.version) + " is not known");
  const std::uint64_t backing_offset = reader.u64(8);
  const std::uint64_t backing_length = reader.u32(16);
  header.cluster_bits = reader.u32(20);
  if (header.cluster_bits < 9 || header.cluster_bits > 21) fail("its clusters have no size that there is");
  const std::uint64_t cluster = std::uint64_t{1} << header.cluster_bits;
  header.virtual_size = reader.u64(24);
  header.encrypted = reader.u32(32) != 0;
  header.l1_entries = reader.u32(36);
  header.l1_offset = reader.u64(40);
  header.snapshots = reader.u32(60);

  std::uint64_t header_length = kHeaderV2;
  std::uint64_t features = 0;
  if (header.version == 3) {
    features = reader.u64(72);
    header_length = reader.u32(100);
    if (header_length < kHeaderV3 || header_length > cluster) fail("its header has no length that there is");
    if (reader.u32(96) > 6) fail("its refcounts have no width that there is");
  }
  if ((features & ~kKnownIncompatible) != 0) fail("it has features that are not known (a newer QEMU made it)");
  header.corrupt = (features & kCorruptBit) != 0;
  header.extended_l2 = (features & kExtendedL2Bit) != 0;
  if (header.extended_l2 && header.cluster_bits < 14) fail("extended L2 entries need clusters of 16 KiB or more");
  check_l1(header);

  std::uint64_t extensions_end = cluster;
  if (backing_offset != 0) {
    if (backing_length > kLongestBackingName) fail("the name of its backing file is too long");
    if (backing_offset < header_length || backing_offset > cluster || backing_length > cluster - backing_offset) {
      fail("the name of its backing file lies outside its header");
    }
    extensions_end = backing_offset;
    header.backing_file = name_at(reader, backing_offset, backing_length, "backing file");
  }
  read_extensions(reader, header_length, extensions_end, header);
  if ((features & kDataFileBit) == 0) {
    header.data_file.clear();  // QEMU ignores the name without the bit
  } else if (header.data_file.empty()) {
    header.data_file = "?";
  }
  return header;
}

}  // namespace vmgraft

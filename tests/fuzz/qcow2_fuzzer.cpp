// SPDX-License-Identifier: Apache-2.0
#include "store/qcow2.hpp"

#include "fuzz/fuzz.hpp"

using namespace vmgraft;
using namespace vmgraft::fuzz;

namespace {

/// What we would write of it reads back the same.
void check_writer(const Qcow2Header& header) {
  const bool is_plain = header.backing_file.find_first_of(":/") == std::string::npos;
  const auto layout = accepted([&] { return new_qcow2(header.virtual_size, is_plain ? header.backing_file : ""); });
  if (!layout) return;
  const auto again = read_qcow2(layout->extents.front().bytes);
  require(again.has_value(), "our own header is qcow2");
  require(again->virtual_size >= header.virtual_size && again->virtual_size - header.virtual_size < 512,
          "the size reads back, in whole sectors");
  require(again->backing_file == (is_plain ? header.backing_file : ""), "the backing file reads back");
  require(again->backing_format == (again->backing_file.empty() ? "" : "qcow2"), "its format is said");
  require(!again->encrypted && !again->corrupt && again->data_file.empty(), "ours is a plain one");
}

}  // namespace

VMGRAFT_FUZZER(input) {
  const auto header = accepted([&] { return read_qcow2(input); });
  if (!header || !*header) return;
  const Qcow2Header& read = **header;
  require(read.version == 2 || read.version == 3, "the version is known");
  require(read.cluster_bits >= 9 && read.cluster_bits <= 21, "clusters have a size that there is");
  require(read.backing_file.size() <= 1023, "the backing file's name is no longer than QEMU takes");
  check_writer(read);
}

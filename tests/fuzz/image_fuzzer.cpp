// SPDX-License-Identifier: Apache-2.0
// Files that an image is made of: ELF programs, and the start of disks and of whatever else is imported.
#include "image/disk_probe.hpp"
#include "image/elf.hpp"

#include "fuzz/fuzz.hpp"

using namespace vmgraft;
using namespace vmgraft::fuzz;

VMGRAFT_FUZZER(input) {
  const auto facts = accepted([&] { return read_elf(input, "program"); });
  if (facts) {
    for (const std::string& name : facts->needed) require(name.find('\0') == std::string::npos, "a name ends");
    for (const std::string& depends : modinfo_values(*facts, "depends")) {
      require(depends.size() < input.size(), "a value stands in the file");
    }
  }
  const DiskStart disk = probe_disk(input);
  require(!disk.efi_partition || disk.layout == "gpt" || disk.layout == "mbr", "partitions stand in a table");
  const ForeignFile foreign = recognise_foreign(input);
  require(foreign.qemu_format.empty() || !foreign.what.empty(), "what could be converted has a name");
}

// SPDX-License-Identifier: Apache-2.0
// The small parsers: sizes, durations, PCI addresses, CPU lists, names, checksum lists, pci.ids.
#include <algorithm>

#include "gpu/devices.hpp"
#include "gpu/sysfs.hpp"
#include "image/checksum.hpp"
#include "model/names.hpp"
#include "model/pci_address.hpp"
#include "model/size.hpp"

#include "fuzz/fuzz.hpp"
#include "fuzz/one_file.hpp"

using namespace vmgraft;
using namespace vmgraft::fuzz;

namespace {

void check_size(std::string_view text) {
  const auto bytes = parse_size(text);
  if (!bytes) return;
  require(parse_size(std::to_string(*bytes)) == bytes, "bytes are a size");
  // One decimal: exact where there is none.
  const std::string shown = format_size(*bytes);
  const auto again = parse_size(shown);
  if (again && *bytes != 0) {
    require(std::max(*again, *bytes) - std::min(*again, *bytes) <= *bytes / 20, "what is shown is the size, rounded");
  }
}

void check_duration(std::string_view text) {
  const auto duration = parse_duration(text);
  if (!duration) return;
  require(duration->count() >= 0, "no duration is negative");
  require(parse_duration(format_duration(*duration)) == duration, "a duration reads back");
}

void check_address(std::string_view text) {
  const auto address = parse_pci_address(text);
  if (address) require(parse_pci_address(*address) == address, "an address is its own short and long form");
  const std::vector<std::string> all = sysfs::addresses_in(text);
  for (const std::string& one : all) require(parse_pci_address(one) == one, "what is found is an address");
}

void check_cpu_list(const std::string& text) {
  const std::vector<unsigned> cpus = parse_cpu_list(text);
  require(std::is_sorted(cpus.begin(), cpus.end()), "CPUs are sorted");
  require(parse_cpu_list(format_cpu_list(cpus)) == cpus, "a CPU list reads back");
}

void check_name(std::string_view text) {
  const std::string shown = printable(text);
  require(shown.size() <= 203, "what is shown is cut");
  require(printable(shown, shown.size()) == shown, "what is fit to be printed stays as it is");
  const auto parts = accepted([&] { return split_ref(text); });
  if (parts && text.find('@') != std::string_view::npos) {
    require(parts->first + "@" + parts->second == text, "a reference is its parts");
  }
  const auto name = accepted([&] { return (require_name("VM", text), std::string(text)); });
  if (name) require(name->find_first_of("/ \n\0\"'") == std::string::npos && name->front() != '.', "a name is a file");
  static_cast<void>(did_you_mean(text.substr(0, 64), {"snapshot", "memory", "cpus", "h\xc3\xbclle"}));
}

void check_sums(const std::string& text) {
  const auto sum = find_checksum(text, "disk.qcow2");
  if (sum) require(parse_checksum(sum->hex) == sum, "a sum reads back");
}

void check_pci_names(const std::string& text) {
  OneFile host(text);
  const PciNames names(host);
  for (const std::uint16_t device : {std::uint16_t{0x2330}, std::uint16_t{0}, std::uint16_t{0xffff}}) {
    const std::string name = names.name(0x10de, device);
    require(printable(name, name.size()) == name, "a name is fit to be printed");
  }
}

}  // namespace

VMGRAFT_FUZZER(input) {
  switch (take_selector(input)) {
    case 's':
      return check_size(input);
    case 'd':
      return check_duration(input);
    case 'a':
      return check_address(input);
    case 'c':
      return check_cpu_list(std::string(input));
    case 'h':
      return check_sums(std::string(input));
    case 'p':
      return check_pci_names(std::string(input));
    default:
      return check_name(input);
  }
}

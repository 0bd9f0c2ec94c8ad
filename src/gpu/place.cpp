// SPDX-License-Identifier: Apache-2.0
#include "gpu/place.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vmgraft/error.hpp>

#include "gpu/mmio_window.hpp"
#include "gpu/tune.hpp"
#include "model/size.hpp"

namespace vmgraft {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
// Of QEMU's emulated CPUs (TCG_PHYS_ADDR_BITS); with more than they reach, QEMU does not start.
constexpr unsigned kEmulatedBits = 40;
constexpr unsigned kPhysicalBitsSince = 8'007'000;  // <maxphysaddr>
constexpr unsigned kOverrideSince = 8'002'000;      // <qemu:override>

const PciFunction& need(const GpuFacts& facts, const std::string& address) {
  if (const PciFunction* function = facts.devices.find(address); function != nullptr) return *function;
  throw Error(Errc::other, fmt::format("GPU {} was chosen, and the host has it no more", address), "try again");
}

unsigned function_number(const std::string& address) {
  return static_cast<unsigned>(address.back() - '0');
}

/// The functions of a GPU, each with the number it has on the host: drivers look for the sound of a card beside it.
PassedGpu passed(const GpuFacts& facts, const GpuChoice::One& one) {
  PassedGpu passed;
  if (one.kind == GpuKind::mdev) return passed;
  if (one.make_vf) throw Error(Errc::other, fmt::format("GPU {}: its virtual function is not made yet", one.address));
  passed.functions.push_back({one.address, true, function_number(one.address)});
  const Gpu* gpu = facts.find(one.address);
  // Companions of a virtual function would be other virtual functions, which are others' to have.
  if (gpu != nullptr && one.kind == GpuKind::gpu) {
    for (const std::string& companion : gpu->companions) {
      passed.functions.push_back({companion, true, function_number(companion)});
    }
  }
  // A slot without function 0 is empty to a guest.
  const bool has_zero = std::any_of(passed.functions.begin(), passed.functions.end(),
                                    [](const PassedFunction& function) { return function.guest_function == 0; });
  if (!has_zero) passed.functions.front().guest_function = 0;
  return passed;
}

/// What the guest maps: each passed function.
std::vector<const PciFunction*> mapped(const GpuFacts& facts, const Placement& placement) {
  std::vector<const PciFunction*> functions;
  for (const PassedGpu& gpu : placement.gpus) {
    for (const PassedFunction& function : gpu.functions) functions.push_back(&need(facts, function.address));
  }
  return functions;
}

void refuse_width(const GpuFacts& facts, const VmSpec& spec, std::uint64_t window, unsigned bits) {
  const auto check = [&](const std::optional<unsigned>& most, const char* what) {
    if (!most || bits <= *most) return;
    throw Error(Errc::host_unfit,
                fmt::format("the GPUs' memory needs a window of {} above the VM's {}, which takes {} address bits, and "
                            "{} {}", format_size(window), format_size(spec.memory), bits, what, *most),
                "give the VM fewer GPUs or less memory");
  };
  check(facts.settings.physical_bits, "the host's CPUs have");
  check(facts.settings.iommu_bits, "the host's IOMMU has");
}

void set_window(const GpuFacts& facts, const VmSpec& spec, const PlaceFor& host, Placement& placement) {
  const std::uint64_t window = mmio_window(mapped(facts, placement));
  const unsigned bits = address_bits(spec.memory, window);
  if (host.is_kvm) refuse_width(facts, spec, window, bits);
  placement.passthrough_physical_bits = host.is_kvm && host.libvirt_version >= kPhysicalBitsSince;
  if (window <= kDefaultWindow) return;
  if (!host.is_kvm && bits > kEmulatedBits) {
    placement.not_done.push_back(
        fmt::format("no window of {} for the GPUs' memory: an emulated CPU has {} address bits", format_size(window),
                    kEmulatedBits));
    return;
  }
  placement.pci_hole64 = window;
  // OVMF sizes its window by the CPU's physical bits; versions of the time before libvirt could pass those do not.
  if (spec.firmware == Firmware::uefi && !placement.passthrough_physical_bits) placement.ovmf_window = window / kMiB;
  placement.done.push_back(fmt::format("window of {} for the GPUs' memory", format_size(window)));
}

bool can_have_clique(const GpuChoice::One& one, const PciFunction& function) {
  // QEMU takes it for NVIDIA's display devices only: another vendor's keeps the VM from starting.
  return one.kind == GpuKind::gpu && function.vendor == kNvidia && (function.class_code >> 16) == 0x03;
}

/// GPUs below one PCIe switch may talk to each other without the host's root complex: those get one clique.
void set_cliques(const GpuChoice& choice, const std::vector<const PciFunction*>& functions, const VmSpec& spec,
                 const PlaceFor& host, Placement& placement) {
  if (!spec.gpudirect) return;
  if (host.libvirt_version < kOverrideSince) {
    placement.not_done.emplace_back("no GPUDirect clique: it needs libvirt 8.2");
    return;
  }
  unsigned next = 0;
  for (std::size_t i = 0; i < functions.size(); ++i) {
    if (!can_have_clique(choice.gpus[i], *functions[i]) || placement.gpus[i].clique) continue;
    std::vector<std::string> together{functions[i]->address};
    for (std::size_t k = i + 1; k < functions.size(); ++k) {
      if (!can_have_clique(choice.gpus[k], *functions[k]) || link_distance(*functions[i], *functions[k]) > 1) continue;
      placement.gpus[k].clique = next;
      together.push_back(functions[k]->address);
    }
    if (together.size() == 1) continue;
    placement.gpus[i].clique = next;
    placement.done.push_back(fmt::format("GPUDirect clique {}: {}", next++, fmt::join(together, ", ")));
  }
  if (next == 0) placement.not_done.emplace_back("no GPUDirect clique: no two NVIDIA GPUs of the VM are on one switch");
}

void refuse_strict(const VmSpec& spec, const Placement& placement) {
  if (spec.tuning != Tuning::strict || placement.not_done.empty()) return;
  throw Error(Errc::host_unfit,
              fmt::format("tuning \"strict\" cannot be had: {}", fmt::join(placement.not_done, "; ")),
              "set \"tuning\": \"auto\" to start with what the host has");
}

/// Seconds to map a GiB of BAR, as measured: topofmind.dev (5.15, 6.8), and kernel 6.12's huge mappings.
double mapping_cost(const std::string& kernel) {
  char* rest = nullptr;
  const unsigned long major = std::strtoul(kernel.c_str(), &rest, 10);
  const unsigned long minor = *rest == '.' ? std::strtoul(rest + 1, nullptr, 10) : 0;
  if (major > 6 || (major == 6 && minor >= 12)) return 0.0;
  return major > 5 || (major == 5 && minor > 15) ? 3.2 / 128 : 1800.0 / 1024;
}

}  // namespace

Placement place(const GpuFacts& facts, const GpuChoice& choice, const VmSpec& spec, const PlaceFor& host) {
  Placement placement;
  placement.is_kvm = host.is_kvm;
  if (choice.gpus.empty()) return placement;
  std::vector<const PciFunction*> functions;
  for (const GpuChoice::One& one : choice.gpus) {
    functions.push_back(&need(facts, one.address));
    placement.gpus.push_back(passed(facts, one));
  }
  set_window(facts, spec, host, placement);
  set_cliques(choice, functions, spec, host, placement);
  if (spec.tuning == Tuning::none) return placement;
  if (host.is_kvm) {
    tune(facts, functions, spec, host, placement);
  } else {
    placement.not_done.emplace_back("no pinning, NUMA cells, huge pages or locked memory: software emulation");
  }
  refuse_strict(spec, placement);
  return placement;
}

void refuse_own_tuning(const VmSpec& spec, const std::string& xml, const Placement& placement) {
  if (spec.tuning != Tuning::strict) return;
  // With strict, place() has left nothing undone: all that the notes tell is the definition's doing.
  const std::vector<std::string> kept = read_placement_notes(with_placement(xml, placement)).second;
  if (kept.empty()) return;
  throw Error(Errc::conflict, fmt::format("tuning \"strict\" cannot be had: {}", fmt::join(kept, "; ")),
              "take these elements out of the definition (virsh edit), or set \"tuning\": \"auto\" to keep them");
}

std::uint64_t start_estimate(const Placement& placement, const GpuFacts& facts, const VmSpec& spec) {
  // Bytes a second, as the commits of QEMU and the kernel measured: VFIO zeroes 4 GiB while it pins, in one thread; each
  // of QEMU's threads before it 2 GiB.
  const double rate = static_cast<double>(std::max<std::uint64_t>(4, 2 * placement.tuning.prealloc_threads) * kGiB);
  const double memory = placement.gpus.empty() ? 0.0 : static_cast<double>(spec.memory) / rate;
  double bars = 0.0;
  for (const PciFunction* function : mapped(facts, placement)) {
    for (const PciBar& bar : function->bars) bars += bar.is_memory ? static_cast<double>(bar.size) : 0.0;
  }
  return static_cast<std::uint64_t>(
      std::ceil(memory + bars / static_cast<double>(kGiB) * mapping_cost(facts.settings.kernel)));
}

}  // namespace vmgraft

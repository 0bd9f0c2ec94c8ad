// SPDX-License-Identifier: Apache-2.0
#include "run/gpu_reset.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include <vmgraft/error.hpp>

#include "gpu/sysfs.hpp"

namespace vmgraft {
namespace {

using std::chrono::seconds;

constexpr seconds kResetDeadline{60};  // some functions never come back from one: an FLR of GB202
constexpr std::size_t kConfigHeader = 64;
constexpr std::size_t kBars = 0x10;

// reset_method's words by how much they reset. bus: the secondary bus, so firmware too; pm: a D3 round trip.
constexpr std::array kStrongest{"bus", "cxl_bus", "device_specific", "acpi", "flr", "af_flr", "pm"};

std::uint32_t little_endian(const std::string& bytes, std::size_t at, std::size_t width) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < width; ++i)
    value |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes.at(at + i))) << (8 * i);
  return value;
}

/// Empty when it is done; else why it could not be.
std::string hot_reset(Host& host, const std::vector<std::string>& functions) {
  try {
    host.hot_reset(functions, kResetDeadline);
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

std::string reset_function(Host& host, const PciFunction& function, std::string& method) {
  // The kernel lists "bus" for a VF too, though its bus is its physical function's: all VFs would die of it.
  const bool is_vf = !function.physical_function.empty();
  const auto best = std::find_if(kStrongest.begin(), kStrongest.end(), [&](const std::string_view word) {
    if (is_vf && word.ends_with("bus")) return false;
    return std::find(function.reset_methods.begin(), function.reset_methods.end(), word) != function.reset_methods.end();
  });
  if (best == kStrongest.end()) return fmt::format("{} has no way to be reset", function.address);
  const std::string folder = sysfs::device(function.address);
  std::string failure;
  try {
    host.write_attribute(folder + "/reset_method", *best, kResetDeadline);
    host.write_attribute(folder + "/reset", "1", kResetDeadline);
    method = *best;
  } catch (const Error& error) {
    failure = fmt::format("its reset by {} failed: {}", *best, error.what());
    if (error.code() == Errc::unreachable) return failure;  // whoever writes there now hangs as well
  }
  host.write_attribute(folder + "/reset_method", "default", kResetDeadline);
  return failure;
}

/// Whose BARs config space must still hold. A VF's are kept by its physical function; below 64 bits each has one word.
bool bars_are_lost(const std::string& config, const PciFunction& function) {
  if (!function.physical_function.empty()) return false;
  return std::any_of(function.bars.begin(), function.bars.end(), [&](const PciBar& bar) {
    const std::uint32_t word = little_endian(config, kBars + 4 * bar.index, 4) & (bar.is_memory ? ~0xfu : ~0x3u);
    return word != static_cast<std::uint32_t>(bar.start & 0xffffffffu);
  });
}

}  // namespace

std::string why_dead(Host& host, const PciFunction& function) {
  const std::string config = host.read_range(sysfs::device(function.address) + "/config", 0, kConfigHeader);
  if (config.size() < kConfigHeader) return fmt::format("{} is gone from the bus", function.address);
  // A VF's vendor field reads 0xffff by the standard: its physical function speaks for it.
  const bool is_vf = !function.physical_function.empty();
  if (!is_vf && little_endian(config, 0, 2) != function.vendor)
    return fmt::format("{} does not answer: its config space reads {:04x} for the vendor {:04x}", function.address,
                       little_endian(config, 0, 2), function.vendor);
  if (const auto header = static_cast<unsigned char>(config[0x0e]) & 0x7fu; header != 0)
    return fmt::format("{} has the header type {:02x}, which is no endpoint's", function.address, header);
  if (bars_are_lost(config, function)) return fmt::format("{} lost its BARs in the reset", function.address);
  if (function.link.width != 0 && sysfs::text(host, sysfs::device(function.address) + "/current_link_width") == "0")
    return fmt::format("{} has lost its PCIe link, which was x{} before the reset", function.address,
                       function.link.width);
  std::string power = host.read_file(sysfs::device(function.address) + "/power_state").value_or("D0");
  while (!power.empty() && power.back() == '\n') power.pop_back();
  // On vfio-pci an idle function may sleep in D3hot; from D3cold some never come back.
  if (power == "D3cold" || power == "error") return fmt::format("{} is in power state {}", function.address, power);
  return {};
}

ResetOutcome reset_gpu(Host& host, const GpuFacts& facts, const Gpu& gpu) {
  ResetOutcome outcome;
  const std::vector<std::string> functions = functions_of(gpu);
  const bool all_on_vfio = std::all_of(functions.begin(), functions.end(), [&](const std::string& address) {
    const PciFunction* function = facts.devices.find(address);
    return function != nullptr && is_vfio_driver(function->driver);
  });
  const PciFunction& main = *facts.devices.find(gpu.address);
  // A VF's bus is its neighbours' too.
  const bool may_hot = all_on_vfio && main.physical_function.empty();
  const std::string why_not_hot = may_hot ? hot_reset(host, functions) : "not all of it is on vfio-pci";
  if (why_not_hot.empty()) {
    outcome.method = "hot";
  } else {
    for (const std::string& address : functions) {
      const PciFunction& function = *facts.devices.find(address);
      std::string method;
      const std::string failure = reset_function(host, function, method);
      if (!failure.empty()) {
        outcome.failure = may_hot ? fmt::format("{}; and no hot reset: {}", failure, why_not_hot) : failure;
        return outcome;
      }
      outcome.method = method;
    }
  }
  for (const std::string& address : functions)
    if (outcome.failure.empty()) outcome.failure = why_dead(host, *facts.devices.find(address));
  return outcome;
}

}  // namespace vmgraft

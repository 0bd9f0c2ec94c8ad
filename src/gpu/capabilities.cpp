// SPDX-License-Identifier: Apache-2.0
#include "gpu/capabilities.hpp"

#include <cstdint>
#include <optional>

#include "gpu/sysfs.hpp"

namespace vmgraft {
namespace {

constexpr std::size_t kFirst = 0x100, kEnd = 0x1000;  // where extended capabilities stand
constexpr unsigned kAcs = 0x0d, kAts = 0x0f;
constexpr std::size_t kAcsWord = 4;  // what it can do, and in the upper half what is on
constexpr unsigned kRequestRedirect = 1U << 2;

std::string config_file(Host& host, const std::string& address) {
  return sysfs::function_folder(host, address) + "/config";
}

std::optional<std::uint32_t> word_at(const std::string& config, std::size_t at) {
  if (at + 4 > config.size()) return std::nullopt;
  std::uint32_t word = 0;
  for (std::size_t byte = 4; byte-- > 0;) word = word << 8 | static_cast<unsigned char>(config[at + byte]);
  return word;
}

std::optional<std::size_t> find_capability(const std::string& config, unsigned id) {
  std::size_t at = kFirst;
  // A dead or hostile device may chain them in a ring: more than fit are not followed.
  for (std::size_t hops = 0; hops < (kEnd - kFirst) / 4; ++hops) {
    const auto header = word_at(config, at);
    if (!header || *header == 0 || *header == 0xffffffff) return std::nullopt;
    if ((*header & 0xffff) == id) return at;
    at = *header >> 20;
    if (at < kFirst) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

bool redirects_peers(Host& host, const std::string& port) {
  const std::string config = sysfs::start_of(host, config_file(host, port), kEnd);
  const auto acs = find_capability(config, kAcs);
  if (!acs) return false;
  const auto word = word_at(config, *acs + kAcsWord);
  return word && (*word >> 16 & kRequestRedirect) != 0;
}

bool has_ats(Host& host, const std::string& address) {
  return find_capability(sysfs::start_of(host, config_file(host, address), kEnd), kAts).has_value();
}

}  // namespace vmgraft

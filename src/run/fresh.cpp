// SPDX-License-Identifier: Apache-2.0
#include "run/fresh.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <cerrno>
#include <cstring>

#include <vmgraft/error.hpp>
#include <vmgraft/requests.hpp>

namespace vmgraft {
namespace {

std::array<unsigned char, 16> random_bytes() {
  std::array<unsigned char, 16> bytes{};
  // Up to 256 bytes are never cut short once the pool is ready.
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    throw Error(Errc::other, fmt::format("the kernel gives no random bytes: {}", std::strerror(errno)));
  return bytes;
}

}  // namespace

std::string fresh_layer_id() {
  std::string id;
  for (const unsigned char byte : random_bytes()) id += fmt::format("{:02x}", byte);
  return id;
}

std::string fresh_uuid() {
  std::array<unsigned char, 16> bytes = random_bytes();
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
  std::string uuid;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) uuid += '-';
    uuid += fmt::format("{:02x}", bytes[i]);
  }
  return uuid;
}

std::string fresh_mac() {
  const std::array<unsigned char, 16> bytes = random_bytes();
  return fmt::format("52:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]);
}

std::vector<std::string> fresh_macs(std::size_t count) {
  std::vector<std::string> macs;
  while (macs.size() < count) macs.push_back(fresh_mac());
  return macs;
}

FreshIds fresh_ids(std::size_t count) {
  std::vector<std::string> ids;
  while (ids.size() < count) ids.push_back(fresh_layer_id());
  return FreshIds(std::move(ids));
}

std::string now_rfc3339() { return to_rfc3339(this_second()); }

void require_life(std::optional<std::chrono::seconds> asked) {
  if (asked && asked->count() <= 0)
    throw Error(Errc::usage, "a life time of 0 s is over at once",
                "give one of 1 s at least, or never; without, the template says");
}

std::string fresh_expiry(std::optional<std::chrono::seconds> asked, std::optional<std::chrono::seconds> of_template) {
  const auto ttl = asked ? asked : of_template;
  return ttl && ttl != kForever ? to_rfc3339(this_second() + *ttl) : std::string();
}

}  // namespace vmgraft

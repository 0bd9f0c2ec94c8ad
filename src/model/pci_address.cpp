// SPDX-License-Identifier: Apache-2.0
#include "model/pci_address.hpp"

namespace vmgraft {
namespace {

/// 'h' stands for a hex digit, 's' for the first digit of a slot, 'f' for a function.
bool fits(char c, char kind) {
  switch (kind) {
    case 'h':
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    case 's':
      return c == '0' || c == '1';
    case 'f':
      return c >= '0' && c <= '7';
    default:
      return c == kind;
  }
}

}  // namespace

std::optional<std::string> parse_pci_address(std::string_view text) {
  constexpr std::string_view kForm = "hhhh:hh:sh.f";
  constexpr std::string_view kDomain = "0000:";
  std::string address(text);
  for (char& c : address) {
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
  }
  if (address.size() + kDomain.size() == kForm.size()) address.insert(0, kDomain);
  if (address.size() != kForm.size()) return std::nullopt;
  for (std::size_t i = 0; i < kForm.size(); ++i) {
    if (!fits(address[i], kForm[i])) return std::nullopt;
  }
  return address;
}

}  // namespace vmgraft

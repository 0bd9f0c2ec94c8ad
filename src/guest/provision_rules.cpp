// SPDX-License-Identifier: Apache-2.0
#include "guest/provision_rules.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "model/names.hpp"

namespace vmgraft {
namespace {

bool is_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_';
}

}  // namespace

void require_hostname(const std::string& name) {
  if (!name.empty() && name.size() <= 64 && name.front() != '-' && name.front() != '.' &&
      std::all_of(name.begin(), name.end(), is_name_character)) {
    return;
  }
  throw Error(Errc::invalid_template, fmt::format("guest: '{}' is not a host name", printable(name)),
              "want 1 to 64 letters, digits, '-' and '.'");
}

void require_user(const std::string& name) {
  if (!name.empty() && name.size() <= 32 && name.front() != '-' && name.front() != '.' &&
      std::isdigit(static_cast<unsigned char>(name.front())) == 0 &&
      std::all_of(name.begin(), name.end(), is_name_character)) {
    return;
  }
  throw Error(Errc::invalid_template, fmt::format("guest: '{}' is not a user name", printable(name)),
              "want 1 to 32 letters, digits, '-', '_' and '.', first a letter or '_'");
}

unsigned parse_mode(const std::string& text) {
  unsigned mode = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (problem == std::errc() && end == text.data() + text.size() && mode <= 07777u) return mode;
  throw Error(Errc::invalid_template, fmt::format("guest: '{}' is not a file mode", printable(text)),
              "want octal digits, as \"0644\"");
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "gpu/sysfs.hpp"

#include <charconv>
#include <filesystem>

#include <vmgraft/error.hpp>

#include "model/pci_address.hpp"

namespace vmgraft::sysfs {
namespace {

constexpr std::string_view kSpace = " \t\n\r";

std::string_view trimmed(std::string_view text) {
  const std::size_t from = text.find_first_not_of(kSpace);
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(kSpace) - from + 1);
}

}  // namespace

std::optional<std::string> text(Host& host, const std::string& file) {
  try {
    std::optional<std::string> content = host.read_file(file);
    if (content) content->erase(content->find_last_not_of(kSpace) + 1);
    return content;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string start_of(Host& host, const std::string& file, std::size_t most) {
  try {
    return host.read_range(file, 0, most);
  } catch (const Error&) {
    return {};
  }
}

std::vector<std::string> names(Host& host, const std::string& folder) {
  try {
    return host.list_folder(folder);
  } catch (const Error&) {
    return {};
  }
}

std::string followed(Host& host, const std::string& link) {
  std::optional<std::string> target;
  try {
    target = host.read_link(link);
  } catch (const Error&) {
    return link;
  }
  if (!target) return link;
  return (std::filesystem::path(link).parent_path() / *target).lexically_normal().native();
}

std::string link_name(Host& host, const std::string& link) {
  try {
    return base_name(host.read_link(link).value_or(""));
  } catch (const Error&) {
    return {};
  }
}

std::optional<std::uint64_t> number(std::string_view text, int base) {
  if (base == 16 && text.starts_with("0x")) text.remove_prefix(2);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string_view> lines(std::string_view text) {
  std::vector<std::string_view> all;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    all.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return all;
}

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> all;
  for (std::size_t at = text.find_first_not_of(kSpace); at != std::string_view::npos;
       at = text.find_first_not_of(kSpace, at)) {
    const std::size_t end = std::min(text.find_first_of(kSpace, at), text.size());
    all.push_back(text.substr(at, end - at));
    at = end;
  }
  return all;
}

std::string base_name(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));  // npos + 1 is 0
}

std::optional<std::string> field(std::string_view text, std::string_view key) {
  for (const std::string_view line : lines(text)) {
    if (!line.starts_with(key)) continue;
    const std::string_view rest = trimmed(line.substr(key.size()));
    if (rest.starts_with(':')) return std::string(trimmed(rest.substr(1)));
  }
  return std::nullopt;
}

std::uint64_t kilobytes(std::string_view value) {
  const std::vector<std::string_view> parts = words(value);
  return parts.size() == 2 && parts[1] == "kB" ? number(parts[0]).value_or(0) * 1024 : 0;
}

std::string device(const std::string& address) {
  return "/sys/bus/pci/devices/" + address;
}

std::string function_folder(Host& host, const std::string& address) {
  return followed(host, device(address));
}

std::vector<std::string> addresses_in(std::string_view path) {
  std::vector<std::string> found;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, end);
    if (part.size() == 12 && parse_pci_address(part) == part) found.emplace_back(part);
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return found;
}

}  // namespace vmgraft::sysfs

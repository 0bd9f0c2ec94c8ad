// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/host.hpp"

/// Reading /sys and /proc, where anything may be absent, vanish between two calls, or answer with an error because the
/// device behind it is dead: all of that is "not told" here.
namespace vmgraft::sysfs {

/// Content without the white space at its end; nothing when it cannot be read.
[[nodiscard]] std::optional<std::string> text(Host& host, const std::string& file);
/// The first \p most bytes; empty when they cannot be read.
[[nodiscard]] std::string start_of(Host& host, const std::string& file, std::size_t most);
/// Names in a folder, sorted; empty when it cannot be read.
[[nodiscard]] std::vector<std::string> names(Host& host, const std::string& folder);
/// Where a link leads, absolute and without ".."; the path itself when it is no link.
[[nodiscard]] std::string followed(Host& host, const std::string& link);
/// Last component of what a link says; empty when there is no link.
[[nodiscard]] std::string link_name(Host& host, const std::string& link);

/// A whole number, nothing else: base 16 takes "0x" or none. Nothing when it is malformed or too large.
[[nodiscard]] std::optional<std::uint64_t> number(std::string_view text, int base = 10);
// Parts of a text, which must outlive them: not of a temporary.
[[nodiscard]] std::vector<std::string_view> lines(std::string_view text);
std::vector<std::string_view> lines(std::string&& text) = delete;
/// Words between white space.
[[nodiscard]] std::vector<std::string_view> words(std::string_view text);
std::vector<std::string_view> words(std::string&& text) = delete;
/// The part behind the last '/'.
[[nodiscard]] std::string base_name(std::string_view path);
/// What stands behind \p key and a colon: "16384 kB" of "MemFree:   16384 kB". Nothing when no line starts with it.
[[nodiscard]] std::optional<std::string> field(std::string_view text, std::string_view key);
/// Bytes of "16384 kB"; 0 when it is malformed.
[[nodiscard]] std::uint64_t kilobytes(std::string_view value);

/// "/sys/bus/pci/devices/0000:41:00.0", the link by which the kernel names a function.
[[nodiscard]] std::string device(const std::string& address);
/// "/sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0" of a function, where its attributes are.
[[nodiscard]] std::string function_folder(Host& host, const std::string& address);
/// PCI addresses among the components of a path, as they stand: bridges first.
[[nodiscard]] std::vector<std::string> addresses_in(std::string_view path);

}  // namespace vmgraft::sysfs

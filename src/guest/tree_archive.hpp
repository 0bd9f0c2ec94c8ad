// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "guest/provision.hpp"

namespace vmgraft {

/// Write a host folder as one or more tar streams (GNU format: busybox reads no other for long names) whose names begin
/// with \p name. Each stream ends once it holds \p segment bytes, so that the guest need not keep the whole beside
/// the files. Links are kept as links; sockets, pipes and devices are refused.
/// \param on_segment  called with a source of each stream's bytes, in order.
/// \throws Error other: a file cannot be read. conflict: it is none of file, folder or link.
CopyCount write_tree(const std::filesystem::path& source, const std::string& name, std::uint64_t segment,
                     const std::function<void(const std::function<std::optional<std::string>()>&)>& on_segment);

/// Unpack a tar stream from a guest, which is not trusted, into the folder \p target, made when it is not there: names
/// are checked, links are not followed, owners and set-id bits are dropped. \param next  the next piece of the stream;
/// nullopt at its end. \throws Error other: the stream is malformed or would leave \p target.
CopyCount read_tree(const std::function<std::optional<std::string>()>& next, const std::filesystem::path& target);

}  // namespace vmgraft

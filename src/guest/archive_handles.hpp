// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include <archive.h>
#include <archive_entry.h>

#include "model/freer.hpp"

namespace vmgraft {

using WriteHandle = std::unique_ptr<struct archive, Freer<archive_write_free>>;
using ReadHandle = std::unique_ptr<struct archive, Freer<archive_read_free>>;
using EntryHandle = std::unique_ptr<struct archive_entry, Freer<archive_entry_free>>;

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "image/image_maker.hpp"

namespace vmgraft {

/// A file to be taken as an image.
struct ImportSource {
  std::filesystem::path file;
  std::string shown;   ///< what messages call it: its path, or the URL it came from
  std::string format;  ///< "qcow2", "raw"; empty: by magic, raw only when `shown` ends in .raw or .img
};

/// Validate, convert into work.folder/disk.qcow2, and find out how it boots. Hash and origin are the caller's.
/// \throws Error usage: not an image, encrypted, damaged, stands on other files; conflict: in use.
[[nodiscard]] MadeImage convert_image(ImageWork& work, const ImportSource& source);

}  // namespace vmgraft

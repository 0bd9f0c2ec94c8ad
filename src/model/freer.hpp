// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace vmgraft {

/// Deleter of a handle that a C library frees with \p Free: std::unique_ptr<T, Freer<T_free>>.
template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* handle) const noexcept {
    static_cast<void>(Free(handle));
  }
};

}  // namespace vmgraft

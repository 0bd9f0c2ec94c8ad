// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>

#include <vmgraft/error.hpp>

namespace vmgraft {

/// Run \p act; when it fails run \p undo and pass the failure on. A failure of the undo never hides the first one:
/// it becomes a context frame of it.
template <typename Act, typename Undo>
void guarded(Act&& act, Undo&& undo) {
  try {
    act();
  } catch (Error& error) {
    try {
      undo();
    } catch (const Error& second) {
      error.add_context(second.what());
    }
    throw;
  } catch (const std::exception&) {  // of a caller's callback: it has no place for a frame
    try {
      undo();
    } catch (const Error&) {
    }
    throw;
  }
}

}  // namespace vmgraft

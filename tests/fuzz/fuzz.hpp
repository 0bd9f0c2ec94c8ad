// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include <vmgraft/error.hpp>

#include "model/names.hpp"

namespace vmgraft::fuzz {

/// What must hold for every input. libFuzzer keeps the input that breaks it.
inline void require(bool holds, std::string_view what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %.*s\n", static_cast<int>(what.size()), what.data());
  std::abort();
}

/// A message goes to a terminal: nothing in it may steer one, whatever the input held.
inline void require_fit_to_print(const Error& error) {
  const auto is_fit = [](const std::string& text) { return printable(text, text.size()) == text; };
  require(is_fit(error.what()), "a message is fit to be printed");
  require(is_fit(error.hint()), "a hint is fit to be printed");
  for (const std::string& frame : error.context()) require(is_fit(frame), "a message's context is fit to be printed");
}

/// What \p read returns; nothing where it refuses by an Error. Any other exception ends the fuzzer.
template <typename Read>
std::optional<std::invoke_result_t<Read>> accepted(Read&& read) {
  try {
    return read();
  } catch (const Error& error) {
    require_fit_to_print(error);
    return std::nullopt;
  }
}

/// The first byte, taken off: which of several readers the rest is for.
inline char take_selector(std::string_view& input) {
  if (input.empty()) return '\0';
  const char selector = input.front();
  input.remove_prefix(1);
  return selector;
}

}  // namespace vmgraft::fuzz

/// The body of a fuzzer: `VMGRAFT_FUZZER(input) { ... }`, input being a std::string_view.
#define VMGRAFT_FUZZER(input)                                                          \
  static void run_one(std::string_view input);                                         \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) { \
    run_one({reinterpret_cast<const char*>(bytes), size});                             \
    return 0;                                                                          \
  }                                                                                    \
  static void run_one(std::string_view input)

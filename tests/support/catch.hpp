// SPDX-License-Identifier: Apache-2.0
#pragma once

// Catch2 2.13 (Debian 12) and 3 (Debian 13) behind one include.
#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <string>
#include <utility>

#include <vmgraft/error.hpp>

/// A text within a text: Catch2 3 gave it another name.
inline auto contains(std::string text) {
#if __has_include(<catch2/catch_test_macros.hpp>)
  return Catch::Matchers::ContainsSubstring(std::move(text));
#else
  return Catch::Matchers::Contains(std::move(text));
#endif
}

/// The Error that \p expression throws; fails the test when it throws none.
template <typename Expression>
vmgraft::Error error_of(Expression&& expression) {
  try {
    expression();
  } catch (const vmgraft::Error& error) {
    return error;
  }
  FAIL("no vmgraft::Error was thrown");
  throw std::logic_error("unreachable");
}

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace vmgraft {

/// One output stream of a guest command: passes on what the command wrote, and finds the line "TOKEN VERDICT" that
/// ends it. Nothing is held back but the beginning of what may be that line.
class MarkedStream {
 public:
  MarkedStream(std::string token, std::function<void(std::string_view)> sink)
      : token_(std::move(token)), sink_(std::move(sink)) {}

  /// The next bytes of the stream. What follows the end is ignored.
  void feed(std::string_view bytes);

  [[nodiscard]] bool has_ended() const { return ended_; }
  /// What stood behind the token; empty until the end.
  [[nodiscard]] const std::string& verdict() const { return verdict_; }
  /// Bytes fed so far, the ending included.
  [[nodiscard]] std::uint64_t fed() const { return fed_; }
  /// Pass on what was held back: no end will come.
  void give_up();

 private:
  void pass(std::size_t count);

  std::string token_;
  std::function<void(std::string_view)> sink_;
  std::string pending_;
  std::string verdict_;
  std::uint64_t fed_ = 0;
  bool ended_ = false;
};

}  // namespace vmgraft

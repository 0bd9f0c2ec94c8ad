// SPDX-License-Identifier: Apache-2.0
#include "guest/marked_stream.hpp"

#include <algorithm>

namespace vmgraft {
namespace {

// Longest end of `text` that is a beginning of `token`.
std::size_t possible_start(std::string_view text, std::string_view token) {
  for (std::size_t length = std::min(text.size(), token.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == token.substr(0, length)) return length;
  }
  return 0;
}

}  // namespace

void MarkedStream::pass(std::size_t count) {
  if (count == 0) return;
  const std::string passed = pending_.substr(0, count);
  pending_.erase(0, count);
  sink_(passed);
}

void MarkedStream::feed(std::string_view bytes) {
  fed_ += bytes.size();
  if (ended_) return;
  pending_ += bytes;
  const std::size_t mark = pending_.find(token_);
  if (mark == std::string::npos) {
    pass(pending_.size() - possible_start(pending_, token_));
    return;
  }
  pass(mark);
  const std::size_t line_end = pending_.find('\n');
  if (line_end == std::string::npos) return;
  ended_ = true;
  const std::size_t start = std::min(token_.size() + 1, line_end);
  verdict_ = pending_.substr(start, line_end - start);
  pending_.clear();
}

void MarkedStream::give_up() {
  pass(pending_.size());
}

}  // namespace vmgraft

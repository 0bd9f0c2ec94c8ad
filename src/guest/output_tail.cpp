// SPDX-License-Identifier: Apache-2.0
#include "guest/output_tail.hpp"

#include "model/names.hpp"

namespace vmgraft {
namespace {

constexpr std::size_t kMostTold = 16 * 1024;

}  // namespace

void OutputTail::add(std::string_view bytes) {
  kept_ += bytes;
  if (kept_.size() > 2 * kMostTold) kept_.erase(0, kept_.size() - kMostTold);
}

std::vector<std::string> OutputTail::lines(std::size_t most) const {
  std::vector<std::string> found;
  std::string_view rest = kept_;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    // A progress bar draws over its line: what counts is what stood there last.
    while (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (const std::size_t drawn = line.rfind('\r'); drawn != std::string_view::npos) line.remove_prefix(drawn + 1);
    if (line.find_first_not_of(" \t") != std::string_view::npos) found.push_back(printable(line));
  }
  if (found.size() > most) found.erase(found.begin(), found.end() - static_cast<std::ptrdiff_t>(most));
  return found;
}

std::string last_line(std::string_view output) {
  OutputTail tail;
  tail.add(output);
  const std::vector<std::string> lines = tail.lines(1);
  return lines.empty() ? "no output" : lines.front();
}

}  // namespace vmgraft

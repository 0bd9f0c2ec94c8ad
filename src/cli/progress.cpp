// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <unistd.h>

#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft::cli {

namespace {

constexpr auto kInterval = std::chrono::milliseconds(100);
constexpr std::size_t kBarWidth = 20;

}  // namespace

std::string progress_text(const Progress& progress, std::size_t width) {
  std::string tail;
  if (progress.total > 0) {
    const std::uint64_t done = std::min(progress.done, progress.total);
    const double share = static_cast<double>(done) / static_cast<double>(progress.total);
    const auto filled = static_cast<std::size_t>(share * static_cast<double>(kBarWidth));
    tail = fmt::format("  [{}{}] {:3.0f}%  {} of {}", std::string(filled, '#'), std::string(kBarWidth - filled, ' '),
                       share * 100.0, format_size(done), format_size(progress.total));
  } else if (progress.done > 0) {
    tail = "  " + format_size(progress.done);
  }
  // The last column stays free: a terminal wraps when it is written to.
  const std::size_t room = width > tail.size() + 1 ? width - tail.size() - 1 : 0;
  std::string what = printable(progress.what);
  if (what.size() > room) {
    what.resize(room);
    // Do not leave half a UTF-8 character behind.
    while (!what.empty() && (static_cast<unsigned char>(what.back()) & 0x80U) != 0) what.pop_back();
  }
  return room > 0 ? what + tail : std::string{};
}

ProgressLine::ProgressLine(const Terminal& terminal, const bool& quiet, const bool& verbose)
    : terminal_(terminal), quiet_(quiet), verbose_(verbose) {}

void ProgressLine::show(const Progress& progress) {
  if (quiet_) return;
  const bool is_new = progress.what != what_;
  if (!terminal_.err) {
    if (is_new) static_cast<void>(write_all(STDERR_FILENO, printable(progress.what) + "\n"));
    what_ = progress.what;
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  const bool is_end = progress.total > 0 && progress.done >= progress.total;
  if (!is_new && !is_end && now < next_) return;
  if (is_new && drawn_ && verbose_) {
    // --verbose keeps the lines of what went before.
    static_cast<void>(write_all(STDERR_FILENO, "\n"));
    drawn_ = false;
  }
  what_ = progress.what;
  next_ = now + kInterval;
  draw(progress);
}

void ProgressLine::draw(const Progress& progress) {
  static_cast<void>(write_all(STDERR_FILENO, "\r\033[K" + progress_text(progress, terminal_.width_err)));
  drawn_ = true;
}

void ProgressLine::clear() {
  if (drawn_) static_cast<void>(write_all(STDERR_FILENO, verbose_ ? "\n" : "\r\033[K"));
  drawn_ = false;
}

}  // namespace vmgraft::cli

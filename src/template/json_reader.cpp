// SPDX-License-Identifier: Apache-2.0
// Text -> Document. nlohmann's own DOM builder keeps the last of duplicate keys and forgets where values stood, so its
// SAX interface is used, fed by an iterator that counts lines.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "template/document.hpp"

namespace vmgraft {
namespace {

using nlohmann::json;

constexpr std::size_t kMostText = std::size_t{1} << 20;
constexpr std::size_t kMostDepth = 64;
// Each value's pointer is kept: these two bound what a small hostile file can make of our memory.
constexpr std::size_t kMostValues = 20'000;
constexpr std::size_t kLongestKey = 64;

struct Feed {
  const char* at;
  unsigned line = 1;
  bool after_newline = false;
};

/// Hands the text to nlohmann's lexer and counts the lines that it has taken.
class FeedIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  FeedIterator(Feed* feed, const char* end) : feed_(feed), end_(end) {}
  reference operator*() const { return *feed_->at; }
  FeedIterator& operator++() {
    feed_->after_newline = *feed_->at == '\n';
    if (feed_->after_newline) ++feed_->line;
    ++feed_->at;
    return *this;
  }
  FeedIterator operator++(int) {
    FeedIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const FeedIterator& a, const FeedIterator& b) { return a.position() == b.position(); }
  friend bool operator!=(const FeedIterator& a, const FeedIterator& b) { return !(a == b); }

 private:
  [[nodiscard]] const char* position() const { return feed_ == nullptr ? end_ : feed_->at; }
  Feed* feed_;
  const char* end_;
};

unsigned line_of(std::string_view text, std::size_t position) {
  const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(position, text.size()));
  return 1 + static_cast<unsigned>(std::count(text.begin(), end, '\n'));
}

/// The useful part of nlohmann's message: without its prefix and without the raw text that it read last.
std::string syntax_reason(std::string what) {
  if (const auto at = what.find("] "); what.rfind("[json.", 0) == 0 && at != std::string::npos) what.erase(0, at + 2);
  if (const auto at = what.find(": "); what.rfind("parse error", 0) == 0 && at != std::string::npos)
    what.erase(0, at + 2);
  if (const auto read = what.find("; last read: '"); read != std::string::npos) {
    const auto rest = what.find("'; expected ", read);
    what.erase(read, rest == std::string::npos ? std::string::npos : rest + 1 - read);
  }
  return printable(what);
}

class Builder : public nlohmann::json_sax<json> {
 public:
  Builder(std::string_view text, const Feed& feed, std::shared_ptr<const std::string> file)
      : text_(text), feed_(feed), file_(std::move(file)) {}

  Document take() { return std::move(document_); }

  bool null() override { return add(nullptr, feed_.line) != nullptr; }
  bool boolean(bool value) override { return add(value, feed_.line) != nullptr; }
  bool number_integer(number_integer_t value) override { return add(value, number_line()) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return add(value, number_line()) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override { return add(value, number_line()) != nullptr; }
  bool string(string_t& value) override {
    refuse_nul(value, next_pointer());
    return add(std::move(value), feed_.line) != nullptr;
  }
  bool binary(binary_t&) override { return false; }  // not in JSON text

  bool start_object(std::size_t) override { return open(json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Frame& frame = frames_.back();
    const std::string pointer = pointer_to(frame.pointer, name);
    refuse_nul(name, frame.pointer);
    if (name.size() > kLongestKey) {
      fail(feed_.line, frame.pointer,
           "the key '" + printable(name, 40) + "' is longer than " + std::to_string(kLongestKey) + " bytes");
    }
    if (const auto first = document_.origins.find(pointer); first != document_.origins.end()) {
      fail(feed_.line, pointer,
           "the key '" + printable(name) + "' is there twice (first in line " + std::to_string(first->second.line) +
               ")");
    }
    frame.key = name;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    if (text_.find_first_not_of(" \t\r\n") == std::string_view::npos) fail(1, "", "the file is empty");
    const std::size_t at = std::min(position == 0 ? 0 : position - 1, text_.size() - 1);
    fail(line_of(text_, at), frames_.empty() ? "" : frames_.back().pointer, "not JSON: " + syntax_reason(error.what()),
         slip(at));
  }

 private:
  struct Frame {
    json* container;
    std::string pointer;
    std::string key;
  };

  [[noreturn]] void fail(unsigned line, const std::string& pointer, const std::string& why,
                         std::string hint = {}) const {
    throw TemplateError(*file_, line, printable(pointer), why, std::move(hint));
  }

  void refuse_nul(const std::string& text, const std::string& pointer) const {
    if (text.find('\0') != std::string::npos) fail(feed_.line, pointer, "text with a NUL character");
  }

  /// The lexer ends a number by reading one character more.
  [[nodiscard]] unsigned number_line() const { return feed_.after_newline ? feed_.line - 1 : feed_.line; }

  /// What people write who come from other notations.
  [[nodiscard]] std::string slip(std::size_t at) const {
    if (text_[at] == '\'') return "JSON text stands in double quotes";
    if (text_[at] != '}' && text_[at] != ']') return {};
    const auto before = at == 0 ? std::string_view::npos : text_.find_last_not_of(" \t\r\n", at - 1);
    if (before == std::string_view::npos || text_[before] != ',') return {};
    return std::string("remove the comma before '") + text_[at] + "'";
  }

  [[nodiscard]] std::string next_pointer() const {
    if (frames_.empty()) return {};
    const Frame& frame = frames_.back();
    if (frame.container->is_array()) return pointer_to(frame.pointer, frame.container->size());
    return pointer_to(frame.pointer, frame.key);
  }

  json* add(json value, unsigned line) {
    const std::string pointer = next_pointer();
    document_.origins[pointer] = {file_, line};
    if (document_.origins.size() > kMostValues) fail(line, "", "more than " + std::to_string(kMostValues) + " values");
    if (frames_.empty()) return &(document_.root = std::move(value));
    Frame& frame = frames_.back();
    if (frame.container->is_object()) return &((*frame.container)[frame.key] = std::move(value));
    frame.container->push_back(std::move(value));
    return &frame.container->back();
  }

  bool open(json container) {
    std::string pointer = next_pointer();
    if (frames_.size() == kMostDepth) {
      fail(feed_.line, pointer, "nested deeper than " + std::to_string(kMostDepth) + " levels");
    }
    // The pointer into the parent stays good: nothing is added to the parent before this one is closed.
    json* added = add(std::move(container), feed_.line);
    frames_.push_back({added, std::move(pointer), {}});
    return true;
  }

  bool close() {
    frames_.pop_back();
    return true;
  }

  std::string_view text_;
  const Feed& feed_;
  std::shared_ptr<const std::string> file_;
  Document document_;
  std::vector<Frame> frames_;
};

/// The offset of the first byte that is not UTF-8; npos when all is.
std::size_t first_not_utf8(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80   ? 1
                               : lead < 0xc2 ? 0
                               : lead < 0xe0 ? 2
                               : lead < 0xf0 ? 3
                               : lead < 0xf5 ? 4
                                             : 0;
    if (length == 0 || i + length > text.size()) return i;
    for (std::size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0U) != 0x80U) return i;
    }
    const unsigned char second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return i;  // overlong, surrogate
    if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return i;  // overlong, past U+10FFFF
    i += length;
  }
  return std::string_view::npos;
}

}  // namespace

Document read_document(std::string_view text, const std::string& file) {
  if (text.size() > kMostText) throw TemplateError(file, 0, "", "larger than 1 MiB");
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    throw TemplateError(file, line_of(text, nul), "", "holds a NUL byte: not a text file");
  }
  if (const auto bad = first_not_utf8(text); bad != std::string_view::npos) {
    throw TemplateError(file, line_of(text, bad), "", "not valid UTF-8");
  }
  if (text.empty()) throw TemplateError(file, 1, "", "the file is empty");
  Feed feed{text.data()};
  const char* end = text.data() + text.size();
  Builder builder(text, feed, std::make_shared<const std::string>(file));
  // Every refusal throws from within the builder.
  static_cast<void>(json::sax_parse(FeedIterator(&feed, end), FeedIterator(nullptr, end), &builder,
                                    json::input_format_t::json, true, true));
  return builder.take();
}

Document read_document_file(const std::filesystem::path& file) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (error && status.type() == std::filesystem::file_type::none) {
    throw TemplateError(file.string(), 0, "", "cannot be read: " + error.message());
  }
  if (status.type() != std::filesystem::file_type::regular) {
    throw TemplateError(file.string(), 0, "", "not a regular file");
  }
  std::ifstream in(file, std::ios::binary);
  std::string text(kMostText + 1, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad())
    throw TemplateError(file.string(), 0, "", "cannot be read: permission denied or I/O error");
  text.resize(static_cast<std::size_t>(in.gcount()));
  return read_document(text, file.string());
}

}  // namespace vmgraft

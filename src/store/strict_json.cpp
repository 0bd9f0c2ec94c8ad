// SPDX-License-Identifier: Apache-2.0
#include "store/strict_json.hpp"

#include <algorithm>

#include <vmgraft/error.hpp>

#include "model/names.hpp"

namespace vmgraft::strict_json {
namespace {

// Far above what we write. Depth bounds the recursion of dump(), keys the cost of looking for duplicates.
constexpr std::size_t kDeepest = 64;
constexpr std::size_t kMostKeys = 4096;

constexpr std::size_t kUsualKeys = 16;

constexpr const char* kDamaged =
    "the files of a store are not meant to be edited: put back a copy, or move the file away";

/// One step of a JSON pointer (RFC 6901), fit to be printed.
std::string escaped(std::string_view key) {
  std::string step = "/";
  for (const char c : printable(key, 80)) {
    if (c == '~') {
      step += "~0";
    } else if (c == '/') {
      step += "~1";
    } else {
      step += c;
    }
  }
  return step;
}

/// Builds the value from the parser's events: nlohmann's own builder keeps the last of duplicate keys without a word.
class Builder {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  explicit Builder(const std::string& where) : where_(where) { open_.reserve(8); }

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(number_integer_t value) { return add(value); }
  bool number_unsigned(number_unsigned_t value) { return add(value); }
  bool number_float(number_float_t value, const string_t&) { return add(value); }
  bool string(string_t& value) { return add(std::move(value)); }
  bool binary(binary_t&) { return false; }  // not in JSON text
  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(string_t& name) {
    auto& members = open_.back()->get_ref<Json::object_t&>();
    for (const auto& member : members) {
      if (member.first == name) fail("the key '" + printable(name, 80) + "' occurs twice");
    }
    if (members.size() >= kMostKeys) fail("too many keys");
    // Its keys are const: growing copies every one of them.
    if (members.empty()) members.reserve(kUsualKeys);
    slot_ = &members.emplace_back(std::move(name), nullptr).second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const Json::exception& error) {
    // nlohmann's text is "[json.exception.parse_error.101] parse error at line 1, column 2: why"
    std::string_view why = error.what();
    const std::size_t end = why.find("] ");
    if (end != std::string_view::npos) why.remove_prefix(end + 2);
    throw Error(Errc::other,
                printable(where_, 4096) + ": not JSON (byte " + std::to_string(position) + "): " + printable(why, 300),
                kDamaged);
  }

  [[nodiscard]] Json take() { return std::move(root_); }

 private:
  template <typename Value>
  bool add(Value&& value) {
    put(Json(std::forward<Value>(value)));
    return true;
  }

  Json* put(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool open(Json container) {
    if (open_.size() >= kDeepest) fail("nested too deeply");
    open_.push_back(put(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  [[noreturn]] void fail(const std::string& why) const {
    std::string pointer;
    for (std::size_t i = 0; i + 1 < open_.size(); ++i) {
      // What is open is the last member of what holds it.
      pointer +=
          open_[i]->is_array() ? "/" + std::to_string(open_[i]->size() - 1) : escaped(std::prev(open_[i]->end()).key());
    }
    const std::string place = pointer.empty() ? "" : pointer + ": ";
    throw Error(Errc::other, printable(where_, 4096) + ": " + place + why, kDamaged);
  }

  const std::string& where_;
  Json root_;
  std::vector<Json*> open_;  ///< containers not yet at their end; a parent does not move while its child is open
  Json* slot_ = nullptr;     ///< where the value of the last key goes
};

}  // namespace

Json parse(const std::string& text, const std::string& where) {
  Builder builder(where);
  (void)Json::sax_parse(text, &builder);
  return builder.take();
}

std::string Place::pointer() const {
  if (above == nullptr) return {};
  return above->pointer() + (key.empty() ? "/" + std::to_string(index) : escaped(key));
}

void Place::fail(const std::string& why) const {
  const std::string here = pointer();
  throw Error(Errc::other, printable(where, 4096) + ": " + (here.empty() ? "" : here + ": ") + why, kDamaged);
}

Fields::Fields(Json& object, const Place& place) : object_(object), place_(place) {
  if (!object.is_object()) place.fail("want an object");
  taken_.reserve(object.size());
}

Json& Fields::take(std::string_view key) {
  auto& members = object_.get_ref<Json::object_t&>();
  // Members are asked for in the order in which we write them: the next one is nearly always the one.
  for (std::size_t i = 0; i < members.size(); ++i, ++next_) {
    if (next_ >= members.size()) next_ = 0;
    const auto member = members.begin() + static_cast<std::ptrdiff_t>(next_);
    if (member->first != key) continue;
    ++next_;
    taken_.push_back(key);
    return member->second;
  }
  place_.fail("the key '" + std::string(key) + "' is missing");
}

std::string Fields::text(std::string_view key) {
  auto* value = take(key).get_ptr<std::string*>();
  if (value == nullptr) at(key).fail("want a string");
  return std::move(*value);
}

bool Fields::flag(std::string_view key) {
  const auto* value = take(key).get_ptr<bool*>();
  if (value == nullptr) at(key).fail("want true or false");
  return *value;
}

std::string Fields::text(std::string_view key, std::string_view otherwise) {
  return has(key) ? text(key) : std::string(otherwise);
}

bool Fields::flag(std::string_view key, bool otherwise) {
  return has(key) ? flag(key) : otherwise;
}

std::uint64_t Fields::number(std::string_view key) {
  // Kind before value: get() would read -1 as 18446744073709551615 and 1.9 as 1.
  const Json& value = take(key);
  if (!value.is_number_unsigned()) at(key).fail("want a whole number that is not negative");
  return value.get<std::uint64_t>();
}

Json& Fields::object(std::string_view key) {
  Json& value = take(key);
  if (!value.is_object()) at(key).fail("want an object");
  return value;
}

std::vector<Json>& Fields::list(std::string_view key) {
  auto* value = take(key).get_ptr<Json::array_t*>();
  if (value == nullptr) at(key).fail("want a list");
  return *value;
}

std::vector<std::string> Fields::texts(std::string_view key) {
  std::vector<std::string> all;
  const Place here = at(key);
  for (Json& value : list(key)) {
    auto* text = value.get_ptr<std::string*>();
    if (text == nullptr) Place{here.where, &here, {}, all.size()}.fail("want a string");
    all.push_back(std::move(*text));
  }
  return all;
}

void Fields::require_version(std::uint64_t ours) {
  const std::uint64_t version = number("version");
  if (version == ours) return;
  if (version < ours) at("version").fail("there is no format " + std::to_string(version));
  throw Error(Errc::other,
              printable(place_.where, 4096) + ": made by a newer vmgraft (format " + std::to_string(version) +
                  ", this one reads " + std::to_string(ours) + ")",
              "install that newer vmgraft, or use another store with --store DIR");
}

void Fields::done() const {
  if (taken_.size() == object_.size()) return;
  for (const auto& member : object_.items()) {
    if (std::find(taken_.begin(), taken_.end(), member.key()) == taken_.end()) {
      place_.fail("unknown key '" + printable(member.key(), 80) + "'");
    }
  }
}

}  // namespace vmgraft::strict_json

// SPDX-License-Identifier: Apache-2.0
#include "template/fields.hpp"

#include <algorithm>
#include <limits>

#include "model/size.hpp"

namespace vmgraft {
namespace {

using nlohmann::json;

// A file can be wrong in more places than anyone reads.
constexpr std::size_t kMostFindings = 100;

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

/// A JSON number that is a whole one and not negative. nlohmann's get<> would make 1 of 1.9 and 2^64-1 of -1.
std::optional<std::uint64_t> natural(const json& value) {
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0) return std::nullopt;
  return static_cast<std::uint64_t>(value.get<std::int64_t>());
}

}  // namespace

void Findings::add(const std::string& pointer, const std::string& why, std::string hint) {
  if (errors_.size() >= kMostFindings) return;
  const Origin origin = document_->origin(pointer);
  errors_.emplace_back(origin.file ? *origin.file : std::string(), origin.line, printable(pointer), why,
                       std::move(hint));
}

bool Findings::is_open(const json& value, const std::string& pointer) const {
  if (!document_->unknown.empty() && document_->unknown.count(pointer) != 0) return true;
  return draft_ && value.is_string() && value.get_ref<const std::string&>().find("${") != std::string::npos;
}

std::string shown(const json& value) {
  if (value.is_string()) return "'" + printable(value.get_ref<const std::string&>(), 80) + "'";
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  return value.dump();
}

TemplateFields::TemplateFields(Findings& findings, Value object, Nulls nulls)
    : findings_(&findings), object_(std::move(object)), nulls_(nulls) {
  if (!is_object()) findings.add(object_.pointer, shown(*object_.json) + " is not an object (want { ... })");
}

bool TemplateFields::has(const char* key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.emplace_back(key);
  if (!is_object()) return false;
  const auto found = object_.json->find(key);
  if (found == object_.json->end()) return false;
  return !(found->is_null() && nulls_ == Nulls::remove && findings_->is_draft());
}

bool TemplateFields::is_open(const char* key) {
  return has(key) && findings_->is_open((*object_.json)[key], pointer_to(object_.pointer, key));
}

std::optional<Value> TemplateFields::get(const char* key) {
  if (!has(key) || is_open(key)) return std::nullopt;
  return Value{&(*object_.json)[key], pointer_to(object_.pointer, key)};
}

std::optional<Value> TemplateFields::get_no_text(const char* key) {
  if (auto value = get(key); value || !is_open(key) || !findings_->is_draft()) return value;
  const json& value = (*object_.json)[key];
  const auto& text = value.get_ref<const std::string&>();
  const std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
  const bool is_reference =
      text.rfind("${", 0) == 0 && text.find_first_not_of(letters, 2) == text.size() - 1 && text.back() == '}';
  if (is_reference) return std::nullopt;
  return Value{&value, pointer_to(object_.pointer, key)};
}

bool TemplateFields::integer(const char* key, std::uint64_t least, std::uint64_t most, unsigned& out) {
  const auto value = get_no_text(key);
  if (!value) return false;
  const std::string want = " (want " + std::to_string(least) + " to " + std::to_string(most) + ")";
  if (!value->json->is_number_integer()) {
    fail(key, shown(*value->json) + " is not a whole number" + want);
    return false;
  }
  const auto number = natural(*value->json);
  if (!number || *number < least || *number > most) {
    fail(key, shown(*value->json) + " is out of range" + want);
    return false;
  }
  out = static_cast<unsigned>(*number);
  return true;
}

bool TemplateFields::flag(const char* key, bool& out) {
  const auto value = get_no_text(key);
  if (!value) return false;
  if (!value->json->is_boolean()) {
    fail(key, shown(*value->json) + " is not true or false");
    return false;
  }
  out = value->json->get<bool>();
  return true;
}

bool TemplateFields::size(const char* key, std::uint64_t least, std::uint64_t most, std::uint64_t& out) {
  const auto value = get(key);
  if (!value) return false;
  std::optional<std::uint64_t> bytes;
  if (value->json->is_string()) {
    bytes = parse_size(value->json->get_ref<const std::string&>());
  } else if (value->json->is_number_integer()) {
    bytes = natural(*value->json).value_or(0);  // a negative number is a size too small
  }
  if (!bytes) {
    fail(key, shown(*value->json) + " is not a size (want bytes, or text like \"2GiB\")");
    return false;
  }
  if (*bytes < least || *bytes > most) {
    fail(key, shown(*value->json) + " is out of range (want " + format_size(least) + " to " + format_size(most) + ")");
    return false;
  }
  out = *bytes;
  return true;
}

bool TemplateFields::duration(const char* key, std::chrono::seconds least, std::chrono::seconds most,
                      std::chrono::seconds& out) {
  const auto value = get(key);
  if (!value) return false;
  std::optional<std::chrono::seconds> seconds;
  if (value->json->is_string()) seconds = parse_duration(value->json->get_ref<const std::string&>());
  if (!seconds) {
    fail(key, shown(*value->json) + " is not a duration (want text like \"90s\", \"5m\", \"1h30m\")");
    return false;
  }
  if (*seconds < least || *seconds > most) {
    fail(key, shown(*value->json) + " is out of range (want " + format_duration(least) + " to " +
                  format_duration(most) + ")");
    return false;
  }
  out = *seconds;
  return true;
}

bool TemplateFields::text(const char* key, std::string& out, const TextRule& rule) {
  const auto value = get(key);
  if (!value) return false;
  if (!value->json->is_string()) {
    fail(key, shown(*value->json) + " is not text");
    return false;
  }
  const auto& text = value->json->get_ref<const std::string&>();
  if (const auto why = rule ? rule(text) : std::nullopt) {
    fail(key, shown(*value->json) + " " + *why);
    return false;
  }
  out = text;
  return true;
}

std::optional<std::size_t> TemplateFields::word_index(const char* key, const std::vector<std::string>& names) {
  const auto value = get(key);
  if (!value) return std::nullopt;
  if (value->json->is_string()) {
    const auto& text = value->json->get_ref<const std::string&>();
    const auto found = std::find(names.begin(), names.end(), text);
    if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
    fail(key, shown(*value->json) + " is not one of " + joined(names), did_you_mean(text, names));
    return std::nullopt;
  }
  fail(key, shown(*value->json) + " is not one of " + joined(names));
  return std::nullopt;
}

void TemplateFields::list(const char* key, std::size_t most, const std::function<void(Value)>& each) {
  const auto value = get(key);
  if (!value) return;
  if (!value->json->is_array()) return fail(key, shown(*value->json) + " is not a list (want [ ... ])");
  if (value->json->size() > most) {
    fail(key,
         std::to_string(value->json->size()) + " entries are too many (want at most " + std::to_string(most) + ")");
    return;
  }
  for (std::size_t i = 0; i < value->json->size(); ++i) {
    Value item{&(*value->json)[i], pointer_to(value->pointer, i)};
    if (!findings_->is_open(*item.json, item.pointer)) each(std::move(item));
  }
}

void TemplateFields::texts(const char* key, std::size_t most, std::vector<std::string>& out, const TextRule& rule) {
  list(key, most, [&](const Value& item) {
    if (!item.json->is_string()) return findings_->add(item.pointer, shown(*item.json) + " is not text");
    const auto& text = item.json->get_ref<const std::string&>();
    if (const auto why = rule(text)) return findings_->add(item.pointer, shown(*item.json) + " " + *why);
    out.push_back(text);
  });
}

void TemplateFields::fail(const char* key, const std::string& why, std::string hint) {
  findings_->add(pointer_to(object_.pointer, key), why, std::move(hint));
}

void TemplateFields::require(const char* key, const std::string& hint) {
  const bool may_come_later = findings_->is_draft() && nulls_ == Nulls::remove;
  if (has(key) || may_come_later || !is_object()) return;
  missing_.emplace_back(key, hint);
}

void TemplateFields::finish() {
  if (!is_object()) return;
  for (const auto& [key, value] : object_.json->items()) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    findings_->add(pointer_to(object_.pointer, key), "unknown key '" + printable(key, 80) + "'",
                   did_you_mean(key, known_, "known here: " + joined(known_)));
  }
  for (const auto& [key, hint] : missing_) findings_->add(object_.pointer, "'" + key + "' is missing", hint);
}

}  // namespace vmgraft

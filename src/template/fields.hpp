// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "template/document.hpp"

namespace vmgraft {

/// Where reading a document puts what is wrong: all of it, so that `template check` can say more than the first thing.
class Findings {
 public:
  /// \param draft  the document is one file of an `extends` chain, its references not put in: keys may be missing, null
  ///               removes a key, and a value with "${" in it is not judged.
  Findings(const Document& document, bool draft) : document_(&document), draft_(draft) {}

  void add(const std::string& pointer, const std::string& why, std::string hint = {});
  [[nodiscard]] bool is_draft() const noexcept { return draft_; }
  /// True when \p value cannot be judged yet.
  [[nodiscard]] bool is_open(const nlohmann::json& value, const std::string& pointer) const;
  [[nodiscard]] const std::vector<TemplateError>& errors() const noexcept { return errors_; }

 private:
  const Document* document_;
  bool draft_;
  std::vector<TemplateError> errors_;
};

struct Value {
  const nlohmann::json* json;
  std::string pointer;
};

/// A value as an error message shows it: 'text', 5, true, null, "a list", "an object".
[[nodiscard]] std::string shown(const nlohmann::json& value);

/// A rule for text: nothing when it holds, else what is wanted, as in "is not a disk name (want ...)".
using TextRule = std::function<std::optional<std::string>(const std::string&)>;

/// The members of one JSON object. Each key is asked for once; what nobody asked for is an unknown key.
/// Readers put the value into \p out and return true only when it is there and good; what is wrong goes to the
/// findings.
class TemplateFields {
 public:
  enum class Nulls { refused, remove };  // remove: as in objects that `extends` merges; only in a draft

  TemplateFields(Findings& findings, Value object, Nulls nulls);

  [[nodiscard]] const std::string& pointer() const noexcept { return object_.pointer; }
  [[nodiscard]] Findings& findings() noexcept { return *findings_; }
  /// The value is an object at all.
  [[nodiscard]] bool is_object() const { return object_.json->is_object(); }
  /// The key is there, whatever its value.
  [[nodiscard]] bool has(const char* key);
  /// The key is there but cannot be judged yet.
  [[nodiscard]] bool is_open(const char* key);
  /// The value to judge; nothing when it is absent, removed or open.
  [[nodiscard]] std::optional<Value> get(const char* key);

  bool integer(const char* key, std::uint64_t least, std::uint64_t most, unsigned& out);
  bool flag(const char* key, bool& out);
  bool size(const char* key, std::uint64_t least, std::uint64_t most, std::uint64_t& out);
  bool duration(const char* key, std::chrono::seconds least, std::chrono::seconds most, std::chrono::seconds& out);
  bool text(const char* key, std::string& out, const TextRule& rule = {});
  template <typename Enum>
  bool word(const char* key, const std::vector<std::pair<const char*, Enum>>& words, Enum& out) {
    std::vector<std::string> names;
    for (const auto& [name, value] : words) names.emplace_back(name);
    const std::optional<std::size_t> index = word_index(key, names);
    if (index) out = words[*index].second;
    return index.has_value();
  }
  /// Calls \p each for every item.
  void list(const char* key, std::size_t most, const std::function<void(Value)>& each);
  /// A list of texts.
  void texts(const char* key, std::size_t most, std::vector<std::string>& out, const TextRule& rule);

  void fail(const char* key, const std::string& why, std::string hint = {});
  /// \p hint is what to write. Silent in a draft when the object is one that is merged. Said by finish().
  void require(const char* key, const std::string& hint);
  /// Name every key that nobody asked for, then those that are missing: a misspelt key is the cause of a missing one.
  void finish();
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& missing() const noexcept { return missing_; }

 private:
  /// As get(), for what is never text: "2${x}" stays text whatever is put in, so it can be judged at once.
  [[nodiscard]] std::optional<Value> get_no_text(const char* key);
  [[nodiscard]] std::optional<std::size_t> word_index(const char* key, const std::vector<std::string>& names);

  Findings* findings_;
  Value object_;
  Nulls nulls_;
  std::vector<std::string> known_;
  std::vector<std::pair<std::string, std::string>> missing_;  // key, hint
};

}  // namespace vmgraft

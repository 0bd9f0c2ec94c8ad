// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace vmgraft::strict_json {

/// Keys keep their order, so that text that went in comes out the same.
using Json = nlohmann::ordered_json;

/// Read \p text; unlike nlohmann's own reader it refuses duplicate keys and absurd depth.
/// \throws Error other: "where: /pointer: why".
[[nodiscard]] Json parse(const std::string& text, const std::string& where);

/// Where in a file we are, as a chain up to the root: it costs nothing until an error needs its pointer.
struct Place {
  const std::string& where;
  const Place* above = nullptr;
  std::string_view key = {};  ///< within an object; empty: `index` within a list
  std::size_t index = 0;

  [[nodiscard]] std::string pointer() const;
  /// \throws Error other: "where: /pointer: why".
  [[noreturn]] void fail(const std::string& why) const;
};

/// Reads the members of one object: each must be there, be of its kind, and none may be left over.
class Fields {
 public:
  Fields(Json& object, const Place& place);

  /// Whether it is there, for a key that came later.
  [[nodiscard]] bool has(std::string_view key) const { return object_.contains(key); }
  [[nodiscard]] std::string text(std::string_view key);
  /// One that came later: where it is missing, it is \p otherwise.
  [[nodiscard]] std::string text(std::string_view key, std::string_view otherwise);
  [[nodiscard]] bool flag(std::string_view key);
  /// One that came later: where it is missing, it is \p otherwise.
  [[nodiscard]] bool flag(std::string_view key, bool otherwise);
  [[nodiscard]] std::uint64_t number(std::string_view key);
  [[nodiscard]] Json& object(std::string_view key);
  [[nodiscard]] std::vector<Json>& list(std::string_view key);
  [[nodiscard]] std::vector<std::string> texts(std::string_view key);
  /// Refuse a format that is not ours. \throws Error other, that asks for a newer vmgraft when it is a later one.
  void require_version(std::uint64_t ours);
  /// To be called last: refuse what nobody asked for.
  void done() const;

  [[nodiscard]] Place at(std::string_view key) const { return {place_.where, &place_, key}; }

 private:
  Json& take(std::string_view key);

  Json& object_;
  const Place& place_;
  std::vector<std::string_view> taken_;
  std::size_t next_ = 0;  ///< where to look first
};

}  // namespace vmgraft::strict_json

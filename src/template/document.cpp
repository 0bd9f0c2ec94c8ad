// SPDX-License-Identifier: Apache-2.0
#include "template/document.hpp"

namespace vmgraft {
namespace {

using nlohmann::json;

/// Forget the origins of what stands below \p pointer.
void forget_below(std::map<std::string, Origin>& origins, const std::string& pointer) {
  const std::string prefix = pointer + "/";
  auto from = origins.lower_bound(prefix);
  auto to = from;
  while (to != origins.end() && to->first.compare(0, prefix.size(), prefix) == 0) ++to;
  origins.erase(from, to);
}

void overlay_value(json& base, Document& base_document, const json& top, const Document& top_document,
                   const std::string& pointer) {
  base_document.origins[pointer] = top_document.origin(pointer);
  if (!top.is_object()) {
    forget_below(base_document.origins, pointer);
    const std::string prefix = pointer + "/";
    for (auto it = top_document.origins.lower_bound(prefix);
         it != top_document.origins.end() && it->first.compare(0, prefix.size(), prefix) == 0; ++it) {
      base_document.origins.insert(*it);
    }
    base = top;
    return;
  }
  if (!base.is_object()) {
    forget_below(base_document.origins, pointer);
    base = json::object();
  }
  for (const auto& [key, value] : top.items()) {
    const std::string member = pointer_to(pointer, key);
    if (value.is_null()) {
      base.erase(key);
      forget_below(base_document.origins, member);
      base_document.origins.erase(member);
    } else {
      overlay_value(base[key], base_document, value, top_document, member);
    }
  }
}

}  // namespace

Origin Document::origin(std::string pointer) const {
  while (true) {
    if (const auto found = origins.find(pointer); found != origins.end()) return found->second;
    const auto slash = pointer.rfind('/');
    if (slash == std::string::npos) return {};
    pointer.erase(slash);
  }
}

std::string pointer_to(const std::string& parent, std::string_view key) {
  std::string pointer = parent + "/";
  for (const char c : key) {
    if (c == '~') {
      pointer += "~0";
    } else if (c == '/') {
      pointer += "~1";
    } else {
      pointer += c;
    }
  }
  return pointer;
}

std::string pointer_to(const std::string& parent, std::size_t index) {
  return parent + "/" + std::to_string(index);
}

void overlay(Document& base, const Document& top) {
  overlay_value(base.root, base, top.root, top, "");
}

}  // namespace vmgraft

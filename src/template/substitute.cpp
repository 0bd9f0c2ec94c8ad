// SPDX-License-Identifier: Apache-2.0
#include "template/substitute.hpp"

#include "model/names.hpp"

namespace vmgraft {
namespace {

using nlohmann::json;

// A short text can name a long value many times.
constexpr std::size_t kMostBytes = std::size_t{4} << 20;

class Substitution {
 public:
  Substitution(Document& document, const ParameterBindings& bindings, const std::map<std::string, std::string>& facts,
               Findings& findings)
      : document_(document), findings_(findings) {
    for (const auto& [name, value] : bindings) values_[name] = value;
    for (const auto& [name, value] : facts) values_[name] = json(value);
  }

  void walk(json& value, const std::string& pointer) {
    if (value.is_object()) {
      for (auto& [key, member] : value.items()) walk(member, pointer_to(pointer, key));
    } else if (value.is_array()) {
      for (std::size_t i = 0; i < value.size(); ++i) walk(value[i], pointer_to(pointer, i));
    } else if (value.is_string()) {
      put(value, pointer);
    }
  }

 private:
  enum class Found { value, no_value_yet, nothing };

  void put(json& value, const std::string& pointer) {
    const std::string text = value.get<std::string>();
    if (text.find("${") == std::string::npos) return;
    std::string out;
    bool whole = true;  // so far the text is nothing but one reference
    for (std::size_t at = 0; at < text.size();) {
      if (text.compare(at, 3, "$${") == 0) {
        out += "${";
        at += 3;
        whole = false;
        continue;
      }
      if (text.compare(at, 2, "${") != 0) {
        out += text[at++];
        whole = false;
        continue;
      }
      const std::size_t end = text.find('}', at);
      if (end == std::string::npos) {
        findings_.add(pointer, "'${' without '}'", "a '${' that is meant as it stands is written '$${'");
        return mark(pointer);
      }
      const json* found = look_up(text.substr(at + 2, end - at - 2), pointer);
      if (found == nullptr) return mark(pointer);
      if (whole && at == 0 && end + 1 == text.size()) {
        value = *found;
        return count(pointer, found->is_string() ? found->get_ref<const std::string&>().size() : 0);
      }
      out += found->is_string() ? found->get_ref<const std::string&>() : found->dump();
      at = end + 1;
      if (out.size() > kMostBytes) return count(pointer, out.size());
    }
    count(pointer, out.size());
    value = std::move(out);
  }

  /// The value of a reference; null when there is none (said, when it is a mistake).
  const json* look_up(const std::string& name, const std::string& pointer) {
    if (const auto found = values_.find(name); found != values_.end()) {
      return found->second ? &*found->second : nullptr;
    }
    std::vector<std::string> names;
    for (const auto& [known, value] : values_) names.push_back(known);
    findings_.add(pointer, "'${" + printable(name, 60) + "}' refers to nothing that is known",
                  did_you_mean(name, names, "a '${' that is meant as it stands is written '$${'"));
    return nullptr;
  }

  void mark(const std::string& pointer) { document_.unknown.insert(pointer); }

  void count(const std::string& pointer, std::size_t bytes) {
    const bool was_within = bytes_ <= kMostBytes;
    bytes_ += bytes;
    if (bytes_ <= kMostBytes) return;
    if (was_within) findings_.add(pointer, "the parameters make the template larger than 4 MiB");
    mark(pointer);
  }

  Document& document_;
  Findings& findings_;
  ParameterBindings values_;
  std::size_t bytes_ = 0;
};

}  // namespace

void substitute(Document& document, const ParameterBindings& bindings, const std::map<std::string, std::string>& facts,
                Findings& findings) {
  Substitution substitution(document, bindings, facts, findings);
  for (const char* section : {"vm", "guest", "lifecycle"}) {
    const auto found = document.root.find(section);
    if (found != document.root.end()) substitution.walk(*found, pointer_to("", section));
  }
}

}  // namespace vmgraft

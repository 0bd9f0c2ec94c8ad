// SPDX-License-Identifier: Apache-2.0
#include "template/gpu_request.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <string_view>

#include <nlohmann/json.hpp>

#include <vmgraft/error.hpp>

#include "model/names.hpp"
#include "model/pci_address.hpp"
#include "template/template.hpp"

namespace vmgraft {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestText = 256;

std::string word(NumaPolicy policy) {
  switch (policy) {
    case NumaPolicy::required:
      return "required";
    case NumaPolicy::any:
      return "any";
    case NumaPolicy::preferred:
      break;
  }
  return "preferred";
}

std::string word(GpuKind kind) {
  switch (kind) {
    case GpuKind::vf:
      return "vf";
    case GpuKind::mdev:
      return "mdev";
    case GpuKind::gpu:
      break;
  }
  return "gpu";
}

std::optional<std::uint64_t> parse_count(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// One text to what would stand in a template's vm.gpus.
class RequestText {
 public:
  RequestText(const std::string& text, const std::string& where)
      : text_(text), place_(where + " '" + printable(text) + "': ") {}

  [[nodiscard]] json entry() const {
    if (text_.size() > kLongestText) refuse("longer than " + std::to_string(kLongestText) + " bytes");
    if (const auto count = parse_count(text_)) return {{"count", *count}};
    if (const auto address = parse_pci_address(text_)) return {{"address", *address}};
    if (text_.find('=') == std::string::npos) {
      refuse("neither a count, a PCI address nor KEY=VALUE",
             "write " + (is_word() ? "model=" + text_ : "model=H100,count=2"));
    }
    json entry = json::object();
    std::string_view rest = text_;
    for (bool more = true; more;) {
      const std::size_t comma = rest.find(',');
      more = comma != std::string_view::npos;
      add(entry, rest.substr(0, comma));
      if (more) rest.remove_prefix(comma + 1);
    }
    return entry;
  }

  [[noreturn]] void refuse(const std::string& why, std::string hint = {}) const {
    throw Error(Errc::usage, place_ + why, std::move(hint));
  }

 private:
  /// A name without the key that makes it one: "H100".
  [[nodiscard]] bool is_word() const {
    return std::isalpha(static_cast<unsigned char>(text_.empty() ? '\0' : text_.front())) != 0 &&
           std::all_of(text_.begin(), text_.end(), [](unsigned char c) { return std::isalnum(c) != 0; });
  }

  void add(json& entry, std::string_view part) const {
    static const std::vector<std::string> keys{"address", "count", "kind", "model", "numa"};
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) refuse("'" + printable(part) + "' is not KEY=VALUE");
    const std::string key(part.substr(0, equals));
    const std::string value(part.substr(equals + 1));
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      refuse("there is no key '" + printable(key) + "' (want address, count, kind, model or numa)",
             did_you_mean(key, keys));
    }
    if (value.empty()) refuse("'" + key + "' has no value");
    if (entry.contains(key)) refuse("'" + key + "' is there twice");
    if (key == "count") {
      const auto count = parse_count(value);
      if (!count) refuse("count: '" + printable(value) + "' is not a whole number");
      entry[key] = *count;
    } else {
      entry[key] = key == "address" ? parse_pci_address(value).value_or(value) : value;
    }
  }

  const std::string& text_;
  std::string place_;
};

/// What follows the place in a message "file: /vm/gpus/0/model: why".
std::string reason(const TemplateError& error) {
  const std::string text = error.what();
  const std::string place = error.pointer() + ": ";
  const std::size_t at = text.find(place);
  return at == std::string::npos ? text : text.substr(at + place.size());
}

/// "/vm/gpus/2/model" to 2; nothing when the list as a whole is meant.
std::optional<std::size_t> entry_of(const std::string& pointer) {
  const std::string list = "/vm/gpus/";
  if (pointer.compare(0, list.size(), list) != 0) return std::nullopt;
  const std::string rest = pointer.substr(list.size());
  return parse_count(rest.substr(0, rest.find('/')));
}

}  // namespace

std::vector<GpuSpec> parse_gpu_request(const std::vector<std::string>& texts, const std::string& where) {
  std::vector<RequestText> requests;
  json entries = json::array();
  for (const std::string& text : texts) {
    requests.emplace_back(text, where);
    entries.push_back(requests.back().entry());
  }
  // The rules for the values have one home, the reader of templates: the request becomes one.
  const json document{{"version", 1}, {"name", "gpus"}, {"vm", {{"memory", "1GiB"}, {"gpus", entries}}}};
  std::string text;
  try {
    text = document.dump();
  } catch (const json::exception&) {
    throw Error(Errc::usage, where + ": not valid UTF-8");
  }
  try {
    return parse_spec(text, where).gpus;
  } catch (const TemplateError& error) {
    const auto entry = entry_of(error.pointer());
    const std::size_t slash = error.pointer().rfind('/');
    const std::string key = error.pointer().substr(slash + 1);
    if (entry && *entry < requests.size()) requests[*entry].refuse(key + ": " + reason(error), error.hint());
    throw Error(Errc::usage, where + ": " + reason(error), error.hint());
  }
}

std::string gpu_request_text(const GpuSpec& spec) {
  const GpuSpec plain;
  std::vector<std::string> parts;
  if (spec.count != plain.count) parts.push_back("count=" + std::to_string(spec.count));
  if (spec.kind != plain.kind) parts.push_back("kind=" + word(spec.kind));
  if (!spec.model.empty()) parts.push_back("model=" + spec.model);
  if (spec.numa != plain.numa) parts.push_back("numa=" + word(spec.numa));
  if (parts.empty() && !spec.address.empty()) return spec.address;
  if (!spec.address.empty()) parts.insert(parts.begin(), "address=" + spec.address);
  const bool is_count = parts.empty() || (parts.size() == 1 && spec.count != plain.count);
  if (is_count) return std::to_string(spec.count);
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ",") + part;
  return text;
}

std::string with_gpus(const std::string& spec_json, const std::vector<GpuSpec>& gpus) {
  json document = json::parse(spec_json);
  json& vm = document.at("vm");
  vm.erase("gpus");
  json list = json::array();
  for (const GpuSpec& gpu : gpus) {
    json entry{{"count", gpu.count}, {"kind", word(gpu.kind)}, {"numa", word(gpu.numa)}};
    if (!gpu.model.empty()) entry["model"] = gpu.model;
    if (!gpu.address.empty()) entry["address"] = gpu.address;
    list.push_back(std::move(entry));
  }
  // No GPUs is no key: the same text as of a template that never asked for one.
  if (!list.empty()) vm["gpus"] = std::move(list);
  return document.dump(2);
}

}  // namespace vmgraft

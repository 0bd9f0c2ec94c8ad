// SPDX-License-Identifier: Apache-2.0
#include "template/parameters.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include "model/names.hpp"
#include "model/size.hpp"
#include "template/pattern.hpp"

namespace vmgraft {
namespace {

using nlohmann::json;
using Why = std::optional<std::string>;

constexpr std::size_t kLongestValue = 64 * 1024;
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

constexpr std::pair<const char*, ParameterType> kTypes[] = {{"string", ParameterType::string},
                                                            {"integer", ParameterType::integer},
                                                            {"boolean", ParameterType::boolean},
                                                            {"size", ParameterType::size},
                                                            {"duration", ParameterType::duration}};

std::string type_name(ParameterType type) {
  for (const auto& [name, value] : kTypes) {
    if (value == type) return name;
  }
  return {};
}

/// "is not ...": what a value of the type looks like.
const char* unlike(ParameterType type) {
  switch (type) {
    case ParameterType::string:
      return "is not text";
    case ParameterType::integer:
      return "is not a whole number";
    case ParameterType::boolean:
      return "is not true or false";
    case ParameterType::size:
      return "is not a size (want bytes, or text like \"2GiB\")";
    case ParameterType::duration:
      return "is not a duration (want text like \"90s\", \"5m\", \"1h30m\")";
  }
  return "does not fit";
}

bool has_range(ParameterType type) {
  return type == ParameterType::integer || type == ParameterType::size || type == ParameterType::duration;
}

/// A number, size or duration as a number to compare; nothing when the value is not of that type.
std::optional<std::int64_t> measure(ParameterType type, const json& value) {
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(kMost)) return std::nullopt;
  if (type == ParameterType::integer && value.is_number_integer()) return value.get<std::int64_t>();
  if (type == ParameterType::size && value.is_number_integer()) {
    return value.get<std::int64_t>() < 0 ? std::nullopt : std::optional(value.get<std::int64_t>());
  }
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  if (type == ParameterType::size) {
    const auto bytes = parse_size(text);
    if (bytes && *bytes <= static_cast<std::uint64_t>(kMost)) return static_cast<std::int64_t>(*bytes);
  }
  if (type == ParameterType::duration) {
    if (const auto seconds = parse_duration(text)) return seconds->count();
  }
  return std::nullopt;
}

bool is_of_type(ParameterType type, const json& value) {
  if (type == ParameterType::string) return value.is_string();
  if (type == ParameterType::boolean) return value.is_boolean();
  return measure(type, value).has_value();
}

std::string as_written(const json& value) {
  return value.is_string() ? printable(value.get_ref<const std::string&>(), 80) : value.dump();
}

std::string range_text(const Parameter& parameter) {
  if (!parameter.maximum) return as_written(*parameter.minimum) + " or more";
  if (!parameter.minimum) return as_written(*parameter.maximum) + " or less";
  return as_written(*parameter.minimum) + " to " + as_written(*parameter.maximum);
}

/// Why \p value is none of the parameter's.
Why unfit(const Parameter& parameter, const json& value) {
  const ParameterType type = *parameter.type;
  if (!is_of_type(type, value)) return unlike(type);
  if (value.is_string() && value.get_ref<const std::string&>().size() > kLongestValue) return "is longer than 64 KiB";
  if (has_range(type)) {
    const std::int64_t at = *measure(type, value);
    const bool below = parameter.minimum && at < measure(type, *parameter.minimum).value_or(at);
    const bool above = parameter.maximum && at > measure(type, *parameter.maximum).value_or(at);
    if (below || above) return "is out of range (want " + range_text(parameter) + ")";
  }
  const auto same = [&](const json& choice) {
    return has_range(type) ? measure(type, choice) == measure(type, value) : choice == value;
  };
  if (!parameter.choices.empty() && std::none_of(parameter.choices.begin(), parameter.choices.end(), same)) {
    std::string names;
    for (const json& choice : parameter.choices) names += (names.empty() ? "" : ", ") + as_written(choice);
    return "is not one of " + printable(names);
  }
  if (!parameter.pattern.empty() && type == ParameterType::string) {
    const auto& text = value.get_ref<const std::string&>();
    if (text.size() > kLongestMatched) return "is longer than 1024 bytes";
    if (!pattern_fault(parameter.pattern) && !fits_pattern(text, parameter.pattern)) {
      return "does not match " + printable(parameter.pattern, 80);
    }
  }
  return std::nullopt;
}

/// --set text to a value of the type; JSON null when it is none.
json converted(ParameterType type, const std::string& text) {
  if (type == ParameterType::integer) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc{} && end == text.data() + text.size() ? json(number) : json();
  }
  if (type == ParameterType::boolean) return text == "true" ? json(true) : text == "false" ? json(false) : json();
  return text;
}

/// The value of \p key when it is there and of the parameter's type.
std::optional<json> typed(TemplateFields& fields, const Parameter& parameter, const char* key) {
  const auto value = fields.get(key);
  if (!value) return std::nullopt;
  if (parameter.type && !is_of_type(*parameter.type, *value->json)) {
    fields.fail(key, shown(*value->json) + " " + unlike(*parameter.type));
    return std::nullopt;
  }
  if (!value->json->is_string() && !value->json->is_number_integer() && !value->json->is_boolean()) {
    fields.fail(key, shown(*value->json) + " is not text, a whole number, true or false");
    return std::nullopt;
  }
  return *value->json;
}

void read_limits(TemplateFields& fields, Parameter& parameter) {
  for (const char* key : {"minimum", "maximum"}) {
    if (fields.has(key) && parameter.type && !has_range(*parameter.type)) {
      static_cast<void>(fields.get(key));
      fields.fail(key, "only for integer, size and duration, not for " + type_name(*parameter.type));
      continue;
    }
    const std::optional<json> value = typed(fields, parameter, key);
    if (value && value->is_boolean()) {
      fields.fail(key, shown(*value) + " is not text or a whole number");
    } else {
      (key == std::string("minimum") ? parameter.minimum : parameter.maximum) = value;
    }
  }
  if (!parameter.type || !parameter.minimum || !parameter.maximum) return;
  if (measure(*parameter.type, *parameter.minimum) > measure(*parameter.type, *parameter.maximum)) {
    fields.fail("minimum", shown(*parameter.minimum) + " is above the maximum " + as_written(*parameter.maximum));
  }
}

void read_choices(TemplateFields& fields, Parameter& parameter) {
  constexpr std::size_t kMostChoices = 256;
  fields.list("enum", kMostChoices, [&](const Value& item) {
    const json& choice = *item.json;
    if (!choice.is_string() && !choice.is_number_integer() && !choice.is_boolean()) {
      fields.findings().add(item.pointer, shown(choice) + " is not text, a whole number, true or false");
    } else if (parameter.type && !is_of_type(*parameter.type, choice)) {
      fields.findings().add(item.pointer, shown(choice) + " " + unlike(*parameter.type));
    } else {
      parameter.choices.push_back(choice);
    }
  });
  if (const auto list = fields.get("enum"); list && list->json->is_array() && list->json->empty()) {
    fields.fail("enum", "an empty list leaves nothing to choose from");
  }
}

Parameter read_parameter(Findings& findings, const std::string& name, Value value) {
  Parameter parameter;
  parameter.name = name;
  parameter.pointer = value.pointer;
  TemplateFields fields(findings, std::move(value), TemplateFields::Nulls::remove);
  fields.require("type", "one of string, integer, boolean, size, duration");
  std::vector<std::pair<const char*, ParameterType>> types(std::begin(kTypes), std::end(kTypes));
  if (ParameterType type{}; fields.word("type", types, type)) parameter.type = type;
  fields.text("description", parameter.description, [](const std::string& text) {
    return text.size() <= 1024 ? std::nullopt : Why("is longer than 1024 bytes");
  });
  const std::size_t before = findings.errors().size();
  read_limits(fields, parameter);
  read_choices(fields, parameter);
  if (fields.has("pattern") && parameter.type && *parameter.type != ParameterType::string) {
    fields.fail("pattern", "only for string, not for " + type_name(*parameter.type));
  }
  fields.text("pattern", parameter.pattern, pattern_fault);
  parameter.default_value = typed(fields, parameter, "default");
  if (parameter.default_value && shown(*parameter.default_value).find("${") != std::string::npos) {
    fields.fail("default", shown(*parameter.default_value) + ": a default cannot refer to another parameter");
  }
  if (parameter.default_value && parameter.type && findings.errors().size() == before) {
    const json& value_given = *parameter.default_value;
    if (const Why why = unfit(parameter, value_given)) fields.fail("default", shown(value_given) + " " + *why);
  }
  fields.finish();
  return parameter;
}

bool is_parameter_name(const std::string& name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return !name.empty() && name.size() <= 63 && letter(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-'; });
}

/// True for text that JSON can hold. dump() throws on what is not UTF-8.
bool is_json_text(const std::string& text) {
  if (text.find('\0') != std::string::npos) return false;
  try {
    static_cast<void>(json(text).dump());
    return true;
  } catch (const json::exception&) {
    return false;
  }
}

json value_given(const Parameter& parameter, const std::string& text, const std::string& place) {
  const std::string said = place + "'" + printable(text, 80) + "' ";
  if (!is_json_text(text)) throw Error(Errc::invalid_template, said + "is not UTF-8 text");
  json value = converted(*parameter.type, text);
  if (value.is_null()) throw Error(Errc::invalid_template, said + unlike(*parameter.type));
  if (const Why why = unfit(parameter, value)) throw Error(Errc::invalid_template, said + *why);
  return value;
}

}  // namespace

std::vector<Parameter> read_parameters(TemplateFields& root) {
  std::vector<Parameter> parameters;
  const auto section = root.get("parameters");
  if (!section) return parameters;
  Findings& findings = root.findings();
  if (!section->json->is_object()) {
    findings.add(section->pointer, shown(*section->json) + " is not an object (want { ... })");
    return parameters;
  }
  for (const auto& [name, value] : section->json->items()) {
    const std::string pointer = pointer_to(section->pointer, name);
    if (!is_parameter_name(name)) {
      findings.add(pointer, "'" + printable(name, 80) +
                                "' is not a parameter name (want 1 to 63 of a-z A-Z 0-9 _ -, first a letter)");
      continue;
    }
    if (value.is_null() && findings.is_draft()) continue;
    parameters.push_back(read_parameter(findings, name, {&value, pointer}));
  }
  return parameters;
}

ParameterBindings bind_parameters(const std::vector<Parameter>& parameters, const ParameterValues& given,
                                  const std::string& who, bool allow_missing) {
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters) names.push_back(parameter.name);
  for (const auto& [name, text] : given) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    std::string known;
    for (const std::string& declared : names) known += (known.empty() ? "it has: " : ", ") + declared;
    throw Error(Errc::invalid_template, who + ": there is no parameter '" + printable(name, 80) + "'",
                did_you_mean(name, names, known.empty() ? "it has no parameters" : known));
  }
  ParameterBindings bindings;
  for (const Parameter& parameter : parameters) {
    const std::string place = who + ": parameter '" + parameter.name + "': ";
    if (const auto found = given.find(parameter.name); found != given.end()) {
      bindings[parameter.name] = value_given(parameter, found->second, place);
    } else if (parameter.default_value || allow_missing) {
      bindings[parameter.name] = parameter.default_value;
    } else {
      throw Error(Errc::invalid_template, place + "a value is required",
                  "give it with --set " + parameter.name + "=VALUE");
    }
  }
  return bindings;
}

TemplateParameter describe(const Parameter& parameter) {
  TemplateParameter out;
  out.name = parameter.name;
  out.type = parameter.type ? type_name(*parameter.type) : "";
  out.required = !parameter.default_value.has_value();
  if (parameter.default_value) {
    const json& value = *parameter.default_value;
    out.default_value = value.is_string() ? value.get<std::string>() : value.dump();
  }
  out.description = parameter.description;
  return out;
}

}  // namespace vmgraft

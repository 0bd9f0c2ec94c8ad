// SPDX-License-Identifier: Apache-2.0
#include "template/template_loader.hpp"

#include <algorithm>
#include <set>

#include "model/names.hpp"
#include "template/parameters.hpp"
#include "template/spec_reader.hpp"

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostFiles = 16;
constexpr std::string_view kEnding = ".json";

bool ends_in(std::string_view text, std::string_view ending) {
  return text.size() >= ending.size() && text.substr(text.size() - ending.size()) == ending;
}

bool is_name(const std::string& name) {
  return !name_rule("template")(name).has_value();
}

/// The file is there, whatever it is and whoever may read it.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::status(path, error).type() != fs::file_type::not_found;
}

bool covers(const std::vector<TemplateError>& errors, const std::string& pointer) {
  return std::any_of(errors.begin(), errors.end(), [&](const TemplateError& error) {
    return error.pointer() == pointer || error.pointer().rfind(pointer + "/", 0) == 0;
  });
}

/// What is wrong with the sections of one file, its references not put in, beyond \p known. The schema judges; the
/// readers say it in our words.
std::vector<TemplateError> judge(const Document& document, const TemplateSchema& schema,
                                 const std::vector<TemplateError>& known) {
  const std::vector<std::string> violations = schema.violations(document.root);
  if (violations.empty() || !document.root.is_object()) return {};
  Findings findings(document, true);
  TemplateFields root(findings, {&document.root, ""}, TemplateFields::Nulls::remove);
  for (const char* key : {"$schema", "version", "name", "extends"}) static_cast<void>(root.has(key));  // read_header's
  static_cast<void>(read_parameters(root));
  VmSpec ignored;
  read_spec(root, ignored);
  root.finish();
  for (const std::string& pointer : violations) {
    const std::string said = printable(pointer);
    if (!covers(findings.errors(), said) && !covers(known, said))
      findings.add(pointer, "does not fit the schema of templates");
  }
  return findings.errors();
}

/// What describes the file itself. These are never references.
void read_header(TemplateFile& file, Findings& findings) {
  TemplateFields root(findings, {&file.document.root, ""}, TemplateFields::Nulls::refused);
  if (!root.is_object()) return;
  root.require("version", R"(write "version": 1)");
  read_version(root);
  std::string ignored;
  root.text("$schema", ignored);
  std::string name;
  if (root.text("name", name, name_rule("template"))) file.name = name;
  root.text("extends", file.extends, [](const std::string& text) -> std::optional<std::string> {
    if (TemplateLoader::is_path(text))
      return text.size() <= 1024 ? std::nullopt : std::optional<std::string>("is too long");
    return name_rule("template")(text);
  });
  root.text("description", file.description);
  for (const auto& [key, hint] : root.missing()) findings.add("", "'" + key + "' is missing", hint);
}

std::string circle(const std::vector<TemplateFile>& chain, std::size_t from) {
  std::string text;
  for (std::size_t i = from; i < chain.size(); ++i) text += chain[i].name + " -> ";
  return text + chain[from].name;
}

bool is_same_file(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return fs::equivalent(a, b, error) && !error;
}

}  // namespace

bool TemplateLoader::is_path(const std::string& name) {
  return name.find('/') != std::string::npos || ends_in(name, kEnding);
}

std::vector<std::string> TemplateLoader::names() const {
  std::set<std::string> names;
  for (const fs::path& folder : *folders_) {
    std::error_code error;  // a folder that is not there holds no templates
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      const std::string file = it->path().filename().string();
      if (!ends_in(file, kEnding) || ends_in(file, ".schema.json")) continue;
      std::error_code no_type;
      if (it->is_directory(no_type)) continue;
      const std::string name = file.substr(0, file.size() - kEnding.size());
      if (is_name(name)) names.insert(name);
    }
  }
  return {names.begin(), names.end()};
}

fs::path TemplateLoader::find(const std::string& name) const {
  if (name.find('\0') != std::string::npos) require_name("template", name);
  if (is_path(name)) {
    if (is_there(name)) return name;
    throw Error(Errc::not_found, "there is no template file '" + printable(name) + "'");
  }
  require_name("template", name);
  for (const fs::path& folder : *folders_) {
    const fs::path path = folder / (name + std::string(kEnding));
    if (!ends_in(name, ".schema") && is_there(path)) return path;
  }
  throw Error(Errc::not_found, "there is no template '" + printable(name) + "'",
              did_you_mean(name, names(), "'vmgraft template list' shows those that are there"));
}

TemplateFile TemplateLoader::read(const std::string& name, const fs::path& path,
                                  std::vector<TemplateError>& errors) const {
  TemplateFile file;
  file.path = path;
  file.name = path.stem().string();
  file.document = read_document_file(path);
  Findings findings(file.document, false);
  read_header(file, findings);
  const std::vector<TemplateError> unfit = judge(file.document, schema_, findings.errors());
  if (!is_path(name) && file.name != name && findings.errors().empty()) {
    findings.add("/name", "'" + file.name + "' is not what the file is called ('" + name + "')",
                 "write \"name\": \"" + name + "\", or rename the file");
  }
  if (is_path(name) && !is_name(file.name)) {
    findings.add("", "'name' is missing, and '" + printable(file.name, 80) + "' of the file is not a name",
                 R"(write "name": "...")");
  }
  std::vector<TemplateError> all = findings.errors();
  for (const TemplateError& error : unfit) {
    const auto same = [&](const TemplateError& other) { return other.what() == std::string(error.what()); };
    if (std::none_of(all.begin(), all.end(), same)) all.push_back(error);
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const TemplateError& a, const TemplateError& b) { return a.line() < b.line(); });
  errors.insert(errors.end(), all.begin(), all.end());
  return file;
}

std::vector<TemplateFile> TemplateLoader::chain(const std::string& name, std::vector<TemplateError>& errors) const {
  std::vector<TemplateFile> files;
  std::string wanted = name;
  fs::path path = find(name);
  while (true) {
    try {
      files.push_back(read(wanted, path, errors));
    } catch (const TemplateError& error) {
      errors.push_back(error);
      return files;
    }
    const TemplateFile& file = files.back();
    if (file.extends.empty()) return files;
    Findings findings(file.document, false);
    wanted = file.extends;
    try {
      path = find(is_path(wanted) ? (file.path.parent_path() / wanted).lexically_normal().string() : wanted);
      const auto met = std::find_if(files.begin(), files.end(),
                                    [&](const TemplateFile& other) { return is_same_file(other.path, path); });
      if (met != files.end()) {
        findings.add("/extends", "the templates extend each other in a circle: " +
                                     circle(files, static_cast<std::size_t>(met - files.begin())));
      } else if (files.size() == kMostFiles) {
        findings.add("/extends", "more than " + std::to_string(kMostFiles) + " templates extend one another");
      }
    } catch (const Error& error) {
      findings.add("/extends", error.what(), error.hint());
    }
    if (!findings.errors().empty()) {
      errors.push_back(findings.errors().front());
      return files;
    }
  }
}

}  // namespace vmgraft

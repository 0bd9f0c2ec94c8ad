// SPDX-License-Identifier: Apache-2.0
#include "template/template.hpp"

#include <algorithm>

#include "host/sha256.hpp"
#include "model/names.hpp"
#include "template/parameters.hpp"
#include "template/spec_reader.hpp"
#include "template/substitute.hpp"
#include "template/template_loader.hpp"

namespace vmgraft {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kSections[] = {"parameters", "vm", "guest", "lifecycle"};

/// The chain put over one another, the last one at the bottom: only what is inherited.
Document merged(const std::vector<TemplateFile>& chain) {
  Document all;
  all.root = json::object();
  for (auto file = chain.rbegin(); file != chain.rend(); ++file) {
    Document sections;
    sections.origins = file->document.origins;
    sections.root = json::object();
    for (const char* section : kSections) {
      const auto found = file->document.root.find(section);
      if (found != file->document.root.end()) sections.root[section] = *found;
    }
    overlay(all, sections);
  }
  return all;
}

VmSpec judged_spec(const Document& document, Findings& findings) {
  VmSpec spec;
  TemplateFields root(findings, {&document.root, ""}, TemplateFields::Nulls::refused);
  read_version(root);
  root.require("name", R"(write "name": "...")");
  root.text("name", spec.template_name, name_rule("template"));
  read_spec(root, spec);
  root.finish();
  return spec;
}

struct Request {
  const std::string& name;
  const ParameterValues& values;
  const TemplateFacts& facts;
  bool allow_missing = false;
};

struct Outcome {
  TemplateInfo info;
  ResolvedTemplate resolved;
  std::vector<TemplateError> errors;

  void add(const std::vector<TemplateError>& found) { errors.insert(errors.end(), found.begin(), found.end()); }
};

TemplateInfo describe(const TemplateFile& file, const std::vector<Parameter>& parameters) {
  TemplateInfo info;
  info.name = file.name;
  info.description = file.description;
  info.file = file.path.string();
  info.extends = file.extends;
  for (const Parameter& parameter : parameters) info.parameters.push_back(describe(parameter));
  return info;
}

/// The way from a name to a spec; stops where going on would only find what follows from the first faults.
Outcome evaluate(const TemplateLoader& loader, const Request& request) {
  Outcome outcome;
  const std::vector<TemplateFile> chain = loader.chain(request.name, outcome.errors);
  if (!outcome.errors.empty()) return outcome;
  const TemplateFile& self = chain.front();
  Document document = merged(chain);

  Findings declared(document, false);
  TemplateFields sections(declared, {&document.root, ""}, TemplateFields::Nulls::refused);
  const std::vector<Parameter> parameters = read_parameters(sections);
  outcome.info = describe(self, parameters);
  outcome.add(declared.errors());
  if (!outcome.errors.empty()) return outcome;

  const ParameterBindings bindings =
      bind_parameters(parameters, request.values, "template '" + self.name + "'", request.allow_missing);
  document.root.erase("parameters");
  document.root["version"] = 1;
  document.root["name"] = self.name;
  if (!self.description.empty()) document.root["description"] = self.description;
  Findings findings(document, false);
  substitute(document, bindings, {{"vm.name", request.facts.vm_name}}, findings);
  // Faults of substitution are marked unknown, so the reader does not say them again.
  outcome.resolved.spec = judged_spec(document, findings);
  outcome.add(findings.errors());
  if (!outcome.errors.empty() || !document.unknown.empty()) return outcome;

  outcome.resolved.name = self.name;
  outcome.resolved.file = self.path;
  outcome.resolved.json = document.root.dump(2);
  outcome.resolved.digest = sha256_text(outcome.resolved.json);
  return outcome;
}

/// Everything that can be known without values: parameters with no default are left open.
Outcome examine(const TemplateLoader& loader, const std::string& name) {
  return evaluate(loader, {name, {}, {"vm"}, true});
}

}  // namespace

TemplateLibrary::TemplateLibrary(std::vector<fs::path> folders) : folders_(std::move(folders)) {}

std::vector<TemplateInfo> TemplateLibrary::list() const {
  const TemplateLoader loader(folders_);
  std::vector<TemplateInfo> infos;
  for (const std::string& name : loader.names()) {
    Outcome outcome;
    try {
      outcome = examine(loader, name);
    } catch (const Error& error) {  // the file went away, or cannot be looked at
      outcome.errors.emplace_back("", 0, "", error.what());
    }
    if (!outcome.errors.empty()) {
      outcome.info = {};
      outcome.info.name = name;
      outcome.info.description = std::string("broken: ") + outcome.errors.front().what();
      outcome.info.file = outcome.errors.front().file();
    }
    infos.push_back(std::move(outcome.info));
  }
  return infos;
}

TemplateInfo TemplateLibrary::info(const std::string& name) const {
  Outcome outcome = examine(TemplateLoader(folders_), name);
  if (!outcome.errors.empty()) throw outcome.errors.front();
  return std::move(outcome.info);
}

ResolvedTemplate TemplateLibrary::resolve(const std::string& name, const ParameterValues& values,
                                          const TemplateFacts& facts) const {
  if (!facts.vm_name.empty()) require_name("VM", facts.vm_name);
  Outcome outcome = evaluate(TemplateLoader(folders_), {name, values, facts});
  if (!outcome.errors.empty()) throw outcome.errors.front();
  return std::move(outcome.resolved);
}

std::vector<TemplateError> TemplateLibrary::check(const std::string& name) const {
  return examine(TemplateLoader(folders_), name).errors;
}

VmSpec parse_spec(std::string_view json_text, const std::string& where) {
  const Document document = read_document(json_text, where);
  Findings findings(document, false);
  VmSpec spec = judged_spec(document, findings);
  if (!findings.errors().empty()) throw findings.errors().front();
  return spec;
}

}  // namespace vmgraft

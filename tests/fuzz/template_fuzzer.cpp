// SPDX-License-Identifier: Apache-2.0
// A template, the way of a file through the reader: JSON, schema, parameters, references, spec. TemplateLibrary goes the
// same way, but reads files and the schema anew for each of them, which is too slow for here.
#include "template/template.hpp"

#include "template/gpu_request.hpp"
#include "template/parameters.hpp"
#include "template/schema.hpp"
#include "template/spec_reader.hpp"
#include "template/substitute.hpp"

#include "fuzz/fuzz.hpp"

using namespace vmgraft;
using namespace vmgraft::fuzz;

namespace {

void require_fit(const Findings& findings) {
  for (const TemplateError& error : findings.errors()) require_fit_to_print(error);
}

void check_spec(const VmSpec& spec) {
  require(spec.cpus >= 1 && spec.memory % (1 << 20) == 0, "CPUs and memory are in range");
  for (const DiskSpec& disk : spec.disks) {
    require_name("disk", disk.name);
    if (!disk.image.empty()) require_name("image", disk.image);
  }
  require(spec.lifecycle.ready_timeout.count() > 0, "a timeout is one");
}

/// The template with its parameters put in; nothing when it is refused.
std::optional<std::string> resolved(std::string_view text) {
  static const TemplateSchema schema;
  Document document = read_document(text, "fuzz.json");
  static_cast<void>(schema.violations(document.root));
  Findings draft(document, true);
  VmSpec ignored;
  Fields file(draft, {&document.root, ""}, Fields::Nulls::remove);
  if (file.is_object()) read_spec(file, ignored);
  require_fit(draft);
  Document base;
  base.root = nlohmann::json::object();
  overlay(base, document);
  if (!base.root.is_object()) return std::nullopt;

  Findings declared(base, false);
  Fields sections(declared, {&base.root, ""}, Fields::Nulls::refused);
  const std::vector<Parameter> parameters = read_parameters(sections);
  require_fit(declared);
  if (!declared.errors().empty()) return std::nullopt;
  const ParameterBindings bindings = bind_parameters(parameters, {}, "template 'fuzz'", false);
  base.root.erase("parameters");
  base.root.erase("extends");
  Findings findings(base, false);
  substitute(base, bindings, {{"vm.name", "web"}}, findings);
  require_fit(findings);
  if (!findings.errors().empty()) return std::nullopt;
  return base.root.dump(2);
}

}  // namespace

VMGRAFT_FUZZER(input) {
  const auto text = accepted([&] { return resolved(input); });
  if (!text || !*text) return;
  const auto spec = accepted([&] { return parse_spec(**text, "what was written"); });
  if (!spec) return;
  check_spec(*spec);
  const Document again = read_document(**text, "what was written");
  require(again.root.dump(2) == **text, "a template's canonical text reads back as it was");
  require(parse_spec(with_gpus(**text, spec->gpus), "what was written").gpus.size() == spec->gpus.size(),
          "its GPUs read back");
}

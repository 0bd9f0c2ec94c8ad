// SPDX-License-Identifier: Apache-2.0
// A template, the way of a file through the reader: JSON, schema, parameters, references, spec; then the seed that
// cloud-init is given of it. TemplateLibrary goes the same way, but reads files and the schema anew for each of them,
// which is too slow for here.
#include "template/template.hpp"

#include "guest/provision.hpp"
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

/// JSON as a reader of YAML takes it, that holds the texts as they were.
void check_seed(const VmSpec& spec) {
  SeedConfig config;
  config.instance_id = "web-1";
  config.hostname = spec.guest.hostname.empty() ? "web" : spec.guest.hostname;
  config.user = spec.guest.user;
  config.ssh_keys = spec.guest.ssh_keys;
  config.files = spec.guest.files;
  config.run = spec.guest.run;
  const auto seed = accepted([&] { return seed_files(config); });
  if (!seed) return;
  const std::string_view start = "#cloud-config\n";
  require(seed->user_data.starts_with(start), "cloud-init takes it for its own");
  for (const std::string_view unfit : {"\x7f", "\xc2\x80", "\xc2\x9f", "\xef\xbf\xbe", "\xef\xbf\xbf"}) {
    require(seed->user_data.find(unfit) == std::string::npos, "YAML has no such character");
  }
  const auto data = nlohmann::json::parse(seed->user_data.substr(start.size()));
  require(data.at("hostname") == config.hostname, "a host name comes through");
  if (!config.run.empty()) require(data.at("runcmd").back().back() == config.run.back(), "a step comes through");
  if (!config.files.empty()) {
    require(data.at("write_files").back().at("path") == config.files.back().path, "a path comes through");
  }
}

/// The template with its parameters put in; nothing when it is refused.
std::optional<std::string> resolved(std::string_view text) {
  static const TemplateSchema schema;
  Document document = read_document(text, "fuzz.json");
  static_cast<void>(schema.violations(document.root));
  Findings draft(document, true);
  VmSpec ignored;
  TemplateFields file(draft, {&document.root, ""}, TemplateFields::Nulls::remove);
  if (file.is_object()) read_spec(file, ignored);
  require_fit(draft);
  Document base;
  base.root = nlohmann::json::object();
  overlay(base, document);
  if (!base.root.is_object()) return std::nullopt;

  Findings declared(base, false);
  TemplateFields sections(declared, {&base.root, ""}, TemplateFields::Nulls::refused);
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
  check_seed(*spec);
  const Document again = read_document(**text, "what was written");
  require(again.root.dump(2) == **text, "a template's canonical text reads back as it was");
  require(parse_spec(with_gpus(**text, spec->gpus), "what was written").gpus.size() == spec->gpus.size(),
          "its GPUs read back");
}

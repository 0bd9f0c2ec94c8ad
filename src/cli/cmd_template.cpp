// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"
#include "model/names.hpp"

namespace vmgraft::cli {

namespace {

class TemplateListVerb final : public Verb {
 public:
  void declare(Arguments&) override {}

  int run(Session& session) override {
    const std::vector<TemplateInfo> templates = session.manager().templates();
    session.answer(templates_json(templates), templates_text(session.terminal(), templates));
    return 0;
  }
};

class TemplateShowVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("NAME", name_, "name of a template, or path of a template file");
    args.parameters(parameters_);
  }

  int run(Session& session) override {
    std::string text = session.manager().template_show(name_, parameters_);
    if (!text.empty() && text.back() != '\n') text += '\n';
    session.answer_document(resolved_template_json(text), text);
    return 0;
  }

 private:
  std::string name_;
  ParameterValues parameters_;
};

class TemplateCheckVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.several("NAME|FILE", names_, "names of templates, or paths of template files");
  }

  int run(Session& session) override {
    for_each_name(session, "templates", names_, [&](const std::string& name) {
      const TemplateInfo info = session.manager().template_check(name);
      session.print(fmt::format("{}: ok\n", printable(info.file.empty() ? name : info.file)));
      return template_object(info);
    });
    return 0;
  }

 private:
  std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<Verb> make_template_list() {
  return std::make_unique<TemplateListVerb>();
}
std::unique_ptr<Verb> make_template_show() {
  return std::make_unique<TemplateShowVerb>();
}
std::unique_ptr<Verb> make_template_check() {
  return std::make_unique<TemplateCheckVerb>();
}

}  // namespace vmgraft::cli

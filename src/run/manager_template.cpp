// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "run/doctor.hpp"
#include "run/manager_impl.hpp"

namespace vmgraft {

std::vector<TemplateInfo> Manager::templates() const { return TemplateLibrary(impl_->template_folders()).list(); }

std::string Manager::template_show(const std::string& name, const ParameterValues& parameters) const {
  const TemplateLibrary library(impl_->template_folders());
  return library.resolve(name, parameters, {library.info(name).name}).json;
}

TemplateInfo Manager::template_check(const std::string& name) const {
  const TemplateLibrary library(impl_->template_folders());
  if (const std::vector<TemplateError> errors = library.check(name); !errors.empty()) {
    TemplateError first = errors.front();
    for (std::size_t i = 1; i < errors.size(); ++i) first.add_context(fmt::format("also: {}", errors[i].what()));
    throw first;
  }
  return library.info(name);
}

std::vector<DoctorRow> Manager::doctor() {
  const std::filesystem::path root = impl_->store_root();
  return check_host({impl_->host, choose_uri(impl_->options.connect),
                     [this]() -> Hypervisor& { return impl_->hypervisor(); }, root});
}

}  // namespace vmgraft

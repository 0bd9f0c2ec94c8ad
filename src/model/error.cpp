// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include <vmgraft/error.hpp>

namespace vmgraft {
namespace {

std::string place(const std::string& file, unsigned line, const std::string& pointer, const std::string& why) {
  std::string text = file;
  if (line != 0) text += ":" + std::to_string(line);
  if (!text.empty()) text += ": ";
  if (!pointer.empty()) text += pointer + ": ";
  return text + why;
}

}  // namespace

int exit_code(Errc code) noexcept {
  switch (code) {
    case Errc::other:
      return 1;
    case Errc::usage:
      return 2;
    case Errc::invalid_template:
      return 3;
    case Errc::not_found:
      return 4;
    case Errc::conflict:
      return 5;
    case Errc::host_unfit:
      return 6;
    case Errc::unreachable:
      return 7;
    case Errc::incomplete:
      return 8;
    case Errc::interrupted:
      return 130;
  }
  return 1;
}

std::string_view to_string(Errc code) noexcept {
  switch (code) {
    case Errc::other:
      return "other";
    case Errc::usage:
      return "usage";
    case Errc::invalid_template:
      return "invalid_template";
    case Errc::not_found:
      return "not_found";
    case Errc::conflict:
      return "conflict";
    case Errc::host_unfit:
      return "host_unfit";
    case Errc::unreachable:
      return "unreachable";
    case Errc::incomplete:
      return "incomplete";
    case Errc::interrupted:
      return "interrupted";
  }
  return "other";
}

Error::Error(Errc code, const std::string& what, std::string hint)
    : std::runtime_error(what), code_(code), hint_(std::move(hint)) {}

Error& Error::add_context(std::string frame) {
  context_.push_back(std::move(frame));
  return *this;
}

Error& Error::set_libvirt(LibvirtCause cause) {
  libvirt_ = std::move(cause);
  return *this;
}

Error& Error::add_leftover(std::string leftover) {
  leftovers_.push_back(std::move(leftover));
  code_ = Errc::incomplete;
  return *this;
}

TemplateError::TemplateError(std::string file, unsigned line, std::string pointer, const std::string& why,
                             std::string hint)
    : Error(Errc::invalid_template, place(file, line, pointer, why), std::move(hint)),
      file_(std::move(file)),
      line_(line),
      pointer_(std::move(pointer)) {}

}  // namespace vmgraft

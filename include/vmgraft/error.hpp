// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace vmgraft {

/// What kind of failure it was. Flat: each value has one exit code and one remedy class.
enum class Errc {
  other,             ///< exit 1
  usage,             ///< exit 2: the request itself is malformed
  invalid_template,  ///< exit 3: a template, its parameters or its schema
  not_found,         ///< exit 4: no such VM, snapshot, image, template, guest command
  conflict,          ///< exit 5: name taken, VM in the wrong state, lock held
  host_unfit,        ///< exit 6: the host lacks something; `vmgraft doctor` says what
  unreachable,       ///< exit 7: libvirt or the guest does not answer, or not in time
  incomplete,        ///< exit 8: failed, and what could not be undone is in leftovers()
  interrupted,       ///< exit 130: a signal asked us to stop; what was under way was undone
};

/// The process exit code of \p code, as the vmgraft program uses it.
[[nodiscard]] int exit_code(Errc code) noexcept;

/// The stable word of \p code, as in JSON: "not_found", "conflict" ...
[[nodiscard]] std::string_view to_string(Errc code) noexcept;

/// What libvirt said, copied at the moment of failure. Source: virGetLastError.
struct LibvirtCause {
  int code = 0;
  int domain = 0;
  int level = 0;
  std::string message;
};

/// The one exception of the library. what() is one line: place, what, why.
class Error : public std::runtime_error {
 public:
  Error(Errc code, const std::string& what, std::string hint = {});

  [[nodiscard]] Errc code() const noexcept { return code_; }
  /// Frames "while creating VM 'a'", innermost first.
  [[nodiscard]] const std::vector<std::string>& context() const noexcept { return context_; }
  /// What to do about it; empty when there is nothing useful to say.
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }
  [[nodiscard]] const std::optional<LibvirtCause>& libvirt() const noexcept { return libvirt_; }
  /// What could not be undone, one thing a line. Not empty means code() is incomplete.
  [[nodiscard]] const std::vector<std::string>& leftovers() const noexcept { return leftovers_; }

  Error& add_context(std::string frame);
  Error& set_libvirt(LibvirtCause cause);
  /// Record what could not be undone; the code becomes incomplete, the message stays the first failure's.
  Error& add_leftover(std::string leftover);

 private:
  Errc code_;
  std::string hint_;
  std::vector<std::string> context_;
  std::vector<std::string> leftovers_;
  std::optional<LibvirtCause> libvirt_;
};

/// A template that cannot be used: where it is wrong. what() already holds "file:line: /pointer: why".
class TemplateError : public Error {
 public:
  TemplateError(std::string file, unsigned line, std::string pointer, const std::string& why, std::string hint = {});

  [[nodiscard]] const std::string& file() const noexcept { return file_; }
  /// 1-based; 0 when it is not known.
  [[nodiscard]] unsigned line() const noexcept { return line_; }
  /// JSON pointer (RFC 6901); empty for the whole document.
  [[nodiscard]] const std::string& pointer() const noexcept { return pointer_; }

 private:
  std::string file_;
  unsigned line_;
  std::string pointer_;
};

}  // namespace vmgraft

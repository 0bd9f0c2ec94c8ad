// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <libxml/tree.h>

#include "model/freer.hpp"

/// The little of libxml2 that the domain layer needs, owned and escaped. Elements are found without namespace only:
/// libvirt's own have none, so a stranger's <x:disk> in <metadata> is never taken for a disk.
namespace vmgraft::xml {

using Document = std::unique_ptr<xmlDoc, Freer<xmlFreeDoc>>;

/// The outcome of parse(): a document, or why there is none.
struct Parsed {
  Document document;  ///< null when the text is not one well-formed document
  std::string why;    ///< one line, with the line number; empty on success
};

/// Read \p text: no network, no DTD, no entities, libxml2's default limits, nothing printed.
[[nodiscard]] Parsed parse(const std::string& text);

/// The same for XML that libvirt gave us, whose root must be \p root.
/// \throws Error other: \p what says which XML it was.
[[nodiscard]] Document parse_or_throw(const std::string& text, const char* root, const std::string& what);

[[nodiscard]] Document new_document(const char* root);
[[nodiscard]] xmlNode* root_of(const Document& document);

using Attributes = std::initializer_list<std::pair<const char*, std::string_view>>;

// Building. All text is escaped; control characters, most of which XML 1.0 cannot hold, are refused.
// \throws Error usage: control characters, or bytes that are not UTF-8.
xmlNode* add(xmlNode* parent, const char* name, Attributes attributes = {});
/// An element of a namespace of ours, which it declares.
xmlNode* add_in_namespace(xmlNode* parent, const char* name, const char* prefix, const char* space);
xmlNode* add_text(xmlNode* parent, const char* name, std::string_view text);
void set_attribute(xmlNode* element, const char* name, std::string_view value);
void set_text(xmlNode* element, std::string_view text);
/// A new element right after \p sibling, indented like it.
xmlNode* add_after(xmlNode* sibling, const char* name);
/// A copy of \p element, with all below it, as last child of \p parent.
xmlNode* add_copy(xmlNode* parent, xmlNode* element);
void drop_attribute(xmlNode* element, const char* name);
/// Remove an element with the white space before it.
void remove(xmlNode* element);

// Reading. A null element has no children, text or attributes.
[[nodiscard]] std::string_view name_of(const xmlNode* element);
/// The first child element of that name, null when there is none.
[[nodiscard]] xmlNode* child(const xmlNode* element, std::string_view name);
/// The same among the elements of a namespace.
[[nodiscard]] xmlNode* child_in_namespace(const xmlNode* element, std::string_view name, std::string_view space);
/// Child elements, of that name when one is given. A copy: they may be removed while it is walked.
[[nodiscard]] std::vector<xmlNode*> children(const xmlNode* element, std::string_view name = {});
/// Text without the white space around it.
[[nodiscard]] std::string text_of(const xmlNode* element);
[[nodiscard]] std::optional<std::string> attribute(const xmlNode* element, const char* name);
/// The same, empty when absent.
[[nodiscard]] std::string attribute_or_empty(const xmlNode* element, const char* name);

/// The root element as text, without an XML declaration (libvirt writes none), ended by a newline.
/// \param indent  lay out a tree that was built here; a parsed one keeps its own white space.
[[nodiscard]] std::string to_text(const Document& document, bool indent);

/// \p text with what building refuses replaced by U+FFFD.
[[nodiscard]] std::string made_holdable(std::string_view text);

}  // namespace vmgraft::xml

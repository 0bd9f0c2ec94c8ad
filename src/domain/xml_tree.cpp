// SPDX-License-Identifier: Apache-2.0
#include "domain/xml_tree.hpp"

#include <climits>
#include <cstdint>
#include <new>

#include <fmt/format.h>
#include <libxml/parser.h>
#include <libxml/xmlsave.h>

#include <vmgraft/error.hpp>

#include "model/names.hpp"

namespace vmgraft::xml {
namespace {

using ParserContext = std::unique_ptr<xmlParserCtxt, Freer<xmlFreeParserCtxt>>;
using Buffer = std::unique_ptr<xmlBuffer, Freer<xmlBufferFree>>;

struct XmlFree {
  void operator()(xmlChar* text) const noexcept { xmlFree(text); }  // xmlFree is a variable, not a function
};
using Text = std::unique_ptr<xmlChar, XmlFree>;

// libxml2 reports only memory exhaustion by a null from its tree calls.
template <typename T>
T* need(T* pointer) {
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}

const xmlChar* to_xml(const char* text) {
  return reinterpret_cast<const xmlChar*>(text);
}

std::string_view from_xml(const xmlChar* text) {
  return text == nullptr ? std::string_view{} : std::string_view{reinterpret_cast<const char*>(text)};
}

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

std::string trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return std::string{text};
}

/// Bytes of the character that \p text begins with; 0 when it is one that XML 1.0 cannot hold ("Char", section 2.2), a
/// control character that it could hold but nobody can mean (DEL, C1), or not UTF-8.
std::size_t holdable_length(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned first = byte(0);
  if (first < 0x80) return (first >= 0x20 && first != 0x7F) || is_blank(text[0]) ? 1 : 0;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  std::uint32_t code = first & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0u) != 0x80u) return 0;
    code = (code << 6) | (byte(i) & 0x3Fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  const bool c1_control = code < 0xA0;
  return overlong || surrogate || c1_control || code == 0xFFFE || code == 0xFFFF || code > 0x10FFFF ? 0 : length;
}

bool is_holdable(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = holdable_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

const std::string& require_holdable(const std::string& text, const std::string& place) {
  if (is_holdable(text)) return text;
  throw Error(Errc::usage,
              fmt::format("domain XML: {}: '{}' holds control characters or is not UTF-8", place, printable(text)),
              "use printable text");
}

bool is_blank_text(const xmlNode* node) {
  return node != nullptr && xmlIsBlankNode(node) == 1;
}

std::string describe(const xmlError& error) {
  const std::string message = trimmed(error.message == nullptr ? "not well-formed" : error.message);
  return fmt::format("line {}: {}", error.line, printable(message));
}

void prepare_library() {
  // xmlInitParser is what libxml2 wants called once before threads use it; a static is initialised once.
  static const bool done = (xmlInitParser(), true);
  static_cast<void>(done);
}

}  // namespace

Parsed parse(const std::string& text) {
  prepare_library();
  if (text.size() > std::size_t{INT_MAX}) return {nullptr, "it is larger than 2 GiB"};
  // libxml2 takes a text up to its first NUL, and would call the rest unread.
  if (text.find('\0') != std::string::npos) return {nullptr, "it holds a NUL byte"};
  const ParserContext context(need(xmlNewParserCtxt()));
  // Not XML_PARSE_NOENT, _DTDLOAD or _HUGE: entities stay unexpanded and the depth limit stands.
  constexpr int kOptions = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING;
  // The first error, whatever comes after it: the library itself keeps the last, which may be a mere warning. A namespace
  // error leaves a document that is no good to us: an undeclared prefix becomes part of the name.
  std::string why;
  context->_private = &why;
  context->sax->serror = [](void* parser, auto* error) {
    auto& first = *static_cast<std::string*>(static_cast<xmlParserCtxt*>(parser)->_private);
    if (error->level >= XML_ERR_ERROR && first.empty()) first = describe(*error);
  };
  Document document(
      xmlCtxtReadMemory(context.get(), text.data(), static_cast<int>(text.size()), nullptr, nullptr, kOptions));
  if (!why.empty()) return {nullptr, why};
  if (document == nullptr || xmlDocGetRootElement(document.get()) == nullptr) return {nullptr, "there is no element"};
  if (document->intSubset != nullptr) return {nullptr, "a DOCTYPE is not accepted"};
  return {std::move(document), {}};
}

Document parse_or_throw(const std::string& text, const char* root, const std::string& what) {
  Parsed parsed = parse(text);
  if (parsed.document == nullptr) throw Error(Errc::other, fmt::format("{} cannot be read: {}", what, parsed.why));
  const xmlNode* found = root_of(parsed.document);
  if (found->ns != nullptr || name_of(found) != root) {
    throw Error(Errc::other,
                fmt::format("{} cannot be read: it is a <{}>, not a <{}>", what, printable(name_of(found)), root));
  }
  return std::move(parsed.document);
}

Document new_document(const char* root) {
  prepare_library();
  Document document(need(xmlNewDoc(to_xml("1.0"))));
  xmlDocSetRootElement(document.get(), need(xmlNewDocNode(document.get(), nullptr, to_xml(root), nullptr)));
  return document;
}

xmlNode* root_of(const Document& document) {
  return xmlDocGetRootElement(document.get());
}

xmlNode* add(xmlNode* parent, const char* name, Attributes attributes) {
  // Without content xmlNewTextChild makes an empty element; xmlNewChild is never used, it does not escape.
  xmlNode* element = need(xmlNewTextChild(parent, nullptr, to_xml(name), nullptr));
  // A null namespace means "the parent's" to libxml2.
  element->ns = nullptr;
  for (const auto& [key, value] : attributes) set_attribute(element, key, value);
  return element;
}

xmlNode* add_in_namespace(xmlNode* parent, const char* name, const char* prefix, const char* space) {
  xmlNode* element = add(parent, name);
  xmlSetNs(element, need(xmlNewNs(element, to_xml(space), to_xml(prefix))));
  return element;
}

xmlNode* add_text(xmlNode* parent, const char* name, std::string_view text) {
  const std::string content = require_holdable(std::string{text}, fmt::format("<{}>", name));
  xmlNode* element = need(xmlNewTextChild(parent, nullptr, to_xml(name), to_xml(content.c_str())));
  element->ns = nullptr;
  return element;
}

void set_attribute(xmlNode* element, const char* name, std::string_view value) {
  const std::string content =
      require_holdable(std::string{value}, fmt::format("attribute '{}' of <{}>", name, name_of(element)));
  // Like xmlNewProp, but one that is there already keeps its place.
  need(xmlSetNsProp(element, nullptr, to_xml(name), to_xml(content.c_str())));
}

void set_text(xmlNode* element, std::string_view text) {
  const std::string content = require_holdable(std::string{text}, fmt::format("<{}>", name_of(element)));
  while (element->children != nullptr) {
    xmlNode* old = element->children;
    xmlUnlinkNode(old);
    xmlFreeNode(old);
  }
  // Not xmlNodeSetContent: it takes '&' for the begin of a reference.
  if (!content.empty()) xmlAddChild(element, need(xmlNewDocText(element->doc, to_xml(content.c_str()))));
}

xmlNode* add_after(xmlNode* sibling, const char* name) {
  xmlNode* element = need(xmlNewDocNode(sibling->doc, nullptr, to_xml(name), nullptr));
  xmlAddNextSibling(sibling, element);
  if (is_blank_text(sibling->prev)) {
    const Text space(need(xmlNodeGetContent(sibling->prev)));
    // Before the new element, whose neighbour there is no text: libxml2 merges neighbouring texts and frees one.
    xmlAddPrevSibling(element, need(xmlNewDocText(sibling->doc, space.get())));
  }
  return element;
}

xmlNode* add_copy(xmlNode* parent, xmlNode* element) {
  return need(xmlAddChild(parent, need(xmlDocCopyNode(element, parent->doc, 1))));
}

void drop_attribute(xmlNode* element, const char* name) {
  if (xmlAttr* old = xmlHasNsProp(element, to_xml(name), nullptr); old != nullptr) xmlRemoveProp(old);
}

void remove(xmlNode* element) {
  if (xmlNode* space = element->prev; is_blank_text(space)) {
    xmlUnlinkNode(space);
    xmlFreeNode(space);
  }
  xmlUnlinkNode(element);
  xmlFreeNode(element);
}

std::string_view name_of(const xmlNode* element) {
  return from_xml(element->name);
}

xmlNode* child(const xmlNode* element, std::string_view name) {
  if (element == nullptr) return nullptr;
  for (xmlNode* node = element->children; node != nullptr; node = node->next) {
    if (node->type == XML_ELEMENT_NODE && node->ns == nullptr && name_of(node) == name) return node;
  }
  return nullptr;
}

xmlNode* child_in_namespace(const xmlNode* element, std::string_view name, std::string_view space) {
  for (xmlNode* node = element == nullptr ? nullptr : element->children; node != nullptr; node = node->next) {
    const bool is_element = node->type == XML_ELEMENT_NODE && node->ns != nullptr;
    if (is_element && from_xml(node->ns->href) == space && name_of(node) == name) return node;
  }
  return nullptr;
}

std::vector<xmlNode*> children(const xmlNode* element, std::string_view name) {
  std::vector<xmlNode*> found;
  for (xmlNode* node = element == nullptr ? nullptr : element->children; node != nullptr; node = node->next) {
    const bool is_ours = node->type == XML_ELEMENT_NODE && node->ns == nullptr;
    if (is_ours && (name.empty() || name_of(node) == name)) found.push_back(node);
  }
  return found;
}

std::string text_of(const xmlNode* element) {
  if (element == nullptr) return {};
  const Text content(xmlNodeGetContent(element));
  return trimmed(from_xml(content.get()));
}

std::optional<std::string> attribute(const xmlNode* element, const char* name) {
  if (element == nullptr) return std::nullopt;
  const Text value(xmlGetNoNsProp(element, to_xml(name)));
  if (value == nullptr) return std::nullopt;
  return std::string{from_xml(value.get())};
}

std::string attribute_or_empty(const xmlNode* element, const char* name) {
  return attribute(element, name).value_or(std::string{});
}

std::string to_text(const Document& document, bool indent) {
  const Buffer buffer(need(xmlBufferCreate()));
  const int options = XML_SAVE_NO_DECL | (indent ? XML_SAVE_FORMAT : 0);
  xmlSaveCtxt* save = need(xmlSaveToBuffer(buffer.get(), "UTF-8", options));
  const long written = xmlSaveTree(save, root_of(document));
  // xmlSaveClose flushes and frees, whatever it returns.
  if (xmlSaveClose(save) < 0 || written < 0) throw std::bad_alloc();
  return std::string{from_xml(xmlBufferContent(buffer.get()))} + "\n";
}

std::string made_holdable(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = holdable_length(text);
    result += length == 0 ? std::string_view{"\uFFFD"} : text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

}  // namespace vmgraft::xml

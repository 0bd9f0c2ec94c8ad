// SPDX-License-Identifier: Apache-2.0
#include "image/elf.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <cstring>
#include <optional>

#include <vmgraft/error.hpp>

namespace vmgraft {

namespace {

class Reader {
 public:
  Reader(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  [[noreturn]] void fail(const std::string& why) const {
    throw Error(Errc::other, fmt::format("{}: not a usable ELF file: {}", where_, why));
  }

  [[nodiscard]] std::string_view range(std::uint64_t offset, std::uint64_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) fail("a table points outside the file");
    return bytes_.substr(offset, size);
  }

  template <typename T>
  [[nodiscard]] T at(std::uint64_t offset) const {
    T value;
    std::memcpy(&value, range(offset, sizeof(T)).data(), sizeof(T));
    return value;
  }

  [[nodiscard]] std::string text(std::uint64_t offset) const {
    const auto rest = range(offset, bytes_.size() - std::min<std::uint64_t>(offset, bytes_.size()));
    const auto end = rest.find('\0');
    if (end == std::string_view::npos) fail("a text has no end");
    return std::string(rest.substr(0, end));
  }

 private:
  std::string_view bytes_;
  const std::string& where_;
};

/// The dynamic section speaks of addresses; the load segments say where in the file they are.
std::optional<std::uint64_t> file_offset(const std::vector<Elf64_Phdr>& segments, std::uint64_t address) {
  for (const auto& segment : segments) {
    if (segment.p_type == PT_LOAD && address >= segment.p_vaddr && address - segment.p_vaddr < segment.p_filesz) {
      return segment.p_offset + (address - segment.p_vaddr);
    }
  }
  return std::nullopt;
}

std::vector<std::string> read_needed(const Reader& reader, const std::vector<Elf64_Phdr>& segments,
                                     const Elf64_Phdr& dynamic) {
  std::vector<std::uint64_t> names;
  std::optional<std::uint64_t> strings;
  for (std::uint64_t i = 0; i < dynamic.p_filesz / sizeof(Elf64_Dyn); ++i) {
    const auto entry = reader.at<Elf64_Dyn>(dynamic.p_offset + i * sizeof(Elf64_Dyn));
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_NEEDED) names.push_back(entry.d_un.d_val);
    if (entry.d_tag == DT_STRTAB) strings = file_offset(segments, entry.d_un.d_ptr);
  }
  if (names.empty()) return {};
  if (!strings) reader.fail("its dynamic section has no strings");
  std::vector<std::string> needed;
  for (const auto name : names) needed.push_back(reader.text(*strings + name));
  return needed;
}

std::vector<std::string> read_modinfo(const Reader& reader, const Elf64_Ehdr& header) {
  if (header.e_shoff == 0 || header.e_shstrndx >= header.e_shnum) return {};
  const auto section = [&](unsigned index) {
    return reader.at<Elf64_Shdr>(header.e_shoff + std::uint64_t{index} * sizeof(Elf64_Shdr));
  };
  const auto names = section(header.e_shstrndx);
  std::vector<std::string> values;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    const auto candidate = section(i);
    if (candidate.sh_type != SHT_PROGBITS || reader.text(names.sh_offset + candidate.sh_name) != ".modinfo") continue;
    auto rest = reader.range(candidate.sh_offset, candidate.sh_size);
    while (!rest.empty()) {
      const auto end = rest.find('\0');
      const auto value = rest.substr(0, end);
      if (!value.empty()) values.emplace_back(value);
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
  }
  return values;
}

}  // namespace

ElfFacts read_elf(std::string_view bytes, const std::string& where) {
  const Reader reader(bytes, where);
  if (bytes.substr(0, SELFMAG) != ELFMAG) reader.fail("it does not begin with the ELF magic");
  const auto header = reader.at<Elf64_Ehdr>(0);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
    reader.fail("it is not 64-bit little-endian");
  }
  std::vector<Elf64_Phdr> segments;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    segments.push_back(reader.at<Elf64_Phdr>(header.e_phoff + std::uint64_t{i} * sizeof(Elf64_Phdr)));
  }
  ElfFacts facts;
  for (const auto& segment : segments) {
    if (segment.p_type == PT_INTERP) facts.interpreter = reader.text(segment.p_offset);
    if (segment.p_type == PT_DYNAMIC) facts.needed = read_needed(reader, segments, segment);
  }
  facts.modinfo = read_modinfo(reader, header);
  return facts;
}

std::vector<std::string> modinfo_values(const ElfFacts& facts, std::string_view key) {
  std::vector<std::string> values;
  for (const auto& entry : facts.modinfo) {
    if (entry.size() > key.size() && entry.compare(0, key.size(), key) == 0 && entry[key.size()] == '=') {
      values.push_back(entry.substr(key.size() + 1));
    }
  }
  return values;
}

}  // namespace vmgraft

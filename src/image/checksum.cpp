// SPDX-License-Identifier: Apache-2.0
#include "image/checksum.hpp"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <memory>

#include <vmgraft/error.hpp>

#include "image/programs.hpp"
#include "model/freer.hpp"

namespace vmgraft {

namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::string_view without_blanks(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// "./x/y.qcow2" and "y.qcow2" are the same file: lists are written in different folders.
bool names_file(std::string_view name, const std::string& file) {
  return name == file || (name.size() > file.size() && name.substr(name.size() - file.size() - 1) == "/" + file);
}

struct Line {
  std::string name;  ///< empty: a bare sum
  Checksum sum;
};

/// "SHA256 (FILE) = HEX"
std::optional<Line> bsd_line(std::string_view line) {
  const auto open = line.find(" (");
  const auto close = line.rfind(") = ");
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return std::nullopt;
  const auto sum = parse_checksum(without_blanks(line.substr(close + 4)));
  if (!sum || lower(line.substr(0, open)) != to_string(sum->algorithm)) return std::nullopt;
  return Line{std::string(line.substr(open + 2, close - open - 2)), *sum};
}

/// "HEX  FILE", "HEX *FILE", "HEX"
std::optional<Line> gnu_line(std::string_view line) {
  const auto space = line.find_first_of(" \t");
  const auto sum = parse_checksum(line.substr(0, space));
  if (!sum) return std::nullopt;
  auto name = space == std::string_view::npos ? std::string_view{} : without_blanks(line.substr(space));
  if (!name.empty() && name.front() == '*') name.remove_prefix(1);
  return Line{std::string(name), *sum};
}

}  // namespace

bool is_hex(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

std::string to_string(Checksum::Algorithm algorithm) {
  return algorithm == Checksum::Algorithm::sha512 ? "sha512" : "sha256";
}

std::optional<Checksum> parse_checksum(std::string_view hex) {
  if (!is_hex(hex) || (hex.size() != 64 && hex.size() != 128)) return std::nullopt;
  return Checksum{hex.size() == 128 ? Checksum::Algorithm::sha512 : Checksum::Algorithm::sha256, lower(hex)};
}

std::optional<Checksum> find_checksum(const std::string& list, const std::string& file) {
  std::optional<Checksum> bare;
  std::size_t sums = 0;
  for (const auto& text : lines_of(list)) {
    const auto line = without_blanks(text);
    auto found = bsd_line(line);
    if (!found) found = gnu_line(line);
    if (!found) continue;
    ++sums;
    if (names_file(found->name, file)) return found->sum;
    if (found->name.empty()) bare = found->sum;
  }
  return sums == 1 ? bare : std::nullopt;
}

Checksum checksum_file(ImageWork& work, const std::filesystem::path& path, Checksum::Algorithm algorithm,
                       const std::string& what) {
  constexpr std::size_t kPiece = 4u << 20;
  constexpr std::uint64_t kTellEvery = 64u << 20;
  const std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>> context(EVP_MD_CTX_new());
  const auto* digest = algorithm == Checksum::Algorithm::sha512 ? EVP_sha512() : EVP_sha256();
  const auto require = [&](bool done) {
    if (!done)
      throw Error(Errc::other, fmt::format("cannot compute the {} of '{}'", to_string(algorithm), path.string()));
  };
  require(context != nullptr && EVP_DigestInit_ex(context.get(), digest, nullptr) == 1);
  const auto size = work.host.stat(path).value_or(FileInfo{}).size;
  std::uint64_t offset = 0;
  for (;;) {
    stop_if_interrupted(work);
    const auto piece = work.host.read_range(path, offset, kPiece);
    if (piece.empty()) break;
    require(EVP_DigestUpdate(context.get(), piece.data(), piece.size()) == 1);
    if (offset / kTellEvery != (offset + piece.size()) / kTellEvery) tell(work, what, offset, size);
    offset += piece.size();
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned length = 0;
  require(EVP_DigestFinal_ex(context.get(), bytes.data(), &length) == 1);
  Checksum sum{algorithm, {}};
  for (unsigned i = 0; i < length; ++i) sum.hex += fmt::format("{:02x}", bytes[i]);
  return sum;
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include <vmgraft/error.hpp>

#include "host/sha256.hpp"
#include "image/checksum.hpp"
#include "image/download.hpp"
#include "image/import_file.hpp"
#include "image/programs.hpp"
#include "model/names.hpp"

namespace vmgraft {

namespace {

constexpr std::size_t kLongestList = 4u << 20;

const CatalogueEntry& find_entry(const std::string& name, const std::vector<CatalogueEntry>& catalogue) {
  std::vector<std::string> names;
  for (const auto& entry : catalogue) {
    if (entry.name == name) return entry;
    names.push_back(entry.name);
  }
  throw Error(
      Errc::not_found, fmt::format("the catalogue has no image '{}'", printable(name)),
      did_you_mean(name, names,
                   names.empty() ? "give a URL and its --sha256" : fmt::format("it has {}", fmt::join(names, ", "))));
}

/// What the download must be: the caller's word first, then the catalogue's, then the list beside the file.
Checksum wanted_checksum(ImageWork& work, const ImagePullRequest& request, const CatalogueEntry& entry,
                         const DownloadUrl& url) {
  if (!request.sha256.empty()) {
    const auto sum = parse_checksum(request.sha256);
    if (!sum || sum->algorithm != Checksum::Algorithm::sha256) {
      throw Error(Errc::usage, fmt::format("'{}' is not a sha256 (want 64 hex digits)", printable(request.sha256)));
    }
    return *sum;
  }
  if (!entry.sha256.empty()) return parse_checksum(entry.sha256).value();
  if (entry.checksum_url.empty()) {
    throw Error(
        Errc::usage, fmt::format("nothing says what '{}' must be: a URL needs its sha256", printable(url.shown)),
        fmt::format("vmgraft image pull {} --sha256 HEX, with the sum that the publisher gives", printable(url.shown)));
  }
  const auto list_url = parse_url(entry.checksum_url);
  if (!list_url.is_private) {
    throw Error(Errc::usage,
                fmt::format("'{}' is not fetched by https: whoever sits between could change sum and image together",
                            printable(list_url.shown)),
                "give the list an https address, or the sum with --sha256");
  }
  tell(work, "reading " + list_url.shown);
  const auto sum = find_checksum(fetch_text(work, list_url, kLongestList), url.file);
  if (!sum) {
    throw Error(Errc::other, fmt::format("'{}' has no sum of '{}'", printable(list_url.shown), printable(url.file)),
                "give the sum with --sha256");
  }
  return *sum;
}

/// The cache holds one partial file for a URL: one of an older version of it is of no use any more.
std::filesystem::path partial_file(Host& host, const std::filesystem::path& cache, const DownloadUrl& url,
                                   const Checksum& wanted) {
  const auto prefix = sha256_text(url.full).substr(0, 32) + "-";
  const auto name = prefix + wanted.hex.substr(0, 32) + ".part";
  for (const auto& other : host.list_folder(cache)) {
    if (other.rfind(prefix, 0) == 0 && other.rfind(name, 0) != 0) host.remove(cache / other);
  }
  return cache / name;
}

void forget(Host& host, const std::filesystem::path& partial) {
  host.remove(partial);
  host.remove(partial.string() + ".validator");
}

/// A full disk keeps nothing, so that there is room again; everything else keeps what was fetched for the next call.
void fetch(ImageWork& work, const DownloadUrl& url, const std::filesystem::path& partial) {
  try {
    download(work, url, partial, "downloading " + url.file);
  } catch (const Error& error) {
    if (std::string_view(error.what()).find("no space left on device") != std::string_view::npos)
      forget(work.host, partial);
    throw;
  }
}

/// \returns the sha256 of the file, whatever it was verified by.
std::string verify(ImageWork& work, const DownloadUrl& url, const std::filesystem::path& partial,
                   const Checksum& wanted) {
  const auto what = "verifying " + url.file;
  const auto sum = checksum_file(work, partial, wanted.algorithm, what);
  if (sum != wanted) {
    forget(work.host, partial);
    throw Error(Errc::other,
                fmt::format("'{}' is not what it should be: its {} is {}, wanted {}", printable(url.shown),
                            to_string(wanted.algorithm), sum.hex, wanted.hex),
                "it was dropped; try again, and when the sum stays wrong, do not trust that server");
  }
  if (wanted.algorithm == Checksum::Algorithm::sha256) return sum.hex;
  return checksum_file(work, partial, Checksum::Algorithm::sha256, what).hex;
}

}  // namespace

MadeImage pull_image(ImageWork& work, const ImagePullRequest& request, const std::vector<CatalogueEntry>& catalogue,
                     const std::filesystem::path& cache) {
  const bool is_url = request.source.find("://") != std::string::npos;
  CatalogueEntry entry;
  if (is_url) {
    entry.url = request.source;
  } else {
    entry = find_entry(request.source, catalogue);
  }
  const auto url = parse_url(entry.url);
  if (url.file.empty()) throw Error(Errc::usage, fmt::format("'{}' names no file", printable(url.shown)));
  const auto wanted = wanted_checksum(work, request, entry, url);

  work.host.make_folder(cache, 0755);
  const auto partial = partial_file(work.host, cache, url, wanted);
  fetch(work, url, partial);
  const auto sha256 = verify(work, url, partial, wanted);
  const auto shown = url.shown.substr(0, url.shown.find_first_of("?#"));  // its extension counts
  MadeImage image;
  try {
    image = convert_image(work, {partial, shown, {}});
  } catch (const Error& error) {
    // Verified and yet no image: fetching it again would not help, and it may be large.
    if (error.code() == Errc::usage) forget(work.host, partial);
    throw;
  }
  forget(work.host, partial);
  image.sha256 = sha256;
  image.origin = "pull " + url.shown;
  image.layer.agent = entry.agent;
  image.layer.cloud_init = entry.cloud_init;
  image.layer.default_user = entry.default_user;
  return image;
}

}  // namespace vmgraft

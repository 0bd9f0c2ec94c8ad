// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include <vmgraft/error.hpp>

#include "image/checksum.hpp"
#include "image/image_maker.hpp"
#include "model/names.hpp"
#include "store/strict_json.hpp"

namespace vmgraft {

namespace {

using strict_json::Fields;
using strict_json::Json;
using strict_json::Place;

CatalogueEntry read_entry(Json& json, const Place& place) {
  Fields fields(json, place);
  CatalogueEntry entry;
  entry.name = fields.text("name");
  entry.description = fields.text("description");
  entry.url = fields.text("url");
  entry.checksum_url = fields.text("checksum_url");
  entry.sha256 = fields.text("sha256");
  entry.default_user = fields.text("default_user");
  entry.cloud_init = fields.flag("cloud_init");
  entry.agent = fields.flag("agent");
  fields.done();
  const auto refuse_url = [&](std::string_view key, const std::string& url) {
    if (url.rfind("https://", 0) != 0 && url.rfind("http://", 0) != 0) {
      fields.at(key).fail(fmt::format("'{}' is not an http or https URL", printable(url)));
    }
  };
  try {
    require_name("image", entry.name);
  } catch (const Error& error) {
    fields.at("name").fail(error.what());
  }
  refuse_url("url", entry.url);
  if (entry.sha256.empty()) {
    refuse_url("checksum_url", entry.checksum_url);  // one of the two says what the download must be
  } else if (entry.sha256.size() != 64 || !is_hex(entry.sha256)) {
    fields.at("sha256").fail(fmt::format("'{}' is not a sha256 (want 64 hex digits)", printable(entry.sha256)));
  }
  return entry;
}

}  // namespace

std::vector<CatalogueEntry> read_catalogue(Host& host, const std::vector<std::filesystem::path>& folders) {
  std::vector<CatalogueEntry> entries;
  for (const auto& folder : folders) {
    const auto where = (folder / "catalogue.json").string();
    const auto text = host.read_file(where);
    if (!text) continue;
    auto json = strict_json::parse(*text, where);
    const Place root{where};
    Fields fields(json, root);
    fields.require_version(1);
    const auto list = fields.at("images");
    std::size_t index = 0;
    for (auto& item : fields.list("images")) {
      auto entry = read_entry(item, Place{where, &list, {}, index++});
      const bool taken =
          std::any_of(entries.begin(), entries.end(), [&](const auto& other) { return other.name == entry.name; });
      if (!taken) entries.push_back(std::move(entry));
    }
    fields.done();
  }
  return entries;
}

}  // namespace vmgraft

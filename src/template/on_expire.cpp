// SPDX-License-Identifier: Apache-2.0
#include "template/on_expire.hpp"

#include <nlohmann/json.hpp>

namespace vmgraft {

std::string with_on_expire(const std::string& spec_json, OnExpire on_expire) {
  nlohmann::json document = nlohmann::json::parse(spec_json);
  nlohmann::json& lifecycle = document["lifecycle"];
  if (!lifecycle.is_object()) lifecycle = nlohmann::json::object();
  lifecycle["on_expire"] = to_string(on_expire);
  return document.dump(2);
}

}  // namespace vmgraft

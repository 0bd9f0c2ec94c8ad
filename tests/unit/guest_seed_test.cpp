// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <archive.h>
#include <archive_entry.h>
#include <nlohmann/json.hpp>

#include "guest/agent_calls.hpp"
#include "guest/provision.hpp"
#include "support/catch.hpp"

using namespace vmgraft;
using Json = nlohmann::json;

namespace {

SeedConfig config_for_test() {
  SeedConfig config;
  config.instance_id = "i-123";
  config.hostname = "web-1";
  config.user = "dev";
  config.ssh_keys = {"ssh-ed25519 AAAA me"};
  config.host_key = {"PRIVATE\n", "ssh-ed25519 BBBB\n"};
  return config;
}

Json user_data(const SeedConfig& config) {
  const std::string text = seed_files(config).user_data;
  REQUIRE(text.rfind("#cloud-config\n", 0) == 0);
  return Json::parse(text.substr(14));
}

}  // namespace

TEST_CASE("a seed names the user, its keys and the host key") {
  const Json data = user_data(config_for_test());
  CHECK(data["hostname"] == "web-1");
  CHECK(data["users"].size() == 1);
  CHECK(data["users"][0]["name"] == "dev");
  CHECK(data["users"][0]["ssh_authorized_keys"][0] == "ssh-ed25519 AAAA me");
  CHECK(data["ssh_keys"]["ed25519_private"] == "PRIVATE\n");
  CHECK(data["ssh_deletekeys"] == true);
  CHECK_FALSE(data.contains("packages"));
  CHECK_FALSE(data.contains("runcmd"));
  CHECK_FALSE(data.contains("write_files"));
  const Json meta = Json::parse(seed_files(config_for_test()).meta_data);
  CHECK(meta["instance-id"] == "i-123");
  CHECK(meta["local-hostname"] == "web-1");
}

TEST_CASE("without a user the image's own gets the keys") {
  SeedConfig config = config_for_test();
  config.user.clear();
  const Json data = user_data(config);
  CHECK_FALSE(data.contains("users"));
  CHECK(data["ssh_authorized_keys"][0] == "ssh-ed25519 AAAA me");
}

TEST_CASE("files go as base64, steps as commands, the agent as a package") {
  SeedConfig config = config_for_test();
  config.install_agent = true;
  config.files = {{"/bin/x", std::string("\0\xff binary", 9), "0755", "dev:dev"}};
  config.run = {"echo \"it's\": {done}"};
  const Json data = user_data(config);
  CHECK(data["packages"] == Json::array({"qemu-guest-agent"}));
  CHECK(parse_base64(data["write_files"][0]["content"].get<std::string>()) == config.files[0].content);
  CHECK(data["write_files"][0]["permissions"] == "0755");
  CHECK(data["write_files"][0]["owner"] == "dev:dev");
  REQUIRE(data["runcmd"].size() == 2);
  CHECK(data["runcmd"][1] == Json::array({"/bin/sh", "-c", "echo \"it's\": {done}"}));
}

TEST_CASE("no text can leave its place in the seed") {
  SeedConfig config = config_for_test();
  config.run = {"a\nusers: []\n- x: \"\x7f\xc2\x9b\xef\xbf\xbf\xf0\x9f\x98\x80\""};
  const std::string text = seed_files(config).user_data;
  CHECK(Json::parse(text.substr(14))["runcmd"][0][2] == config.run[0]);
  CHECK(text.find("\nusers: []") == std::string::npos);
  CHECK(text.find('\x7f') == std::string::npos);
  CHECK(text.find("\xc2\x9b") == std::string::npos);
  CHECK(text.find("\\u007f\\u009b\\uffff\xf0\x9f\x98\x80") != std::string::npos);
}

TEST_CASE("a seed refuses names and texts that cannot be written") {
  SeedConfig config = config_for_test();
  config.hostname = "a\nb";
  CHECK(error_of([&] { static_cast<void>(seed_files(config)); }).code() == Errc::invalid_template);
  config = config_for_test();
  config.run = {"\xff\xfe"};
  CHECK(error_of([&] { static_cast<void>(seed_files(config)); }).code() == Errc::invalid_template);
}

TEST_CASE("each NIC of a seed asks for an address") {
  SeedConfig config = config_for_test();
  Json network = Json::parse(seed_files(config).network_config);
  CHECK(network["version"] == 2);
  CHECK(network["ethernets"]["virtio"]["match"]["driver"] == "virtio_net");
  CHECK(network["ethernets"]["virtio"]["dhcp4"] == true);
  config.macs = {"52:54:00:00:00:01", "52:54:00:00:00:02"};
  network = Json::parse(seed_files(config).network_config);
  REQUIRE(network["ethernets"].size() == 2);
  CHECK(network["ethernets"]["eth1"]["match"]["macaddress"] == "52:54:00:00:00:02");
  CHECK(network["ethernets"]["eth1"]["set-name"] == "eth1");
  CHECK(network["ethernets"]["eth1"]["dhcp4"] == true);
}

TEST_CASE("the seed is an ISO 9660 image named cidata that holds the three files") {
  const SeedFiles files = seed_files(config_for_test());
  const std::string iso = seed_iso(files);
  REQUIRE(iso.size() > 17 * 2048);
  // ECMA-119, 8.4: the primary volume descriptor is sector 16; the volume identifier stands at 40, 32 long.
  CHECK(iso.substr(16 * 2048, 6) == std::string("\x01"
                                                "CD001",
                                                6));
  std::string label = iso.substr(16 * 2048 + 40, 32);
  label.erase(label.find_last_not_of(' ') + 1);
  for (char& c : label) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  CHECK(label == "cidata");
  struct archive* reader = archive_read_new();
  archive_read_support_format_iso9660(reader);
  REQUIRE(archive_read_open_memory(reader, iso.data(), iso.size()) == ARCHIVE_OK);
  struct archive_entry* entry = nullptr;
  unsigned found = 0;
  while (archive_read_next_header(reader, &entry) == ARCHIVE_OK) {
    const std::string name = archive_entry_pathname(entry);
    std::string content(static_cast<std::size_t>(archive_entry_size(entry)), '\0');
    archive_read_data(reader, content.data(), content.size());
    if (name == "user-data" && content == files.user_data) ++found;
    if (name == "meta-data" && content == files.meta_data) ++found;
    if (name == "network-config" && content == files.network_config) ++found;
  }
  archive_read_free(reader);
  CHECK(found == 3);
}

// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <ctime>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <vmgraft/error.hpp>

#include "guest/agent_calls.hpp"
#include "guest/archive_handles.hpp"
#include "guest/provision.hpp"
#include "guest/provision_rules.hpp"

namespace vmgraft {
namespace {

using OrderedJson = nlohmann::ordered_json;

// JSON is YAML but for a few characters that YAML's readers refuse unescaped: DEL, the C1 controls, U+FFFE and U+FFFF.
std::string to_yaml(const OrderedJson& value) {
  const std::string json = value.dump(1);
  std::string yaml;
  yaml.reserve(json.size());
  for (std::size_t i = 0; i < json.size(); ++i) {
    const auto byte = static_cast<unsigned char>(json[i]);
    const auto second = static_cast<unsigned char>(i + 1 < json.size() ? json[i + 1] : 0);
    const auto third = static_cast<unsigned char>(i + 2 < json.size() ? json[i + 2] : 0);
    if (byte == 0x7f) {
      yaml += "\\u007f";
    } else if (byte == 0xc2 && second >= 0x80 && second <= 0x9f) {
      yaml += fmt::format("\\u00{:02x}", second);
      i += 1;
    } else if (byte == 0xef && second == 0xbf && third >= 0xbe) {
      yaml += third == 0xbe ? "\\ufffe" : "\\uffff";
      i += 2;
    } else {
      yaml += json[i];
    }
  }
  return yaml;
}

OrderedJson users_of(const SeedConfig& config) {
  return OrderedJson::array({{{"name", config.user},
                       {"shell", "/bin/bash"},
                       {"lock_passwd", true},
                       {"sudo", OrderedJson::array({"ALL=(ALL) NOPASSWD:ALL"})},
                       {"ssh_authorized_keys", config.ssh_keys}}});
}

OrderedJson file_of(const GuestFile& file) {
  OrderedJson entry{
      {"path", file.path}, {"encoding", "b64"}, {"content", to_base64(file.content)}, {"permissions", file.mode}};
  if (!file.owner.empty()) {
    entry["owner"] = file.owner;
    entry["defer"] = true;  // after the users are made
  }
  return entry;
}

OrderedJson user_data_of(const SeedConfig& config) {
  OrderedJson data{{"hostname", config.hostname}, {"preserve_hostname", false}, {"manage_etc_hosts", "localhost"}};
  if (config.user.empty()) {
    if (!config.ssh_keys.empty()) data["ssh_authorized_keys"] = config.ssh_keys;
  } else {
    data["users"] = users_of(config);
  }
  data["ssh_pwauth"] = false;
  if (!config.host_key.private_key.empty()) {
    data["ssh_deletekeys"] = true;
    data["ssh_keys"] = {{"ed25519_private", config.host_key.private_key},
                        {"ed25519_public", config.host_key.public_key}};
  }
  if (!config.files.empty()) {
    data["write_files"] = OrderedJson::array();
    for (const GuestFile& file : config.files) data["write_files"].push_back(file_of(file));
  }
  OrderedJson run = OrderedJson::array();
  if (config.install_agent) {
    data["package_update"] = true;
    data["packages"] = OrderedJson::array({"qemu-guest-agent"});
    // Its unit is bound to the channel's device, which udev announced before the package was there.
    run.push_back({"/bin/sh", "-c", "systemctl start qemu-guest-agent || service qemu-guest-agent start || :"});
  }
  for (const std::string& step : config.run) run.push_back({"/bin/sh", "-c", step});
  if (!run.empty()) data["runcmd"] = std::move(run);
  return data;
}

// Only netplan matches by driver; with the MAC and a name of ours all of cloud-init's renderers agree.
OrderedJson network_config_of(const SeedConfig& config) {
  OrderedJson ethernets = OrderedJson::object();
  for (std::size_t i = 0; i < config.macs.size(); ++i) {
    const std::string name = fmt::format("eth{}", i);
    ethernets[name] = {{"match", {{"macaddress", config.macs[i]}}}, {"set-name", name}, {"dhcp4", true}};
  }
  if (config.macs.empty()) ethernets["virtio"] = {{"match", {{"driver", "virtio_net"}}}, {"dhcp4", true}};
  return {{"version", 2}, {"ethernets", std::move(ethernets)}};
}

la_ssize_t append(struct archive* archive, void* image, const void* bytes, std::size_t size) {
  try {
    static_cast<std::string*>(image)->append(static_cast<const char*>(bytes), size);
    return static_cast<la_ssize_t>(size);
  } catch (const std::bad_alloc&) {  // C code is above us
    archive_set_error(archive, ENOMEM, "out of memory");
    return -1;
  }
}

void check(int code, struct archive* archive) {
  if (code == ARCHIVE_OK) return;
  const char* why = archive_error_string(archive);
  throw Error(Errc::other,
              fmt::format("cannot write the cloud-init seed: {}", why != nullptr ? why : "unknown failure"));
}

}  // namespace

SeedFiles seed_files(const SeedConfig& config) {
  require_hostname(config.hostname);
  if (!config.user.empty()) require_user(config.user);
  for (const GuestFile& file : config.files) static_cast<void>(parse_mode(file.mode));
  try {
    SeedFiles files;
    files.user_data = "#cloud-config\n" + to_yaml(user_data_of(config)) + "\n";
    files.meta_data = to_yaml(OrderedJson{{"instance-id", config.instance_id}, {"local-hostname", config.hostname}}) + "\n";
    files.network_config = to_yaml(network_config_of(config)) + "\n";
    return files;
  } catch (const OrderedJson::exception&) {
    throw Error(Errc::invalid_template, "guest: a text of the guest section is not valid UTF-8",
                "only the content of files may hold other bytes");
  }
}

std::string seed_iso(const SeedFiles& files) {
  std::string image;
  const WriteHandle iso(archive_write_new());
  check(archive_write_set_format_iso9660(iso.get()), iso.get());
  check(archive_write_set_options(iso.get(), "volume-id=cidata,rockridge=useful,joliet=1"), iso.get());
  check(archive_write_open2(iso.get(), &image, nullptr, append, nullptr, nullptr), iso.get());
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  for (const auto& [name, content] : {std::pair<const char*, const std::string&>{"user-data", files.user_data},
                                      {"meta-data", files.meta_data},
                                      {"network-config", files.network_config}}) {
    const EntryHandle entry(archive_entry_new());
    archive_entry_set_pathname(entry.get(), name);
    archive_entry_set_filetype(entry.get(), AE_IFREG);
    archive_entry_set_perm(entry.get(), 0400);  // the host key is in it
    archive_entry_set_mtime(entry.get(), now, 0);
    archive_entry_set_size(entry.get(), static_cast<la_int64_t>(content.size()));
    check(archive_write_header(iso.get(), entry.get()), iso.get());
    if (archive_write_data(iso.get(), content.data(), content.size()) != static_cast<la_ssize_t>(content.size())) {
      check(ARCHIVE_FATAL, iso.get());
    }
  }
  check(archive_write_close(iso.get()), iso.get());
  return image;
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "qemu/lab.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace vmgraft {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set; start this level by tests/run qemu");
  return value;
}

}  // namespace

Lab::Lab()
    : uri_(environment("VMGRAFT_TEST_URI")),
      store_(environment("VMGRAFT_TEST_STORE")),
      prefix_(environment("VMGRAFT_TEST_PREFIX")),
      binary_(environment("VMGRAFT_BINARY")) {}

Lab::~Lab() {
  for (const std::string& name : names_) {
    Command command;
    command.argv = {binary_, "--connect", uri_, "--store", store_, "--quiet", "delete", "--yes", name};
    try {
      static_cast<void>(host_.run(command));
    } catch (const Error&) {
      // The next run's store is another one.
    }
  }
}

std::string Lab::name(const std::string& suffix) {
  std::string full = prefix_ + suffix;
  names_.push_back(full);
  return full;
}

std::string Lab::program(const std::string& name) const {
  return std::filesystem::path(binary_).parent_path() / name;
}

CommandResult Lab::run(std::vector<std::string> argv) {
  Command command;
  command.argv = std::move(argv);
  command.deadline = std::chrono::minutes(10);
  command.output_cap = std::size_t{64} << 20;
  return host_.run(command);
}

CommandResult Lab::vmgraft(std::vector<std::string> arguments, int want_exit, const std::string& input) {
  Command command;
  command.argv = {binary_, "--connect", uri_, "--store", store_, "--templates",
                  environment("VMGRAFT_TEST_TEMPLATES")};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  command.deadline = std::chrono::minutes(10);
  command.output_cap = std::size_t{64} << 20;
  command.input = input;
  CommandResult result = host_.run(command);
  std::string line;
  for (const std::string& argument : arguments) line += argument + " ";
  INFO("vmgraft " << line << "\n" << result.out.substr(0, 4000) << result.err.substr(0, 4000));
  REQUIRE(result.exit_code == want_exit);
  // What it warned of tells why the next assertion fails.
  if (!result.err.empty()) UNSCOPED_INFO("the last command said: " << result.err.substr(0, 4000));
  return result;
}

nlohmann::json Lab::json(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "--json");
  const nlohmann::json record = nlohmann::json::parse(vmgraft(std::move(arguments)).out);
  REQUIRE(record.at("ok") == true);
  REQUIRE(record.at("error").is_null());
  return record.at("result");
}

nlohmann::json Lab::error(std::vector<std::string> arguments, int want_exit) {
  arguments.insert(arguments.begin(), "--json");
  const nlohmann::json record = nlohmann::json::parse(vmgraft(std::move(arguments), want_exit).out);
  REQUIRE(record.at("ok") == false);
  REQUIRE(record.at("error").is_object());  // verbs on several names also say in "result" what was done
  return record.at("error");
}

std::string Lab::guest(const std::string& vm, const std::string& script) {
  return vmgraft({"exec", "--no-stdin", vm, "--", "/bin/sh", "-c", script}).out;
}

bool Lab::can_merge_live() {
  const CommandResult version = run({"qemu-system-x86_64", "--version"});
  unsigned major = 0;
  unsigned minor = 0;
  REQUIRE(std::sscanf(version.out.c_str(), "QEMU emulator version %u.%u", &major, &minor) == 2);
  return major > 8 || (major == 8 && minor >= 2);
}

std::string Lab::virsh(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"virsh", "-c", uri_});
  const CommandResult result = run(std::move(arguments));
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

std::vector<std::string> Lab::chain(const std::string& vm, const std::string& disk) {
  const nlohmann::json shown = json({"show", vm}).at("vm");
  for (const nlohmann::json& each : shown.at("disks")) {
    if (each.at("name") != disk) continue;
    const CommandResult info =
        run({"qemu-img", "info", "-U", "--backing-chain", "--output=json", each.at("path").get<std::string>()});
    INFO(info.err);
    REQUIRE(info.exit_code == 0);
    std::vector<std::string> files;
    for (const nlohmann::json& layer : nlohmann::json::parse(info.out))
      files.push_back(std::filesystem::path(layer.at("filename").get<std::string>()).filename());
    REQUIRE(files.size() == each.at("depth").get<std::size_t>());
    return files;
  }
  throw std::runtime_error("no disk " + disk);
}

void Lab::check_images(const std::string& vm) {
  const nlohmann::json shown = json({"show", vm}).at("vm");
  for (const nlohmann::json& disk : shown.at("disks"))
    for (const std::string& file : chain(vm, disk.at("name"))) {
      const CommandResult check = run({"qemu-img", "check", "-f", "qcow2", (store_ / "layers" / file).string()});
      INFO(file << "\n" << check.out << check.err);
      REQUIRE(check.exit_code == 0);
    }
}

std::vector<std::string> Lab::inventory() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(store_)) {
    const std::string path = std::filesystem::relative(entry.path(), store_);
    if (!path.starts_with("locks/")) paths.push_back(path);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string Lab::read(const std::filesystem::path& path) {
  const std::optional<std::string> text = host_.read_file(path);
  INFO(path.string());
  REQUIRE(text.has_value());
  return *text;
}

}  // namespace vmgraft

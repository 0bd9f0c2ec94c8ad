// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

#include <unistd.h>
#include <nlohmann/json.hpp>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"

namespace vmgraft::cli {

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

fs::path session_store() {
  const std::string data = environment("XDG_DATA_HOME");
  return (data.empty() ? fs::path(environment("HOME")) / ".local/share" : fs::path(data)) / "vmgraft";
}

/// The store as it can be told without asking libvirt: a completion that connects may start a daemon or ask for a
/// password. Where the connection would decide, the system's store is taken when it can be read.
fs::path guess_store(const Globals& globals) {
  if (!globals.store.empty()) return globals.store;
  if (const std::string store = environment("VMGRAFT_STORE"); !store.empty()) return store;
  const std::string uri = globals.connect.empty() ? environment("LIBVIRT_DEFAULT_URI") : globals.connect;
  const fs::path system = "/var/lib/vmgraft";
  const bool system_readable = ::access((system / "vms").c_str(), R_OK | X_OK) == 0;
  const bool is_session = uri.find("/session") != std::string::npos || (uri.empty() && !system_readable);
  return is_session ? session_store() : system;
}

/// Names of what stands in a folder; nothing when it cannot be read: a completion never complains.
template <typename Name>
Words names_in(const fs::path& folder, Name name) {
  Words names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (std::string word = name(it->path()); !word.empty()) names.push_back(std::move(word));
  }
  return names;
}

Words vm_names(const fs::path& store) {
  return names_in(store / "vms", [](const fs::path& path) {
    std::error_code error;
    return fs::exists(path / "vm.json", error) ? path.filename().string() : std::string{};
  });
}

Words image_names(const fs::path& store) {
  return names_in(store / "images", [](const fs::path& path) {
    return path.extension() == ".json" ? path.stem().string() : std::string{};
  });
}

/// Addresses of what is a GPU by its class; what only the host's configuration calls one is left out.
Words gpu_addresses() {
  const fs::path devices = environment("VMGRAFT_HOST_ROOT") + "/sys/bus/pci/devices";
  return names_in(devices, [](const fs::path& device) {
    std::ifstream file(device / "class");
    std::string code;
    const bool is_gpu = file >> code && (code.rfind("0x03", 0) == 0 || code.rfind("0x1200", 0) == 0);
    return is_gpu ? device.filename().string() : std::string{};
  });
}

Words snapshot_refs(const fs::path& store, const std::string& prefix) {
  Words refs;
  const std::string wanted = prefix.substr(0, prefix.find('@'));
  for (const std::string& vm : vm_names(store)) {
    if (vm.compare(0, wanted.size(), wanted) != 0) continue;
    const fs::path manifest_file = store / "vms" / vm / "vm.json";
    std::error_code error;
    if (fs::symlink_status(manifest_file, error).type() != fs::file_type::regular)
      continue;  // a link may lead to what never ends
    std::ifstream file(manifest_file);
    const nlohmann::json manifest = nlohmann::json::parse(file, nullptr, false);
    if (!manifest.is_object() || !manifest.contains("snapshots") || !manifest["snapshots"].is_array()) continue;
    for (const nlohmann::json& snapshot : manifest["snapshots"]) {
      if (!snapshot.is_object() || !snapshot.contains("name") || !snapshot["name"].is_string()) continue;
      refs.push_back(vm + "@" + snapshot["name"].get<std::string>());
    }
  }
  return refs;
}

/// `vmgraft __complete WHAT PREFIX`: one word a line, for the shells' completions.
class CompleteVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.raw("WHAT", what_);
    args.raw("PREFIX", prefix_);
  }

  int run(Session& session) override {
    Words words = candidates(session);
    std::erase_if(words, [&](const std::string& word) {
      // bash's compgen expands its words: a folder named "$(...)" would run.
      const bool is_plain = std::all_of(word.begin(), word.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 ||
               std::string_view(" ._-@:/+=").find(static_cast<char>(c)) != std::string_view::npos;
      });
      if (!is_plain) return true;
      // Options are asked for by verb, not by how they begin.
      return what_ != "options" && word.compare(0, prefix_.size(), prefix_) != 0;
    });
    std::sort(words.begin(), words.end());
    std::string text;
    for (const std::string& word : words) text += word + "\n";
    session.answer(texts_json("words", words), text);
    return 0;
  }

 private:
  Words candidates(Session& session) const {
    const fs::path store = guess_store(session.globals());
    if (what_ == "verbs") {
      Words words;
      for (const VerbEntry& entry : verbs()) {
        if (!entry.summary.empty()) words.emplace_back(entry.path);
      }
      return words;
    }
    if (what_ == "options") return CommandLine().long_options(prefix_);
    if (what_ == "vms") return vm_names(store);
    if (what_ == "snapshots") return snapshot_refs(store, prefix_);
    if (what_ == "refs") {
      Words words = vm_names(store);
      const Words refs = snapshot_refs(store, prefix_);
      words.insert(words.end(), refs.begin(), refs.end());
      return words;
    }
    if (what_ == "images") return image_names(store);
    if (what_ == "gpus") return gpu_addresses();
    Words words;
    if (what_ == "templates") {
      for (const TemplateInfo& info : session.manager().templates()) words.push_back(info.name);
    } else if (what_ == "catalogue") {
      for (const CatalogueEntry& entry : session.manager().catalogue()) words.push_back(entry.name);
    }
    return words;
  }

  std::string what_;
  std::string prefix_;
};

}  // namespace

std::unique_ptr<Verb> make_complete() {
  return std::make_unique<CompleteVerb>();
}

}  // namespace vmgraft::cli

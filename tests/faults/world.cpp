// SPDX-License-Identifier: Apache-2.0
#include "faults/world.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domain/domain_xml.hpp"
#include "host/sha256.hpp"

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set; start this level by tests/run faults");
  return value;
}

std::string read_all(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// `pattern`: h a hex digit, d a decimal one, else itself.
bool matches(std::string_view text, std::string_view pattern) {
  if (text.size() < pattern.size()) return false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const bool fits = pattern[i] == 'h' ? is_hex(text[i]) : pattern[i] == 'd' ? is_digit(text[i]) : text[i] == pattern[i];
    if (!fits) return false;
  }
  return true;
}

}  // namespace

std::string masked(std::string text) {
  static constexpr std::string_view patterns[] = {"hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh", "hh:hh:hh:hh:hh:hh",
                                                  "dddd-dd-ddTdd:dd:ddZ"};
  for (std::size_t i = 0; i < text.size();) {
    const std::string_view rest(text.data() + i, text.size() - i);
    if (!is_hex(rest.front())) {
      ++i;
      continue;
    }
    const auto pattern = std::find_if(std::begin(patterns), std::end(patterns), [&](auto each) { return matches(rest, each); });
    if (pattern != std::end(patterns)) {
      std::fill_n(text.begin() + static_cast<std::ptrdiff_t>(i), pattern->size(), '*');
      i += pattern->size();
      continue;
    }
    std::size_t length = 1;
    while (length < rest.size() && is_hex(rest[length])) ++length;
    if (length == 32 || length == 64) std::fill_n(text.begin() + static_cast<std::ptrdiff_t>(i), length, '#');
    i += length;
  }
  return text;
}

namespace {

/// A file's content, masked. Of a disk only the header: names stand there, and the rest is the guest's.
std::string masked_file(const fs::path& file) {
  constexpr std::size_t kHeader = 4096;
  std::string text = read_all(file);
  if (file.extension() != ".qcow2" || text.size() <= kHeader) return masked(std::move(text));
  text.replace(0, kHeader, masked(text.substr(0, kHeader)));
  return text;
}

}  // namespace

struct FaultWorld::Domains {
  virConnectPtr connection = nullptr;

  explicit Domains(const std::string& uri) {
    virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
    connection = virConnectOpen(uri.c_str());
    if (connection == nullptr) throw std::runtime_error("libvirt cannot be reached at " + uri);
  }
  ~Domains() { virConnectClose(connection); }

  template <class Act>
  void each(const std::string& prefix, const Act& act) {
    virDomainPtr* list = nullptr;
    const int count = virConnectListAllDomains(connection, &list, 0);
    if (count < 0) throw std::runtime_error("libvirt does not list its domains");
    for (int i = 0; i < count; ++i) {
      const std::string name = virDomainGetName(list[i]);
      if (name.starts_with(prefix)) act(list[i], name);
      virDomainFree(list[i]);
    }
    std::free(list);
  }

  static std::string xml(virDomainPtr domain, unsigned flags) {
    char* text = virDomainGetXMLDesc(domain, flags);
    std::string copy = text == nullptr ? "" : text;
    std::free(text);
    return copy;
  }
};

FaultWorld::FaultWorld()
    : uri_(environment("VMGRAFT_TEST_URI")),
      work_(environment("VMGRAFT_TEST_WORK")),
      store_(work_ / "store"),
      kept_(work_ / "kept"),
      templates_(environment("VMGRAFT_TEST_TEMPLATES")),
      binary_(environment("VMGRAFT_BINARY")),
      prefix_(environment("VMGRAFT_TEST_PREFIX")) {
  reconnect();
}

FaultWorld::~FaultWorld() {
  try {
    drop_domains();
  } catch (const std::exception&) {
    // libvirt is gone: so are they, for us.
  }
  std::error_code ignored;
  fs::remove_all(store_, ignored);
  fs::remove_all(kept_, ignored);
}

void FaultWorld::reconnect() {
  domains_.reset();
  domains_ = std::make_unique<Domains>(uri_);
}

void FaultWorld::drop_domains() {
  domains_->each(prefix_, [](virDomainPtr domain, const std::string&) {
    virDomainDestroy(domain);
    virDomainUndefineFlags(domain, VIR_DOMAIN_UNDEFINE_NVRAM | VIR_DOMAIN_UNDEFINE_MANAGED_SAVE);
  });
}

std::vector<std::string> FaultWorld::command(std::vector<std::string> arguments) const {
  std::vector<std::string> argv{binary_, "--connect", uri_, "--store", store_, "--templates", templates_};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

CommandResult FaultWorld::program(std::vector<std::string> argv) {
  Command command;
  command.argv = std::move(argv);
  command.deadline = std::chrono::minutes(2);
  return host_.run(command);
}

CommandResult FaultWorld::run(std::vector<std::string> arguments) { return program(command(std::move(arguments))); }

CommandResult FaultWorld::must(std::vector<std::string> arguments) {
  CommandResult result = run(arguments);
  std::string line;
  for (const std::string& argument : arguments) line += " " + argument;
  if (result.exit_code != 0) throw std::runtime_error("vmgraft" + line + " failed: " + result.err);
  return result;
}

void FaultWorld::begin() {
  drop_domains();
  fs::remove_all(store_);
  fs::remove_all(kept_);
  const fs::path raw = work_ / "tiny.raw";
  if (!fs::exists(raw)) {
    std::ofstream(raw, std::ios::binary) << std::string(1 << 20, 'v');
    fs::resize_file(raw, 4 << 20);
    if (program({"mke2fs", "-q", "-F", "-t", "ext4", raw}).exit_code != 0) throw std::runtime_error("mke2fs fails");
  }
  must({"image", "import", raw, "tiny"});
}

void FaultWorld::write_disk(const std::string& vm, const std::string& disk, const std::string& pattern) {
  const auto manifest = nlohmann::json::parse(read_all(store_ / "vms" / vm / "vm.json"));
  for (const auto& head : manifest.at("heads")) {
    if (head.at("name") != disk) continue;
    const std::string file = store_ / "layers" / (head.at("layer").get<std::string>() + ".qcow2");
    const CommandResult done = program({"qemu-io", "-f", "qcow2", "-c", "write -P " + pattern + " 64k 64k", file});
    if (done.exit_code != 0) throw std::runtime_error("qemu-io: " + done.err + done.out);
    return;
  }
  throw std::runtime_error("VM " + vm + " has no disk " + disk);
}

void FaultWorld::keep() {
  if (program({"rm", "-rf", kept_}).exit_code != 0 || program({"cp", "-a", store_, kept_}).exit_code != 0)
    throw std::runtime_error("the store cannot be kept");
  kept_domains_.clear();
  kept_running_.clear();
  domains_->each(prefix_, [&](virDomainPtr domain, const std::string& name) {
    kept_domains_[name] = Domains::xml(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
    if (virDomainIsActive(domain) == 1) kept_running_.insert(name);
  });
}

void FaultWorld::restore() {
  drop_domains();
  for (const std::vector<std::string>& argv :
       {std::vector<std::string>{"rm", "-rf", store_}, {"cp", "-a", kept_, store_}})
    if (const CommandResult result = program(argv); result.exit_code != 0)
      throw std::runtime_error("the store cannot be put back: " + argv.front() + " ends with " +
                               std::to_string(result.exit_code) + ": " + result.err);
  for (const auto& [name, xml] : kept_domains_) {
    virDomainPtr domain = virDomainDefineXML(domains_->connection, xml.c_str());
    if (domain == nullptr) throw std::runtime_error("libvirt does not define " + name + " again");
    const bool starts = !kept_running_.contains(name) || virDomainCreate(domain) == 0;
    virDomainFree(domain);
    if (!starts) throw std::runtime_error("libvirt does not start " + name + " again");
  }
}

std::string FaultWorld::read_text(const fs::path& file) const {
  return read_all(file);
}

std::size_t FaultWorld::journals() const {
  std::size_t count = 0;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(store_ / "journal", none))
    if (entry.path().extension() == ".json" && !entry.path().filename().native().starts_with(".")) ++count;
  return count;
}

std::vector<std::string> FaultWorld::garbage() {
  const CommandResult result = run({"--json", "gc", "--dry-run"});
  if (result.exit_code != 0) return {"that it fails: " + result.err + result.out};
  std::vector<std::string> found;
  const auto record = nlohmann::json::parse(result.out);
  for (const auto& [list, entries] : record.at("result").items())
    if (entries.is_array())
      for (const auto& entry : entries) found.push_back(list + ": " + entry.dump());
  return found;
}

void FaultWorld::power_off() {
  domains_->each(prefix_, [](virDomainPtr domain, const std::string&) { virDomainDestroy(domain); });
}

std::vector<pid_t> FaultWorld::qemus() const {
  std::vector<pid_t> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string line = read_all(entry.path() / "cmdline");
    if (line.find("qemu-system") != std::string::npos && line.find("guest=" + prefix_) != std::string::npos)
      found.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return found;
}

std::string FaultWorld::state() {
  std::vector<std::string> lines;
  std::error_code none;
  for (const auto& entry : fs::recursive_directory_iterator(store_, none)) {
    const std::string path = fs::relative(entry.path(), store_);
    if (path.starts_with("locks/") || path.ends_with("console.log")) continue;  // the log is libvirt's to begin
    struct stat facts {};
    ::lstat(entry.path().c_str(), &facts);
    std::ostringstream line;
    line << masked(path) << ' ' << std::oct << (facts.st_mode & 07777U) << std::dec;
    line << ' ' << facts.st_uid << ':' << facts.st_gid;
    if (copies_differ_ && path.ends_with(".qcow2")) {
      const fs::path raw = work_ / "content.raw";
      static_cast<void>(program({"qemu-img", "convert", "-O", "raw", entry.path(), raw}));
      line << ' ' << sha256_text(read_all(raw)).substr(0, 16);
    } else if (path.ends_with("/memory")) {
      line << " memory";  // of a guest that runs: no two are the same
    } else if (entry.is_regular_file())
      line << ' ' << facts.st_size << ' ' << sha256_text(masked_file(entry.path())).substr(0, 16);
    lines.push_back(line.str());
  }
  domains_->each(prefix_, [&](virDomainPtr domain, const std::string& name) {
    int state = 0;
    virDomainGetState(domain, &state, nullptr, 0);
    const std::string xml = masked(Domains::xml(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE));
    lines.push_back("domain " + name + " " + std::to_string(state) + " " + sha256_text(xml).substr(0, 16));
  });
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::vector<std::string> FaultWorld::flaws() {
  std::vector<std::string> found;
  const fs::path layers = store_ / "layers";
  std::map<std::string, std::string> parents;
  std::error_code none;
  for (const auto& entry : fs::recursive_directory_iterator(store_, none)) {
    const std::string path = fs::relative(entry.path(), store_);
    const std::string name = entry.path().filename();
    if (name.ends_with(".tmp") || name.ends_with(".part")) found.push_back("a temporary is left: " + path);
    if (path.starts_with("tmp/") && path != "tmp/downloads") found.push_back("tmp is not empty: " + path);
    if (path.starts_with("journal/")) found.push_back("a journal is left: " + path);
    if (path.starts_with("locks/")) {
      const int fd = ::open(entry.path().c_str(), O_RDWR | O_CLOEXEC);
      if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) != 0) found.push_back("a lock is held: " + path);
      if (fd >= 0) ::close(fd);
    }
    if (!path.starts_with("layers/")) continue;
    const std::string id = entry.path().stem();
    if (entry.path().extension() == ".json") {
      parents[id] = nlohmann::json::parse(read_all(entry.path())).at("parent").get<std::string>();
      if (!fs::exists(layers / (id + ".qcow2"))) found.push_back("a record without a layer: " + path);
    } else if (!fs::exists(layers / (id + ".json"))) {
      found.push_back("a layer without a record: " + path);
    }
  }
  std::set<std::string> named;
  std::map<std::string, std::map<std::string, std::string>> heads;
  for (const auto& entry : fs::directory_iterator(store_ / "images", none))
    named.insert(nlohmann::json::parse(read_all(entry.path())).at("layer").get<std::string>());
  for (const auto& entry : fs::directory_iterator(store_ / "vms", none)) {
    if (!fs::exists(entry.path() / "vm.json")) {
      found.push_back("a VM folder without a manifest: " + entry.path().filename().native());
      continue;
    }
    const auto manifest = nlohmann::json::parse(read_all(entry.path() / "vm.json"));
    for (const auto& head : manifest.at("heads")) {
      named.insert(head.at("layer").get<std::string>());
      heads[manifest.at("name")][head.at("target")] = layers / (head.at("layer").get<std::string>() + ".qcow2");
    }
    std::set<std::string> snapshots;
    for (const auto& snapshot : manifest.at("snapshots")) {
      snapshots.insert(snapshot.at("name").get<std::string>());
      for (const auto& disk : snapshot.at("disks")) named.insert(disk.at("layer").get<std::string>());
    }
    for (const auto& folder : fs::directory_iterator(entry.path() / "snapshots", none))
      if (!snapshots.contains(folder.path().filename()))
        found.push_back("a snapshot folder that no snapshot has: " + folder.path().filename().native());
  }
  std::set<std::string> reached;
  for (std::string at : named) {
    while (!at.empty() && reached.insert(at).second) {
      if (!parents.contains(at)) {
        found.push_back("a layer is missing: " + at);
        break;
      }
      at = parents[at];
    }
  }
  const bool is_running = !qemus().empty();
  for (const auto& [id, parent] : parents) {
    if (!reached.contains(id)) found.push_back("a layer that nothing reaches: " + id);
    const std::string file = layers / (id + ".qcow2");
    if (!fs::exists(file)) continue;
    if (!parent.empty() && read_all(file).substr(0, 4096).find(parent + ".qcow2") == std::string::npos)
      found.push_back("layer " + id + " does not stand on its parent");
    const std::string digest = sha256_text(masked_file(file));
    if (is_running || sound_layers_.contains(digest)) continue;
    if (program({"qemu-img", "check", "-f", "qcow2", file}).exit_code == 0)
      sound_layers_.insert(digest);
    else
      found.push_back("qemu-img check fails on layer " + id);
  }
  std::size_t active = 0;
  domains_->each(prefix_, [&](virDomainPtr domain, const std::string& name) {
    if (!heads.contains(name)) found.push_back("a domain without a manifest: " + name);
    const bool is_active = virDomainIsActive(domain) == 1;
    if (is_active) ++active;
    for (const unsigned flags : {0U, static_cast<unsigned>(VIR_DOMAIN_XML_INACTIVE)})
      for (const DomainFacts::Disk& disk : read_domain(Domains::xml(domain, flags)).disks)
        if (heads[name].contains(disk.target) && heads[name][disk.target] != disk.path)
          found.push_back("domain " + name + (flags == 0 ? "" : ", defined,") + " has " + disk.path + " as " + disk.target + ", not its head");
    heads.erase(name);
  });
  for (const auto& [name, disks] : heads) found.push_back("a manifest without a domain: " + name);
  if (qemus().size() != active) found.push_back("there are " + std::to_string(qemus().size()) + " QEMUs, and " + std::to_string(active) + " active domains");
  return found;
}

std::vector<std::string> FaultWorld::delete_all() {
  std::vector<std::string> found;
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(store_ / "vms", none)) names.push_back(entry.path().filename());
  for (const std::string& name : names) {
    const CommandResult result = run({"--quiet", "delete", "--yes", name});
    if (result.exit_code != 0) found.push_back("delete " + name + ": " + result.err);
  }
  std::set<std::string> images;
  for (const auto& entry : fs::directory_iterator(store_ / "images", none))
    images.insert(nlohmann::json::parse(read_all(entry.path())).at("layer").get<std::string>());
  for (const auto& entry : fs::recursive_directory_iterator(store_, none)) {
    const std::string path = fs::relative(entry.path(), store_);
    if (entry.is_directory() || path.starts_with("locks/") || path.starts_with("images/") || path == "version" ||
        path == "reserve")
      continue;
    if (path.starts_with("layers/") && images.contains(entry.path().stem())) continue;
    found.push_back("left after all VMs were deleted: " + path);
  }
  domains_->each(prefix_, [&](virDomainPtr, const std::string& name) { found.push_back("a domain is left: " + name); });
  return found;
}

}  // namespace vmgraft

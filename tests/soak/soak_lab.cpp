// SPDX-License-Identifier: Apache-2.0
#include "soak/soak_lab.hpp"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <sys/resource.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "host/file_lock.hpp"
#include "host/linux_host.hpp"

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

/// Far beyond what any verb takes here: what is not done by then hangs.
constexpr std::chrono::seconds kHang{240};

std::optional<std::string> read_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// "snapshot create" of {"snapshot", "create", "web", "clean"}.
std::string verb_of(const std::vector<std::string>& arguments) {
  std::string verb;
  for (const std::string& argument : arguments) {
    if (argument.starts_with("--")) continue;
    if (!verb.empty() && verb != "snapshot") break;
    verb += (verb.empty() ? "" : " ") + argument;
  }
  return verb;
}

std::size_t recovery_lines(const std::string& err) {
  std::istringstream lines(err);
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("finished '") || line.starts_with("undid '") || line.starts_with("removed ")) ++count;
  return count;
}

}  // namespace

std::size_t soak_number(const char* name, std::size_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : static_cast<std::size_t>(std::strtoull(value, nullptr, 10));
}

SoakLab::SoakLab() : qemus(static_cast<std::ptrdiff_t>(soak_number("VMGRAFT_SOAK_QEMUS", 12))) {
  prefix_ = world_.vm();
  prefix_.pop_back();
}

void SoakLab::begin() {
  world_.begin();
  // Built once in a run of the tests: the store is the same each time.
  const fs::path kept = world_.work() / "micro-store";
  if (!fs::exists(kept)) {
    world_.must({"--quiet", "image", "build", "micro"});
    world_.must({"image", "delete", "tiny"});
    if (world_.program({"cp", "-a", world_.store(), kept}).exit_code != 0)
      throw std::runtime_error("the store cannot be kept");
    return;
  }
  fs::remove_all(world_.store());
  if (world_.program({"cp", "-a", kept, world_.store()}).exit_code != 0)
    throw std::runtime_error("the store cannot be put back");
}

SoakRun SoakLab::run(const std::vector<std::string>& arguments, std::optional<std::chrono::milliseconds> kill_after) {
  std::vector<std::string> argv = world_.command(arguments);
  if (kill_after) {
    // In the foreground: the program alone dies, as by the kernel's own killer, and not what it has started.
    const std::vector<std::string> killer{"timeout", "--foreground", "--signal=KILL",
                                          fmt::format("{:.3f}", static_cast<double>(kill_after->count()) / 1000)};
    argv.insert(argv.begin(), killer.begin(), killer.end());
  }
  SoakRun run = program(std::move(argv));
  run.line = fmt::format("vmgraft {}", fmt::join(arguments, " "));
  // 124: it had ended by itself when timeout was about to kill it. How, is not known, as of one that was killed.
  run.was_killed = kill_after && (run.result.exit_code == 137 || run.result.exit_code == 124);
  ++counts.runs;
  counts.recoveries += recovery_lines(run.result.err);
  if (run.was_killed) ++counts.kills;
  if (run.result.exit_code == exit_code(Errc::conflict)) ++counts.conflicts;
  if (run.result.exit_code == exit_code(Errc::not_found)) ++counts.not_found;
  const std::string verb = verb_of(arguments);
  const std::lock_guard<std::mutex> lock(mutex_);
  times_[verb].first += run.seconds;
  ++times_[verb].second;
  return run;
}

SoakRun SoakLab::program(std::vector<std::string> argv) {
  SoakRun run;
  run.line = fmt::format("{}", fmt::join(argv, " "));
  Command command;
  command.argv = std::move(argv);
  command.deadline = kHang;
  const auto begun = std::chrono::steady_clock::now();
  run.result = LinuxHost().run(command);
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  return run;
}

void SoakLab::give_way(const std::string& vm) {
  std::ifstream file("/run/libvirt/qemu/" + vm + ".pid");
  pid_t pid = 0;
  if (!(file >> pid)) return;  // somebody has stopped it
  // Where the kernel groups processes by session, each daemon has the weight of all our commands together.
  std::ofstream(fmt::format("/proc/{}/autogroup", pid)) << 19;
  std::error_code gone;
  for (fs::directory_iterator task(fmt::format("/proc/{}/task", pid), gone), end; !gone && task != end; task.increment(gone))
    static_cast<void>(::setpriority(PRIO_PROCESS, static_cast<id_t>(std::stoul(task->path().filename())), 19));
}

bool SoakLab::has_vm(const std::string& vm) {
  return fs::exists(world_.store() / "vms" / vm / "vm.json");
}

std::optional<std::set<std::string>> SoakLab::snapshots(const std::string& vm) {
  const std::optional<std::string> text = read_file(world_.store() / "vms" / vm / "vm.json");
  if (!text) return std::nullopt;
  std::set<std::string> names;
  const auto manifest = nlohmann::json::parse(*text);
  for (const auto& snapshot : manifest.at("snapshots")) names.insert(snapshot.at("name").get<std::string>());
  return names;
}

std::set<std::string> SoakLab::journals(const std::string& vm) {
  std::set<std::string> ids;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(world_.store() / "journal", none)) {
    if (entry.path().extension() != ".json") continue;
    const std::optional<std::string> text = read_file(entry.path());
    if (!text) continue;  // done meanwhile
    const auto journal = nlohmann::json::parse(*text);
    // Nothing but layers that nobody names is left of it: whoever sweeps next takes them.
    if (journal.at("steps").empty()) continue;
    for (const auto& name : journal.at("vms"))
      if (name == vm) ids.insert(entry.path().stem());
  }
  return ids;
}

std::string SoakLab::lock_line(const std::string& vm) {
  return read_file(world_.store() / "locks" / ("vm-" + vm + ".lock")).value_or("");
}

std::string SoakLab::data_file(const std::string& vm, const std::string& snapshot) {
  const std::optional<std::string> text = read_file(world_.store() / "vms" / vm / "vm.json");
  if (!text) return {};
  const auto manifest = nlohmann::json::parse(*text);
  const auto in_disks = [&](const nlohmann::json& disks) {
    for (const auto& disk : disks)
      if (disk.at("name") == "data")
        return (world_.store() / "layers" / (disk.at("layer").get<std::string>() + ".qcow2")).string();
    return std::string();
  };
  if (snapshot.empty()) return in_disks(manifest.at("heads"));
  for (const auto& record : manifest.at("snapshots"))
    if (record.at("name") == snapshot) return in_disks(record.at("disks"));
  return {};
}

void SoakLab::write_content(const std::string& vm, int content) {
  // A VM's disk is written to by its own QEMU, which nothing merges under: here the VM's lock stands for it.
  const FileLock lock = FileLock::take(world_.store() / "locks" / ("vm-" + vm + ".lock"), FileLock::Kind::exclusive,
                                       "write to " + vm, true, nullptr);
  const SoakRun done =
      program({"qemu-io", "-f", "qcow2", "-c", fmt::format("write -P {} 64k 64k", content), data_file(vm)});
  if (done.result.exit_code != 0) fail(done.line + ": " + done.result.out + done.result.err);
}

bool SoakLab::holds(const std::string& file, int content) {
  return program({"qemu-io", "-r", "-U", "-f", "qcow2", "-c", fmt::format("read -P {} 64k 64k", content), file})
             .result.exit_code == 0;
}

void SoakLab::fail(const std::string& what) {
  failed_ = true;
  const std::lock_guard<std::mutex> lock(mutex_);
  failures_.push_back(what);
}

std::vector<std::string> SoakLab::failures() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failures_;
}

std::chrono::milliseconds SoakLab::moment_of(const std::vector<std::string>& arguments, double part) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto known = times_.find(verb_of(arguments));
  const double seconds = known == times_.end() ? 1 : known->second.first / static_cast<double>(known->second.second);
  return std::chrono::milliseconds(1 + static_cast<int>(seconds * 1000 * part));
}

std::string SoakLab::profile() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string text;
  for (const auto& [verb, time] : times_)
    text += fmt::format("  {:<16} {:>5} runs, {:>6.2f} s each\n", verb, time.second,
                        time.first / static_cast<double>(time.second));
  return text;
}

}  // namespace vmgraft

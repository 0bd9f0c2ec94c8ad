// SPDX-License-Identifier: Apache-2.0
#include "soak/soak_worker.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace vmgraft {
namespace {

constexpr unsigned kKilled = 7;  ///< of a hundred operations that change something

bool is_lost_race(const SoakRun& run) {
  return run.result.exit_code == exit_code(Errc::conflict) || run.result.exit_code == exit_code(Errc::not_found);
}

/// Room for one QEMU, given back whatever happens.
class QemuPlace {
 public:
  explicit QemuPlace(SoakLab& lab) : lab_(lab) { lab_.qemus.acquire(); }
  QemuPlace(const QemuPlace&) = delete;
  QemuPlace& operator=(const QemuPlace&) = delete;
  ~QemuPlace() { lab_.qemus.release(); }

 private:
  SoakLab& lab_;
};

std::string joined(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::set<std::string> snapshot_names(const OwnVms& vms, const std::string& vm) {
  std::set<std::string> names;
  if (const auto found = vms.find(vm); found != vms.end())
    for (const auto& [name, content] : found->second.snapshots) names.insert(name);
  return names;
}

}  // namespace

void PublicVms::add(const std::string& vm) {
  const std::lock_guard<std::mutex> lock(mutex_);
  names_.push_back(vm);
}

void PublicVms::remove(const std::string& vm) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase(names_, vm);
}

std::string PublicVms::draw(std::mt19937_64& random) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (names_.empty()) return {};
  return names_[std::uniform_int_distribution<std::size_t>(0, names_.size() - 1)(random)];
}

SoakWorker::SoakWorker(SoakLab& lab, PublicVms& others, std::size_t number, std::uint64_t seed, std::size_t operations,
                       std::size_t starts)
    : lab_(lab), others_(others), number_(number), random_(seed + number), operations_(operations), starts_(starts) {}

std::vector<std::string> SoakWorker::shared_names(const SoakLab& lab) {
  std::vector<std::string> names;
  for (int i = 0; i < 8; ++i) names.push_back(lab.name(fmt::format("x{}", i)));
  return names;
}

void SoakWorker::work() {
  // Which of the operations start a VM: spread over the whole time, so that all QEMUs are never wanted at once.
  std::vector<bool> is_start(operations_, false);
  std::fill_n(is_start.begin(), std::min(starts_, operations_), true);
  std::shuffle(is_start.begin(), is_start.end(), random_);
  for (std::size_t i = 0; i < operations_ && !lab_.has_failed(); ++i) {
    if (is_start[i])
      start_and_stop();
    else
      operate();
    ++lab_.counts.operations;
  }
}

void SoakWorker::operate() {
  const std::size_t drawn = below(100);
  if (drawn < 22) return quarrel();
  if (drawn < 40) return create();
  if (drawn < 50) return clone();
  if (drawn < 57) return clone_of_another();
  if (drawn < 70) return snapshot();
  if (drawn < 77) return snapshot_delete();
  if (drawn < 83) return revert();
  if (drawn < 90) return remove();
  if (drawn < 97) return look();
  sweep();
}

std::string SoakWorker::fresh_name() {
  return lab_.name(fmt::format("w{}-{}", number_, ++names_));
}

std::string SoakWorker::any_vm() {
  if (own_.empty()) create();
  if (own_.empty()) return {};  // its creation was killed
  return std::next(own_.begin(), static_cast<std::ptrdiff_t>(below(own_.size())))->first;
}

std::string SoakWorker::any_with_snapshot() {
  std::vector<std::string> names;
  for (const auto& [name, vm] : own_)
    for (const auto& [snapshot, content] : vm.snapshots) names.push_back(name + "@" + snapshot);
  return names.empty() ? std::string() : names[below(names.size())];
}

void SoakWorker::wrong(const SoakRun& run, const std::string& what) {
  lab_.fail(fmt::format("worker {}: {}: {} (exit {}{}, {:.1f} s)\n{}{}", number_, run.line, what, run.result.exit_code,
                        run.result.timed_out ? ", hung" : "", run.seconds, run.result.out, run.result.err));
}

bool SoakWorker::act(const std::vector<std::string>& arguments, const std::set<std::string>& involved,
                     const OwnVms& after, bool may_miss) {
  std::optional<std::chrono::milliseconds> kill;
  if (chance(kKilled)) kill = lab_.moment_of(arguments, static_cast<double>(below(110)) / 100);
  const SoakRun run = lab_.run(arguments, kill);
  if (run.was_killed) return settle(run, involved, after);
  if (may_miss && is_lost_race(run)) return false;
  if (run.result.exit_code != 0) {
    wrong(run, "must succeed");
    return false;
  }
  own_ = after;
  return true;
}

bool SoakWorker::settle(const SoakRun& killed, const std::set<std::string>& involved, const OwnVms& after) {
  // Any command finishes or undoes what the dead one left, when nobody else is just doing so; one that works on the
  // same VM does in any case.
  for (const std::string& vm : involved) {
    const std::set<std::string> journals = lab_.journals(vm);
    const auto is_left = [&] {
      const std::set<std::string> now = lab_.journals(vm);
      return std::any_of(journals.begin(), journals.end(), [&](const std::string& id) { return now.contains(id); });
    };
    for (int i = 0; i == 0 || (i < 20 && is_left()); ++i) {
      const SoakRun next = lab_.run(lab_.has_vm(vm) ? std::vector<std::string>{"extend", vm, "never"}
                                                    : std::vector<std::string>{"list"});
      if (next.result.exit_code != 0 && next.result.exit_code != exit_code(Errc::not_found)) {
        wrong(next, "must see to what a killed process left: " + killed.line);
        return false;
      }
    }
    if (is_left()) {
      wrong(killed, "its journal is still there after twenty commands more");
      return false;
    }
  }
  std::size_t done = 0;
  std::size_t undone = 0;
  for (const std::string& vm : involved) {
    const bool is_there = lab_.has_vm(vm);
    const bool was = own_.contains(vm);
    const bool would = after.contains(vm);
    if (was == would) continue;
    ++(is_there == would ? done : undone);
  }
  if (done != 0 && undone != 0) {
    wrong(killed, "a part of it was done, when it was killed");
    return false;
  }
  for (const std::string& vm : involved) adopt(killed, vm, after);
  return done != 0;
}

void SoakWorker::adopt(const SoakRun& killed, const std::string& vm, const OwnVms& after) {
  const auto seen = lab_.snapshots(vm);
  const auto old = own_.find(vm);
  const auto now = after.find(vm);
  if (!seen) {
    if (old != own_.end() && now != after.end()) wrong(killed, "VM " + vm + " is gone, when it was killed");
    own_.erase(vm);
    return;
  }
  std::set<std::string> names = *seen;
  OwnVm known;
  for (const OwnVms* one : {&after, static_cast<const OwnVms*>(&own_)})
    if (const auto found = one->find(vm); found != one->end())
      for (const auto& [name, content] : found->second.snapshots)
        if (names.contains(name)) known.snapshots.emplace(name, content);
  // A revert names what was before.
  for (const std::string& name : names)
    if (name.starts_with("before-revert") && !known.snapshots.contains(name) && old != own_.end())
      known.snapshots.emplace(name, old->second.content);
  const std::set<std::string> before = snapshot_names(own_, vm);
  const std::set<std::string> wanted = snapshot_names(after, vm);
  std::set<std::string> without_undo = names;
  std::erase_if(without_undo,
                [&](const std::string& name) { return name.starts_with("before-revert") && !before.contains(name); });
  if (without_undo != before && without_undo != wanted)
    wrong(killed, fmt::format("VM {} has the snapshots {}; before it had {}, and afterwards it should have {}", vm,
                              joined(names), joined(before), joined(wanted)));
  const std::string file = lab_.data_file(vm);
  const int undone = old == own_.end() ? now->second.content : old->second.content;
  const int done = now == after.end() ? undone : now->second.content;
  if (lab_.holds(file, done))
    known.content = done;
  else if (lab_.holds(file, undone))
    known.content = undone;
  else
    wrong(killed, fmt::format("VM {} holds neither {} nor {}, when it was killed", vm, undone, done));
  own_[vm] = known;
}

void SoakWorker::put_content(const std::string& vm) {
  // Others clone it: what they see would depend on who comes first.
  const int content = 1 + (contents_++ + static_cast<int>(number_)) % 255;
  lab_.write_content(vm, content);
  own_[vm].content = content;
}

void SoakWorker::create() {
  const std::string name = fresh_name();
  OwnVms after = own_;
  if (chance(20)) {
    const std::string one = name + "-1";
    const std::string two = name + "-2";
    after[one] = after[two] = OwnVm{};
    static_cast<void>(act({"create", "soak", name, "--count", "2", "--no-start"}, {one, two}, after));
    return;
  }
  after[name] = OwnVm{};
  if (!act({"create", "soak", name, "--no-start"}, {name}, after)) return;
  if (chance(70)) put_content(name);
  if (chance(50)) others_.add(name);
}

void SoakWorker::clone() {
  const std::string source = any_vm();
  if (source.empty()) return;
  const std::string name = fresh_name();
  OwnVms after = own_;
  after[name].content = own_[source].content;
  std::string from = source;
  if (!own_[source].snapshots.empty() && chance(50)) {
    const auto& snapshot = *own_[source].snapshots.begin();
    from += "@" + snapshot.first;
    after[name].content = snapshot.second;
  }
  std::vector<std::string> arguments{"clone", from, name};
  if (chance(8)) arguments.emplace_back("--full");
  if (act(arguments, {source, name}, after) && chance(50)) put_content(name);
}

void SoakWorker::clone_of_another() {
  const std::string source = others_.draw(random_);
  if (source.empty() || own_.contains(source)) return clone();
  const std::string name = fresh_name();
  OwnVms after = own_;
  after[name] = OwnVm{};
  // What it holds is its owner's affair; its own is written over it.
  const SoakRun run = lab_.run({"clone", source, name});
  if (is_lost_race(run)) return;  // it was deleted
  if (run.result.exit_code != 0) return wrong(run, "must succeed, or not find its source");
  own_ = after;
  put_content(name);
}

void SoakWorker::snapshot() {
  const std::string vm = any_vm();
  if (vm.empty()) return;
  const std::string name = fmt::format("s{}", ++names_);
  OwnVms after = own_;
  after[vm].snapshots[name] = own_[vm].content;
  if (act({"snapshot", "create", vm, name}, {vm}, after)) put_content(vm);
}

void SoakWorker::snapshot_delete() {
  const std::string ref = any_with_snapshot();
  if (ref.empty()) return snapshot();
  const std::string vm = ref.substr(0, ref.find('@'));
  OwnVms after = own_;
  after[vm].snapshots.erase(ref.substr(ref.find('@') + 1));
  static_cast<void>(act({"snapshot", "delete", ref}, {vm}, after));
}

void SoakWorker::revert() {
  const std::string ref = any_with_snapshot();
  if (ref.empty()) return snapshot();
  const std::string vm = ref.substr(0, ref.find('@'));
  OwnVms after = own_;
  after[vm].content = own_[vm].snapshots.at(ref.substr(ref.find('@') + 1));
  const int before = own_[vm].content;
  const std::set<std::string> known = snapshot_names(own_, vm);
  if (!act({"revert", ref}, {vm}, after)) return;
  // It names what was before, so that it can be undone.
  std::size_t undo = 0;
  for (const std::string& name : lab_.snapshots(vm).value_or(std::set<std::string>{}))
    if (!known.contains(name) && name.starts_with("before-revert-")) {
      own_[vm].snapshots[name] = before;
      ++undo;
    }
  if (undo > 1) lab_.fail("reverting to " + ref + " made more than one snapshot");
}

void SoakWorker::remove() {
  const std::string vm = any_vm();
  if (vm.empty()) return;
  OwnVms after = own_;
  after.erase(vm);
  others_.remove(vm);
  static_cast<void>(act({"delete", "--yes", vm}, {vm}, after));
}

void SoakWorker::look() {
  const std::string vm = any_vm();
  if (vm.empty()) return;
  static const std::vector<std::vector<std::string>> kLooks{
      {"list"}, {"show"}, {"snapshot", "list"}, {"extend"}, {"check", "--quick"}};
  std::vector<std::string> arguments = kLooks[below(kLooks.size())];
  if (arguments.front() != "list") arguments.push_back(vm);
  if (arguments.front() == "extend") arguments.emplace_back("24h");
  if (arguments.front() == "list") arguments.insert(arguments.end(), {"--all", "--json"});
  const SoakRun run = lab_.run(arguments);
  if (run.result.exit_code != 0) return wrong(run, "must succeed");
  if (arguments.front() != "list") return;
  std::set<std::string> listed;
  const nlohmann::json record = nlohmann::json::parse(run.result.out);
  for (const auto& each : record.at("result").at("vms")) listed.insert(each.at("name").get<std::string>());
  for (const auto& [name, known] : own_)
    if (!listed.contains(name)) return wrong(run, "VM " + name + " is not listed");
}

void SoakWorker::sweep() {
  std::vector<std::string> arguments{"gc"};
  if (chance(50)) arguments.emplace_back("--dry-run");
  const SoakRun run = lab_.run(arguments);
  if (run.result.exit_code != 0) wrong(run, "must succeed");
}

void SoakWorker::start_and_stop() {
  std::string vm;
  bool is_shared = chance(15);
  if (is_shared) {
    const std::vector<std::string> shared = shared_names(lab_);
    vm = shared[below(shared.size())];
    if (!lab_.has_vm(vm)) is_shared = false;
  }
  if (!is_shared) vm = any_vm();
  if (vm.empty()) return;
  const QemuPlace place(lab_);
  const SoakRun started = lab_.run({"start", vm, "--wait", "none"});
  if (started.result.exit_code != 0) {
    if (!is_shared || !is_lost_race(started)) wrong(started, "must start");
    return;
  }
  ++lab_.counts.starts;
  lab_.give_way(vm);
  if (!is_shared) act_while_running(vm);
  const SoakRun stopped = lab_.run({"stop", vm, "--timeout", "0"});
  if (stopped.result.exit_code != 0 && !(is_shared && is_lost_race(stopped))) wrong(stopped, "must stop");
}

void SoakWorker::act_while_running(const std::string& vm) {
  const SoakRun state = lab_.program({"virsh", "-c", "qemu:///system", "domstate", vm});
  if (!state.result.out.starts_with("running")) return wrong(state, "was started");
  OwnVms after = own_;
  if (chance(30)) {
    const std::string name = fmt::format("s{}", ++names_);
    after[vm].snapshots[name] = own_[vm].content;
    static_cast<void>(act({"snapshot", "create", vm, name}, {vm}, after));
  } else if (chance(30)) {
    const std::string name = fresh_name();
    after[name].content = own_[vm].content;
    static_cast<void>(act({"clone", vm, name}, {vm, name}, after));
  }
}

void SoakWorker::quarrel() {
  const std::vector<std::string> shared = shared_names(lab_);
  const std::string vm = shared[below(shared.size())];
  const std::string other = shared[below(shared.size())];
  const std::string snapshot = fmt::format("q{}", below(3));
  std::vector<std::vector<std::string>> choice{{"create", "soak", vm, "--no-start"},
                                               {"create", "soak", vm, "--no-start"},
                                               {"clone", other, vm},
                                               {"snapshot", "create", vm, snapshot},
                                               {"snapshot", "create", vm, snapshot},
                                               {"snapshot", "delete", vm + "@" + snapshot},
                                               {"revert", "--no-start", vm + "@" + snapshot},
                                               {"delete", "--yes", vm},
                                               {"show", vm},
                                               {"extend", vm, "1d"},
                                               {"clone", other + "@" + snapshot, vm},
                                               {"check", "--quick", vm}};
  if (vm == other) std::erase_if(choice, [](const auto& arguments) { return arguments.front() == "clone"; });
  const std::vector<std::string> arguments = choice[below(choice.size())];
  std::optional<std::chrono::milliseconds> kill;
  if (chance(kKilled)) kill = lab_.moment_of(arguments, static_cast<double>(below(110)) / 100);
  const SoakRun run = lab_.run(arguments, kill);
  if (run.was_killed || run.result.exit_code == 0 || is_lost_race(run)) return;
  wrong(run, "only a conflict, or a name that is gone, may be in its way");
}

}  // namespace vmgraft

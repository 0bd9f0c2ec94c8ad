// SPDX-License-Identifier: Apache-2.0
#include "soak/soak_watch.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kLook{200};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Sockets accepted by libvirtd carry the path of the one that it listens on, and are connected (03). Source: proc(5).
std::size_t connections() {
  std::ifstream file("/proc/net/unix");
  std::size_t count = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string number, references, protocol, flags, type, state, inode, path;
    words >> number >> references >> protocol >> flags >> type >> state >> inode >> path;
    if (state == "03" && path.ends_with("/libvirt/libvirt-sock")) ++count;
  }
  return count;
}

/// libvirtd calls its threads after their work.
std::set<std::string> workers() {
  std::ifstream pid_file("/run/libvirtd.pid");
  std::string pid;
  pid_file >> pid;
  std::set<std::string> threads;
  std::error_code none;
  for (const auto& task : fs::directory_iterator("/proc/" + pid + "/task", none)) {
    std::ifstream file(task.path() / "comm");
    std::string name;
    std::getline(file, name);
    if (name == "rpc-libvirtd") threads.insert(task.path().filename());  // "prio-rpc-libvir" serve calls that never wait
  }
  return threads;
}

}  // namespace

SoakWatch::SoakWatch() {
  thread_ = std::thread([this] {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopping_.wait_for(lock, kLook, [this] { return is_stopped_; })) look();
  });
}

SoakWatch::~SoakWatch() {
  if (thread_.joinable()) static_cast<void>(stop());
}

SoakWatch::Peak SoakWatch::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopped_ = true;
  }
  stopping_.notify_all();
  thread_.join();
  return peak_;
}

void SoakWatch::look() {
  ++peak_.looks;
  peak_.connections = std::max(peak_.connections, connections());
  // A thread that has just begun has the name of the one that made it: counted is who has it a second time.
  std::set<std::string> now = workers();
  const auto is_known = [this](const std::string& thread) { return workers_.contains(thread); };
  peak_.workers = std::max(peak_.workers, static_cast<std::size_t>(std::count_if(now.begin(), now.end(), is_known)));
  workers_ = std::move(now);
  look_at_locks();
}

void SoakWatch::look_at_locks() {
  std::ifstream file("/proc/locks");
  std::map<std::string, double> waiting;
  for (std::string line; std::getline(file, line);) {
    // "7: -> FLOCK  ADVISORY  WRITE 4711 08:01:393222 0 EOF": one that waits for the lock above it.
    std::istringstream words(line);
    std::string number, arrow, kind, mode, access, pid, place;
    words >> number >> arrow >> kind >> mode >> access >> pid >> place;
    if (arrow != "->" || kind != "FLOCK") continue;
    const std::string who = pid + " " + access + " " + place;
    const auto before = waiting_.find(who);
    const double since = before == waiting_.end() ? now() : before->second;
    waiting[who] = since;
    if (now() - since > peak_.lock_wait) {
      peak_.lock_wait = now() - since;
      peak_.lock = who;
    }
  }
  waiting_ = std::move(waiting);
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

namespace vmgraft {

/// Looks, while others work, at what the kernel says of them: connections to libvirt, its workers, who waits for a
/// lock.
class SoakWatch {
 public:
  SoakWatch();
  SoakWatch(const SoakWatch&) = delete;
  SoakWatch& operator=(const SoakWatch&) = delete;
  ~SoakWatch();

  struct Peak {
    std::size_t connections = 0;  ///< to libvirt's socket, at once
    std::size_t workers = 0;      ///< threads of libvirtd that carry out calls
    double lock_wait = 0;         ///< seconds that somebody was seen to wait for one lock
    std::string lock;             ///< ... and which it was
    std::size_t looks = 0;
  };
  [[nodiscard]] Peak stop();

 private:
  void look();
  void look_at_locks();

  std::mutex mutex_;
  std::condition_variable stopping_;
  bool is_stopped_ = false;
  Peak peak_;
  std::map<std::string, double> waiting_;  ///< since when, by process and inode
  std::set<std::string> workers_;          ///< threads of libvirtd, at the last look
  std::thread thread_;
};

}  // namespace vmgraft

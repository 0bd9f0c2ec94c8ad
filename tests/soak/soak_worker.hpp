// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "soak/soak_lab.hpp"

namespace vmgraft {

/// Names of VMs that their owners let others clone.
class PublicVms {
 public:
  void add(const std::string& vm);
  void remove(const std::string& vm);
  /// One of them; empty when there is none.
  [[nodiscard]] std::string draw(std::mt19937_64& random);

 private:
  std::mutex mutex_;
  std::vector<std::string> names_;
};

/// One of the many who use a store at once: operations drawn at random, on VMs of its own, of which it knows what must
/// have become of them, and on VMs that it shares with all the others.
class SoakWorker {
 public:
  /// \param starts  so many of the operations start a VM.
  SoakWorker(SoakLab& lab, PublicVms& others, std::size_t number, std::uint64_t seed, std::size_t operations,
             std::size_t starts);
  void work();
  [[nodiscard]] const OwnVms& own() const { return own_; }

  /// The names that all workers quarrel about.
  static std::vector<std::string> shared_names(const SoakLab& lab);

 private:
  /// One that must succeed; it may be killed, and then all of it was done or nothing.
  /// \param after     what is there when it was done.
  /// \param involved  VMs of this worker that it touches.
  bool act(const std::vector<std::string>& arguments, const std::set<std::string>& involved, const OwnVms& after,
           bool may_miss = false);
  /// What a killed one left must be one of both.
  bool settle(const SoakRun& killed, const std::set<std::string>& involved, const OwnVms& after);
  void adopt(const SoakRun& killed, const std::string& vm, const OwnVms& after);
  /// One on a shared name: others may be quicker.
  void quarrel();
  void operate();
  void start_and_stop();
  void act_while_running(const std::string& vm);

  void create();
  void clone();
  void clone_of_another();
  void snapshot();
  void snapshot_delete();
  void revert();
  void remove();
  void look();
  void sweep();

  [[nodiscard]] std::size_t below(std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random_);
  }
  [[nodiscard]] bool chance(unsigned percent) { return below(100) < percent; }
  [[nodiscard]] std::string fresh_name();
  /// One of its VMs; one is made when there is none.
  [[nodiscard]] std::string any_vm();
  [[nodiscard]] std::string any_with_snapshot();
  void wrong(const SoakRun& run, const std::string& what);
  void put_content(const std::string& vm);

  SoakLab& lab_;
  PublicVms& others_;
  std::size_t number_;
  std::mt19937_64 random_;
  std::size_t operations_;
  std::size_t starts_;
  std::size_t names_ = 0;
  int contents_ = 0;
  OwnVms own_;
};

}  // namespace vmgraft

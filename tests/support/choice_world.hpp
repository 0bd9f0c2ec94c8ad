// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "gpu/choose.hpp"
#include "support/catch.hpp"

namespace vmgraft {

/// A host and a request, of which GPUs are chosen: put together GPU by GPU, all of them 10de:2330, sound and on driver
/// nvidia; 16 CPUs and 400 GiB of free memory a node; one GPU wanted for 8 CPUs and 64 GiB.
struct ChoiceWorld {
  GpuFacts facts;
  VmSpec spec;
  CheckFor wanted;

  ChoiceWorld();
  /// \param path  bridges above it, the root port first
  PciFunction& add(const std::string& address, int node, std::vector<std::string> path);
  [[nodiscard]] PciFunction& function(const std::string& address);
  [[nodiscard]] Gpu& gpu(const std::string& address);
  /// A running VM has it.
  void hold(const std::string& address, const std::string& vm);
  ChoiceWorld& want(unsigned count, NumaPolicy numa = NumaPolicy::preferred);
  [[nodiscard]] GpuSpec& first() { return spec.gpus.front(); }
  [[nodiscard]] GpuChoice choose() const { return choose_gpus(facts, spec, wanted); }
  [[nodiscard]] Error refusal() const {
    return error_of([&] { static_cast<void>(choose()); });
  }
};

/// Two switches a node with two GPUs each: 41, 42 | 51, 52 on node 0, 81, 82 | 91, 92 on node 1.
[[nodiscard]] ChoiceWorld four_switches();
/// Two sockets, two GPUs each on root ports of their own.
[[nodiscard]] ChoiceWorld two_sockets();
/// Eight GPUs on NVSwitches, with the partitions that a fabric manager has: 8, 4 + 4, 2 + 2 + 2 + 2.
[[nodiscard]] ChoiceWorld nvswitch_board();
/// The recorded host of that name, with its own CPUs, memory and configuration.
[[nodiscard]] ChoiceWorld recorded_world(const std::string& host);

/// Addresses of what was chosen, in the order of the request.
[[nodiscard]] std::vector<std::string> addresses(const GpuChoice& choice);

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include "gpu/tune.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/size.hpp"

namespace vmgraft {
namespace {

constexpr std::uint64_t kSmallPage = std::uint64_t{2} << 20;
// More disks than that do not each need a thread.
constexpr std::size_t kMostIothreads = 4;
// More threads zero memory no faster (QEMU's own measurement of preallocation).
constexpr std::size_t kMostThreads = 16;
// <allocation threads=>
constexpr unsigned kThreadsSince = 8'002'000;

const HostNode* find_node(const HostSettings& settings, int number) {
  const auto found = std::find_if(settings.nodes.begin(), settings.nodes.end(), [&](const HostNode& node) {
    return number >= 0 && node.number == static_cast<unsigned>(number);
  });
  return found == settings.nodes.end() ? nullptr : &*found;
}

/// Null: the host does not tell.
const HostNode* node_of(const GpuFacts& facts, const PciFunction& function) {
  if (const HostNode* node = find_node(facts.settings, function.numa_node); node != nullptr) return node;
  const PciFunction* physical = facts.devices.find(function.physical_function);
  if (physical != nullptr) return node_of(facts, *physical);
  // Machines with one node often say -1.
  return facts.settings.nodes.size() == 1 ? &facts.settings.nodes.front() : nullptr;
}

std::string vcpus_text(const std::vector<unsigned>& vcpus) {
  return fmt::format("{} {}", vcpus.size() == 1 ? "vCPU" : "vCPUs", format_cpu_list(vcpus));
}

class Tuner {
 public:
  Tuner(const GpuFacts& facts, const std::vector<const PciFunction*>& functions, const VmSpec& spec,
        const PlaceFor& host, Placement& placement)
      : facts_(facts), functions_(functions), spec_(spec), host_(host), placement_(placement) {}

  void run() {
    find_nodes();
    share_out();
    pin();
    set_iothreads();
    set_huge_pages();
    bind_memory();
    set_cells();
    lock();
  }

 private:
  void done(std::string what) { placement_.done.push_back(std::move(what)); }
  void missed(std::string what) { placement_.not_done.push_back(std::move(what)); }

  /// "node 1", "nodes 0 and 1"
  [[nodiscard]] std::string nodes_text() const {
    std::vector<unsigned> numbers;
    for (const HostNode* node : nodes_) numbers.push_back(node->number);
    return fmt::format("{} {}", numbers.size() == 1 ? "node" : "nodes", fmt::join(numbers, " and "));
  }

  void find_nodes() {
    for (const PciFunction* function : functions_) {
      const HostNode* node = node_of(facts_, *function);
      if (node == nullptr) {
        missed(fmt::format("nothing is placed beside GPU {}: the host does not tell its NUMA node", function->address));
      } else if (std::find(nodes_.begin(), nodes_.end(), node) == nodes_.end()) {
        nodes_.push_back(node);
      }
    }
    std::sort(nodes_.begin(), nodes_.end(),
              [](const HostNode* a, const HostNode* b) { return a->number < b->number; });
    if (nodes_.size() <= spec_.cpus) return;
    missed(fmt::format("the VM is not on all nodes of its GPUs: it has {} vCPUs, and they are on {}", spec_.cpus,
                       nodes_text()));
    nodes_.resize(spec_.cpus);
  }

  // Evenly; what does not divide goes to the first nodes. Memory in the largest page that it is a multiple of, so that
  // huge pages do not fail for the share when they would do for the whole.
  void share_out() {
    if (nodes_.empty()) return;
    const std::uint64_t memory = (spec_.memory + 1023) / 1024 * 1024;
    const std::uint64_t unit = memory % kGiB == 0 ? kGiB : memory % kSmallPage == 0 ? kSmallPage : 1024;
    unsigned next = 0;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      GuestCell cell;
      cell.host_node = nodes_[i]->number;
      const std::size_t cpus = spec_.cpus / nodes_.size() + (i < spec_.cpus % nodes_.size() ? 1 : 0);
      for (std::size_t k = 0; k < cpus; ++k) cell.vcpus.push_back(next++);
      const std::uint64_t units = memory / unit;
      cell.memory = (units / nodes_.size() + (i < units % nodes_.size() ? 1 : 0)) * unit;
      shares_.push_back(cell);
    }
  }

  /// CPUs of the node that a vCPU can have for its own, hyper-threads of a core side by side. The first core is the
  /// emulator's: CPU 0, where the host's own work gathers, is on that of node 0.
  [[nodiscard]] std::vector<unsigned> free_cpus(const HostNode& node) const {
    std::set<unsigned> busy;
    for (const DomainUse& domain : facts_.domains) {
      if (domain.is_running) busy.insert(domain.host_cpus.begin(), domain.host_cpus.end());
    }
    std::vector<unsigned> free;
    for (std::size_t i = 1; i < node.cores.size(); ++i) {
      const std::vector<unsigned>& core = node.cores[i];
      const bool is_busy = std::any_of(core.begin(), core.end(), [&](unsigned cpu) { return busy.contains(cpu); });
      // Two VMs on one core would share its caches, and its side channels.
      if (!is_busy) free.insert(free.end(), core.begin(), core.end());
    }
    return free;
  }

  void pin() {
    HostTuning& tuning = placement_.tuning;
    for (std::size_t i = 0; i < nodes_.size(); ++i) pin_share(*nodes_[i], shares_[i]);
    std::sort(tuning.emulator_cpus.begin(), tuning.emulator_cpus.end());
    if (!tuning.emulator_cpus.empty()) {
      done(fmt::format("emulator on CPUs {}", format_cpu_list(tuning.emulator_cpus)));
    }
  }

  void pin_share(const HostNode& node, const GuestCell& share) {
    HostTuning& tuning = placement_.tuning;
    const std::vector<unsigned> free = free_cpus(node);
    const bool fits = free.size() >= share.vcpus.size();
    if (fits) {
      for (std::size_t k = 0; k < share.vcpus.size(); ++k) tuning.vcpus.push_back({share.vcpus[k], {free[k]}});
      const std::vector<unsigned> taken(free.begin(), free.begin() + static_cast<std::ptrdiff_t>(share.vcpus.size()));
      done(fmt::format("{} on CPUs {} of node {}", vcpus_text(share.vcpus), format_cpu_list(taken), node.number));
      tuning.emulator_cpus.insert(tuning.emulator_cpus.end(), node.cores.front().begin(), node.cores.front().end());
      return;
    }
    missed(fmt::format("no CPU of its own for each of {}: node {} has {} left, beside a core for the emulator and what "
                       "other VMs have", vcpus_text(share.vcpus), node.number, free.size()));
    if (node.cpus.empty()) return;
    for (const unsigned vcpu : share.vcpus) tuning.vcpus.push_back({vcpu, node.cpus});
    tuning.emulator_cpus.insert(tuning.emulator_cpus.end(), node.cpus.begin(), node.cpus.end());
    done(fmt::format("{} anywhere on node {}", vcpus_text(share.vcpus), node.number));
  }

  void set_iothreads() {
    const std::size_t threads = std::min(spec_.disks.size(), kMostIothreads);
    if (threads == 0) return;
    placement_.tuning.iothreads = static_cast<unsigned>(threads);
    done(fmt::format("disks served by {} {} beside the emulator", threads, threads == 1 ? "thread" : "threads"));
  }

  [[nodiscard]] static std::uint64_t free_bytes(const HostNode& node, std::uint64_t page) {
    for (const HugePages& pages : node.huge_pages) {
      if (pages.page_size == page) return pages.free * page;
    }
    return 0;
  }

  void set_huge_pages() {
    if (nodes_.empty()) return;
    for (const std::uint64_t page : {kGiB, kSmallPage}) {
      bool fits = true;
      for (std::size_t i = 0; i < nodes_.size(); ++i) {
        fits = fits && shares_[i].memory % page == 0 && free_bytes(*nodes_[i], page) >= shares_[i].memory;
      }
      if (!fits) continue;
      placement_.tuning.huge_page = page;
      done(fmt::format("memory in huge pages of {} on {}", format_size(page), nodes_text()));
      return;
    }
    missed("no huge pages: " + why_no_huge_pages());
  }

  [[nodiscard]] std::string why_no_huge_pages() const {
    if (spec_.memory % kSmallPage != 0) return fmt::format("{} bytes are no multiple of 2 MiB", spec_.memory);
    std::vector<std::string> short_of;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      const std::uint64_t wanted = shares_[i].memory;
      const std::uint64_t large = wanted % kGiB == 0 ? free_bytes(*nodes_[i], kGiB) : 0;
      const std::uint64_t most = std::max(large, free_bytes(*nodes_[i], kSmallPage));
      if (most >= wanted) continue;
      short_of.push_back(
          fmt::format("node {} has {} free of {}", nodes_[i]->number, format_size(most), format_size(wanted)));
    }
    if (short_of.empty()) return fmt::format("{} have enough, but not of one size", nodes_text());
    return fmt::format("{}", fmt::join(short_of, ", "));
  }

  // Strictly bound memory that the node has not ends in the OOM killer.
  void bind_memory() {
    bool fits = !nodes_.empty();
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (placement_.tuning.huge_page != 0 || nodes_[i]->free_memory >= shares_[i].memory) continue;
      missed(fmt::format("memory is not kept on node {}: it has {} free, and {} are wanted", nodes_[i]->number,
                         format_size(nodes_[i]->free_memory), format_size(shares_[i].memory)));
      fits = false;
    }
    if (!fits) return;
    for (const HostNode* node : nodes_) placement_.tuning.memory_nodes.push_back(node->number);
    if (placement_.tuning.huge_page == 0) done(fmt::format("memory on {}", nodes_text()));
  }

  // On a host with one node a cell would tell the guest nothing. With memory from anywhere it would tell it a lie.
  void set_cells() {
    if (facts_.settings.nodes.size() < 2 || placement_.tuning.memory_nodes.empty()) return;
    placement_.tuning.cells = shares_;
    for (std::size_t i = 0; i < functions_.size(); ++i) {
      const auto found = std::find(nodes_.begin(), nodes_.end(), node_of(facts_, *functions_[i]));
      if (found == nodes_.end()) continue;
      placement_.gpus[i].guest_cell = static_cast<unsigned>(found - nodes_.begin());
    }
    done(fmt::format("guest NUMA {} of {}", shares_.size() == 1 ? "cell" : "cells", nodes_text()));
  }

  void lock() {
    HostTuning& tuning = placement_.tuning;
    tuning.locked = true;
    done("memory locked");
    if (host_.libvirt_version < kThreadsSince) {
      missed("memory is zeroed by one thread: libvirt 8.2 can use more");
      return;
    }
    std::size_t threads = kMostThreads;
    for (const HostNode* node : nodes_) threads = std::min(threads, node->cores.size());
    if (nodes_.empty() || threads == 0) return;
    tuning.prealloc_threads = static_cast<unsigned>(threads);
    done(fmt::format("memory zeroed by {} threads before the start", threads));
  }

  const GpuFacts& facts_;
  const std::vector<const PciFunction*>& functions_;
  const VmSpec& spec_;
  const PlaceFor& host_;
  Placement& placement_;
  std::vector<const HostNode*> nodes_;   // of the GPUs, by number
  std::vector<GuestCell> shares_;        // of the VM on each of them
};

}  // namespace

void tune(const GpuFacts& facts, const std::vector<const PciFunction*>& functions, const VmSpec& spec,
          const PlaceFor& host, Placement& placement) {
  Tuner(facts, functions, spec, host, placement).run();
}

}  // namespace vmgraft

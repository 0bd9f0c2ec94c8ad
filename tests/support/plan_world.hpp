// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plan/plan_clone.hpp"
#include "plan/plan_create.hpp"
#include "plan/plan_revert.hpp"
#include "plan/plan_snapshot.hpp"
#include "plan/plan_sweep.hpp"
#include "run/executor.hpp"
#include "support/fake_host.hpp"
#include "support/fake_hypervisor.hpp"

namespace vmgraft {

/// A store with one image in a fake host, and planners' inputs with predictable ids. Copying it copies the whole world.
class PlanWorld {
 public:
  PlanWorld();
  PlanWorld(const PlanWorld& other);
  PlanWorld& operator=(const PlanWorld&) = delete;

  FakeHost host;
  FakeHypervisor hypervisor{host};
  Store store;

  /// 32 hex digits, another at each call; the same in the same order in a copied world.
  [[nodiscard]] std::string next_id();
  [[nodiscard]] FreshIds ids(std::size_t count);
  [[nodiscard]] World world();
  void run(const Plan& plan) { Executor(world()).execute(plan); }

  /// Facts of a template with two disks, one of them scratch when asked, UEFI with TPM when asked.
  struct VmShape {
    bool scratch = false;
    bool uefi = false;
  };
  [[nodiscard]] Plan plan_new(const std::vector<std::string>& names, VmShape shape);
  [[nodiscard]] Plan plan_new(const std::vector<std::string>& names) { return plan_new(names, {}); }
  /// Define a VM; with UEFI it also gets NVRAM and TPM state, as if it had run once.
  void add_vm(const std::string& name, VmShape shape);
  void add_vm(const std::string& name) { add_vm(name, {}); }
  [[nodiscard]] std::string uuid(const std::string& name) { return store.manifest(name).uuid; }
  [[nodiscard]] std::string head(const std::string& name) { return store.manifest(name).heads.at(0).layer; }
  /// As if the guest had written to its first disk.
  void touch(const std::string& name);
  [[nodiscard]] VmFacts facts(const std::string& name);
  [[nodiscard]] StoreFacts store_facts() { return {store.manifests(), store.images(), store.layers()}; }
  [[nodiscard]] Plan plan_snap(const std::string& vm, const std::string& name, bool freeze = false);
  [[nodiscard]] MovePlan plan_moved(const std::string& vm, bool freeze = false);
  [[nodiscard]] Plan plan_cloned(const std::string& vm, const std::string& snapshot, const std::vector<std::string>& names,
                                 bool full = false);
  [[nodiscard]] RevertPlan plan_back(const std::string& vm, const std::string& snapshot);

 private:
  unsigned last_id_ = 0;
};

}  // namespace vmgraft

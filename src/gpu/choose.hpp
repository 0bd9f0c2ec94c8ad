// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "gpu/check.hpp"
#include "gpu/gpu.hpp"
#include "model/vm_spec.hpp"

namespace vmgraft {

/// Which GPUs a VM gets, and why.
struct GpuChoice {
  struct One {
    std::string address;
    GpuKind kind = GpuKind::gpu;
    std::string mdev_type;                 ///< kind mdev: the type to make an instance of
    bool make_vf = false;                  ///< kind vf: address is a physical function, on which a VF is to be made first
  };
  std::vector<One> gpus;                   ///< in the order of the request
  std::string summary;                     ///< which, and why in a few words: "0000:17:00.0 + 0000:65:00.0: one PCIe switch"
  std::vector<std::string> explanation;    ///< a line for each candidate: taken or why not, and each set's score
};

/// The function is of \p kind, or its driver can make one of it: a candidate, whoever has it now.
[[nodiscard]] bool offers(const PciFunction& function, GpuKind kind);

/// Link distance of two functions, smaller is nearer: 0 one board (same slot's switch port), 1 one PCIe switch, 2 several
/// switches below one root port, 3 one host bridge, 4 one NUMA node, 5 across nodes.
[[nodiscard]] unsigned link_distance(const PciFunction& a, const PciFunction& b);
/// What they copy to each other can pass switches alone: distance 1 or 2.
[[nodiscard]] bool have_switch_between(const PciFunction& a, const PciFunction& b);

/// Filter, enumerate, score, break ties by address. Pure and deterministic.
/// Candidate: of the kind and model asked for, not held, not quarantined, no failing row of check_gpu().
/// Score of a set, in this order: NUMA policy met (required filters, preferred scores) · sum of link distances, less is
/// better · node has the VM's CPUs and memory · least damage to what stays free (do not break up a fuller island or
/// partition than needed) · already on vfio-pci · by address.
/// Several GPUs on a board with fabric partitions come only from one partition of exactly that size.
/// \param spec  spec.gpus is the request; spec.cpus and spec.memory are what the node should have.
/// \throws Error host_unfit: no candidate or set fits; conflict: enough would fit but others hold them; not_found: no GPU of
///               that model, or no such address. The message counts what there is; the context lines are the explanation.
[[nodiscard]] GpuChoice choose_gpus(const GpuFacts& facts, const VmSpec& spec, const CheckFor& wanted);

}  // namespace vmgraft

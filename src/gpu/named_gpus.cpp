// SPDX-License-Identifier: Apache-2.0
#include "gpu/named_gpus.hpp"

#include <algorithm>

#include "gpu/gpu.hpp"

namespace vmgraft {
namespace {

const NamedGpu* named_at(const std::vector<NamedGpu>& known, const std::string& address) {
  const auto found = std::find_if(known.begin(), known.end(), [&](const NamedGpu& gpu) { return gpu.address == address; });
  return found == known.end() ? nullptr : &*found;
}

}  // namespace

std::vector<NamedGpu> name_gpus(const HostDevices& devices, const std::vector<GpuSpec>& request,
                                const std::vector<NamedGpu>& known) {
  std::vector<NamedGpu> named;
  for (const GpuSpec& each : request) {
    if (each.address.empty() || each.count == 0) continue;
    if (const NamedGpu* before = named_at(known, each.address)) {
      named.push_back(*before);
    } else if (const PciFunction* function = devices.find(each.address)) {
      named.push_back({each.address, identity_of(*function)});
    }
  }
  return named;
}

std::vector<GpuSpec> with_identities(std::vector<GpuSpec> request, const std::vector<NamedGpu>& known) {
  for (GpuSpec& each : request)
    if (const NamedGpu* named = named_at(known, each.address)) each.identity = named->identity;
  return request;
}

bool names_gpu(const std::vector<GpuSpec>& request) {
  return std::any_of(request.begin(), request.end(), [](const GpuSpec& each) { return !each.address.empty(); });
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
// The words that people and JSON readers see for the public enumerations.
#include <string>

#include <vmgraft/doctor.hpp>
#include <vmgraft/gc.hpp>
#include <vmgraft/gpu.hpp>
#include <vmgraft/vm.hpp>

namespace vmgraft {

// No default label in these switches: the compiler then names an enumerator that was added and forgotten here.

std::string to_string(VmState state) {
  switch (state) {
    case VmState::running:
      return "running";
    case VmState::paused:
      return "paused";
    case VmState::shut_off:
      return "shut_off";
    case VmState::crashed:
      return "crashed";
    case VmState::missing:
      return "missing";
  }
  return "unknown";
}

std::string to_string(OnExpire on_expire) {
  switch (on_expire) {
    case OnExpire::remove:
      return "delete";
    case OnExpire::stop:
      return "stop";
  }
  return "unknown";
}

std::string to_string(GcAction action) {
  switch (action) {
    case GcAction::remove:
      return "remove";
    case GcAction::define:
      return "define";
    case GcAction::stop:
      return "stop";
    case GcAction::recover:
      return "recover";
    case GcAction::keep:
      return "keep";
  }
  return "unknown";
}

std::string to_string(Consistency consistency) {
  switch (consistency) {
    case Consistency::clean:
      return "clean";
    case Consistency::frozen:
      return "frozen";
    case Consistency::crash:
      return "crash";
  }
  return "unknown";
}

std::string to_string(Health health) {
  switch (health) {
    case Health::ok:
      return "ok";
    case Health::warn:
      return "warn";
    case Health::fail:
      return "fail";
  }
  return "unknown";
}

std::string to_string(GpuState state) {
  switch (state) {
    case GpuState::host:
      return "host";
    case GpuState::vfio:
      return "vfio";
    case GpuState::lent:
      return "lent";
    case GpuState::in_vm:
      return "in_vm";
    case GpuState::dirty:
      return "dirty";
    case GpuState::quarantined:
      return "quarantined";
  }
  return "unknown";
}

}  // namespace vmgraft

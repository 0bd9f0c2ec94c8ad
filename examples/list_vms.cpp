// SPDX-License-Identifier: Apache-2.0
// List the VMs of a store with their disks: how much stands on how many layers.
//   example_list_vms [URI [STORE]]
#include <exception>
#include <iostream>

#include <vmgraft/manager.hpp>

int main(int argc, char** argv) {
  try {
    vmgraft::Options options;
    if (argc > 1) options.connect = argv[1];
    if (argc > 2) options.store = argv[2];
    vmgraft::Manager manager(options);
    for (const vmgraft::VmSummary& vm : manager.list()) {
      std::cout << vm.name << " (" << vmgraft::to_string(vm.state) << ")\n";
      for (const vmgraft::DiskInfo& disk : manager.show(vm.name).disks)
        std::cout << "  " << disk.name << ": " << disk.size << " bytes on " << disk.depth << " layers\n";
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}

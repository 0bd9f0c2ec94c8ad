// SPDX-License-Identifier: Apache-2.0
// Try a risky command in a running VM: snapshot first, keep the result when it works, go back when it does not.
//   example_safe_update URI STORE VM COMMAND [ARGUMENT...]
#include <iostream>
#include <string>
#include <vector>

#include <vmgraft/manager.hpp>

int main(int argc, char** argv) {
  if (argc < 5) {
    std::cerr << "usage: " << argv[0] << " URI STORE VM COMMAND [ARGUMENT...]\n";
    return 2;
  }
  const std::string vm = argv[3];
  try {
    vmgraft::Options options;
    options.connect = argv[1];
    options.store = argv[2];
    vmgraft::Manager manager(options);

    const vmgraft::SnapshotResult before = manager.snapshot({vm, "", "before an update"});
    vmgraft::ExecRequest update;
    update.vm = vm;
    update.command = std::vector<std::string>(argv + 4, argv + argc);
    const int code = manager.exec(update).exit_code;
    if (code == 0) {
      static_cast<void>(manager.snapshot_delete(vm, before.snapshot.name));
      std::cout << "kept\n";
      return 0;
    }
    vmgraft::RevertRequest back;
    back.vm = vm;
    back.snapshot = before.snapshot.name;
    std::cout << "failed with " << code << ": reverted; the failed state is " << vm << '@' << manager.revert(back).undo << '\n';
    return code;
  } catch (const vmgraft::Error& error) {
    std::cerr << error.what() << '\n' << error.hint() << '\n';
    return vmgraft::exit_code(error.code());
  }
}

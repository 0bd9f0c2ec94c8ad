// SPDX-License-Identifier: Apache-2.0
// CI on copies of a prepared VM: every job gets a clone of its own, runs in it, and leaves nothing behind.
//   example_jobs_on_clones URI STORE VM JOBS
#include <cstdlib>
#include <iostream>
#include <string>

#include <vmgraft/manager.hpp>

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: " << argv[0] << " URI STORE VM JOBS\n";
    return 2;
  }
  const std::string vm = argv[3];
  const std::string job = vm + "-job";
  try {
    vmgraft::Options options;
    options.connect = argv[1];
    options.store = argv[2];
    vmgraft::Manager manager(options);

    vmgraft::CloneRequest clones;
    clones.source = vm;
    clones.name = job;
    clones.count = static_cast<unsigned>(std::atoi(argv[4]));
    clones.start = true;
    int failures = 0;
    for (const vmgraft::VmInfo& clone : manager.clone(clones).vms) {
      vmgraft::ExecRequest work;
      work.vm = clone.name;
      work.command = {"/bin/sh", "-c", "echo the job ran on $(hostname)"};
      failures += manager.exec(work).exit_code == 0 ? 0 : 1;
      manager.remove(clone.name);
    }
    return failures;
  } catch (const vmgraft::Error& error) {
    std::cerr << error.what() << '\n' << error.hint() << '\n';
    return vmgraft::exit_code(error.code());
  }
}

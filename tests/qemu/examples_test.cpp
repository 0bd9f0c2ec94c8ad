// SPDX-License-Identifier: Apache-2.0
#include "qemu/lab.hpp"

using namespace vmgraft;

TEST_CASE("the example programs do what they say", "[session][long]") {
  Lab lab;
  const std::string vm = lab.name("ex");
  const std::string programs = lab.program("example_");
  lab.vmgraft({"create", "micro", vm});
  static_cast<void>(lab.name("ex-job-1"));
  static_cast<void>(lab.name("ex-job-2"));

  const CommandResult listed = lab.run({programs + "list_vms", lab.uri(), lab.store()});
  CHECK(listed.exit_code == 0);
  CHECK(listed.out.find(vm + " (running)\n  root: ") != std::string::npos);

  const CommandResult kept =
      lab.run({programs + "safe_update", lab.uri(), lab.store(), vm, "/bin/sh", "-c", "echo new > /root/version && sync"});
  CHECK(kept.out == "kept\n");
  CHECK(lab.json({"snapshot", "list", vm}).at("snapshots").empty());
  const CommandResult reverted =
      lab.run({programs + "safe_update", lab.uri(), lab.store(), vm, "/bin/sh", "-c", "echo broken > /root/version; exit 5"});
  CHECK(reverted.exit_code == 5);
  CHECK(reverted.out == "failed with 5: reverted; the failed state is " + vm + "@before-revert-1\n");
  CHECK(lab.guest(vm, "cat /root/version") == "new\n");

  const CommandResult jobs = lab.run({programs + "jobs_on_clones", lab.uri(), lab.store(), vm, "2"});
  INFO(jobs.err);
  CHECK(jobs.exit_code == 0);
  CHECK(jobs.out == "the job ran on " + vm + "-job-1\nthe job ran on " + vm + "-job-2\n");
  CHECK(lab.run({"virsh", "-c", lab.uri(), "dominfo", vm + "-job-1"}).exit_code != 0);
}

// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "model/size.hpp"
#include "run/doctor_checks.hpp"

namespace vmgraft {
namespace {

/// The store, or the nearest folder above it that is there.
std::filesystem::path existing_folder(const DoctorFacts& facts) {
  std::filesystem::path folder = facts.store;
  while (!facts.host.stat(folder) && folder != folder.parent_path()) folder = folder.parent_path();
  return folder;
}

/// Files of a check, gone at its end; of a doctor that was killed, gc takes them for what they are called: an unfinished write.
class Probe {
 public:
  Probe(Host& host, const std::filesystem::path& folder, const std::string& name)
      : host_(host), path_(folder / fmt::format(".doctor-{}.{}.0.tmp", name, getpid())) {}
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;
  ~Probe() {
    try {
      host_.remove(path_);
    } catch (const std::exception&) {
      // A folder that takes no files has none to remove.
    }
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  Host& host_;
  std::filesystem::path path_;
};

DoctorRow check_writable(const DoctorFacts& facts) {
  const std::filesystem::path folder = existing_folder(facts);
  try {
    const Probe probe(facts.host, folder, "write");
    facts.host.write_file(probe.path(), "vmgraft", 0600);
  } catch (const Error& error) {
    return fail_row(error.what(), fmt::format("run as a user who may write '{}', or choose another store: --store DIR",
                                              folder.string()));
  }
  if (folder != facts.store) return ok_row(fmt::format("'{}' is not there yet and can be made", facts.store.string()));
  return ok_row(facts.store.string());
}

DoctorRow check_readable(const DoctorFacts& facts) {
  if (facts.hypervisor->is_session) return ok_row("QEMU runs as you");
  std::filesystem::path so_far = "/";
  for (const auto& part : existing_folder(facts)) {
    so_far = so_far / part;
    if (may_access(facts.host, facts.qemu, so_far, Access::search)) continue;
    return fail_row(
        fmt::format("QEMU's user '{}' may not pass through '{}': VMs do not start", facts.qemu.name, so_far.string()),
        fmt::format("sudo setfacl -m u:{}:x {} (or chmod o+x), or choose another store: --store DIR", facts.qemu.uid,
                    so_far.string()));
  }
  return ok_row(fmt::format("QEMU's user '{}' reaches {}", facts.qemu.name, facts.store.string()));
}

DoctorRow check_reflink(const DoctorFacts& facts) {
  const std::filesystem::path folder = existing_folder(facts);
  const Probe source(facts.host, folder, "from");
  const Probe copy(facts.host, folder, "to");
  facts.host.write_file(source.path(), std::string(4096, 'v'), 0600);
  Command clone;
  clone.argv = {"cp", "--reflink=always", source.path().string(), copy.path().string()};
  clone.deadline = std::chrono::seconds(10);
  if (facts.host.run(clone).exit_code == 0) return ok_row("copies of whole layers (clone --full) share their blocks");
  return warn_row("this file system cannot share blocks: 'clone --full' copies every byte; nothing else is slower",
                  "put the store on XFS or btrfs when that matters");
}

DoctorRow check_free_space(const DoctorFacts& facts) {
  const std::filesystem::path folder = existing_folder(facts);
  const FreeSpace space = facts.host.free_space(folder);
  const std::string seen =
      fmt::format("{} free of {} at {}", format_size(space.available), format_size(space.total), folder.string());
  const char* remedy = "delete snapshots, VMs or images, or choose another store: --store DIR";
  if (space.available < kGiB) return fail_row(seen, remedy);
  if (space.available < 10 * kGiB) return warn_row(seen, remedy);
  return ok_row(seen);
}

}  // namespace

std::vector<DoctorCheck> store_checks() {
  return {
      {"store-writable", false, check_writable},
      {"store-readable", true, check_readable},
      {"reflink", false, check_reflink},
      {"free-space", false, check_free_space},
  };
}

}  // namespace vmgraft

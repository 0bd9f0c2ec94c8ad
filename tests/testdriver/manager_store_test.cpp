// SPDX-License-Identifier: Apache-2.0
// The library on a store that cannot be used: for as long as it cannot, not only at the first call.
#include <filesystem>
#include <fstream>

#include <vmgraft/manager.hpp>

#include "host/file_lock.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;

// The second call found the store open, and worked beside what was half done.
TEST_CASE("a store that is refused, or whose journal cannot be read, is so at the next call as well") {
  const TempFolder folder;
  Options options;
  options.connect = "test:///default";
  options.store = folder / "store";
  CHECK(Manager(options).list().empty());

  const std::filesystem::path journal = folder / "store/journal/00000000000000000000000000000000.json";
  std::ofstream(journal) << "{";
  Manager manager(options);
  CHECK_THROWS_AS(manager.list(), Error);
  CHECK_THROWS_AS(manager.list(), Error);
  std::filesystem::remove(journal);
  CHECK(manager.list().empty());

  Manager other(options);
  std::filesystem::permissions(folder / "store", std::filesystem::perms::others_write, std::filesystem::perm_options::add);
  CHECK_THROWS_AS(other.list(), Error);
  CHECK_THROWS_AS(other.list(), Error);
  std::filesystem::permissions(folder / "store", std::filesystem::perms::others_write, std::filesystem::perm_options::remove);
  CHECK(other.list().empty());
}

// On a store where others were always at work, each command said again that it finished what died long ago: 2,440 lines in one
// soak.
TEST_CASE("what a dead process left to be swept is told by who sweeps it, not by each who cannot yet") {
  const TempFolder folder;
  std::vector<std::string> notices;
  Options options;
  options.connect = "test:///default";
  options.store = folder / "store";
  options.on_notice = [&](const std::string& line) { notices.push_back(line); };
  CHECK(Manager(options).list().empty());
  const std::filesystem::path journal = folder / "store/journal/00000000000000000000000000000000.json";
  std::ofstream(journal) << R"({"version":1,"id":"00000000000000000000000000000000","committed":true,"pid":4194305,)"
                         << R"("verb":"delete a","vms":["a"],"steps":[],"tidy":true})";
  {
    const FileLock at_work = FileLock::take(folder / "store/locks/sweep.lock", FileLock::Kind::shared, "create b", false, nullptr);
    CHECK(Manager(options).list().empty());
    CHECK(Manager(options).list().empty());
    CHECK(notices.empty());
    CHECK(std::filesystem::exists(journal));
  }
  CHECK(Manager(options).list().empty());
  CHECK(notices == std::vector<std::string>{"finished 'delete a', which process 4194305 had left half done"});
  CHECK_FALSE(std::filesystem::exists(journal));
}

// SPDX-License-Identifier: Apache-2.0
// The library on a store that cannot be used: for as long as it cannot, not only at the first call.
#include <filesystem>
#include <fstream>

#include <vmgraft/manager.hpp>

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

// SPDX-License-Identifier: Apache-2.0
// Ctrl-C where no libvirt is needed.
#include <cstdlib>
#include <filesystem>

#include <unistd.h>

#include "cli/run_binary.hpp"
#include "support/catch.hpp"
#include "support/http_server.hpp"
#include "support/interrupt.hpp"
#include "support/temp_folder.hpp"

namespace fs = std::filesystem;

TEST_CASE("Ctrl-C ends a download from a server that stalls, and keeps what came for the next time") {
  const TempFolder folder;
  Interruption interruption;
  HttpServer server;
  HttpServer::File file;
  file.body = std::string(1 << 20, 'x');
  file.on_stall = [&] { interruption.send(); };
  server.put("/disk.qcow2", std::move(file));
  const fs::path store = folder / "store";
  const auto result =
      interruption.run({std::getenv("VMGRAFT_BINARY"), "--connect", "test:///default", "--store", store, "image", "pull",
                        server.url("/disk.qcow2"), "--name", "late", "--sha256", std::string(64, '0')},
                       {}, {"VMGRAFT_STORE=", "VMGRAFT_TEMPLATES=", "LC_ALL=C.UTF-8"});
  INFO(result.out << result.err);
  CHECK(interruption.is_sent());
  CHECK(result.exit_code == 130);
  CHECK(result.err.find("what was fetched is kept: the same command goes on from there") != std::string::npos);
  for (const char* const name : {"images", "layers", "vms", "journal"}) CHECK(fs::is_empty(store / name));
  for (const fs::directory_entry& entry : fs::directory_iterator(store / "tmp")) CHECK(entry.path().filename() == "downloads");
  CHECK(run_vmgraft({"--connect", "test:///default", "--store", store, "check"}).exit_code == 0);
}

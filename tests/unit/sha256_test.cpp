// SPDX-License-Identifier: Apache-2.0
#include "host/sha256.hpp"

#include <fstream>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;

// The examples of FIPS 180-2, B.1 to B.3.
TEST_CASE("sha256 of text is that of the standard's examples") {
  CHECK(sha256_text("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_text("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST_CASE("sha256 of a file is that of its bytes, over several reads") {
  const TempFolder folder;
  std::ofstream(folder / "a") << std::string(1'000'000, 'a') << std::flush;
  CHECK(sha256_file(folder / "a") == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  std::ofstream(folder / "b") << std::string(3 << 20, 'b') << std::flush;
  CHECK(sha256_file(folder / "b") == sha256_text(std::string(3 << 20, 'b')));
}

TEST_CASE("sha256 of what is no file is refused") {
  const TempFolder folder;
  CHECK(error_of([&] { (void)sha256_file(folder / "none"); }).code() == Errc::other);
  CHECK(error_of([&] { (void)sha256_file(folder.path()); }).code() == Errc::other);
}

// SPDX-License-Identifier: Apache-2.0
#include "image/checksum.hpp"

#include "support/image_files.hpp"

using namespace vmgraft;

namespace {
const std::string kA(64, 'a');
const std::string kB(64, 'b');
const std::string kLong(128, 'c');
}  // namespace

TEST_CASE("A sum is found in a list as sha256sum writes it") {
  const auto list = kB + "  other.img\n" + kA + "  disk.qcow2\n";
  CHECK(find_checksum(list, "disk.qcow2") == Checksum{Checksum::Algorithm::sha256, kA});
}

TEST_CASE("A sum of a binary file is found, and CRLF lines do not matter") {
  CHECK(find_checksum(kA + " *disk.img\r\n" + kB + " *x\r\n", "disk.img") == Checksum{Checksum::Algorithm::sha256, kA});
}

TEST_CASE("A sha512 is known by its length") {
  CHECK(find_checksum(kLong + "  disk.qcow2\n", "disk.qcow2") == Checksum{Checksum::Algorithm::sha512, kLong});
}

TEST_CASE("A sum is found in a signed list of the BSD kind") {
  const auto list =
      "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# Fedora-Cloud (x).qcow2: 5 bytes\nSHA256 (other) = " + kB +
      "\nSHA256 (disk.qcow2) = " + kA + "\n-----BEGIN PGP SIGNATURE-----\n\n" + kB + "\n=abcd\n";
  CHECK(find_checksum(list, "disk.qcow2") == Checksum{Checksum::Algorithm::sha256, kA});
}

TEST_CASE("A BSD line whose word does not fit its sum is no sum") {
  CHECK_FALSE(find_checksum("SHA512 (disk.qcow2) = " + kA + "\n", "disk.qcow2"));
  CHECK_FALSE(find_checksum("MD5 (disk.qcow2) = " + kA.substr(0, 32) + "\n", "disk.qcow2"));
}

TEST_CASE("A file is found under a folder, but not as the end of another name") {
  CHECK(find_checksum(kA + "  ./images/disk.img\n", "disk.img"));
  CHECK_FALSE(find_checksum(kA + "  mydisk.img\n", "disk.img"));
}

TEST_CASE("A list that is one bare sum is the sum of its file") {
  CHECK(find_checksum(kA + "\n", "disk.img") == Checksum{Checksum::Algorithm::sha256, kA});
  CHECK_FALSE(find_checksum(kA + "\n" + kB + "  other\n", "disk.img"));
}

TEST_CASE("Sums are compared in lower case") {
  CHECK(find_checksum(std::string(64, 'A') + "  d\n", "d") == Checksum{Checksum::Algorithm::sha256, kA});
}

TEST_CASE("The sums of a file are what sha256sum and sha512sum say") {
  ImageBench bench;
  const auto file = bench.write("abc", "abc");
  CHECK(checksum_file(bench.work, file, Checksum::Algorithm::sha256, "x").hex ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(checksum_file(bench.work, file, Checksum::Algorithm::sha512, "x").hex.substr(0, 16) == "ddaf35a193617aba");
}

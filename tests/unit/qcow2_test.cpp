// SPDX-License-Identifier: Apache-2.0
#include "store/qcow2.hpp"

#include <cstdio>
#include <random>

#include "host/linux_host.hpp"
#include "model/size.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;

namespace {

constexpr std::uint64_t kTiB = std::uint64_t{1} << 40;

void make(const std::filesystem::path& file, std::uint64_t size, const std::string& backing) {
  const Qcow2Layout layout = new_qcow2(size, backing);
  LinuxHost().create_sparse(file, layout.size, layout.extents, 0600);
}

bool has_qemu() {
  LinuxHost host;
  if (!host.find_program("qemu-img").empty() && !host.find_program("qemu-io").empty()) return true;
  std::puts("SKIPPED: qemu-img and qemu-io are not installed (apt install qemu-utils)");
  return false;
}

/// Output of a program of QEMU's; a failure of it fails the test.
std::string qemu(const std::vector<std::string>& argv) {
  LinuxHost host;
  Command command;
  command.argv = argv;
  const CommandResult result = host.run(command);
  INFO(result.out << result.err);
  CHECK(result.exit_code == 0);
  return result.out;
}

std::string start_of(const Qcow2Layout& layout) {
  return layout.extents.front().bytes;
}

/// The header with its \p length bytes at \p at replaced by a number.
std::string with(std::string header, std::size_t at, std::uint64_t value, unsigned length) {
  for (unsigned i = 0; i < length; ++i) header[at + i] = static_cast<char>(value >> (8 * (length - 1 - i)));
  return header;
}

void check_refused(const std::string& start) {
  CHECK(error_of([&] { (void)read_qcow2(start); }).code() == Errc::other);
}

}  // namespace

TEST_CASE("the header that we write reads back") {
  const auto header = read_qcow2(start_of(new_qcow2(60 * kGiB, "base.qcow2")));
  REQUIRE(header.has_value());
  CHECK(header->version == 3);
  CHECK(header->virtual_size == 60 * kGiB);
  CHECK(header->cluster_bits == 17);
  CHECK(header->backing_file == "base.qcow2");
  CHECK(header->backing_format == "qcow2");
  CHECK(header->extended_l2);
  CHECK_FALSE(header->encrypted);
  CHECK_FALSE(header->corrupt);
  CHECK(header->data_file.empty());
  CHECK(header->l1_entries == 60);
  CHECK(header->l1_offset == 3U << 17);
  CHECK(header->snapshots == 0);
  CHECK(read_qcow2(start_of(new_qcow2(kGiB, "")))->backing_file.empty());
}

TEST_CASE("the L1 table covers every size, the last odd sector too") {
  CHECK(read_qcow2(start_of(new_qcow2(0, "")))->l1_entries == 1);
  CHECK(read_qcow2(start_of(new_qcow2(1, "")))->virtual_size == 512);
  CHECK(read_qcow2(start_of(new_qcow2(kGiB, "")))->l1_entries == 1);
  CHECK(read_qcow2(start_of(new_qcow2(kGiB + 1, "")))->l1_entries == 2);
  CHECK(read_qcow2(start_of(new_qcow2(64 * kTiB, "")))->l1_entries == 65536);
  CHECK(new_qcow2(64 * kTiB, "").size == (3 + 4) << 17);
  CHECK(error_of([] { (void)new_qcow2(UINT64_MAX, ""); }).code() == Errc::usage);
  CHECK_THROWS_AS(new_qcow2(kGiB, "nbd:host"), std::logic_error);
  CHECK_THROWS_AS(new_qcow2(kGiB, "/abs"), std::logic_error);
  CHECK_THROWS_AS(new_qcow2(kGiB, std::string(1024, 'x')), std::logic_error);
}

TEST_CASE("qemu-img finds no fault in what we write, whatever the size") {
  if (!has_qemu()) return;
  const TempFolder folder;
  for (const std::uint64_t size :
       {std::uint64_t{512}, kGiB - 512, kGiB, kGiB + 512, 100 * kGiB, 16 * kTiB + 512, 64 * kTiB, 4096 * kTiB}) {
    INFO(size);
    const std::string file = folder / (std::to_string(size) + ".qcow2");
    make(file, size, "");
    qemu({"qemu-img", "check", "-q", file});
    const std::string info = qemu({"qemu-img", "info", "--output=json", file});
    CHECK(info.find("\"virtual-size\": " + std::to_string(size)) != std::string::npos);
    CHECK(info.find("\"extended-l2\": true") != std::string::npos);
    CHECK(info.find("\"cluster-size\": 131072") != std::string::npos);
  }
}

TEST_CASE("QEMU reads and writes through an overlay of ours, and finds no fault afterwards") {
  if (!has_qemu()) return;
  const TempFolder folder;
  make(folder / "base.qcow2", 2 * kTiB, "");
  qemu({"qemu-io", "-c", "write -P 1 0 64k", "-c", "write -P 2 1T 4k", folder / "base.qcow2"});
  make(folder / "over.qcow2", 2 * kTiB, "base.qcow2");
  CHECK(qemu({"qemu-img", "info", "--output=json", folder / "over.qcow2"})
            .find("\"backing-filename-format\": \"qcow2\"") != std::string::npos);
  qemu({"qemu-io", "-c", "write -P 3 4k 4k", "-c", "write -P 4 2047G 1M", folder / "over.qcow2"});
  qemu({"qemu-io", "-c", "read -P 1 0 4k", "-c", "read -P 3 4k 4k", "-c", "read -P 1 8k 56k", "-c", "read -P 2 1T 4k",
        "-c", "read -P 4 2047G 1M", "-c", "read -P 0 1G 1M", folder / "over.qcow2"});
  qemu({"qemu-io", "-c", "read -P 1 4k 4k", folder / "base.qcow2"});
  qemu({"qemu-img", "check", "-q", folder / "over.qcow2"});
  qemu({"qemu-img", "check", "-q", folder / "base.qcow2"});
}

TEST_CASE("a disk of 64 TiB of ours is written at its very end") {
  if (!has_qemu()) return;
  const TempFolder folder;
  make(folder / "a.qcow2", 64 * kTiB, "");
  qemu({"qemu-io", "-c", "write -P 7 70368744173568 4k", "-c", "read -P 7 70368744173568 4k", folder / "a.qcow2"});
}

TEST_CASE("headers that qemu-img writes are read") {
  if (!has_qemu()) return;
  const TempFolder folder;
  LinuxHost host;
  const auto header_of = [&](const std::string& name) {
    return read_qcow2(host.read_range(folder / name, 0, 128 << 10));
  };
  qemu({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", folder / "old.qcow2", "5G"});
  CHECK(header_of("old.qcow2")->version == 2);
  CHECK(header_of("old.qcow2")->virtual_size == 5 * kGiB);
  qemu({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "old.qcow2", "-F", "qcow2", "-o", "cluster_size=2M",
        folder / "b.qcow2"});
  CHECK(header_of("b.qcow2")->backing_file == "old.qcow2");
  CHECK(header_of("b.qcow2")->backing_format == "qcow2");
  CHECK(header_of("b.qcow2")->cluster_bits == 21);
  qemu({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=" + (folder / "d.raw").native(), folder / "d.qcow2",
        "1G"});
  CHECK(header_of("d.qcow2")->data_file == (folder / "d.raw").native());
  qemu({"qemu-img", "snapshot", "-c", "s", folder / "old.qcow2"});
  CHECK(header_of("old.qcow2")->snapshots == 1);
}

TEST_CASE("what does not begin as qcow2 is not qcow2") {
  CHECK_FALSE(read_qcow2("").has_value());
  CHECK_FALSE(read_qcow2("QFI").has_value());
  CHECK_FALSE(read_qcow2(std::string(1024, '\0')).has_value());
  CHECK_FALSE(read_qcow2("KDMV and so on").has_value());
}

TEST_CASE("a qcow2 header that lies is refused") {
  const std::string good = start_of(new_qcow2(60 * kGiB, "base.qcow2"));
  REQUIRE(read_qcow2(good).has_value());
  check_refused(with(good, 4, 4, 4));   // version
  check_refused(with(good, 20, 8, 4));  // cluster bits
  check_refused(with(good, 20, 64, 4));
  check_refused(with(good, 24, UINT64_MAX, 8));  // size
  check_refused(with(good, 24, 61 * kGiB, 8));   // more than L1 covers
  check_refused(with(good, 36, 0xffffffff, 4));  // L1 entries
  check_refused(with(good, 40, 12345, 8));       // L1 offset
  check_refused(with(good, 40, 0, 8));
  check_refused(with(good, 40, UINT64_MAX << 17, 8));
  check_refused(with(good, 72, 1U << 9, 8));  // unknown feature
  check_refused(with(good, 96, 7, 4));        // refcount width
  check_refused(with(good, 100, 103, 4));     // header length
  check_refused(with(good, 100, 0xffffffff, 4));
  check_refused(with(good, 8, 1U << 20, 8));  // backing name outside
  check_refused(with(good, 8, UINT64_MAX, 8));
  check_refused(with(good, 8, 8, 8));
  check_refused(with(good, 16, 1024, 4));
  check_refused(with(good, 116, 0xffffffff, 4));                          // extension length
  check_refused(good.substr(0, good.size() - 3) + std::string(3, '\0'));  // NUL in the name
  check_refused(with(with(good, 20, 13, 4), 40, 3U << 17, 8));            // extended L2 in small clusters
}

TEST_CASE("the marks of encryption, damage and external data are seen") {
  const std::string good = start_of(new_qcow2(kGiB, ""));
  CHECK(read_qcow2(with(good, 32, 2, 4))->encrypted);
  CHECK(read_qcow2(with(good, 72, 0x12, 8))->corrupt);
  CHECK(read_qcow2(with(good, 72, 0x14, 8))->data_file == "?");
}

TEST_CASE("a header cut off at any byte, or with any bytes changed, is read or refused, never worse") {
  const std::string good = start_of(new_qcow2(60 * kGiB, "base.qcow2"));
  for (std::size_t length = 4; length < good.size(); ++length) check_refused(good.substr(0, length));
  std::mt19937 random(20260102);  // seeded: the same run each time
  std::size_t refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bad = good;
    for (int changes = 0; changes < 3; ++changes) bad[4 + random() % (bad.size() - 4)] = static_cast<char>(random());
    try {
      (void)read_qcow2(bad);
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > 10000);
}

// SPDX-License-Identifier: Apache-2.0
#include "store/gpu_ledger.hpp"

#include "store/gpu_config.hpp"
#include "support/catch.hpp"
#include "support/fake_host.hpp"

using namespace vmgraft;

namespace {

GpuRecord some_record() {
  GpuRecord record;
  record.address = "0000:41:00.0";
  record.identity = "10de:2330 10de:16c1";
  record.origins = {{"0000:41:00.1", "snd_hda_intel", ""}, {"0000:41:00.0", "nvidia", "nvidia"}};
  record.power = {{"0000:41:00.0", "1", "auto"}, {"0000:41:00.1", "", "on"}};
  record.lent = true;
  record.vm_uuid = "6a0c1e5e-6f0a-4c39-9a51-0e8d7d1f9b11";
  record.vm = "ci-7";
  record.store = "/store";
  record.release = "reset";
  record.quarantine = "does not \"answer\"\n";
  record.note = "memory not cleared";
  record.made_vfs = 2;
  return record;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string why_not(const std::string& from, const std::string& to) {
  const Error error =
      error_of([&] { (void)gpu_record_from_json(replaced(to_json_text(some_record()), from, to), "x.json"); });
  CHECK(error.code() == Errc::other);
  CHECK_FALSE(error.hint().empty());
  return error.what();
}

std::string why_not_config(const std::string& text) {
  FakeHost host;
  host.add_file("/gpus.json", text);
  const Error error = error_of([&] { (void)read_gpu_config(host, "/gpus.json"); });
  CHECK(error.code() == Errc::other);
  CHECK(error.hint() == "correct the file: vmgraft-gpu(7) shows what it may hold");
  return error.what();
}

}  // namespace

TEST_CASE("a GPU's record comes back from its text as it was") {
  CHECK(gpu_record_from_json(to_json_text(some_record()), "x.json") == some_record());
  GpuRecord bare;
  bare.address = "0000:41:00.0";
  CHECK(gpu_record_from_json(to_json_text(bare), "x.json") == bare);
}

TEST_CASE("a reason that is not UTF-8 does not lose a GPU's record") {
  GpuRecord record = some_record();
  record.quarantine = "said \xff";
  CHECK(gpu_record_from_json(to_json_text(record), "x.json").quarantine == "said \xef\xbf\xbd");
}

TEST_CASE("a GPU's record is read strictly") {
  CHECK(why_not("\"lent\": true", "\"lent\": 1") == "x.json: /lent: want true or false");
  CHECK(why_not("\"lent\": true", "\"lent\": true, \"more\": 1") == "x.json: unknown key 'more'");
  CHECK(why_not("\"lent\": true,", "") == "x.json: the key 'lent' is missing");
  CHECK(why_not("\"version\": 1", "\"version\": 0") == "x.json: /version: there is no format 0");
  CHECK(why_not("\"version\": 1", "\"version\": 2") == "x.json: made by a newer vmgraft (format 2, this one reads 1)");
  CHECK(why_not("\"address\": \"0000:41:00.0\",\n  \"id", "\"address\": \"../x\",\n  \"id") ==
        "x.json: /address: '../x' is not a PCI address (want like 0000:3b:00.0)");
  CHECK(why_not("\"made_vfs\": 2", "\"made_vfs\": -2") == "x.json: /made_vfs: want a whole number that is not negative");
  CHECK(why_not("\"snd_hda_intel\"", "\"../unbind\"") == "x.json: /origins/0: '../unbind' is not a driver");
  CHECK(why_not("\"driver\": \"nvidia\"", "\"pilot\": \"nvidia\"") ==
        "x.json: /origins/1: the key 'driver' is missing");
  CHECK(why_not("\"control\": \"on\"", "\"control\": \"off\"") ==
        "x.json: /power/1/control: 'off' is no setting of it");
  CHECK(why_not("\"release\": \"reset\"", "\"release\": \"flr\"") ==
        "x.json: /release: 'flr' is none of reset, driver, keep");
}

TEST_CASE("the ledger finds its records and passes over what is none") {
  FakeHost host;
  const GpuLedger ledger(host, "/run/vmgraft/gpus");
  CHECK(ledger.records().empty());
  CHECK_FALSE(ledger.find("0000:41:00.0"));
  GpuRecord other = some_record();
  other.address = "0000:81:00.0";
  host.add_file(ledger.file(other.address), to_json_text(other));
  host.add_file(ledger.file("0000:41:00.0"), to_json_text(some_record()));
  host.add_file(ledger.lock_file(), "");
  host.add_file("/run/vmgraft/gpus/.0000:41:00.0.json.77.0.tmp", "{");
  CHECK(ledger.file("0000:41:00.0") == "/run/vmgraft/gpus/0000:41:00.0.json");
  CHECK(ledger.records() == std::vector<GpuRecord>{some_record(), other});
  CHECK(ledger.find("0000:81:00.0") == other);
}

TEST_CASE("the ledger refuses a file of another GPU and a name that is no address") {
  FakeHost host;
  const GpuLedger ledger(host, "/run/vmgraft/gpus");
  host.add_file(ledger.file("0000:81:00.0"), to_json_text(some_record()));
  CHECK(std::string(error_of([&] { (void)ledger.find("0000:81:00.0"); }).what()) ==
        "/run/vmgraft/gpus/0000:81:00.0.json: /address: is of another GPU, '0000:41:00.0'");
  CHECK(error_of([&] { (void)ledger.records(); }).code() == Errc::other);
  CHECK(error_of([&] { (void)ledger.file("../../etc/passwd"); }).code() == Errc::usage);
}

TEST_CASE("the configuration of GPUs may leave out anything and takes nothing unknown") {
  FakeHost host;
  CHECK(read_gpu_config(host, "/gpus.json").also.empty());
  host.add_file("/gpus.json", "{}");
  CHECK(read_gpu_config(host, "/gpus.json").partitions.empty());
  host.add_file(
      "/gpus.json",
      R"({"partitions": [{"name": "p0", "gpus": ["1B:00.0", "0000:43:00.0"]}], "also": ["1b36:0010"], "version": 1})");
  const GpuConfig config = read_gpu_config(host, "/gpus.json");
  CHECK(config.also == std::vector<std::string>{"1b36:0010"});
  REQUIRE(config.partitions.size() == 1);
  CHECK(config.partitions[0].name == "p0");
  CHECK(config.partitions[0].gpus == std::vector<std::string>{"0000:1b:00.0", "0000:43:00.0"});
}

TEST_CASE("a mistake in the configuration of GPUs is told with its place") {
  CHECK(why_not_config("[]") == "/gpus.json: want an object");
  CHECK(why_not_config(R"({"version": 2})") == "/gpus.json: made by a newer vmgraft (format 2, this one reads 1)");
  CHECK(why_not_config(R"({"too": []})") == "/gpus.json: unknown key 'too'");
  CHECK(why_not_config(R"({"also": ["1b36:0010", "10de"]})") ==
        "/gpus.json: /also/1: '10de' is not a PCI id (want vvvv:dddd, like 10de:2330)");
  CHECK(why_not_config(R"({"partitions": [{"name": "a", "gpus": ["x"]}]})") ==
        "/gpus.json: /partitions/0/gpus/0: 'x' is not a PCI address (want like 0000:3b:00.0)");
  CHECK(why_not_config(R"({"partitions": [{"name": "a", "gpus": ["1b:00.0", "0000:1b:00.0"]}]})") ==
        "/gpus.json: /partitions/0/gpus/1: '0000:1b:00.0' occurs twice");
  CHECK(why_not_config(R"({"partitions": [{"name": "a", "gpus": []}]})") ==
        "/gpus.json: /partitions/0/gpus: a partition has at least one GPU");
  CHECK(why_not_config(R"({"partitions": [{"name": "a", "gpus": ["1b:00.0"]}, {"name": "a", "gpus": ["1c:00.0"]}]})") ==
        "/gpus.json: /partitions/1/name: 'a' occurs twice");
}

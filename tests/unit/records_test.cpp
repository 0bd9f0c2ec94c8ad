// SPDX-License-Identifier: Apache-2.0
#include "store/records.hpp"

#include "support/catch.hpp"

using namespace vmgraft;

namespace {

const std::string kA(32, 'a');
const std::string kB(32, 'b');

LayerRecord some_layer() {
  LayerRecord layer;
  layer.id = kA;
  layer.parent = kB;
  layer.virtual_size = 10ULL << 40;
  layer.made_by = "create ci-7";
  layer.created = "2026-01-02T03:04:05Z";
  layer.boot_direct = true;
  layer.cmdline = "console=ttyS0 root=/dev/vda";
  layer.agent = true;
  layer.default_user = "dev";
  return layer;
}

Manifest some_manifest() {
  Manifest manifest;
  manifest.name = "ci-7";
  manifest.uuid = "6a0c1e5e-6f0a-4c39-9a51-0e8d7d1f9b11";
  manifest.spec = R"({"zeta":1,"alpha":[1,2.5,"\u00e4",null,true],"cpus":2})";
  manifest.template_name = "micro";
  manifest.template_digest = "00ff";
  manifest.owner = "dev";
  manifest.created = "2026-01-02T03:04:05Z";
  manifest.source = "base@clean";
  manifest.heads = {{"root", "vda", kA, true}, {"scratch", "vdb", kB, false}};
  manifest.snapshots = {
      {"one", "", "2026-01-02T03:04:05Z", Consistency::frozen, "before \"it\"\n", {{"root", kB}}, true, false},
      {"two", "one", "2026-01-02T03:04:06Z", Consistency::crash, "", {{"root", kA}}, false, true}};
  manifest.current = "two";
  manifest.ssh_keys = {"ssh-ed25519 AAAA dev@host"};
  manifest.named_gpus = {{"0000:41:00.0", "10de:2330 10de:16c1"}, {"0000:42:00.0", "1002:74a1 1002:74a1"}};
  manifest.provisioned = true;
  return manifest;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string why_not_layer(const std::string& text) {
  return error_of([&] { (void)layer_from_json(text, "x.json"); }).what();
}

std::string why_not_manifest(const std::string& text) {
  const Error error = error_of([&] { (void)manifest_from_json(text, "vm.json"); });
  CHECK(error.code() == Errc::other);
  return error.what();
}

}  // namespace

TEST_CASE("records come back from their text as they were") {
  CHECK(layer_from_json(to_json_text(some_layer()), "x") == some_layer());
  LayerRecord plain;
  plain.id = kA;
  CHECK(layer_from_json(to_json_text(plain), "x") == plain);
  const ImageRecord image{"micro", kA, "00ff", "build micro", "2026-01-02T03:04:05Z"};
  CHECK(image_from_json(to_json_text(image), "x") == image);
  Manifest manifest = some_manifest();
  const Manifest back = manifest_from_json(to_json_text(manifest), "x");
  manifest.spec = "{\"zeta\":1,\"alpha\":[1,2.5,\"\xc3\xa4\",null,true],\"cpus\":2}";  // compact, in the same order
  CHECK(back == manifest);
}

TEST_CASE("a snapshot written before there was one with memory has none") {
  Manifest manifest = some_manifest();
  manifest.snapshots.back().memory = true;
  CHECK(manifest_from_json(to_json_text(manifest), "vm.json").snapshots == manifest.snapshots);
  const std::string older = replaced(to_json_text(manifest), ",\n      \"memory\": true", "");
  CHECK_FALSE(manifest_from_json(older, "vm.json").snapshots.back().memory);
}

TEST_CASE("a manifest written before cards were remembered knows none") {
  Manifest manifest = some_manifest();
  manifest.named_gpus.clear();
  const std::string older = replaced(to_json_text(manifest), "\"named_gpus\": [],\n  ", "");
  CHECK(older.find("named_gpus") == std::string::npos);
  CHECK(manifest_from_json(older, "vm.json").named_gpus.empty());
}

TEST_CASE("a remembered card without an address of its own or an identity is refused") {
  const std::string good = to_json_text(some_manifest());
  const std::string there = "\"0000:41:00.0\"";
  CHECK(why_not_manifest(replaced(good, there, "\"41:00.0\"")) ==
        "vm.json: /named_gpus/0/address: '41:00.0' is not a PCI address (want 0000:41:00.0)");
  CHECK(why_not_manifest(replaced(good, "\"10de:2330 10de:16c1\"", "\"\"")) ==
        "vm.json: /named_gpus/0/identity: the identity is empty");
  CHECK(why_not_manifest(replaced(good, there, "\"0000:42:00.0\"")) ==
        "vm.json: /named_gpus: '0000:42:00.0' occurs twice");
}

TEST_CASE("a spec stands in the file as an object, not as a text of it") {
  const std::string text = to_json_text(some_manifest());
  CHECK(text.find("\"spec\": {\n") != std::string::npos);
  CHECK(text.find("\\\"zeta") == std::string::npos);
  CHECK(text.starts_with("{\n  \"version\": 1,\n"));
  CHECK(text.ends_with("}\n"));
}

TEST_CASE("a spec that is no JSON object is not written") {
  Manifest manifest = some_manifest();
  for (const char* spec : {"", "[]", "nothing", "{", "{\"a\":1,\"a\":2}"}) {
    manifest.spec = spec;
    INFO(spec);
    CHECK(error_of([&] { (void)to_json_text(manifest); }).code() == Errc::other);
  }
}

TEST_CASE("text that is not UTF-8 is refused when it is recorded") {
  LayerRecord layer = some_layer();
  layer.made_by = "\xff";
  CHECK(error_of([&] { (void)to_json_text(layer); }).code() == Errc::usage);
}

TEST_CASE("an unknown key, a missing key, a wrong kind and a duplicate key are refused with their place") {
  const std::string good = to_json_text(some_layer());
  CHECK(why_not_layer(replaced(good, "\"id\"", "\"extra\": 1, \"id\"")) == "x.json: unknown key 'extra'");
  CHECK(why_not_layer(replaced(good, "\"agent\"", "\"a/b\": {\"c\": 1, \"c\": 2}, \"agent\"")) ==
        "x.json: /boot/a~1b: the key 'c' occurs twice");
  CHECK(why_not_layer(replaced(good, "\"agent\"", "\"angel\"")) == "x.json: /boot: the key 'agent' is missing");
  CHECK(why_not_layer(replaced(good, "\"direct\": true", "\"direct\": 1")) ==
        "x.json: /boot/direct: want true or false");
  CHECK(why_not_layer(replaced(good, "10995116277760", "-1")) ==
        "x.json: /virtual_size: want a whole number that is not negative");
  CHECK(why_not_layer(replaced(good, "10995116277760", "1.0")) ==
        "x.json: /virtual_size: want a whole number that is not negative");
  CHECK(why_not_layer(replaced(good, "\"create ci-7\"", "null")) == "x.json: /made_by: want a string");
  CHECK(why_not_layer("[]") == "x.json: want an object");
  CHECK(why_not_layer("{}") == "x.json: the key 'version' is missing");
}

TEST_CASE("what is not JSON is refused without a crash") {
  const std::string good = to_json_text(some_layer());
  for (std::size_t length = 0; length + 2 < good.size(); length += 3) {
    CHECK(error_of([&] { (void)layer_from_json(good.substr(0, length), "x.json"); }).code() == Errc::other);
  }
  CHECK(why_not_layer("\x1b[31m").find('\x1b') == std::string::npos);
  CHECK(error_of([] { (void)layer_from_json(std::string(100000, '['), "x"); }).code() == Errc::other);
  CHECK(error_of([&] { (void)layer_from_json(good + "x", "x"); }).code() == Errc::other);
}

TEST_CASE("a record of a later format asks for a newer vmgraft") {
  const std::string text = replaced(to_json_text(some_layer()), "\"version\": 1", "\"version\": 2");
  CHECK(why_not_layer(text) == "x.json: made by a newer vmgraft (format 2, this one reads 1)");
  CHECK(why_not_layer(replaced(text, "2", "0")) == "x.json: /version: there is no format 0");
}

TEST_CASE("ids and names that could lead out of the store are refused") {
  const std::string good = to_json_text(some_manifest());
  CHECK(why_not_manifest(replaced(good, kA, "../../../etc/passwd")).starts_with("vm.json: /heads/0/layer: "));
  CHECK(why_not_manifest(replaced(good, kB, std::string(32, 'B'))).starts_with("vm.json: /heads/1/layer: "));
  CHECK(why_not_manifest(replaced(good, "\"ci-7\"", "\"../x\"")).starts_with("vm.json: /name: "));
  CHECK(why_not_manifest(replaced(good, "\"root\"", "\"a/b\"")).starts_with("vm.json: /heads/0/name: "));
  CHECK(why_not_manifest(replaced(good, "\"name\": \"one\"", "\"name\": \"..\""))
            .starts_with("vm.json: /snapshots/0/name: "));
  CHECK(why_not_layer(replaced(to_json_text(some_layer()), kB, "x")).starts_with("x.json: /parent: "));
}

TEST_CASE("a tree of snapshots that is none is refused") {
  const std::string good = to_json_text(some_manifest());
  CHECK(why_not_manifest(replaced(good, "\"parent\": \"\"", "\"parent\": \"two\"")) ==
        "vm.json: /snapshots: 'one' stands before its parent 'two', or has lost it");
  CHECK(why_not_manifest(replaced(good, "\"name\": \"two\"", "\"name\": \"one\"")) ==
        "vm.json: /snapshots: 'one' occurs twice");
  CHECK(why_not_manifest(replaced(good, "\"current\": \"two\"", "\"current\": \"three\"")) ==
        "vm.json: /current: there is no snapshot 'three'");
  CHECK(why_not_manifest(replaced(good, "\"scratch\"", "\"root\"")) == "vm.json: /heads: 'root' occurs twice");
  CHECK(why_not_manifest(replaced(good, "\"frozen\"", "\"cold\"")) ==
        "vm.json: /snapshots/0/consistency: 'cold' is none of clean, frozen, crash");
}

TEST_CASE("a snapshot is found by its name") {
  const Manifest manifest = some_manifest();
  REQUIRE(find_snapshot(manifest, "two") != nullptr);
  CHECK(find_snapshot(manifest, "two")->parent == "one");
  CHECK(find_snapshot(manifest, "three") == nullptr);
}

TEST_CASE("a layer id is 32 lower-case hex digits") {
  CHECK(is_layer_id("0123456789abcdef0123456789abcdef"));
  CHECK_FALSE(is_layer_id("0123456789ABCDEF0123456789abcdef"));
  CHECK_FALSE(is_layer_id("0123456789abcdef0123456789abcde"));
  CHECK_FALSE(is_layer_id(""));
}

// SPDX-License-Identifier: Apache-2.0
#include "template/gpu_request.hpp"

#include "support/catch.hpp"
#include "template/template.hpp"

using namespace vmgraft;

namespace {

GpuSpec one(const std::string& text) {
  const std::vector<GpuSpec> gpus = parse_gpu_request({text});
  REQUIRE(gpus.size() == 1);
  return gpus.front();
}

}  // namespace

TEST_CASE("a request for GPUs is a count, an address or keys of a template's vm.gpus") {
  const GpuSpec count = one("2");
  CHECK(count.count == 2);
  CHECK(count.model.empty());
  CHECK(count.numa == NumaPolicy::preferred);
  CHECK(count.kind == GpuKind::gpu);

  const GpuSpec address = one("3B:00.0");
  CHECK(address.count == 1);
  CHECK(address.address == "0000:3b:00.0");

  const GpuSpec keys = one("model=H100,count=3,numa=required,kind=vf");
  CHECK(keys.model == "H100");
  CHECK(keys.count == 3);
  CHECK(keys.numa == NumaPolicy::required);
  CHECK(keys.kind == GpuKind::vf);

  CHECK(one("model=10DE:2330").model == "10de:2330");
  CHECK(one("model=RTX A6000,numa=any").numa == NumaPolicy::any);
  CHECK(one("address=41:00.0,kind=mdev").address == "0000:41:00.0");
  CHECK(one("kind=mdev").kind == GpuKind::mdev);
}

TEST_CASE("an entry of a request is written as it is read") {
  for (const char* text : {"1", "2", "0000:41:00.0", "model=H100", "count=2,kind=vf,model=RTX A6000,numa=any", "kind=mdev",
                           "address=0000:41:00.0,kind=vf", "numa=required"}) {
    INFO(text);
    CHECK(gpu_request_text(one(text)) == text);
  }
  CHECK(gpu_request_text(one("address=41:00.0,count=1")) == "0000:41:00.0");
}

TEST_CASE("several requests for GPUs add up, and a count of 0 asks for none") {
  const std::vector<GpuSpec> gpus = parse_gpu_request({"2", "count=0,model=A100", "41:00.0"});
  REQUIRE(gpus.size() == 2);
  CHECK(gpus[0].count == 2);
  CHECK(gpus[1].address == "0000:41:00.0");
  CHECK(parse_gpu_request({"0"}).empty());
  CHECK(parse_gpu_request({}).empty());
}

TEST_CASE("a request for GPUs that is malformed is a usage error that says which and why") {
  struct Case {
    std::vector<std::string> texts;
    std::string what, hint;
  };
  const std::vector<Case> cases{
      {{"x=1"}, "--gpus 'x=1': there is no key 'x' (want address, count, kind, model or numa)", ""},
      {{"modle=H100"},
       "--gpus 'modle=H100': there is no key 'modle' (want address, count, kind, model or numa)",
       "did you mean 'model'?"},
      {{"H100"}, "--gpus 'H100': neither a count, a PCI address nor KEY=VALUE", "write model=H100"},
      {{"41:00.9"}, "--gpus '41:00.9': neither a count, a PCI address nor KEY=VALUE", "write model=H100,count=2"},
      {{""}, "--gpus '': neither a count, a PCI address nor KEY=VALUE", "write model=H100,count=2"},
      {{"-1"}, "--gpus '-1': neither a count, a PCI address nor KEY=VALUE", "write model=H100,count=2"},
      {{"count=2,H100"}, "--gpus 'count=2,H100': 'H100' is not KEY=VALUE", ""},
      {{"count=2,"}, "--gpus 'count=2,': '' is not KEY=VALUE", ""},
      {{"model="}, "--gpus 'model=': 'model' has no value", ""},
      {{"count=1,count=2"}, "--gpus 'count=1,count=2': 'count' is there twice", ""},
      {{"count=two"}, "--gpus 'count=two': count: 'two' is not a whole number", ""},
      {{"1", "65"}, "--gpus '65': count: 65 is out of range (want 0 to 64)", ""},
      {{"40", "40"}, "--gpus: 80 GPUs are too many (want at most 64)", ""},
      {{"model=10de:"}, "--gpus 'model=10de:': model: '10de:' is not a PCI id (want vvvv:dddd)", ""},
      {{"address=41:00"}, "--gpus 'address=41:00': address: '41:00' is not a PCI address (want like 0000:3b:00.0)", ""},
      {{"address=41:00.0,count=2"},
       "--gpus 'address=41:00.0,count=2': address: an address is one GPU, but count is 2",
       ""},
      {{"0000:41:00.0", "41:00.0"}, "--gpus '41:00.0': address: '0000:41:00.0' is asked for twice", ""},
      {{"numa=require"},
       "--gpus 'numa=require': numa: 'require' is not one of required, preferred, any",
       "did you mean 'required'?"},
      {{"\x1b[31m"}, "--gpus '\\x1b[31m': neither a count, a PCI address nor KEY=VALUE", ""},
      {{"model=\xff"}, "--gpus: not valid UTF-8", ""},
  };
  for (const Case& one_case : cases) {
    const Error error = error_of([&] { (void)parse_gpu_request(one_case.texts); });
    INFO(error.what() << " / " << error.hint());
    CHECK(error.code() == Errc::usage);
    CHECK(error.what() == one_case.what);
    CHECK((one_case.hint.empty() || error.hint() == one_case.hint));
  }
  CHECK(std::string(error_of([] { (void)parse_gpu_request({"x=1"}, "SPEC"); }).what()).rfind("SPEC 'x=1': ", 0) == 0);
  CHECK(error_of([] { (void)parse_gpu_request({std::string(300, '1')}); }).code() == Errc::usage);
}

TEST_CASE("a template's GPUs are replaced by those of the request, and parse_spec reads them back") {
  const std::string before =
      R"({"version": 1, "name": "t", "vm": {"memory": "1GiB", "cpus": 3, "gpus": [{"count": 4, "model": "A100"}]}})";
  const std::vector<GpuSpec> wanted =
      parse_gpu_request({"model=H100,count=2,numa=required", "kind=vf,numa=any", "41:00.0", "kind=mdev"});
  const VmSpec spec = parse_spec(with_gpus(before, wanted), "vm.json");
  CHECK(spec.cpus == 3);
  REQUIRE(spec.gpus.size() == wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    INFO(i);
    CHECK(spec.gpus[i].count == wanted[i].count);
    CHECK(spec.gpus[i].model == wanted[i].model);
    CHECK(spec.gpus[i].address == wanted[i].address);
    CHECK(spec.gpus[i].numa == wanted[i].numa);
    CHECK(spec.gpus[i].kind == wanted[i].kind);
  }
}

TEST_CASE("a request for no GPUs leaves the text of a template that never asked for one") {
  const std::string with = R"({"version":1,"name":"t","vm":{"memory":"1GiB","gpus":[{}]}})";
  const std::string without = R"({"version":1,"name":"t","vm":{"memory":"1GiB"}})";
  CHECK(with_gpus(with, {}) == with_gpus(without, {}));
  CHECK(parse_spec(with_gpus(with, {}), "vm.json").gpus.empty());
}

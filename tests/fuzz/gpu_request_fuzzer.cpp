// SPDX-License-Identifier: Apache-2.0
// --gpus: each line of the input is one text.
#include "template/gpu_request.hpp"

#include "model/pci_address.hpp"
#include "template/template.hpp"

#include "fuzz/fuzz.hpp"

using namespace vmgraft;
using namespace vmgraft::fuzz;

VMGRAFT_FUZZER(input) {
  std::vector<std::string> texts;
  for (std::size_t end = 0; end != std::string_view::npos && texts.size() < 8; input.remove_prefix(end + 1)) {
    end = input.find('\n');
    texts.emplace_back(input.substr(0, end));
    if (end == std::string_view::npos) break;
  }
  const auto gpus = accepted([&] { return parse_gpu_request(texts); });
  if (!gpus) return;
  const std::string base = R"({"version":1,"name":"a","vm":{"memory":"1GiB","gpus":[{"count":3}]}})";
  const std::string written = with_gpus(base, *gpus);
  const std::vector<GpuSpec> again = parse_spec(written, "what was written").gpus;
  require(again.size() == gpus->size(), "a request reads back from the template it goes into");
  for (std::size_t i = 0; i < again.size(); ++i) {
    const GpuSpec &was = (*gpus)[i], &is = again[i];
    require(was.count == is.count && was.model == is.model && was.address == is.address && was.numa == is.numa &&
                was.kind == is.kind,
            "a GPU reads back as it was");
    require(was.address.empty() || parse_pci_address(was.address) == was.address, "an address is one");
    require(was.count >= 1 && was.count <= 64, "a count is in its range");
  }
  require(with_gpus(written, again) == written, "the same request is the same text");
}

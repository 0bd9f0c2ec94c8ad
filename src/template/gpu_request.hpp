// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "model/vm_spec.hpp"

namespace vmgraft {

/// Each text asks for GPUs: a count "2", an address "0000:41:00.0" or "41:00.0", or keys of a template's vm.gpus,
/// "model=H100,count=2,numa=required,kind=vf". A count of 0 asks for none and leaves no entry.
/// \param where  what the texts were given as, said in errors.
/// \throws Error usage: "--gpus 'x=1': there is no key 'x' (want address, count, kind, model or numa)"; values are
/// judged
///               by the rules of templates.
[[nodiscard]] std::vector<GpuSpec> parse_gpu_request(const std::vector<std::string>& texts,
                                                     const std::string& where = "--gpus");

/// One entry as parse_gpu_request() reads it: "2", "0000:41:00.0" or "count=2,model=H100".
[[nodiscard]] std::string gpu_request_text(const GpuSpec& spec);

/// A resolved template's JSON text with \p gpus in place of its vm.gpus, canonical again: its digest is another.
[[nodiscard]] std::string with_gpus(const std::string& spec_json, const std::vector<GpuSpec>& gpus);

}  // namespace vmgraft

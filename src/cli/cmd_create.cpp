// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"
#include "model/names.hpp"
#include "template/gpu_request.hpp"

namespace vmgraft::cli {

namespace {

class CreateVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("TEMPLATE", request_.template_name, "name of a template, or path of a template file");
    args.optional("NAME", request_.name, "name of the VM; without it the template's name with a free number");
    args.parameters(request_.parameters);
    args.texts("--gpus", "SPEC", request_.gpus,
               "GPUs instead of the template's: 2, an address, or model=H100,count=2; may be given again");
    args.flag("--explain", request_.explain, "say on stderr why these GPUs were chosen");
    args.count("--count", request_.count, "make N VMs, NAME-1 to NAME-N");
    args.flag("--no-start", no_start_, "define only");
    declare_wait(args, "--wait", wait_, true, "until when to wait; without it as the template says");
    args.duration("--timeout", request_.timeout, "give up waiting after this");
    declare_expiry(args, request_.ttl, on_expire_);
    args.flag("--keep", request_.keep_failed, "keep a VM whose provisioning failed or that was not ready in time");
    args.flag("--print-xml", print_xml_, "print the domain XML and change nothing");
  }

  int run(Session& session) override {
    if (no_start_ && wait_) throw Error(Errc::usage, "--no-start and --wait exclude each other");
    if (no_start_ && request_.explain) {
      throw Error(Errc::usage, "--explain explains nothing with --no-start: GPUs are chosen at the start");
    }
    // Malformed words are refused before anything is asked of libvirt.
    static_cast<void>(parse_gpu_request(request_.gpus));
    if (print_xml_ && session.globals().dry_run) {
      throw Error(Errc::usage, "--print-xml and --dry-run exclude each other");
    }
    request_.start = !no_start_;
    request_.wait = to_wait_for(wait_);
    request_.on_expire = to_on_expire(on_expire_);
    if (print_xml_) {
      const std::string xml = session.manager().create_xml(request_);
      session.answer_document(text_json("xml", xml), xml);
    } else if (session.globals().dry_run) {
      const PlanText plan = session.manager().plan_create(request_);
      session.answer(plan_json(plan), plan_text(plan));
    } else {
      const auto vms = session.manager().create(request_);
      session.answer(vms_json(vms), names_text(vms));
    }
    return 0;
  }

 private:
  CreateRequest request_;
  bool no_start_ = false;
  bool print_xml_ = false;
  std::optional<std::size_t> wait_;
  std::optional<std::size_t> on_expire_;
};

}  // namespace

std::unique_ptr<Verb> make_create() {
  return std::make_unique<CreateVerb>();
}

}  // namespace vmgraft::cli

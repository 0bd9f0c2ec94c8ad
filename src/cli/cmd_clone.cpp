// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"

namespace vmgraft::cli {

namespace {

class CloneVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("VM[@SNAP]", request_.source, "a VM, which may run, or one of its snapshots");
    args.required("NEW", request_.name, "name of the new VM");
    args.count("--count", request_.count, "make N VMs, NEW-1 to NEW-N");
    args.flag("--full", request_.full, "copy the data into layers of the clone's own");
    args.flag("--keep-tpm", request_.keep_tpm, "take the TPM's state along, secrets included");
    args.flag("--start", request_.start, "start the clones");
    declare_wait(args, "--wait", wait_, true, "with --start: until when to wait; without it as the template says");
    args.duration("--timeout", request_.timeout, "with --start: give up waiting after this");
    declare_expiry(args, request_.ttl, on_expire_);
    args.flag("--print-xml", print_xml_, "print the domain XML and change nothing");
  }

  int run(Session& session) override {
    if (wait_ && !request_.start) throw Error(Errc::usage, "--wait waits for nothing without --start");
    if (request_.timeout && !request_.start) throw Error(Errc::usage, "--timeout waits for nothing without --start");
    if (print_xml_ && session.globals().dry_run) {
      throw Error(Errc::usage, "--print-xml and --dry-run exclude each other");
    }
    if (request_.source.find('@') != std::string::npos) static_cast<void>(require_snapshot_ref(request_.source));
    request_.wait = to_wait_for(wait_);
    request_.on_expire = to_on_expire(on_expire_);
    if (print_xml_) {
      const std::string xml = session.manager().clone_xml(request_);
      session.answer_document(text_json("xml", xml), xml);
    } else if (session.globals().dry_run) {
      const PlanText plan = session.manager().plan_clone(request_);
      session.answer(plan_json(plan), plan_text(plan));
    } else {
      const CloneResult result = session.manager().clone(request_);
      session.answer(clone_json(result), names_text(result.vms));
      session.notice(consistency_text(result.consistency, result.note));
    }
    return 0;
  }

 private:
  CloneRequest request_;
  bool print_xml_ = false;
  std::optional<std::size_t> wait_;
  std::optional<std::size_t> on_expire_;
};

}  // namespace

std::unique_ptr<Verb> make_clone() {
  return std::make_unique<CloneVerb>();
}

}  // namespace vmgraft::cli

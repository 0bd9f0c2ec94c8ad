// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/gpu_text.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"
#include "gpu/devices.hpp"
#include "model/names.hpp"
#include "model/pci_address.hpp"
#include "template/gpu_request.hpp"

namespace vmgraft::cli {

namespace {

constexpr auto kAddress = "PCI address of the GPU, like 0000:41:00.0 or 41:00.0";

std::string require_address(const std::string& text) {
  const auto address = parse_pci_address(text);
  if (address) return *address;
  throw Error(Errc::usage,
              fmt::format("'{}' is not a PCI address (want like 0000:41:00.0 or 41:00.0)", printable(text)),
              "`vmgraft gpu list` lists the GPUs");
}

std::string require_device(const std::string& text) {
  if (is_mdev_uuid(text)) return text;
  if (const auto address = parse_pci_address(text)) return *address;
  throw Error(Errc::usage,
              fmt::format("'{}' is neither a PCI address (want like 0000:41:00.0 or 41:00.0) nor the UUID of a mediated "
                          "device", printable(text)),
              "`vmgraft show VM` tells what the VM has");
}

void answer_changes(Session& session, const std::vector<GpuChange>& changes) {
  session.answer(gpu_changes_json(changes), gpu_changes_text(changes));
  for (const GpuChange& change : changes) {
    if (!change.note.empty()) session.notice(fmt::format("{}: {}", change.address, change.note));
  }
}

class GpuListVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.flag("--tree", tree_, "as they are wired: host bridges, ports, switches, and what shares slot or group");
  }

  int run(Session& session) override {
    const std::vector<GpuInfo> gpus = session.manager().gpus();
    session.answer(gpus_json(gpus), tree_ ? gpu_tree_text(session.terminal(), gpus)
                                          : gpus_text(session.terminal(), gpus, session.globals().verbose));
    if (gpus.empty()) session.notice("no GPU was found");
    return 0;
  }

 private:
  bool tree_ = false;
};

class GpuCheckVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.optional("ADDRESS", request_.address, std::string(kAddress) + "; without it every one");
    args.text("--for", "TEMPLATE", request_.template_name, "check what a VM of this template asks for too");
  }

  int run(Session& session) override {
    if (!request_.address.empty()) request_.address = require_address(request_.address);
    const std::vector<GpuCheck> rows = session.manager().gpu_check(request_);
    session.answer(gpu_checks_json(rows), gpu_checks_text(session.terminal(), rows));
    std::vector<std::string> failed;
    for (const GpuCheck& row : rows) {
      if (row.health == Health::fail) failed.push_back(row.address.empty() ? row.id : row.address + " " + row.id);
    }
    if (failed.empty()) return 0;
    throw Error(
        Errc::host_unfit,
        fmt::format("{} check{} failed: {}", failed.size(), failed.size() == 1 ? "" : "s", fmt::join(failed, ", ")),
        "the remedy of each stands with it");
  }

 private:
  GpuCheckRequest request_;
};

class GpuRequestVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("VM", request_.vm, "the VM whose request it becomes");
    args.several("SPEC", request_.gpus, "which GPUs: 1, model=H100,numa=required or an address; 0 for none");
  }

  int run(Session& session) override {
    static_cast<void>(parse_gpu_request(request_.gpus, "SPEC"));
    const VmInfo vm = session.manager().gpu_request(request_);
    std::string text;
    for (const GpuAsked& asked : vm.gpu_request) text += printable(asked_text(asked)) + "\n";
    session.answer(vm_json(vm), text);
    session.notice(fmt::format("'{}' asks for {} from its next start on", vm.name,
                               vm.gpu_request.empty() ? "no GPU" : "these GPUs"));
    return 0;
  }

 private:
  GpuRequest request_;
};

class GpuAttachVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("VM", request_.vm, "a running VM");
    args.required("SPEC", request_.gpus, "which GPUs: 1, model=H100,numa=required or an address");
    args.flag("--explain", request_.explain, "say on stderr why these GPUs were chosen");
  }

  int run(Session& session) override {
    if (parse_gpu_request({request_.gpus}, "SPEC").empty()) throw Error(Errc::usage, "SPEC asks for no GPU");
    answer_changes(session, session.manager().gpu_attach(request_));
    return 0;
  }

 private:
  GpuAttachRequest request_;
};

class GpuDetachVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("VM", request_.vm, "a running VM");
    args.required("DEVICE", request_.address, std::string(kAddress) + ", or the UUID of a mediated device");
    args.duration("--timeout", timeout_, "how long the guest has to let it go (60s)");
  }

  int run(Session& session) override {
    request_.address = require_device(request_.address);
    request_.timeout = timeout_.value_or(request_.timeout);
    answer_changes(session, {session.manager().gpu_detach(request_)});
    return 0;
  }

 private:
  GpuDetachRequest request_;
  std::optional<std::chrono::seconds> timeout_;
};

class GpuLendVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("ADDRESS", address_, kAddress);
    args.flag("--force-console", force_console_, "even when it drives the host's screen, which then goes dark");
  }

  int run(Session& session) override {
    answer_changes(session, {session.manager().gpu_lend(require_address(address_), force_console_)});
    return 0;
  }

 private:
  std::string address_;
  bool force_console_ = false;
};

class GpuReturnVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("ADDRESS", address_, kAddress);
    args.flag("--force", force_, "lift its quarantine");
  }

  int run(Session& session) override {
    answer_changes(session, {session.manager().gpu_return(require_address(address_), force_)});
    return 0;
  }

 private:
  std::string address_;
  bool force_ = false;
};

}  // namespace

std::unique_ptr<Verb> make_gpu_list() {
  return std::make_unique<GpuListVerb>();
}
std::unique_ptr<Verb> make_gpu_check() {
  return std::make_unique<GpuCheckVerb>();
}
std::unique_ptr<Verb> make_gpu_request() {
  return std::make_unique<GpuRequestVerb>();
}
std::unique_ptr<Verb> make_gpu_attach() {
  return std::make_unique<GpuAttachVerb>();
}
std::unique_ptr<Verb> make_gpu_detach() {
  return std::make_unique<GpuDetachVerb>();
}
std::unique_ptr<Verb> make_gpu_lend() {
  return std::make_unique<GpuLendVerb>();
}
std::unique_ptr<Verb> make_gpu_return() {
  return std::make_unique<GpuReturnVerb>();
}

}  // namespace vmgraft::cli

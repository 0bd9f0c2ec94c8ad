// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace vmgraft::cli {

class Arguments;
class Session;

/// One verb: what it takes, and what it does with it. declare() is called once, then perhaps run().
class Verb {
 public:
  Verb() = default;
  Verb(const Verb&) = delete;
  Verb& operator=(const Verb&) = delete;
  virtual ~Verb() = default;

  virtual void declare(Arguments& args) = 0;
  /// \returns the exit code. Failures are thrown, or told to Session::report where a verb goes on after one.
  virtual int run(Session& session) = 0;
};

/// What --dry-run means to a verb.
enum class DryRun {
  planned,  ///< prints the plan
  reads,    ///< the verb changes nothing anyway
  refused,  ///< the verb acts and has no plan to show: a usage error
};

/// A row of the table of verbs.
struct VerbEntry {
  std::string_view path;     ///< "create", "snapshot create"
  std::string_view summary;  ///< one line; empty: a hidden verb
  std::string_view example;
  DryRun dry_run;
  std::unique_ptr<Verb> (*make)();
};

/// Every verb, in the order of the help text.
[[nodiscard]] std::span<const VerbEntry> verbs();

std::unique_ptr<Verb> make_create();
std::unique_ptr<Verb> make_start();
std::unique_ptr<Verb> make_stop();
std::unique_ptr<Verb> make_restart();
std::unique_ptr<Verb> make_delete();
std::unique_ptr<Verb> make_list();
std::unique_ptr<Verb> make_show();
std::unique_ptr<Verb> make_wait();
std::unique_ptr<Verb> make_extend();
std::unique_ptr<Verb> make_gc();
std::unique_ptr<Verb> make_snapshot_create();
std::unique_ptr<Verb> make_snapshot_list();
std::unique_ptr<Verb> make_snapshot_delete();
std::unique_ptr<Verb> make_revert();
std::unique_ptr<Verb> make_clone();
std::unique_ptr<Verb> make_exec();
std::unique_ptr<Verb> make_copy();
std::unique_ptr<Verb> make_ssh();
std::unique_ptr<Verb> make_console();
std::unique_ptr<Verb> make_gpu_list();
std::unique_ptr<Verb> make_gpu_check();
std::unique_ptr<Verb> make_gpu_request();
std::unique_ptr<Verb> make_gpu_attach();
std::unique_ptr<Verb> make_gpu_detach();
std::unique_ptr<Verb> make_gpu_lend();
std::unique_ptr<Verb> make_gpu_return();
std::unique_ptr<Verb> make_image_list();
std::unique_ptr<Verb> make_image_build();
std::unique_ptr<Verb> make_image_import();
std::unique_ptr<Verb> make_image_pull();
std::unique_ptr<Verb> make_image_delete();
std::unique_ptr<Verb> make_template_list();
std::unique_ptr<Verb> make_template_show();
std::unique_ptr<Verb> make_template_check();
std::unique_ptr<Verb> make_check();
std::unique_ptr<Verb> make_doctor();
std::unique_ptr<Verb> make_version();
std::unique_ptr<Verb> make_complete();

}  // namespace vmgraft::cli

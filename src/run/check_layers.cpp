// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "image/checksum.hpp"
#include "model/names.hpp"
#include "plan/plan_sweep.hpp"
#include "run/check_facts.hpp"
#include "run/journal.hpp"
#include "store/layer_file.hpp"
#include "store/qcow2.hpp"

namespace vmgraft {
namespace {

/// What the layers are for, from every ref that can be read.
struct Uses {
  std::set<std::string> frozen;                   ///< something stands on them or names them: they never change
  std::map<std::string, std::string> heads;       ///< to the VM that writes to them
  std::map<std::string, std::string> written;     ///< heads of running VMs, to why they are left out
  std::set<std::string> reached;
  std::map<std::string, std::string> image_sums;  ///< of layers that came before layers had sums
  bool is_known = true;                           ///< no manifest or image is unreadable
};

Uses uses_of(const CheckFacts& facts) {
  Uses uses;
  uses.is_known = facts.is_all;
  std::set<std::string> named;
  for (const auto& [id, record] : facts.records)
    if (!record.parent.empty()) uses.frozen.insert(record.parent);
  for (const auto& [name, image] : facts.images) {
    uses.is_known = uses.is_known && image.error.empty();
    if (!image.record) continue;
    uses.frozen.insert(image.record->layer);
    named.insert(image.record->layer);
    // The sum of a pulled or imported image is that of the file it came from.
    if (image.record->origin.starts_with("build ")) uses.image_sums[image.record->layer] = image.record->sha256;
  }
  for (const auto& [name, vm] : facts.vms) {
    uses.is_known = uses.is_known && vm.record.has_value();
    if (!vm.record) continue;
    named.merge(named_layers(*vm.record));
    for (const SnapshotRecord& snapshot : vm.record->snapshots)
      for (const SnapshotDisk& disk : snapshot.disks) uses.frozen.insert(disk.layer);
    // clang 14 takes no structured binding into a lambda.
    const std::string& uuid = vm.record->uuid;
    const bool is_on = std::any_of(facts.domains.begin(), facts.domains.end(), [&](const DomainState& domain) {
      return domain.uuid == uuid && is_active(domain);
    });
    for (const HeadRecord& head : vm.record->heads) {
      uses.heads.emplace(head.layer, name);
      if (is_on) uses.written.emplace(head.layer, fmt::format("VM '{}' runs and writes to it", name));
      else if (facts.hypervisor == nullptr) uses.written.emplace(head.layer, "whether its VM runs is not known");
      else if (facts.busy.contains(name)) uses.written.emplace(head.layer, fmt::format("VM '{}' is being worked on", name));
    }
  }
  uses.reached = reach(facts.records, named);
  return uses;
}

bool is_owned_by_living(Host& host, const std::string& journal, const std::filesystem::path& file) {
  try {
    return host.stat(fmt::format("/proc/{}", journal_from_json(journal, file).pid)).has_value();
  } catch (const Error&) {
    return false;  // told by the check of the journals
  }
}

class LayerCheck {
 public:
  LayerCheck(const CheckInput& input, const CheckFacts& facts, bool whole_store, StoreFindings& rows)
      : input_(input), facts_(facts), uses_(uses_of(facts)), whole_store_(whole_store), rows_(rows) {
    if (!input.request.quick) qemu_img_ = input.host.find_program("qemu-img");
  }

  void look(const std::string& id) {
    const auto reading = facts_.layers.find(id);
    if (reading == facts_.layers.end()) return;  // missing: told of the VMs and images that want it
    ++layers_;
    const std::string place = layer_place(id);
    if (!reading->second.record) return rows_.fail("layer-record", place, reading->second.error, reading->second.remedy);
    const LayerRecord& record = *reading->second.record;
    bool is_readable = true;
    for (const LayerFault& fault : faults_of(record)) {
      if (is_changing(id)) return;
      is_readable = is_readable && fault.id == "layer-size";
      rows_.fail(fault.id, place, fault.what, fault.remedy);
    }
    check_parent(record);
    check_mode(record);
    check_boot_files(record);
    check_inner_snapshots(record);
    if (whole_store_ && uses_.is_known && !facts_.is_busy && !uses_.reached.contains(id))
      rows_.warn("layer-unused", place, fmt::format("no VM, snapshot or image reaches it (made by '{}')", printable(record.made_by)),
                 "vmgraft gc removes it, unless a domain uses it");
    if (is_readable && !input_.request.quick) check_content(record);
  }

  void sum_up() {
    std::string seen = fmt::format("{} layer{}", layers_, layers_ == 1 ? "" : "s");
    if (input_.request.quick) {
      seen += "; their contents were left out (--quick)";
    } else {
      seen += fmt::format("; {} checked by qemu-img, {} hash{} compared", checked_, hashed_, hashed_ == 1 ? "" : "es");
      if (qemu_img_.empty())
        rows_.warn("layer-content", "store", "there is no qemu-img: the contents of layers were not checked",
                   "sudo apt-get install qemu-utils");
    }
    for (const std::string& line : left_out_) seen += "; left out: " + line;
    rows_.ok("layers", "store", seen);
  }

 private:
  const std::vector<LayerFault>& faults_of(const LayerRecord& record) {
    const auto known = faults_.find(record.id);
    if (known != faults_.end()) return known->second;
    return faults_[record.id] = inspect_layer(input_.host, input_.store, record);
  }

  /// A layer below that is not whole; empty: none. qemu-img opens those as well, by their paths, and would follow a link.
  std::string unsound_below(const LayerRecord& record) {
    std::set<std::string> seen;
    for (std::string at = record.parent; !at.empty() && seen.insert(at).second;) {
      const auto parent = facts_.records.find(at);
      if (parent == facts_.records.end()) return at;
      for (const LayerFault& fault : faults_of(parent->second))
        if (fault.id != "layer-size") return at;
      at = parent->second.parent;
    }
    return {};
  }

  /// What looks wrong may be half deleted or half made: the record of a deleted layer goes after its file. What a dead
  /// process left so, the next command sees to; but what is reached by a ref should be whole nevertheless.
  bool is_changing(const std::string& id) {
    // The journals first: one that is done since then has taken the record with it.
    const std::vector<std::filesystem::path> journals = list_journals(input_.host, input_.store);
    const bool is_in_work = std::any_of(journals.begin(), journals.end(), [&](const std::filesystem::path& file) {
      const std::string text = is_link(input_.host, file) ? "" : input_.host.read_file(file).value_or("");
      return text.find(id) != std::string::npos && (!uses_.reached.contains(id) || is_owned_by_living(input_.host, text, file));
    });
    if (!input_.host.stat(input_.store.layer_record(id))) return true;
    if (is_in_work)
      rows_.warn("busy", layer_place(id), "not judged: an operation that is not finished names it", "check it again when that is done");
    return is_in_work;
  }

  void check_parent(const LayerRecord& record) {
    if (record.parent.empty() || facts_.records.contains(record.parent)) return;
    rows_.fail("layer-parent", layer_place(record.id), fmt::format("it stands on layer {}, which is missing", record.parent),
               "put back a copy of it, if there is one; what stands on it is lost without: delete those VMs and snapshots");
  }

  void check_mode(const LayerRecord& record) {
    const std::filesystem::path file = input_.store.layer_file(record.id);
    const std::optional<FileInfo> info = input_.host.stat(file);
    if (!info || info->is_folder || info->is_link) return;
    const std::string mode = fmt::format("{} has mode {:04o}", file.string(), info->mode);
    if (uses_.frozen.contains(record.id)) {
      if ((info->mode & 0222U) != 0)
        rows_.fail("layer-mode", layer_place(record.id), mode + ", but must never change: something may have written to it",
                   fmt::format("chmod 444 {}; a head that stands on it may read other data now: compare with a copy", file.string()));
      else if (input_.store.access().own_labels && info->uid != 0)  // block jobs of libvirt give it to QEMU, and fail
        rows_.warn("layer-mode", layer_place(record.id),
                   fmt::format("{} belongs to uid {}, not to root: a block job by other means was tried on it", file.string(),
                               info->uid),
                   fmt::format("chown root:root {}", file.string()));
    } else if ((info->mode & 0077U) != 0 && uses_.heads.contains(record.id)) {
      rows_.warn("layer-mode", layer_place(record.id), mode + ": others may read a VM's disk", fmt::format("chmod 600 {}", file.string()));
    }
  }

  void check_boot_files(const LayerRecord& record) {
    if (!record.boot_direct) return;
    for (const std::filesystem::path& file : {input_.store.kernel_file(record.id), input_.store.initrd_file(record.id)})
      if (const std::optional<FileInfo> info = input_.host.stat(file); !info || info->is_link) {
        if (is_changing(record.id)) return;
        rows_.fail("layer-boot", layer_place(record.id),
                   fmt::format("its {} is {}: VMs on it do not start", file.string(), info ? "a link" : "missing"),
                   "put back a copy of it");
      }
  }

  void check_inner_snapshots(const LayerRecord& record) {
    try {
      const auto header = read_qcow2(input_.host.read_range(input_.store.layer_file(record.id), 0, kQcow2Start));
      if (!header || header->snapshots == 0) return;
      rows_.warn("layer-inner", layer_place(record.id),
                 fmt::format("its file holds {} internal snapshot{} that other means made (virsh snapshot-create): vmgraft knows "
                             "nothing of {}",
                             header->snapshots, header->snapshots == 1 ? "" : "s", header->snapshots == 1 ? "it" : "them"),
                 "virsh snapshot-delete removes it while the layer is a VM's head; it takes room, and no vmgraft verb uses it");
    } catch (const Error&) {
      // Told by the check of the format.
    }
  }

  void check_content(const LayerRecord& record) {
    if (input_.interrupted != nullptr && input_.interrupted->load())
      throw Error(Errc::interrupted, "interrupted while layers were checked");
    if (const auto why = uses_.written.find(record.id); why != uses_.written.end()) {
      left_out_.push_back(fmt::format("layer {} ({})", record.id, why->second));
      return;
    }
    if (const std::string below = unsound_below(record); !below.empty())
      left_out_.push_back(fmt::format("layer {} (it stands on layer {}, which is not whole)", record.id, below));
    else if (!qemu_img_.empty())
      check_tables(record);
    check_hash(record);
  }

  /// \c -U: no lock is taken, which would keep a VM from starting.
  void check_tables(const LayerRecord& record) {
    if (input_.on_progress) input_.on_progress({fmt::format("checking layer {}", record.id.substr(0, 8)), 0, 0});
    const std::string file = input_.store.layer_file(record.id);
    Command command;
    command.argv = {qemu_img_.string(), "check", "-U", "-f", "qcow2", file};
    command.deadline = std::chrono::hours(24);
    command.interrupted = input_.interrupted;
    const CommandResult result = input_.host.run(command);
    if (input_.interrupted != nullptr && input_.interrupted->load())
      throw Error(Errc::interrupted, "interrupted while layers were checked");
    constexpr int kCorrupt = 2;
    constexpr int kLeaks = 3;
    const std::string place = layer_place(record.id);
    const std::string said = printable(result.err.empty() ? result.out.substr(0, result.out.find('\n'))
                                                          : result.err.substr(0, result.err.find('\n')));
    if (result.exit_code == kCorrupt)
      rows_.fail("layer-content", place, fmt::format("qemu-img finds its tables damaged: {}", said),
                 "put back a copy of it; without, save what can be read: vmgraft clone --full, or qemu-img check -r all on a copy");
    else if (result.exit_code == kLeaks)
      rows_.warn("layer-content", place, "it has clusters that nothing uses: they take room and harm nobody",
                 fmt::format("qemu-img check -r leaks {} while its VM is off", file));
    else if (result.exit_code != 0)
      rows_.fail("layer-content", place, fmt::format("qemu-img cannot check it: {}", said), "see the message");
    ++checked_;
  }

  void check_hash(const LayerRecord& record) {
    const auto of_image = uses_.image_sums.find(record.id);
    const std::string wanted = !record.sha256.empty() || of_image == uses_.image_sums.end() ? record.sha256 : of_image->second;
    if (wanted.empty()) return;
    ImageWork work{input_.host, {}, input_.on_progress, input_.interrupted};
    const std::string now = checksum_file(work, input_.store.layer_file(record.id), Checksum::Algorithm::sha256,
                                          fmt::format("hashing layer {}", record.id.substr(0, 8)))
                                .hex;
    ++hashed_;
    if (now == wanted) return;
    rows_.fail("layer-hash", layer_place(record.id),
               fmt::format("its content is not what was recorded: sha256 {}, recorded {}", now, printable(wanted)),
               "it was written to or replaced by other means: put back a copy, or make the image anew with --force and VMs from it");
  }

  const CheckInput& input_;
  const CheckFacts& facts_;
  Uses uses_;
  bool whole_store_;
  StoreFindings& rows_;
  std::filesystem::path qemu_img_;
  std::size_t layers_ = 0;
  std::size_t checked_ = 0;
  std::size_t hashed_ = 0;
  std::vector<std::string> left_out_;
  std::map<std::string, std::vector<LayerFault>> faults_;
};

}  // namespace

void check_layers(const CheckInput& input, const CheckFacts& facts, const std::set<std::string>& ids, bool whole_store,
                  StoreFindings& rows) {
  LayerCheck check(input, facts, whole_store, rows);
  for (const std::string& id : ids) look_at(layer_place(id), rows, [&] { check.look(id); });
  check.sum_up();
}

}  // namespace vmgraft

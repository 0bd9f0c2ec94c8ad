// SPDX-License-Identifier: Apache-2.0
#include "cli/text.hpp"

#include <algorithm>
#include <iterator>
#include <map>

#include <fmt/format.h>

#include "cli/table.hpp"
#include "model/moment.hpp"
#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft::cli {

namespace {

constexpr std::size_t kLongestRemedy = 10000;  ///< a command in it must not be cut

/// "name:      value" lines; what is empty is left out.
class Facts {
 public:
  void add(const std::string& name, const std::string& value) {
    if (!value.empty()) text_ += fmt::format("{:<14}{}\n", name + ":", printable(value, kLongestValue));
  }
  [[nodiscard]] std::string text() const { return text_; }

 private:
  std::string text_;
};

std::string yes_no(bool value) {
  return value ? "yes" : "no";
}

std::string joined(const std::vector<std::string>& words, const std::string& none) {
  return words.empty() ? none : fmt::format("{}", fmt::join(words, ", "));
}

const char* colour_of(VmState state) {
  switch (state) {
    case VmState::running:
      return "green";
    case VmState::paused:
      return "yellow";
    case VmState::crashed:
    case VmState::missing:
      return "red";
    case VmState::shut_off:
      break;
  }
  return nullptr;
}

void add_disks(Facts& facts, const std::vector<DiskInfo>& disks) {
  for (const DiskInfo& disk : disks) {
    std::string value = disk.name;
    if (!disk.target.empty()) value += " (" + disk.target + ")";
    if (disk.size > 0) value += ", " + format_size(disk.size);
    if (disk.depth > 0) value += fmt::format(", {} layer{}", disk.depth, disk.depth == 1 ? "" : "s");
    if (!disk.snapshot) value += ", not in snapshots";
    if (!disk.path.empty()) value += ", " + disk.path;
    facts.add("disk", value);
  }
}

}  // namespace

const char* colour_of(Health health) {
  switch (health) {
    case Health::ok:
      return "green";
    case Health::warn:
      return "yellow";
    case Health::fail:
      break;
  }
  return "red";
}

std::string asked_text(const GpuAsked& asked) {
  return asked.identity.empty() ? asked.request : fmt::format("{} ({})", asked.request, asked.identity);
}

std::string expiry_text(const VmSummary& vm) {
  if (!vm.expires) return "never";
  const std::string now = to_rfc3339(this_second());
  const char* then = vm.on_expire == OnExpire::stop ? "stopped" : "deleted";
  return fmt::format("{} ({}, then {})", printable(*vm.expires), printable(time_left(*vm.expires, now)), then);
}

std::string vm_text(const VmInfo& vm) {
  Facts facts;
  facts.add("name", vm.name);
  facts.add("state", to_string(vm.state));
  facts.add("uuid", vm.uuid);
  facts.add("template", vm.template_name);
  facts.add("source", vm.source.value_or(""));
  facts.add("cpus", std::to_string(vm.cpus));
  facts.add("memory", format_size(vm.memory));
  facts.add("accel", vm.accel);
  facts.add("firmware", vm.firmware + (vm.tpm ? ", TPM" : ""));
  facts.add("agent", vm.agent_connected ? "connected" : "not connected");
  facts.add("provisioned", yes_no(vm.provisioned));
  add_disks(facts, vm.disks);
  for (const NicInfo& nic : vm.networks) {
    facts.add("network", fmt::format("{}, {}, {}", nic.kind, nic.mac, joined(nic.addresses, "no address known")));
  }
  for (const GpuAsked& asked : vm.gpu_request) facts.add("asks for gpu", asked_text(asked));
  for (const std::string& address : vm.gpus) facts.add("gpu", address);
  for (const std::string& line : vm.tuning_done) facts.add("tuned", line);
  for (const std::string& line : vm.tuning_not_done) facts.add("not tuned", line);
  facts.add("snapshot", vm.snapshot.value_or(""));
  for (const SnapshotInfo& snapshot : vm.snapshot_tree) {
    facts.add("has snapshot", fmt::format("{}, {}, {}{}", snapshot.name, snapshot.created,
                                          to_string(snapshot.consistency), snapshot.memory ? ", memory" : ""));
  }
  facts.add("owner", vm.owner);
  facts.add("created", vm.created);
  facts.add("expires", expiry_text(vm));
  facts.add("console log", vm.console_log);
  for (const std::string& note : vm.notes) facts.add("note", note);
  return facts.text();
}

std::string snapshot_text(const std::string& vm, const SnapshotInfo& snapshot) {
  Facts facts;
  facts.add("snapshot", snapshot.name);
  facts.add("vm", vm);
  facts.add("parent", snapshot.parent.value_or(""));
  facts.add("current", yes_no(snapshot.current));
  facts.add("consistency", to_string(snapshot.consistency));
  facts.add("memory", yes_no(snapshot.memory));
  facts.add("created", snapshot.created);
  facts.add("description", snapshot.description);
  add_disks(facts, snapshot.disks);
  return facts.text();
}

std::string list_text(const Terminal& terminal, const std::vector<VmSummary>& vms) {
  if (vms.empty()) return {};
  using Kind = Column::Kind;
  Table table(terminal, {{"NAME"},
                         {"STATE"},
                         {"TEMPLATE"},
                         {"CPUS", Kind::right},
                         {"MEMORY", Kind::right},
                         {"SNAPSHOTS", Kind::right},
                         {"CREATED"},
                         {"EXPIRES"}});
  const std::string now = to_rfc3339(this_second());
  std::string notes;
  for (const VmSummary& vm : vms) {
    for (const std::string& note : vm.notes)
      notes += fmt::format("{}: {}\n", printable(vm.name), printable(note, kLongestValue));
    const std::size_t row =
        table.add({vm.name, to_string(vm.state), vm.template_name, std::to_string(vm.cpus), format_size(vm.memory),
                   std::to_string(vm.snapshots), vm.created,
                   vm.expires ? time_left(*vm.expires, now) : ""});
    if (const char* colour = colour_of(vm.state)) table.colour(row, 1, colour);
  }
  return table.text() + (notes.empty() ? "" : "\n" + notes);
}

std::string snapshots_text(const Terminal& terminal, const std::vector<SnapshotInfo>& snapshots) {
  if (snapshots.empty()) return {};
  using Kind = Column::Kind;
  Table table(
      terminal,
      {{"SNAPSHOT", Kind::tree}, {"CURRENT"}, {"CONSISTENCY"}, {"MEMORY"}, {"CREATED"}, {"DESCRIPTION", Kind::wide}});
  std::map<std::string, std::size_t> rows;
  for (const SnapshotInfo& snapshot : snapshots) {
    const std::vector<std::string> cells{
        snapshot.name,    snapshot.current ? "*" : "", to_string(snapshot.consistency), yes_no(snapshot.memory),
        snapshot.created, snapshot.description};
    const auto parent = rows.find(snapshot.parent.value_or(""));
    rows[snapshot.name] = parent == rows.end() ? table.add(cells) : table.add_below(parent->second, cells);
  }
  return table.text();
}

std::string images_text(const Terminal& terminal, const std::vector<ImageInfo>& images) {
  if (images.empty()) return {};
  using Kind = Column::Kind;
  Table table(terminal, {{"NAME"},
                         {"SIZE", Kind::right},
                         {"ON-DISK", Kind::right},
                         {"BOOT"},
                         {"AGENT"},
                         {"CLOUD-INIT"},
                         {"USED-BY", Kind::right},
                         {"CREATED"},
                         {"ORIGIN", Kind::wide}});
  for (const ImageInfo& image : images) {
    table.add({image.name, format_size(image.virtual_size), format_size(image.disk_size),
               fmt::format("{}", fmt::join(image.boot, ",")), yes_no(image.agent), yes_no(image.cloud_init),
               std::to_string(image.used_by), image.created, image.origin});
  }
  return table.text();
}

std::string catalogue_text(const Terminal& terminal, const std::vector<CatalogueEntry>& entries) {
  if (entries.empty()) return {};
  using Kind = Column::Kind;
  Table table(terminal, {{"NAME"}, {"USER"}, {"DESCRIPTION"}, {"URL", Kind::wide}});
  for (const CatalogueEntry& entry : entries) {
    table.add({entry.name, entry.default_user, entry.description, entry.url});
  }
  return table.text();
}

std::string templates_text(const Terminal& terminal, const std::vector<TemplateInfo>& templates) {
  if (templates.empty()) return {};
  using Kind = Column::Kind;
  Table table(terminal, {{"NAME"}, {"EXTENDS"}, {"PARAMETERS"}, {"DESCRIPTION", Kind::wide}});
  for (const TemplateInfo& info : templates) {
    std::vector<std::string> parameters;
    std::transform(info.parameters.begin(), info.parameters.end(), std::back_inserter(parameters),
                   [](const TemplateParameter& p) { return p.required ? p.name : p.name + "=" + p.default_value; });
    table.add({info.name, info.extends, fmt::format("{}", fmt::join(parameters, ",")), info.description});
  }
  return table.text();
}

std::string checks_text(const Terminal& terminal, const std::vector<DoctorRow>& rows) {
  if (rows.empty()) return {};
  Table table(terminal, {{"CHECK"}, {"HEALTH"}, {"SEEN"}});
  std::string remedies;
  for (const DoctorRow& row : rows) {
    const std::size_t number = table.add({row.id, to_string(row.health), row.seen});
    table.colour(number, 1, colour_of(row.health));
    // A remedy is a sentence to act on: it stands below the table, where it is never cut.
    if (!row.remedy.empty())
      remedies += fmt::format("{}: {}\n", printable(row.id), printable(row.remedy, kLongestValue));
  }
  return table.text() + (remedies.empty() ? "" : "\n" + remedies);
}

std::string store_checks_text(const Terminal& terminal, const std::vector<CheckRow>& rows) {
  if (rows.empty()) return {};
  Table table(terminal, {{"CHECK"}, {"PLACE"}, {"HEALTH"}, {"SEEN"}});
  // Layers that are not used mostly need one remedy.
  std::vector<std::pair<std::string, std::vector<std::string>>> remedies;
  for (const CheckRow& row : rows) {
    const std::size_t number = table.add({row.id, row.place, to_string(row.health), row.seen});
    table.colour(number, 2, colour_of(row.health));
    if (row.remedy.empty()) continue;
    const std::string remedy = printable(row.remedy, kLongestRemedy);
    auto known = std::find_if(remedies.begin(), remedies.end(), [&](const auto& one) { return one.first == remedy; });
    if (known == remedies.end()) known = remedies.insert(known, {remedy, {}});
    const std::string who = printable(row.id) + ", " + printable(row.place);
    if (std::find(known->second.begin(), known->second.end(), who) == known->second.end()) known->second.push_back(who);
  }
  std::string text = table.text();
  if (!remedies.empty()) text += "\n";
  for (const auto& [remedy, who] : remedies) text += fmt::format("{}: {}\n", fmt::join(who, "; "), remedy);
  return text;
}

std::string plan_text(const PlanText& plan) {
  std::string text;
  for (const std::string& step : plan.steps) text += printable(step, kLongestValue) + "\n";
  return text;
}

std::string names_text(const std::vector<VmInfo>& vms) {
  std::string text;
  for (const VmInfo& vm : vms) text += printable(vm.name) + "\n";
  return text;
}

std::string consistency_text(Consistency consistency, const std::string& note) {
  switch (consistency) {
    case Consistency::frozen:
      return "frozen: file systems were frozen through the guest agent";
    case Consistency::crash:
      return "crash-consistent, as after a power cut" + (note.empty() ? "" : ": " + note);
    case Consistency::clean:
      break;
  }
  return note;
}

}  // namespace vmgraft::cli

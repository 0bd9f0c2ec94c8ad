// SPDX-License-Identifier: Apache-2.0
#include "plan/steps.hpp"

#include <fmt/format.h>

#include <vmgraft/error.hpp>

#include "domain/hostdev_xml.hpp"
#include "model/size.hpp"

namespace vmgraft {
namespace {

std::string brief(const std::string& id) { return id.size() > 8 ? id.substr(0, 8) : id; }

/// The device by what people call it; by its alias where the journal that it stands in was tampered with.
template <typename Plug>
std::string device_of(const Plug& step) {
  try {
    return host_device_of(step.xml);
  } catch (const Error&) {
    return step.alias;
  }
}

struct Describer {
  std::string operator()(const MakeFolder& step) const { return fmt::format("make folder {}", step.path); }
  std::string operator()(const CreateLayer& step) const {
    const LayerRecord& layer = step.record;
    return layer.parent.empty()
               ? fmt::format("make layer {} ({}, empty)", brief(layer.id), format_size(layer.virtual_size))
               : fmt::format("make layer {} on {} ({})", brief(layer.id), brief(layer.parent),
                             format_size(layer.virtual_size));
  }
  std::string operator()(const FlattenLayer& step) const {
    return fmt::format("copy all of layer {} into a new layer {}", brief(step.from), brief(step.record.id));
  }
  std::string operator()(const FreezeLayer& step) const { return fmt::format("make layer {} immutable", brief(step.id)); }
  std::string operator()(const WriteFile& step) const {
    return fmt::format("{} {}", step.existed ? "replace" : "write", step.path);
  }
  std::string operator()(const CopyPath& step) const { return fmt::format("copy {} to {}", step.from, step.to); }
  std::string operator()(const ReplacePath& step) const {
    return step.from.empty() ? fmt::format("clear {}", step.to) : fmt::format("put {} back to {}", step.from, step.to);
  }
  std::string operator()(const AdoptFile& step) const { return fmt::format("move the new file to {}", step.to); }
  std::string operator()(const DefineDomain& step) const {
    return fmt::format("{} domain {} ({})", step.previous.empty() ? "define" : "redefine", step.name, step.uuid);
  }
  std::string operator()(const StartDomain& step) const {
    return step.memory.empty() ? fmt::format("start {}", step.name)
                               : fmt::format("wake {} from {}", step.name, step.memory);
  }
  std::string operator()(const SwitchDisks& step) const {
    const char* act = !step.memory.empty() ? "save the memory of" : step.freeze ? "freeze" : "catch";
    std::string text = fmt::format("{} {} and move it on to new layers:", act, step.name);
    for (const SwitchDisk& disk : step.disks) text += fmt::format(" {}={}", disk.target, brief(disk.layer));
    return text;
  }
  std::string operator()(const Commit&) const { return "-- from here on it is finished, not undone --"; }
  std::string operator()(const PowerOff& step) const { return fmt::format("power off {}", step.name); }
  std::string operator()(const UndefineDomain& step) const {
    return fmt::format("undefine domain {} ({})", step.name, step.uuid);
  }
  std::string operator()(const DeleteLayer& step) const { return fmt::format("delete layer {}", brief(step.id)); }
  std::string operator()(const RemovePath& step) const { return fmt::format("remove {}", step.path); }
  std::string operator()(const RebaseLayer& step) const {
    return fmt::format("merge into layer {} what it needs down to {}", brief(step.layer.id), brief(step.layer.parent));
  }
  std::string operator()(const PullLayer& step) const {
    return fmt::format("merge into layer {} what it needs down to {}, while {} runs", brief(step.layer.id),
                       brief(step.layer.parent), step.name);
  }
  std::string operator()(const BindDriver& step) const {
    return fmt::format("move {} from {} to {}", step.address, step.from_driver.empty() ? "no driver" : step.from_driver,
                       step.driver.empty() ? "no driver" : step.driver);
  }
  std::string operator()(const WriteAttribute& step) const {
    return fmt::format("write {} to {}", step.value, step.path);
  }
  std::string operator()(const MakeMdev& step) const {
    return fmt::format("make mediated device {} ({}) on {}", step.uuid, step.type, step.parent);
  }
  std::string operator()(const RemoveMdev& step) const { return fmt::format("remove mediated device {}", step.uuid); }
  std::string operator()(const DetachDevice& step) const {
    return fmt::format("ask {} to let {} go", step.name, device_of(step));
  }
  std::string operator()(const AttachDevice& step) const {
    return fmt::format("plug {} into {}", device_of(step), step.name);
  }
};

}  // namespace

std::string describe(const Step& step) { return std::visit(Describer{}, step); }

}  // namespace vmgraft

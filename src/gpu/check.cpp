// SPDX-License-Identifier: Apache-2.0
#include "gpu/check.hpp"

#include <algorithm>

#include <vmgraft/error.hpp>

#include "gpu/check_rows.hpp"
#include "model/names.hpp"

namespace vmgraft {
namespace {

std::string place_of(const GpuCheck& row) {
  return row.address.empty() ? "this host" : "GPU " + printable(row.address);
}

std::vector<GpuCheck> absent(const std::string& address) {
  CheckRows rows(address);
  rows.fail(CheckId::absent, "there is no such GPU on this host", "vmgraft gpu list shows those that are there");
  return rows.take();
}

void append(std::vector<GpuCheck>& to, std::vector<GpuCheck> rows) {
  to.insert(to.end(), std::make_move_iterator(rows.begin()), std::make_move_iterator(rows.end()));
}

}  // namespace

CheckCase check_case(const GpuFacts& facts, const Gpu& gpu, const PciFunction& function, const CheckFor& wanted) {
  CheckCase each{facts, gpu, function, wanted, functions_of(facts, {gpu.address}), {}};
  each.group = each.own;
  const auto add = [&](const std::vector<std::string>& more) {
    for (const std::string& one : more)
      if (std::find(each.group.begin(), each.group.end(), one) == each.group.end()) each.group.push_back(one);
  };
  if (function.iommu_group)
    if (const auto group = facts.devices.groups.find(*function.iommu_group); group != facts.devices.groups.end())
      add(group->second.members);
  add(gpu.strangers);
  return each;
}

std::vector<std::string> functions_of(const GpuFacts& facts, const std::vector<std::string>& addresses) {
  std::vector<std::string> found;
  for (const std::string& address : addresses) {
    found.push_back(address);
    if (const Gpu* gpu = facts.find(address)) found.insert(found.end(), gpu->companions.begin(), gpu->companions.end());
  }
  return found;
}

std::string with_driver(const PciFunction& function) {
  return printable(function.address) + " (" + (function.driver.empty() ? "no driver" : printable(function.driver)) +
         ")";
}

std::string some_of(const std::vector<std::string>& words, std::string_view separator) {
  constexpr std::size_t kMost = 4;
  std::string text;
  for (std::size_t each = 0; each < std::min(words.size(), kMost); ++each) {
    if (each != 0) text += separator;
    text += words[each];
  }
  if (words.size() > kMost) text += " and " + std::to_string(words.size() - kMost) + " more";
  return text;
}

bool is_holder_check(std::string_view id) {
  return std::any_of(kCheckNames.begin(), kCheckNames.end(),
                     [&](const CheckName& each) { return each.is_holder && each.name == id; });
}

std::vector<GpuCheck> check_gpu_alone(const GpuFacts& facts, const Gpu& gpu, const CheckFor& wanted) {
  const PciFunction* function = facts.devices.find(gpu.address);
  if (function == nullptr) return absent(gpu.address);
  const CheckCase each = check_case(facts, gpu, *function, wanted);
  CheckRows rows(gpu.address);
  rows.ok(CheckId::absent, "is there");
  check_identity(rows, each);
  check_holders(rows, each);
  if (!each.is_parent()) {
    check_console(rows, each);
    check_group(rows, each);
  }
  // A mediated device is made beside what else its GPU does; to make VFs, the driver wants it idle.
  if (wanted.kind != GpuKind::mdev) check_device_users(rows, each);
  check_function(rows, each);
  return rows.take();
}

std::vector<GpuCheck> check_gpu_together(const GpuFacts& facts, const Gpu& gpu, const CheckFor& wanted) {
  const PciFunction* function = facts.devices.find(gpu.address);
  if (function == nullptr) return absent(gpu.address);
  CheckRows rows(gpu.address);
  check_together(rows, check_case(facts, gpu, *function, wanted));
  return rows.take();
}

std::vector<GpuCheck> check_gpu(const GpuFacts& facts, const Gpu& gpu, const CheckFor& wanted) {
  std::vector<GpuCheck> rows = check_gpu_alone(facts, gpu, wanted);
  if (facts.devices.find(gpu.address) != nullptr) append(rows, check_gpu_together(facts, gpu, wanted));
  return rows;
}

std::string check_text(const GpuCheck& row) {
  return place_of(row) + ": " + row.seen + " [" + row.id + "]";
}

void refuse_failures(const std::vector<GpuCheck>& rows) {
  std::vector<const GpuCheck*> failures;
  for (const GpuCheck& row : rows)
    if (row.health == Health::fail) failures.push_back(&row);
  if (failures.empty()) return;
  const bool is_held =
      std::all_of(failures.begin(), failures.end(), [](const GpuCheck* row) { return is_holder_check(row->id); });
  Error error(is_held ? Errc::conflict : Errc::host_unfit, check_text(*failures.front()), failures.front()->remedy);
  for (auto each = failures.begin() + 1; each != failures.end(); ++each) error.add_context(check_text(**each));
  throw error;
}

}  // namespace vmgraft

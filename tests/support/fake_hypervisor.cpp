// SPDX-License-Identifier: Apache-2.0
#include "support/fake_hypervisor.hpp"

#include <map>
#include <stdexcept>

#include <vmgraft/error.hpp>

#include "domain/domain_xml.hpp"
#include "store/qcow2.hpp"

namespace vmgraft {
namespace {

const std::string kFolder = "/libvirt";

std::string path_of(const std::string& uuid) { return kFolder + "/" + uuid; }

[[noreturn]] void not_modelled(const std::string& what) {
  throw std::logic_error("the fake hypervisor does not model " + what);
}

std::string text_of(bool running, bool frozen, const std::string& xml) {
  return std::string(running ? "running" : "off") + (frozen ? " frozen\n" : "\n") + xml;
}

}  // namespace

void fake_rebase(FakeHost& host, const std::filesystem::path& file, const std::string& backing) {
  const auto header = read_qcow2(host.read_range(file, 0, 128 << 10));
  const Qcow2Layout layout = new_qcow2(header->virtual_size, backing);
  std::string content(layout.size, '\0');
  for (const Extent& extent : layout.extents) content.replace(extent.offset, extent.bytes.size(), extent.bytes);
  // One byte of an L2 offset: the merged layer holds data now.
  content[header->l1_offset + 5] = '\1';
  host.add_file(file, content, host.stat(file)->mode);
}

FakeHypervisor::FakeHypervisor(FakeHost& host) : host_(host) {
  if (!host_.exists(kFolder)) host_.add_folder(kFolder);
}

std::optional<FakeHypervisor::Domain> FakeHypervisor::find(const std::string& uuid) const {
  const std::optional<std::string> text = host_.read_file(path_of(uuid));
  if (!text) return std::nullopt;
  const std::size_t end = text->find('\n');
  const std::string state = text->substr(0, end);
  return Domain{state.starts_with("running"), state.ends_with(" frozen"), text->substr(end + 1)};
}

FakeHypervisor::Domain FakeHypervisor::must_find(const std::string& uuid) const {
  const std::optional<Domain> domain = find(uuid);
  if (!domain) throw Error(Errc::not_found, "no domain " + uuid);
  return *domain;
}

void FakeHypervisor::save(const std::string& uuid, const Domain& domain) {
  host_.write_file(path_of(uuid), text_of(domain.running, domain.frozen, domain.xml), 0600);
}

void FakeHypervisor::set_running(const std::string& uuid, bool running) {
  const Domain domain = must_find(uuid);
  host_.add_file(path_of(uuid), text_of(running, false, domain.xml), 0600);
}

bool FakeHypervisor::is_frozen(const std::string& uuid) const { return must_find(uuid).frozen; }

HypervisorInfo FakeHypervisor::info() { return {"fake:///", 9000000, 7002000, false}; }
std::string FakeHypervisor::capabilities_xml() { not_modelled("capabilities"); }
std::string FakeHypervisor::domain_capabilities_xml(const std::string&, const std::string&) {
  not_modelled("domain capabilities");
}

std::vector<DomainState> FakeHypervisor::domains() {
  std::vector<DomainState> all;
  for (const std::string& uuid : host_.list_folder(kFolder)) all.push_back(*find_by_uuid(uuid));
  return all;
}

std::optional<DomainState> FakeHypervisor::find_by_name(const std::string& name) {
  for (const DomainState& domain : domains())
    if (domain.name == name) return domain;
  return std::nullopt;
}

std::optional<DomainState> FakeHypervisor::find_by_uuid(const std::string& uuid) {
  const std::optional<Domain> domain = find(uuid);
  if (!domain) return std::nullopt;
  return DomainState{read_domain(domain->xml).name, uuid, domain->running ? VmState::running : VmState::shut_off, true};
}

std::string FakeHypervisor::domain_xml(const std::string& uuid, bool inactive) {
  std::string xml = must_find(uuid).xml;
  const std::string channel = "<target type=\"virtio\" name=\"org.qemu.guest_agent.0\"";
  if (!inactive && agent_)
    if (const std::size_t at = xml.find(channel); at != std::string::npos)
      xml.insert(at + channel.size(), " state=\"connected\"");
  return xml;
}

void FakeHypervisor::define(const std::string& xml) {
  const DomainFacts facts = read_domain(xml);
  const std::optional<Domain> old = find(facts.uuid);
  save(facts.uuid, {old && old->running, old && old->frozen, xml});
}

void FakeHypervisor::undefine(const std::string& uuid, bool) {
  if (must_find(uuid).running) throw Error(Errc::conflict, "the domain runs");
  host_.remove(path_of(uuid));
}

void FakeHypervisor::start(const std::string& uuid) {
  const Domain domain = must_find(uuid);
  save(uuid, {true, false, domain.xml});
}

void FakeHypervisor::power_off(const std::string& uuid) {
  const Domain domain = must_find(uuid);
  if (domain.running) save(uuid, {false, false, domain.xml});
}

void FakeHypervisor::request_shutdown(const std::string& uuid) { power_off(uuid); }

FreezeOutcome FakeHypervisor::freeze(const std::string& uuid, std::string& why_not) {
  const Domain domain = must_find(uuid);
  if (!agent_) {
    why_not = "no agent";
    return FreezeOutcome::no_agent;
  }
  if (refuse_freeze_) {
    why_not = "the agent refused";
    return FreezeOutcome::failed;
  }
  save(uuid, {domain.running, true, domain.xml});
  return FreezeOutcome::frozen;
}

void FakeHypervisor::thaw(const std::string& uuid) {
  const Domain domain = must_find(uuid);
  if (domain.frozen) save(uuid, {domain.running, false, domain.xml});
}

void FakeHypervisor::switch_to_overlays(const std::string& uuid, const std::vector<OverlayTarget>& disks,
                                        const std::vector<std::string>&) {
  const Domain domain = must_find(uuid);
  if (!domain.running) throw Error(Errc::conflict, "the domain does not run");
  std::map<std::string, std::string> paths;
  for (const OverlayTarget& disk : disks) paths[disk.target] = disk.overlay;
  save(uuid, {true, domain.frozen, with_disk_paths(domain.xml, paths)});
}

void FakeHypervisor::pull_into_active(const std::string& uuid, const std::string& target, const std::string& base,
                                      const std::atomic<bool>*) {
  for (const DomainFacts::Disk& disk : read_domain(must_find(uuid).xml).disks) {
    if (disk.target != target) continue;
    Command command;
    command.argv = {"fake-pull", disk.path, std::filesystem::path(base).filename()};
    static_cast<void>(host_.run(command));
  }
}

WaitOutcome FakeHypervisor::wait_shut_off(const std::string&, std::chrono::milliseconds, const std::atomic<bool>*) {
  return WaitOutcome::happened;
}
WaitOutcome FakeHypervisor::wait_agent(const std::string&, std::chrono::milliseconds, const std::atomic<bool>*) {
  return agent_ ? WaitOutcome::happened : WaitOutcome::timed_out;
}
std::string FakeHypervisor::agent_command(const std::string&, const std::string&, std::chrono::seconds) {
  not_modelled("the guest");
}
std::vector<NicInfo> FakeHypervisor::addresses(const std::string&) { return {}; }
void FakeHypervisor::console(const std::string&, int, int, const std::atomic<bool>*) { not_modelled("a console"); }
void FakeHypervisor::ensure_network(const std::string&, const std::string&) { not_modelled("networks"); }

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "model/names.hpp"
#include "run/manager_impl.hpp"

namespace vmgraft {
namespace {

constexpr std::size_t kPiece = 256 << 10;

void write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t written = ::write(fd, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      throw Error(Errc::other, fmt::format("cannot pass on the guest's output: {}", std::strerror(errno)));
    data.remove_prefix(static_cast<std::size_t>(written));
  }
}

std::optional<std::string> read_piece(int fd, const std::atomic<bool>* interrupted) {
  std::string piece(kPiece, '\0');
  while (true) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) {
      if (interrupted != nullptr && interrupted->load()) throw Error(Errc::interrupted, "interrupted while reading stdin");
      continue;
    }
    if (got < 0) throw Error(Errc::other, fmt::format("cannot read stdin: {}", std::strerror(errno)));
    if (got == 0) return std::nullopt;
    piece.resize(static_cast<std::size_t>(got));
    return piece;
  }
}

/// "VM:PATH" to its parts when the text before the first ':' can be a VM's name and is not a path; nothing otherwise.
std::optional<std::pair<std::string, std::string>> guest_side(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos || colon == 0 || text.substr(0, colon).find('/') != std::string::npos)
    return std::nullopt;
  return std::pair{text.substr(0, colon), text.substr(colon + 1)};
}

}  // namespace

ExecResult Manager::exec(const ExecRequest& request) {
  Impl& impl = *impl_;
  if (request.command.empty())
    throw Error(Errc::usage, "exec needs a command", fmt::format("vmgraft exec {} -- uname -a", request.vm));
  const Manifest manifest = impl.store().manifest(request.vm);
  const DomainState domain = impl.running_domain(manifest);
  GuestAgent agent(impl.hypervisor(), request.vm, domain.uuid, {impl.options.interrupted, kTidyTime});
  GuestCommand command;
  command.argv = request.command;
  command.user = request.user;
  command.timeout = request.timeout;
  if (request.stdin_fd >= 0)
    command.read_input = [&] { return read_piece(request.stdin_fd, impl.options.interrupted); };
  command.on_out = [&](std::string_view data) { write_all(request.stdout_fd, data); };
  command.on_err = [&](std::string_view data) { write_all(request.stderr_fd, data); };
  return {agent.run(command).exit_code};
}

CopyResult Manager::copy(const CopyRequest& request) {
  Impl& impl = *impl_;
  const auto from = guest_side(request.source);
  const auto to = guest_side(request.destination);
  if (from.has_value() == to.has_value())
    throw Error(Errc::usage, from ? "both sides of the copy are guests" : "neither side of the copy is a guest",
                "name the guest's file as VM:PATH on exactly one side; a local name with a ':' is written ./NAME");
  const std::string& vm = from ? from->first : to->first;
  const std::string& path = from ? from->second : to->second;
  if (!path.starts_with('/'))
    throw Error(Errc::usage, fmt::format("'{}' is not an absolute path in the guest", printable(path)),
                fmt::format("{}:/root/{}", vm, path));
  const DomainState domain = impl.running_domain(impl.store().manifest(vm));
  GuestAgent agent(impl.hypervisor(), vm, domain.uuid, {impl.options.interrupted, kTidyTime});
  const CopyCount count =
      from ? copy_from_guest(agent, path, request.destination) : copy_to_guest(agent, request.source, path);
  return {count.files, count.bytes};
}

void Manager::console(const std::string& vm, int in_fd, int out_fd) {
  const DomainState domain = impl_->running_domain(impl_->store().manifest(vm));
  impl_->hypervisor().console(domain.uuid, in_fd, out_fd, impl_->options.interrupted);
}

std::vector<std::string> Manager::ssh_command(const std::string& vm, const std::vector<std::string>& arguments) {
  Impl& impl = *impl_;
  const Manifest manifest = impl.store().manifest(vm);
  const DomainState domain = impl.running_domain(manifest);
  std::string address;
  for (const NicInfo& nic : impl.hypervisor().addresses(domain.uuid))
    for (const std::string& each : nic.addresses)
      if (address.empty() && each.find(':') == std::string::npos) address = each;
  const bool is_user_network = impl.hypervisor().info().is_session;
  if (address.empty() || is_user_network)
    throw Error(Errc::unreachable,
                is_user_network ? fmt::format("VM '{}' is in a session: its network lets nothing in", vm)
                                : fmt::format("VM '{}' has no address that the host knows of", vm),
                fmt::format("vmgraft exec {0} -- CMD and vmgraft copy need no network; ssh needs a nat or bridge network on "
                            "qemu:///system",
                            vm));
  const VmSpec spec = parse_spec(manifest.spec, manifest.template_name);
  std::string user = spec.guest.user;
  if (user.empty()) user = impl.root_layer(manifest).default_user;
  if (user.empty()) user = "root";
  return ssh_argv(impl.host, impl.store().ssh_folder(vm), vm, user, address, impl.host_key(vm), arguments);
}

}  // namespace vmgraft

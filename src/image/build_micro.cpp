// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include <vmgraft/error.hpp>

#include "host/sha256.hpp"
#include "image/elf.hpp"
#include "image/guest_tree.hpp"
#include "image/kernel.hpp"
#include "image/libraries.hpp"
#include "image/micro_guest.hpp"
#include "image/packages.hpp"
#include "image/programs.hpp"

namespace vmgraft {

namespace {

constexpr std::uint64_t kDiskSize = 128u << 20;
// The kernel's self-tests of its ciphers and of the timer take a second of an emulated boot and tell a guest nothing.
constexpr const char* kMicroCommandLine = "console=ttyS0 quiet cryptomgr.notests no_timer_check";

/// A program of the host, or of its distribution's package when it is not installed.
struct HostProgram {
  std::filesystem::path file;
  std::vector<std::filesystem::path> roots;  ///< where its libraries are looked for
};

std::filesystem::path find_under(Host& host, const std::filesystem::path& root,
                                 const std::vector<std::string>& places) {
  for (const auto& place : places) {
    if (host.stat(root / place)) return root / place;
  }
  return {};
}

std::filesystem::path fetch_package(ImageWork& work, const std::string& package, const std::vector<std::string>& with) {
  if (!has_apt(work.host)) {
    throw Error(Errc::host_unfit, fmt::format("the micro image needs '{}', and it is not installed", package),
                fmt::format("install the package that holds it, in Debian: {}", package));
  }
  tell(work, fmt::format("fetching {}", package));
  auto packages = with.empty() ? std::vector<std::string>{} : dependency_closure(work, package, with);
  if (std::find(packages.begin(), packages.end(), package) == packages.end())
    packages.insert(packages.begin(), package);
  const auto target = work.folder / (package + "-package");
  unpack_packages(work, packages, target);
  return target;
}

bool is_static(Host& host, const std::filesystem::path& program) {
  const auto bytes = host.read_file(program);
  if (!bytes) return false;
  const auto facts = read_elf(*bytes, program.string());
  return facts.interpreter.empty() && facts.needed.empty();
}

std::filesystem::path find_busybox(ImageWork& work) {
  const auto installed = work.host.find_program("busybox");
  if (!installed.empty() && is_static(work.host, installed)) return installed;
  const auto root = fetch_package(work, "busybox-static", {});
  const auto file = find_under(work.host, root, {"usr/bin/busybox", "bin/busybox"});
  if (file.empty() || !is_static(work.host, file)) {
    throw Error(Errc::host_unfit, "the package busybox-static holds no static busybox");
  }
  return file;
}

/// The names busybox answers to. It runs here, on the host, as it will in the guest.
std::vector<std::string> applets(ImageWork& work, const std::filesystem::path& busybox) {
  ToolRun run;
  run.what = "list the commands of busybox";
  run.argv = {busybox.string(), "--list"};
  return lines_of(run_tool(work, run).out);
}

/// qemu-ga and all libraries it needs into the tree; resize2fs too where it comes cheaply.
void add_programs(ImageWork& work, GuestTree& tree) {
  std::vector<std::filesystem::path> roots{"/"};
  auto agent = work.host.find_program("qemu-ga");
  if (agent.empty()) {
    // Its libraries come along, for a host that has none of them.
    roots.push_back(fetch_package(work, "qemu-guest-agent", {"lib", "qemu-guest-agent"}));
    agent = find_under(work.host, roots.back(), {"usr/sbin/qemu-ga", "usr/bin/qemu-ga"});
    if (agent.empty()) throw Error(Errc::host_unfit, "the package qemu-guest-agent holds no qemu-ga");
  }
  const auto closure = find_libraries(work.host, {agent}, roots);
  if (!closure.missing.empty()) {
    throw Error(Errc::host_unfit,
                fmt::format("'{}' needs the library '{}', which is not here", agent.string(), closure.missing.front()),
                "install the agent with its libraries: apt-get install qemu-guest-agent");
  }
  for (const auto& [path, file] : closure.files) tree.add_file(path, file);
  tree.add_file("/usr/sbin/qemu-ga", agent);

  const auto resize = need_program(work.host, "resize2fs", "e2fsprogs");
  const auto more = find_libraries(work.host, {resize}, {"/"});
  if (!more.missing.empty()) return;  // a broken resize2fs must not cost the image: the disk is then not grown into
  for (const auto& [path, file] : more.files) tree.add_file(path, file);
  tree.add_file("/sbin/resize2fs", resize);
}

/// Where an applet's name stands: the paths that other programs have built in.
std::string applet_path(const std::string& name) {
  static const std::vector<std::string> system = {
      "acpid",    "blockdev", "fdisk",   "findfs", "fsfreeze",    "fstrim", "getty",  "halt",     "hwclock",
      "ifconfig", "init",     "insmod",  "ip",     "losetup",     "lsmod",  "mkswap", "modprobe", "pivot_root",
      "rmmod",    "route",    "swapoff", "swapon", "switch_root", "sysctl", "udhcpc"};
  const bool is_system = std::find(system.begin(), system.end(), name) != system.end();
  return (is_system ? "/sbin/" : "/bin/") + name;
}

void add_busybox(GuestTree& tree, const std::filesystem::path& busybox, const std::vector<std::string>& names) {
  tree.add_file("/bin/busybox", busybox);
  for (const auto& name : names) {
    const auto path = applet_path(name);
    if (name != "busybox" && !tree.has("/sbin/" + name) && !tree.has(path)) tree.add_link(path, "/bin/busybox");
  }
  for (const auto* path : {"/usr/bin/env", "/usr/sbin/nologin"}) tree.add_link(path, "/bin/busybox");
}

/// What must be there before the root disk is mounted and the agent runs, and what can follow it.
struct MicroModules {
  std::vector<ArchiveFile> early, late;
};

MicroModules micro_modules(Host& host, const Kernel& kernel) {
  std::vector<WantedModule> wanted = {
      {"crc32c_generic"}, {"ext4", true}, {"virtio_pci", true}, {"virtio_blk", true}, {"virtio_console", true}};
  MicroModules modules;
  modules.early = load_modules(host, kernel, wanted);
  for (const auto* name : {"virtio_net", "virtio_rng", "virtio_balloon", "evdev", "button"})
    wanted.push_back({name, false});
  const auto all = load_modules(host, kernel, wanted);
  modules.late.assign(all.begin() + static_cast<std::ptrdiff_t>(modules.early.size()), all.end());
  return modules;
}

std::string make_initramfs(ImageWork& work, const std::vector<ArchiveFile>& modules,
                           const std::filesystem::path& busybox) {
  using Kind = ArchiveFile::Kind;
  std::vector<ArchiveFile> files;
  for (const auto* folder : {"bin", "dev", "proc", "sys", "root", "modules"})
    files.push_back({Kind::folder, folder, 0755, {}, 0, 0});
  files.push_back({Kind::character_device, "dev/console", 0600, {}, 5, 1});
  files.push_back({Kind::file, "bin/busybox", 0755, work.host.read_file(busybox).value_or(""), 0, 0});
  for (const auto* name : {"sh", "mount", "insmod", "sleep", "switch_root"}) {
    files.push_back({Kind::link, std::string("bin/") + name, 0777, "busybox", 0, 0});
  }
  std::vector<std::string> order;
  for (const auto& module : modules) {
    order.push_back(module.path);
    files.push_back({Kind::file, "modules/" + module.path, 0644, module.content, 0, 0});
  }
  files.push_back({Kind::file, "init", 0755, micro_initramfs_script(order), 0, 0});
  return to_cpio(files);
}

}  // namespace

MadeImage build_micro(ImageWork& work) {
  const auto kernel = find_kernel(work);
  const auto busybox = find_busybox(work);
  const auto modules = micro_modules(work.host, kernel);

  tell(work, "assembling the micro image");
  GuestTree tree;
  add_micro_files(tree, kDiskSize);
  add_programs(work, tree);
  for (std::size_t i = 0; i < modules.late.size(); ++i) {
    tree.add_text(fmt::format("/usr/lib/micro/{:02}-{}", i, modules.late[i].path), modules.late[i].content);
  }
  add_busybox(tree, busybox, applets(work, busybox));
  const auto raw = work.folder / "root.raw";
  tree.write_ext4(work, raw, kDiskSize, "root");

  MadeImage image;
  image.disk = work.folder / "disk.qcow2";
  image.kernel = work.folder / "kernel";
  image.initrd = work.folder / "initrd";
  convert_to_qcow2(work, raw, "raw", image.disk, "writing the micro image");
  work.host.copy(kernel.image, image.kernel);
  // Not compressed: inflating it costs the guest more than reading it.
  work.host.write_file(image.initrd, make_initramfs(work, modules.early, busybox), 0644);
  work.host.remove(raw);

  image.layer.virtual_size = kDiskSize;
  image.layer.boot_direct = true;
  image.layer.cmdline = kMicroCommandLine;
  image.layer.agent = true;
  image.layer.default_user = "root";
  image.sha256 = sha256_file(image.disk);
  image.origin = "build micro";
  return image;
}

}  // namespace vmgraft

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include <unistd.h>

#include <vmgraft/error.hpp>

#include "host/sha256.hpp"
#include "image/archive_io.hpp"
#include "image/boot_disk.hpp"
#include "image/debian_guest.hpp"
#include "image/packages.hpp"
#include "image/programs.hpp"
#include "model/size.hpp"

namespace vmgraft {

namespace {

constexpr std::uint64_t kRootSize = std::uint64_t{2} << 30;
constexpr std::uint64_t kSpaceNeeded = std::uint64_t{3} << 30;
// rw and no fsck: an ext4 journal is replayed at mount, and a guest disk has a snapshot where a check would be wanted.
constexpr const char* kDebianCommandLine = "root=LABEL=root rw console=ttyS0 quiet cryptomgr.notests no_timer_check";

struct Mirrors {
  std::string debian = "http://deb.debian.org/debian";
  std::string security = "http://deb.debian.org/debian-security";
};

/// Where this host gets its Debian from; Debian's own when it is not a Debian.
Mirrors find_mirrors(ImageWork& work) {
  Mirrors mirrors;
  const auto apt_get = work.host.find_program("apt-get");
  if (apt_get.empty()) return mirrors;
  ToolRun run;
  run.what = "read apt's sources";
  run.argv = {apt_get.string(), "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"};
  run.may_fail = true;
  for (const auto& line : lines_of(run_tool(work, run).out)) {
    const auto bar = line.rfind('|');
    const auto whose = line.substr(0, bar);
    const auto uri = line.substr(bar + 1);
    if (uri.rfind("http://", 0) != 0 && uri.rfind("https://", 0) != 0) continue;
    if (whose == "Debian|Debian") mirrors.debian = uri;
    if (whose == "Debian|Debian-Security") mirrors.security = uri;
  }
  return mirrors;
}

/// The proxy that apt uses on this host; mmdebstrap does not read the host's apt configuration.
std::string find_proxy(ImageWork& work) {
  const auto apt_config = work.host.find_program("apt-config");
  if (apt_config.empty()) return {};
  ToolRun run;
  run.what = "read apt's configuration";
  run.argv = {apt_config.string(), "dump", "--format", "%v%n", "Acquire::http::Proxy"};
  run.may_fail = true;
  const auto lines = lines_of(run_tool(work, run).out);
  return lines.size() == 1 && lines.front().find('"') == std::string::npos ? lines.front() : std::string{};
}

/// Single quotes for the words of mmdebstrap's special hooks.
std::string hook_quoted(const std::filesystem::path& path) {
  if (path.string().find('\'') != std::string::npos) {
    throw Error(Errc::other, fmt::format("mmdebstrap cannot take the path '{}'", path.string()),
                "use a store whose path has no quotes");
  }
  return "'" + path.string() + "'";
}

void bootstrap(ImageWork& work, const std::string& suite, const std::filesystem::path& tar) {
  const auto early = work.folder / "early.tar";
  const auto late = work.folder / "late.tar";
  work.host.write_file(early, to_tar(debian_early_files()), 0644);
  work.host.write_file(late, to_tar(debian_late_files(suite)), 0644);
  const auto mirrors = find_mirrors(work);
  const bool is_root = geteuid() == 0;

  ToolRun run;
  run.what = fmt::format("bootstrap Debian '{}'", suite);
  run.argv = {need_program(work.host, "mmdebstrap", "mmdebstrap").string(),
              is_root ? "--mode=root" : "--mode=unshare",
              "--variant=minbase",
              "--dpkgopt=force-unsafe-io",
              "--format=tar",
              "--architectures=amd64",
              fmt::format("--include={}", fmt::join(debian_packages(), ",")),
              "--essential-hook=tar-in " + hook_quoted(early) + " /",
              "--customize-hook=tar-in " + hook_quoted(late) + " /",
              "--customize-hook=" + debian_customize_script()};
  if (const auto proxy = find_proxy(work); !proxy.empty())
    run.argv.push_back(fmt::format("--aptopt=Acquire::http::Proxy \"{}\"", proxy));
  run.argv.insert(run.argv.end(), {suite, tar.string(), fmt::format("deb {} {} main", mirrors.debian, suite),
                                   fmt::format("deb {} {}-updates main", mirrors.debian, suite),
                                   fmt::format("deb {} {}-security main", mirrors.security, suite)});
  // Not /tmp, which may be memory; as an ordinary user, a place that the user namespace may enter.
  run.environment = {"TMPDIR=" + (is_root ? work.folder.string() : std::string("/var/tmp"))};
  run.on_line = [&](std::string_view line) {
    const bool is_hook = line.find("hook") != std::string_view::npos;
    if (line.rfind("I: ", 0) == 0 && !is_hook) tell(work, fmt::format("building Debian: {}", line.substr(3)));
  };
  run_tool(work, run);
}

/// The newest of the files whose names begin so.
std::filesystem::path find_newest(Host& host, const std::filesystem::path& folder, const std::string& prefix) {
  std::string newest;
  for (const auto& name : host.list_folder(folder)) {
    if (name.rfind(prefix, 0) == 0) newest = name;
  }
  if (newest.empty())
    throw Error(Errc::other, fmt::format("the new system has no '{}*' in '{}'", prefix, folder.filename().string()));
  return folder / newest;
}

/// Refused before the minute of bootstrapping, not after it.
void require_tools(ImageWork& work) {
  const std::pair<const char*, const char*> tools[] = {
      {"mmdebstrap", "mmdebstrap"}, {"sfdisk", "fdisk"},     {"mkfs.fat", "dosfstools"}, {"mcopy", "mtools"},
      {"syslinux", "syslinux"},     {"mke2fs", "e2fsprogs"}, {"debugfs", "e2fsprogs"},   {"qemu-img", "qemu-utils"}};
  std::vector<std::string> programs, packages;
  for (const auto& [program, package] : tools) {
    if (!work.host.find_program(program).empty()) continue;
    programs.emplace_back(program);
    packages.emplace_back(package);
  }
  packages.erase(std::unique(packages.begin(), packages.end()), packages.end());
  if (!programs.empty()) {
    throw Error(Errc::host_unfit,
                fmt::format("a Debian image needs programs that are not installed: {}", fmt::join(programs, ", ")),
                fmt::format("install them: apt-get install {}", fmt::join(packages, " ")));
  }
  if (!work.host.find_program("dpkg").empty() && debian_architecture(work) != "amd64") {
    throw Error(Errc::host_unfit, "Debian images are built for amd64, and this host is not",
                "pull one from the catalogue instead");
  }
  if (const auto space = work.host.free_space(work.folder); space.available < kSpaceNeeded) {
    throw tool_error(fmt::format("build a Debian image, which needs {} ({} free)", format_size(kSpaceNeeded),
                                 format_size(space.available)),
                     "No space left on device", work.folder);
  }
}

}  // namespace

MadeImage build_debian(ImageWork& work, const std::string& suite) {
  require_tools(work);
  const auto tar = work.folder / "root.tar";
  bootstrap(work, suite, tar);

  tell(work, "building Debian: unpacking");
  const auto tree = std::filesystem::canonical(work.folder) / "tree";
  work.host.make_folder(tree, 0755);
  BootDisk disk;
  disk.owners = unpack_tar(tar, tree, work.interrupted);
  work.host.remove(tar);
  // Not a part of the guest: fetched with it so that its signatures are those of the same suite.
  const auto tools = work.folder / "boot-tools";
  work.host.rename(tree / "boot-tools", tools);
  disk.owners.erase(std::remove_if(disk.owners.begin(), disk.owners.end(),
                                   [](const OwnedFile& file) { return file.path.rfind("/boot-tools", 0) == 0; }),
                    disk.owners.end());

  MadeImage image;
  image.kernel = work.folder / "kernel";
  image.initrd = work.folder / "initrd";
  work.host.copy(find_newest(work.host, tree / "boot", "vmlinuz-"), image.kernel);
  work.host.copy(find_newest(work.host, tree / "boot", "initrd.img-"), image.initrd);

  disk.tree = tree;
  disk.root_size = kRootSize;
  disk.kernel = image.kernel;
  disk.initrd = image.initrd;
  disk.shim = tools / "usr/lib/shim/shimx64.efi.signed";
  disk.grub = tools / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";
  disk.gpt_boot_code = tools / "usr/lib/syslinux/mbr/gptmbr.bin";
  disk.command_line = kDebianCommandLine;
  tell(work, "building Debian: writing the disk");
  const auto raw = work.folder / "disk.raw";
  image.layer.virtual_size = write_boot_disk(work, disk, raw);
  work.host.remove(tree);
  work.host.remove(tools);
  image.disk = work.folder / "disk.qcow2";
  convert_to_qcow2(work, raw, "raw", image.disk, "writing the Debian image");
  work.host.remove(raw);

  image.layer.boot_direct = true;
  image.layer.cmdline = kDebianCommandLine;
  image.layer.boot_bios = true;
  image.layer.boot_uefi = true;
  image.layer.agent = true;
  image.layer.default_user = "root";
  image.sha256 = sha256_file(image.disk);
  image.origin = fmt::format("build debian ({})", suite);
  return image;
}

std::vector<std::string> recipes() {
  return {"micro", "debian-12"};
}

}  // namespace vmgraft

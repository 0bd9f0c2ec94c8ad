// SPDX-License-Identifier: Apache-2.0
#include "image/debian_guest.hpp"

#include <fmt/format.h>

#include "image/boot_disk.hpp"

namespace vmgraft {

namespace {

constexpr const char* kGrowRoot = R"sh(#!/bin/sh
# Grow the root partition and its file system into the disk, when the disk is bigger than when the image was made.
set -e
device=$(findmnt -n -o SOURCE /)
name=${device##*/}
facts=/sys/class/block/$name
[ -e "$facts/partition" ] || exit 0
folder=$(readlink -f "$facts")
disk=$(basename "$(dirname "$folder")")
free=$(($(cat "/sys/class/block/$disk/size") - $(cat "$facts/start") - $(cat "$facts/size")))
[ "$free" -gt 8192 ] || exit 0
number=$(cat "$facts/partition")
sfdisk -q --relocate gpt-bak-std "/dev/$disk"
echo ', +' | sfdisk -q --no-reread --no-tell-kernel --force -N "$number" "/dev/$disk"
partx --update --nr "$number" "/dev/$disk"
resize2fs "$device"
)sh";

constexpr const char* kGrowRootUnit = R"([Unit]
Description=Grow the root file system into its disk
DefaultDependencies=no
After=systemd-remount-fs.service systemd-udevd.service
Before=basic.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/vmgraft/grow-root

[Install]
WantedBy=basic.target
)";

constexpr const char* kHostKeysUnit = R"([Unit]
Description=Make the SSH host key of this machine
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
)";

constexpr const char* kUpdateBoot = R"sh(#!/bin/sh
# Copy the newest kernel and its initramfs to the partition that BIOS and UEFI boot from. Called by the hooks of kernel and initramfs
# packages. A VM that boots directly is given its kernel by the host instead.
set -e
device=/dev/disk/by-label/@LABEL@
[ -e "$device" ] || exit 0
kernel=$(ls -v /boot/vmlinuz-* 2> /dev/null | tail -n 1)
initrd=/boot/initrd.img-${kernel#/boot/vmlinuz-}
[ -n "$kernel" ] && [ -e "$initrd" ] || exit 0
folder=$(mktemp -d /run/vmgraft-boot.XXXXXX)
trap 'umount "$folder" 2> /dev/null || true; rmdir "$folder"' EXIT
mount -t vfat -o umask=0077 "$device" "$folder"
cp "$kernel" "$folder/vmlinuz.new"
cp "$initrd" "$folder/initrd.new"
sync -f "$folder"
mv "$folder/vmlinuz.new" "$folder/vmlinuz"
mv "$folder/initrd.new" "$folder/initrd.img"
)sh";

constexpr const char* kNetwork = R"([Match]
Name=en* eth*

[Network]
DHCP=yes

[DHCPv4]
ClientIdentifier=mac
)";

constexpr const char* kCustomize = R"sh(set -e
mkdir "$1/boot-tools"
cd "$1/boot-tools"
APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q download shim-signed grub-efi-amd64-signed syslinux-common
for package in *.deb; do dpkg-deb -x "$package" .; rm "$package"; done
cd /
chroot "$1" systemctl -q enable systemd-networkd.service systemd-resolved.service vmgraft-grow-root.service vmgraft-host-keys.service
chroot "$1" systemctl -q disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service
chroot "$1" systemctl -q mask systemd-networkd-wait-online.service
rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$1/var/lib/dbus/machine-id"
rm -f "$1"/var/log/*.log "$1"/var/log/apt/*.log "$1"/var/cache/ldconfig/aux-cache
chroot "$1" passwd -q -l root
)sh";

ArchiveFile text(const std::string& path, std::string content, unsigned mode = 0644) {
  return {ArchiveFile::Kind::file, path, mode, std::move(content), 0, 0};
}

ArchiveFile link(const std::string& path, std::string target) {
  return {ArchiveFile::Kind::link, path, 0777, std::move(target), 0, 0};
}

}  // namespace

std::vector<std::string> debian_packages() {
  // The generic kernel, not the cloud one: a GPU's driver needs DRM, a clone's random numbers need vmgenid, and the
  // cloud kernel has neither.
  return {"systemd",          "systemd-sysv", "systemd-resolved", "udev",     "dbus",  "openssh-server",
          "qemu-guest-agent", "sudo",         "ca-certificates",  "iproute2", "fdisk", "zstd",
          "initramfs-tools",  "e2fsprogs",    "linux-image-amd64"};
}

std::vector<ArchiveFile> debian_early_files() {
  // A list, not "most": a quarter of the size, and what is unpacked at every boot is what virtual disks need.
  return {text("etc/initramfs-tools/conf.d/vmgraft", "MODULES=list\n"),
          text("usr/share/initramfs-tools/modules.d/vmgraft",
               "virtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\nahci\nnvme\next4\n")};
}

std::vector<ArchiveFile> debian_late_files(const std::string& suite) {
  std::string update_boot = kUpdateBoot;
  const std::string mark = "@LABEL@";
  update_boot.replace(update_boot.find(mark), mark.size(), kBootLabel);
  // The mirror of the host that built it may be out of a guest's reach: it gets Debian's own.
  const auto sources = fmt::format(
      "deb http://deb.debian.org/debian {0} main\ndeb http://deb.debian.org/debian {0}-updates main\n"
      "deb http://deb.debian.org/debian-security {0}-security main\n",
      suite);
  return {text("etc/machine-id", ""),  // empty: systemd takes the VM's UUID at boot, and it is not a "first boot"
          text("etc/hostname", "debian\n"),
          text("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
          text("etc/fstab", "LABEL=root / ext4 noatime,noinit_itable,errors=remount-ro 0 0\n"),
          text("etc/apt/sources.list", sources),
          text("etc/systemd/network/80-dhcp.network", kNetwork),
          text("etc/systemd/system/vmgraft-grow-root.service", kGrowRootUnit),
          text("etc/systemd/system/vmgraft-host-keys.service", kHostKeysUnit),
          text("usr/lib/vmgraft/grow-root", kGrowRoot, 0755),
          text("usr/lib/vmgraft/update-boot", update_boot, 0755),
          link("etc/kernel/postinst.d/zz-vmgraft-boot", "/usr/lib/vmgraft/update-boot"),
          link("etc/kernel/postrm.d/zz-vmgraft-boot", "/usr/lib/vmgraft/update-boot"),
          link("etc/initramfs/post-update.d/zz-vmgraft-boot", "/usr/lib/vmgraft/update-boot"),
          link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")};
}

std::string debian_customize_script() {
  return kCustomize;
}

}  // namespace vmgraft

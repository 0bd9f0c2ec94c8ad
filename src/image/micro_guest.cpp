// SPDX-License-Identifier: Apache-2.0
#include "image/micro_guest.hpp"

#include <fmt/format.h>

namespace vmgraft {

namespace {

// The disk named "root" by its template has that as its serial; else the first virtio disk it is.
constexpr const char* kInitramfsTail = R"sh(
root=
tries=0
while [ -z "$root" ] && [ $tries -lt 200 ]; do
  for disk in /sys/block/vd*; do
    [ -e "$disk/size" ] || continue
    serial=
    read -r serial < "$disk/serial"
    [ -n "$root" ] || root=/dev/${disk##*/}
    [ "$serial" = root ] && root=/dev/${disk##*/} && break
  done
  [ -n "$root" ] || sleep 0.05
  tries=$((tries + 1))
done
if ! mount -t ext4 -o noatime,noinit_itable "${root:-/dev/vda}" /root; then
  echo "vmgraft micro: cannot mount the root disk '${root:-none found}'; a shell follows"
  exec sh
fi
mount --move /dev /root/dev
mount --move /proc /root/proc
mount --move /sys /root/sys
exec switch_root /root /sbin/init
)sh";

constexpr const char* kInittab = R"sh(::sysinit:/etc/init.d/boot
::respawn:/usr/sbin/qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 --retry-path -t /run
::once:/etc/init.d/late
::respawn:/bin/uevent /etc/init.d/on-uevent
ttyS0::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/etc/init.d/down
)sh";

// Only what the agent needs stands here; the rest is in `late`, beside it.
constexpr const char* kBoot = R"sh(#!/bin/sh
mkdir -p /dev/pts /dev/shm /dev/virtio-ports
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=755,nosuid,nodev run /run
mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm
mkdir -p -m 1777 /run/lock
ln -sf /proc/self/fd /dev/fd
read -r name < /etc/hostname
hostname "${name:-micro}"
for port in /sys/class/virtio-ports/*; do
  [ -e "$port/name" ] || continue
  read -r name < "$port/name"
  ln -sf "../${port##*/}" "/dev/virtio-ports/$name"
done
read -r uuid < /etc/machine-id
if [ -z "$uuid" ]; then
  # As systemd does in a VM: the machine-id follows the VM's UUID.
  { read -r uuid < /sys/class/dmi/id/product_uuid; } 2> /dev/null || read -r uuid < /proc/sys/kernel/random/uuid
  echo "$uuid" | tr -d - | tr A-F a-f > /etc/machine-id
fi
)sh";

constexpr const char* kLate = R"sh(#!/bin/sh
for module in /usr/lib/micro/*.ko; do
  insmod "$module"
done
ip link set lo up
for nic in /sys/class/net/*; do
  /etc/init.d/nic-up "${nic##*/}"
done
acpid
# Grow into a disk that is bigger than the file system was made for.
source=$(awk '$2 == "/" && $3 == "ext4" { print $1 }' /proc/mounts)
read -r now < "/sys/class/block/${source##*/}/size"
read -r before < /etc/root-sectors
if [ "$now" != "$before" ] && resize2fs "$source" > /run/resize.log 2>&1; then
  echo "$now" > /etc/root-sectors
fi
)sh";

constexpr const char* kNicUp = R"sh(#!/bin/sh
# DHCP on a network card, in the background for as long as the card is there. The folder is a lock: `late` and
# `on-uevent` may both have seen the same card.
[ "$1" = lo ] && exit 0
[ -e "/sys/class/net/$1/device" ] || exit 0
mkdir "/run/nic.$1" 2> /dev/null || exit 0
ip link set "$1" up
udhcpc -i "$1" -b -S -p "/run/udhcpc.$1.pid" -x "hostname:$(hostname)" > /dev/null 2>&1 &
)sh";

constexpr const char* kUdhcpc = R"sh(#!/bin/sh
# Called by udhcpc with the lease in the environment.
case "$1" in
  deconfig)
    ip addr flush dev "$interface" scope global
    ip link set "$interface" up
    ;;
  bound | renew)
    ip addr flush dev "$interface" scope global
    ip addr add "$ip/${mask:-24}" broadcast + dev "$interface"
    for gateway in $router; do
      ip route add default via "$gateway" dev "$interface" && break
    done
    if [ -n "$dns" ]; then
      [ -n "$domain" ] && echo "search $domain" > /etc/resolv.conf.new || : > /etc/resolv.conf.new
      for server in $dns; do echo "nameserver $server" >> /etc/resolv.conf.new; done
      mv /etc/resolv.conf.new /etc/resolv.conf
    fi
    ;;
esac
)sh";

constexpr const char* kOnUevent = R"sh(#!/bin/sh
# Called by uevent for each device that comes or goes; what is plugged in later works as what was there at boot.
case "$SUBSYSTEM/$ACTION" in
  net/add) /etc/init.d/nic-up "$INTERFACE" ;;
  net/remove)
    [ -e "/run/udhcpc.$INTERFACE.pid" ] && kill "$(cat "/run/udhcpc.$INTERFACE.pid")" 2> /dev/null
    rmdir "/run/nic.$INTERFACE" 2> /dev/null
    ;;
  virtio-ports/add)
    name=
    read -r name < "/sys$DEVPATH/name"
    [ -n "$name" ] && ln -sf "../${DEVPATH##*/}" "/dev/virtio-ports/$name"
    ;;
esac
exit 0
)sh";

constexpr const char* kShutdown = R"sh(#!/bin/sh
# shutdown [-h|-P|-H|-r] [TIME]; also as poweroff, reboot and halt. The time is always now.
verb=poweroff
case "${0##*/}" in reboot) verb=reboot ;; halt) verb=halt ;; esac
for argument in "$@"; do
  case "$argument" in
    -r | --reboot) verb=reboot ;;
    -H | --halt) verb=halt ;;
    -P | --poweroff) verb=poweroff ;;
    -f | --force) exec /bin/busybox "$verb" -f ;;
    -c) exit 0 ;;
  esac
done
echo "$verb" > /run/power
exec /bin/busybox "$verb"
)sh";

// init's own way down sleeps two seconds; this one waits for the processes and no longer. busybox's shell runs poweroff
// and reboot itself, past /sbin/shutdown, and then only init knows which it was.
constexpr const char* kDown = R"sh(#!/bin/sh
verb=
[ -e /run/power ] && read -r verb < /run/power
kill -TERM -1
kill -HUP -1  # an interactive shell ignores TERM
tries=0
while [ $tries -lt 40 ]; do
  alive=0
  for process in /proc/[0-9]*; do
    [ -e "$process/exe" ] && alive=$((alive + 1))
  done
  [ $alive -le 2 ] && break
  sleep 0.05
  tries=$((tries + 1))
done
kill -KILL -1
sync
umount -a -r -t ext4,xfs,btrfs,vfat 2> /dev/null
mount -o remount,ro /
[ -z "$verb" ] || /bin/busybox "$verb" -f
)sh";

constexpr const char* kUseradd = R"sh(#!/bin/sh
# useradd [-m] [-s SHELL] [-d HOME] [-u UID] [-c TEXT] [-G GROUPS] NAME, and adduser -D NAME: what guests' scripts use.
home= shell=/bin/sh uid= text= groups=
while [ $# -gt 1 ]; do
  case "$1" in
    -s | --shell) shell=$2; shift ;;
    -d | -h | --home-dir | --home) home=$2; shift ;;
    -u | --uid) uid=$2; shift ;;
    -c | -g | --comment | --gecos) text=$2; shift ;;
    -G | --groups) groups=$2; shift ;;
  esac
  shift
done
name=$1
case "$name" in
  "" | -* | *[!a-z0-9_-]*) echo "useradd: '$name' is not a user name" >&2; exit 3 ;;
esac
if grep -q "^$name:" /etc/passwd; then echo "useradd: user '$name' already exists" >&2; exit 9; fi
if [ -z "$uid" ]; then
  uid=1000
  while cut -d: -f3 /etc/passwd | grep -qx "$uid"; do uid=$((uid + 1)); done
fi
home=${home:-/home/$name}
grep -q "^$name:" /etc/group || echo "$name:x:$uid:" >> /etc/group
echo "$name:x:$uid:$uid:$text:$home:$shell" >> /etc/passwd
echo "$name:*:19700:0:99999:7:::" >> /etc/shadow
for group in $(echo "$groups" | tr , ' '); do
  sed -i -e "/^$group:.*:\$/s/\$/$name/;t" -e "/^$group:/s/\$/,$name/" /etc/group
done
mkdir -p "$home" && chown "$uid:$uid" "$home" && chmod 755 "$home"
)sh";

constexpr const char* kProfile = R"sh(export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PS1='\u@\h:\w\$ '
)sh";

}  // namespace

std::string micro_initramfs_script(const std::vector<std::string>& modules) {
  std::string script = "#!/bin/sh\nmount -t devtmpfs dev /dev\nmount -t proc proc /proc\nmount -t sysfs sys /sys\n";
  for (const auto& module : modules) script += fmt::format("insmod /modules/{}\n", module);
  return script + kInitramfsTail;
}

void add_micro_files(GuestTree& tree, std::uint64_t disk_size) {
  for (const auto* folder :
       {"/dev", "/proc", "/sys", "/run", "/mnt", "/home", "/var/log", "/usr/local/bin", "/usr/local/sbin"}) {
    tree.add_folder(folder);
  }
  tree.add_folder("/root", 0700);
  tree.add_folder("/tmp", 01777);
  tree.add_folder("/var/tmp", 01777);
  tree.add_link("/var/run", "/run");
  tree.add_text("/etc/inittab", kInittab);
  for (const auto& [name, text] :
       {std::pair{"boot", kBoot}, {"late", kLate}, {"nic-up", kNicUp}, {"on-uevent", kOnUevent}, {"down", kDown}}) {
    tree.add_text(std::string("/etc/init.d/") + name, text, 0755);
  }
  // busybox udhcpc and acpid have these paths built in.
  tree.add_text("/etc/udhcpc/default.script", kUdhcpc, 0755);
  tree.add_text("/etc/acpi/PWRF/00000080", "#!/bin/sh\nexec /sbin/poweroff\n", 0755);
  tree.add_text("/sbin/shutdown", kShutdown, 0755);
  for (const auto* name : {"poweroff", "reboot", "halt"}) tree.add_link(std::string("/sbin/") + name, "shutdown");
  tree.add_text("/usr/sbin/useradd", kUseradd, 0755);
  tree.add_link("/usr/sbin/adduser", "useradd");
  tree.add_text("/etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
  tree.add_text("/etc/group", "root:x:0:\ntty:x:5:\nsudo:x:27:\nusers:x:100:\nnogroup:x:65534:\n");
  tree.add_text("/etc/shadow", "root:*:19700:0:99999:7:::\nnobody:*:19700:0:99999:7:::\n", 0600);
  tree.add_text("/etc/shells", "/bin/sh\n/bin/ash\n");
  tree.add_text("/etc/profile", kProfile);
  tree.add_text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n");
  tree.add_text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
  tree.add_text("/etc/hostname", "micro\n");
  tree.add_text("/etc/machine-id", "");
  tree.add_text("/etc/resolv.conf", "");
  tree.add_link("/etc/mtab", "/proc/self/mounts");
  tree.add_text("/etc/root-sectors", fmt::format("{}\n", disk_size / 512));
  tree.add_text("/etc/os-release",
                "ID=vmgraft-micro\nNAME=\"vmgraft micro\"\nPRETTY_NAME=\"vmgraft micro (busybox)\"\nVERSION_ID=1\n");
}

}  // namespace vmgraft

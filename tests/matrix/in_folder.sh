#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/matrix/in_folder.sh SUITE FOLDER COMMAND...: run COMMAND, as root, in another release of Debian: a folder that
# mmdebstrap fills with what tests/packages names (kept, until that list changes). The repository stands there at its own
# path; mounts, network, processes and /dev are the folder's own, so that its libvirtd meets nothing of the host's, and
# all that runs in it ends with COMMAND.
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
suite=$1 folder=$2
shift 2

# A kernel for guests comes along, for there is no network inside to get one from.
packages=$(sed -n 's/^\(build\|run\|test\) //p' "$repository/tests/packages" | xargs)
packages="${packages// /,},linux-image-cloud-amd64,iproute2"
if [ "$(cat "$folder/packages" 2>/dev/null)" != "$suite $packages" ]; then
  rm -rf "$folder"
  mkdir -p "$folder"
  mmdebstrap --variant=minbase --include="$packages" --aptopt='APT::Install-Recommends "false"' "$suite" "$folder/root" >"$folder/log" 2>&1 ||
    { tail -20 "$folder/log" >&2; exit 1; }
  # There are no cgroups of its own, and no AppArmor.
  printf '%s\n' 'namespaces = []' 'cgroup_controllers = []' 'security_driver = "none"' >>"$folder/root/etc/libvirt/qemu.conf"
  echo "$suite $packages" >"$folder/packages"
fi

enter() {
  local root=$1 repository=$2 node
  shift 2
  mount --make-rprivate /
  mkdir -p "$root$repository"
  mount --rbind "$repository" "$root$repository"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount -t tmpfs tmpfs "$root/run"
  mkdir -m 1777 "$root/run/lock"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 net/tun:10:200; do
    IFS=: read -r name major minor <<<"$node"
    mkdir -p "$(dirname "$root/dev/$name")"
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
  done
  mkdir -m 1777 "$root/dev/shm"
  mkdir "$root/dev/pts"
  mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  ip link set lo up
  exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
}
export -f enter
exec unshare --mount --net --pid --fork --kill-child bash -euc 'enter "$@"' - "$folder/root" "$repository" "$@"

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# lab.sh SHARE COMMAND...: run a command as root inside a virtual GPU server; what it prints is printed, and its exit
# code is this one's.
#
# The server is a VM under QEMU's software emulation: a real IOMMU driver, two NUMA nodes and PCI functions worth
# passing through. No KVM, no VFIO and no GPU on the host are needed. Its root is a throw-away overlay of the host's own
# root, so the host's libvirtd, QEMU and what was built here are in it under the same paths. The folder SHARE is the
# one thing that it writes through to; output and console.log are there afterwards.
#
# | function            | class                    | NUMA | host driver              | IOMMU group                     |
# |---------------------|--------------------------|------|--------------------------|---------------------------------|
# | 0000:00:05.0        | 0300 VGA, boot_vga       | none | bochs-drm                | its own                         |
# | 0000:41:00.0, .1    | 0380 display, 0403 audio | 0    | bochs-drm, snd_hda_intel | one for both                    |
# | 0000:42:00.0        | 0108 nvme, SR-IOV        | 0    | nvme                     | its own; resets by FLR          |
# | 0000:81:00.0        | 0380 display             | 1    | bochs-drm                | its own                         |
# | 0000:83:01.0, :02.0 | 0380 display, 0200 NIC   | 1    | bochs-drm, e1000         | one for both, behind one bridge |
#
# VMGRAFT_LAB_CPUS: 2, one on each node (the default), or 1: the far node then has memory and devices only.
# VMGRAFT_LAB_CACHE: where the kernel and the initramfs are kept. VMGRAFT_LAB_TIMEOUT: seconds until a hang is cut.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { echo "usage: lab.sh SHARE COMMAND..." >&2; exit 2; }
share=$(realpath "$1")
shift
cache=${VMGRAFT_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmgraft-lab} limit=${VMGRAFT_LAB_TIMEOUT:-2400}
mkdir -p "$cache"

# The generic kernel: Debian's cloud kernel has neither bochs nor snd-hda-intel.
fetch_kernel() {
  local package part=$cache/kernel.part
  package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: //p' | head -1)
  [ -n "$package" ] || { echo "lab.sh: apt knows no linux-image-amd64" >&2; return 1; }
  rm -rf "$part" && mkdir "$part"
  (cd "$part" && apt-get -qq download "$package" && dpkg-deb -x ./*.deb . && rm ./*.deb) 2>"$cache/apt.log" ||
    { cat "$cache/apt.log" >&2; return 1; }
  depmod -b "$part" "$(ls "$part/lib/modules")"
  mv "$part" "$cache/kernel"
}

make_initramfs() {
  local tree=$cache/initramfs.part module file name
  rm -rf "$tree"
  mkdir -p "$tree"/{bin,proc,sys,dev,modules,mnt/{host,share,writes,root}}
  cp "$(command -v busybox)" "$tree/bin/busybox"
  ln -s busybox "$tree/bin/sh"
  install -m 755 "$here/init" "$tree/init"
  for module in virtio_pci 9pnet_virtio 9p overlay; do
    for file in $(modprobe -d "$cache/kernel" -S "$release" --show-depends "$module" | sed -n 's/^insmod //p'); do
      name=$(basename "$file" .xz)
      [ -e "$tree/modules/$name" ] && continue
      case $file in *.xz) xz -dc "$file" >"$tree/modules/$name" ;; *) cp "$file" "$tree/modules/$name" ;; esac
      echo "$name" >>"$tree/modules/order"
    done
  done
  (cd "$tree" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$cache/initramfs.new"
  mv "$cache/initramfs.new" "$cache/initramfs.gz"
  rm -rf "$tree"
}

exec 9>"$cache/lock"  # two servers may be wanted at once
flock 9
[ -d "$cache/kernel" ] || fetch_kernel
release=$(ls "$cache/kernel/lib/modules")
make_initramfs
flock -u 9

quoted() {
  local word
  for word in "$@"; do printf "'%s' " "${word//\'/\'\\\'\'}"; done
}
printf 'lab_share=%s\nlab_modules=%s\nset -- %s\n' "$(quoted "$share")" \
  "$(quoted "$(realpath "$cache")/kernel/lib/modules")" "$(quoted "$@")" >"$share/start"

nvme=nvme,serial=LAB,subsys=subsystem,bus=port4,max_ioqpairs=8,msix_qsize=9
nvme+=,sriov_max_vfs=2,sriov_vi_flexible=2,sriov_vq_flexible=4
# shellcheck disable=SC2054 # the commas are QEMU's
case ${VMGRAFT_LAB_CPUS:-2} in
  1) cpus=(-smp 1 -numa node,nodeid=0,cpus=0,memdev=m0 -numa node,nodeid=1,memdev=m1) ;;
  2) cpus=(-smp 2 -numa node,nodeid=0,cpus=0,memdev=m0 -numa node,nodeid=1,cpus=1,memdev=m1) ;;
  *) echo "lab.sh: VMGRAFT_LAB_CPUS is 1 or 2" >&2; exit 2 ;;
esac
# shellcheck disable=SC2054 # as above
machine=(
  -nodefaults -no-user-config -display none -no-reboot -serial "file:$share/console.log"
  # Both processors on one thread: two servers on a host of two cores would wait for each other's, in spin locks and for
  # interrupts between processors (six times as long as so). Five-level page tables are only slow here.
  -M q35 -accel tcg,thread=single,tb-size=1024 -cpu max,la57=off -m 4G
  -object memory-backend-ram,id=m0,size=2G -object memory-backend-ram,id=m1,size=2G
  "${cpus[@]}"
  # vfio works behind an emulated IOMMU only when that is told of every mapping.
  -device intel-iommu,intremap=on,caching-mode=on
  -kernel "$cache/kernel/boot/vmlinuz-$release" -initrd "$cache/initramfs.gz"
  -append "console=ttyS0 quiet panic=-1 intel_iommu=on iommu=pt mitigations=off cryptomgr.notests no_timer_check"
  -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap
  -device virtio-9p-pci,fsdev=host,mount_tag=host,addr=0x2
  -fsdev "local,id=share,path=${share//,/,,},security_model=none"
  -device virtio-9p-pci,fsdev=share,mount_tag=share,addr=0x3
  -device VGA,addr=0x5
  -device pxb-pcie,id=node0,bus_nr=64,numa_node=0,bus=pcie.0,addr=0x8
  -device pxb-pcie,id=node1,bus_nr=128,numa_node=1,bus=pcie.0,addr=0x9
  -device pcie-root-port,id=port1,chassis=1,slot=1,bus=node0
  -device pcie-root-port,id=port2,chassis=2,slot=2,bus=node1
  -device pcie-root-port,id=port3,chassis=3,slot=3,bus=node1
  -device pcie-root-port,id=port4,chassis=4,slot=4,bus=node0
  -device bochs-display,bus=port1,addr=0.0,multifunction=on -device ich9-intel-hda,bus=port1,addr=0.1
  -device bochs-display,bus=port2
  -device pcie-pci-bridge,id=bridge,bus=port3 -device secondary-vga,bus=bridge,addr=1 -device e1000,bus=bridge,addr=2
  -drive if=none,id=disk,file=null-co://,format=raw -device nvme-subsys,id=subsystem,nqn=lab
  -device "$nvme"
  -device nvme-ns,drive=disk
)
boot() {
  rm -f "$share/exit"
  : >"$share/output"
  code=0
  # In the foreground: a group of its own would outlive whoever ends this one.
  timeout --foreground "$limit" qemu-system-x86_64 "${machine[@]}" </dev/null 2>"$share/qemu.log" || code=$?
  cat "$share/output"
}
boot
# The emulation is not perfect: "corrupted stack end detected inside scheduler" was seen once in some hours, and so was a
# segmentation fault of QEMU 7.2 itself.
if [ ! -s "$share/exit" ]; then
  again=$(grep -m 1 -o 'Kernel panic.*' "$share/console.log") || true
  case $code in 134 | 139) again="QEMU itself crashed, code $code" ;; esac
  if [ -n "$again" ]; then
    echo "lab.sh: the server died, not what runs in it ($again): once more from the start"
    boot
  fi
fi
if [ -s "$share/exit" ]; then exit "$(cat "$share/exit")"; fi
if [ "$code" = 124 ]; then why="did not end within $limit s and was cut off"; else why="died (QEMU's code: $code)"; fi
{
  echo "lab.sh: the virtual GPU server $why; its console ends with:"
  tail -25 "$share/console.log" | tr -d '\r'
  cat "$share/qemu.log"
} >&2
exit 1

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# record.sh > NAME.host: what vmgraft reads of this host's GPUs, as text; run it as root. It writes nothing to the host.
# Format: see tests/support/recorded_host.hpp. Of `resource` only the BARs are kept, of config space the header.
# Look through it before you publish it: it names disks, NICs and mounts.
set -u
shopt -s nullglob

file() {  # PATH [NAME]: a line for each line of the file
  if [ -r "$1" ]; then cat "$1" 2>/dev/null | sed "s|^|${2:-$1} = |"; fi
}
link() { if [ -L "$1" ]; then echo "${2:-$1} -> $(readlink "$1")"; fi; }
folder() { if [ -d "$1" ]; then echo "${2:-$1}/"; fi; }
some() { grep -E "$2" "$1" 2>/dev/null | sed "s|^|$1 = |"; }  # PATH PATTERN: the lines that match

echo "# Recorded by record.sh."
sed 's/ *lab\.run=[^ ]*//; s|^|/proc/cmdline = |' /proc/cmdline
file /proc/sys/kernel/osrelease
some /proc/self/status '^Uid:'
awk '/^$/{exit} /^(processor|vendor_id|model name|address sizes)/{print "/proc/cpuinfo = " $0}' /proc/cpuinfo
some /proc/meminfo '^(MemTotal|MemFree|MemAvailable):'
some /proc/iomem 'BOOTFB|efifb|simplefb|simple-framebuffer|simpledrm|vesafb'
some /proc/mounts '^/dev/'
file /proc/swaps
file /proc/net/route
file /proc/net/ipv6_route
file /sys/kernel/security/lockdown
for f in /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts \
  /sys/module/vfio/parameters/enable_unsafe_noiommu_mode /sys/devices/virtual/iommu/*/*/cap; do file "$f"; done
folder /sys/bus/pci/drivers/vfio-pci

echo; echo "# NUMA nodes and CPUs"
file /sys/devices/system/cpu/online
for c in /sys/devices/system/cpu/cpu[0-9]*; do file "$c/topology/thread_siblings_list"; done
for n in /sys/devices/system/node/node[0-9]*; do
  file "$n/cpulist"
  some "$n/meminfo" '(MemTotal|MemFree|Active\(file\)|Inactive\(file\)):'
  for h in "$n"/hugepages/*/{nr_hugepages,free_hugepages}; do file "$h"; done
done

echo; echo "# Block devices and NICs"
for b in /sys/class/block/*; do
  link "$b"
  for s in "$b"/slaves/*; do echo "$(readlink -f "$b")/slaves/${s##*/} -> $(readlink "$s")"; done
done
for c in /sys/devices/virtual/nvme-subsystem/*/nvme*; do link "$c"; done
for n in /sys/class/net/*; do
  link "$n"
  for l in "$n"/lower_*; do echo "$(readlink -f "$n")/${l##*/} -> $(readlink "$l")"; done
done

echo; echo "# IOMMU groups"
for g in /sys/kernel/iommu_groups/*; do
  echo "[$g]"
  file "$g/type" type; file "$g/reserved_regions" reserved_regions
  for d in "$g"/devices/*; do link "$d" "devices/${d##*/}"; done
done

echo; echo "# PCI functions"
for d in /sys/bus/pci/devices/*; do
  at=$(readlink -f "$d")
  link "$d"
  echo "[$at]"
  for a in class vendor device subsystem_vendor subsystem_device; do file "$d/$a" $a; done
  for a in driver iommu_group physfn "$d"/virtfn*; do link "$d/${a##*/}" "${a##*/}"; done
  file "$d/resource" resource | head -n 6
  for a in driver_override numa_node boot_vga reset_method current_link_speed max_link_speed current_link_width \
    max_link_width sriov_totalvfs sriov_numvfs power_state; do file "$d/$a" $a; done
  echo "config :hex $(od -An -v -tx1 -N64 "$d/config" | tr -d '\n' | sed 's/^ *//')"
  for t in "$d"/mdev_supported_types/*; do
    for a in name available_instances; do file "$t/$a" "mdev_supported_types/${t##*/}/$a"; done
  done
  for c in "$d"/drm/*; do
    folder "$c" "drm/${c##*/}"
    for k in "$c/${c##*/}"-*; do for a in status enabled; do file "$k/$a" "drm/${c##*/}/${k##*/}/$a"; done; done
  done
  for c in "$d"/{sound/card*/{controlC,pcm,hw,midi}*,graphics/fb*,accel/accel*,nvme/nvme*{,/nvme*n*},vfio-dev/vfio*}; do
    folder "$c" "${c#"$d"/}"
  done
done
for i in /proc/driver/nvidia/gpus/*/information; do some "$i" '^Device Minor:'; done

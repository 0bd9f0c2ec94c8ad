#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# inside.sh COMMAND...: make the virtual GPU server what a GPU host is (drivers, libvirt), then run the command in it.
# VMGRAFT_TEST_STORE: a store of the host's; the command finds a copy in memory under the same path.
set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8

# udev would do this. kvm_amd: this emulation has SVM, and a system boots five times quicker under an emulated KVM than under
# an emulated emulator.
modprobe -a bochs snd-hda-intel nvme e1000
modprobe kvm_amd || true

# Without udev, systemd and control groups; a second QEMU would only be probed. The filter: libvirt asks for a processor's
# features in two words, not one by one, which are some 400 questions at each start, a sixth of its time in here.
cat >/etc/libvirt/qemu.conf <<'END'
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
capability_filters = [ "cpu-unavailable-features" ]
END
[ -s /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef >/etc/machine-id
rm -f /usr/bin/qemu-system-i386

# What kills guests here: QEMU's emulation of SVM (7.2) keeps the vector of an interrupt that KVM injects at VMRUN. When
# something stops the processor's loop before the guest's next exit or exception, the interrupt is delivered once more: inside
# its handler, with interrupts off, where the guest waits for its own lock for ever or panics. A second processor on the same
# thread stops it ten times a second and with each interrupt of its own, so guests that are to live are started where there is
# one (VMGRAFT_LAB_CPUS). Without KVM's paravirtual end of interrupt each handler exits early, so it happens less.
qemu=/usr/bin/qemu-system-x86_64
mv "$qemu" "$qemu.real"
printf '#!/bin/sh\nexec %s.real "$@" -global host-x86_64-cpu.kvm-pv-eoi=off\n' "$qemu" >"$qemu"
chmod 755 "$qemu"

store=$VMGRAFT_TEST_STORE
mkdir /dev/shm/store
cp -a "$store/." /dev/shm/store
mount --bind /dev/shm/store "$store"

virtlogd -d
libvirtd -d
virsh -q -c qemu:///system version >/dev/null
echo "libvirt answers $(cut -d' ' -f1 /proc/uptime) s after the power was switched on"

code=0
"$@" || code=$?
if [ "$code" != 0 ]; then
  echo "the server's kernel log ends with:"
  dmesg | tail -40
fi
exit "$code"

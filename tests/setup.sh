# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/run and examples/quickstart: packages, build, libvirt. What it starts, stop_libvirt stops.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# install_packages KIND...: what is missing of tests/packages, with apt.
install_packages() {
  local kind name missing=()
  for kind in "$@"; do
    for name in $(sed -n "s/^$kind //p" "$repository/tests/packages"); do
      dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "these packages are missing, and there is no apt-get to install them: ${missing[*]}"
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "these packages are missing; install them as root: ${missing[*]}"
  say "installing ${missing[*]}"
  as_root apt-get -qq update >&2 || say "apt-get update failed; going on with the lists that are there"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >"$build/packages.log" 2>&1 ||
    { tail -20 "$build/packages.log" >&2; die "the packages could not be installed"; }
}

# build_vmgraft OPTION...: configure once, build what changed of ${targets[@]} (all).
build_vmgraft() {
  # What was generated before a branch or option changed may not fit: configuring again is cheap.
  cmake -S "$repository" -B "$build" -G Ninja "$@" >"$build/configure.log" 2>&1 ||
    { tail -30 "$build/configure.log" >&2; die "cmake failed"; }
  # Compilers give way to the guests of other levels.
  nice cmake --build "$build" ${targets:+--target "${targets[@]}"} >"$build/build.log" 2>&1 || { grep -E 'error|FAILED' -A5 "$build/build.log" | head -60 >&2; die "the build failed"; }
}

libvirt_pids=()
kvm_before=
# start_libvirt: a system libvirtd is reachable afterwards; as root it is started where none runs.
start_libvirt() {
  if [ -e /dev/kvm ] && [ "$(id -u)" = 0 ] && [ -z "$kvm_before" ] && getent group kvm >/dev/null &&
    [ "$(stat -c '%G %a' /dev/kvm)" != 'kvm 660' ]; then
    # udev does this on a normal host; without it libvirt probes QEMU again at every call.
    kvm_before=$(stat -c '%g %a' /dev/kvm)
    chgrp kvm /dev/kvm && chmod 660 /dev/kvm
  fi
  virsh -c qemu:///system version >/dev/null 2>&1 && return 0
  [ "$(id -u)" = 0 ] || return 1
  local daemon pid
  for daemon in virtlogd libvirtd; do
    [ -e "/run/$daemon.pid" ] && kill -0 "$(cat "/run/$daemon.pid")" 2>/dev/null && continue
    command -v "$daemon" >/dev/null || return 1
    "$daemon" -d || return 1
    pid=$(cat "/run/$daemon.pid") && libvirt_pids+=("$pid")
  done
  local tries
  for tries in $(seq 100); do
    virsh -c qemu:///system version >/dev/null 2>&1 && return 0
    read -rt 0.1 <> <(:) || true
  done
  return 1
}

# What start_libvirt did, taken back.
stop_libvirt() {
  local pid
  for pid in "${libvirt_pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  libvirt_pids=()
  [ -z "$kvm_before" ] || { chgrp "${kvm_before% *}" /dev/kvm && chmod "${kvm_before#* }" /dev/kvm; }
  kvm_before=
}

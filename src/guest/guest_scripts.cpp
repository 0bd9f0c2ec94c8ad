// SPDX-License-Identifier: Apache-2.0
#include "guest/guest_scripts.hpp"

namespace vmgraft {

// /etc/hosts is written in place: it may be a mount point. Without its own name there, sudo and many servers wait for
// DNS.
const char* const kHostnameScript = R"sh(
set -e
printf '%s\n' "$1" >/etc/hostname
hostname "$1" 2>/dev/null || printf '%s\n' "$1" >/proc/sys/kernel/hostname
[ -e /etc/hosts ] || printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts
kept=$(grep -v '^127\.0\.1\.1[[:space:]]' /etc/hosts || :)
names=$1
[ "${1%%.*}" = "$1" ] || names="$1 ${1%%.*}"
printf '%s\n127.0.1.1 %s\n' "$kept" "$names" >/etc/hosts
)sh";

// Third way for a busybox without adduser (Debian's): the lines are written by hand. The password is '*', not '!': an
// sshd without PAM refuses keys too for an account that is locked.
const char* const kUserScript = R"sh(
set -e
u=$1
if ! id -u "$u" >/dev/null 2>&1; then
  shell=/bin/sh
  [ ! -x /bin/bash ] || shell=/bin/bash
  if command -v useradd >/dev/null; then
    group=-U
    ! grep -q "^$u:" /etc/group || group="-g $u"
    useradd -m $group -s "$shell" -p '*' "$u"
  elif command -v adduser >/dev/null; then
    adduser -D -s "$shell" "$u"
    echo "$u:*" | chpasswd -e 2>/dev/null || :
  else
    n=1000
    while grep -q "^[^:]*:[^:]*:$n:" /etc/passwd /etc/group 2>/dev/null; do n=$((n + 1)); done
    echo "$u:x:$n:" >>/etc/group
    [ ! -e /etc/shadow ] || echo "$u:*:19000:0:99999:7:::" >>/etc/shadow
    echo "$u:x:$n:$n::/home/$u:$shell" >>/etc/passwd
    mkdir -p "/home/$u"
    chown "$n:$n" "/home/$u"
  fi
fi
if [ "$u" != root ] && command -v sudo >/dev/null && [ -d /etc/sudoers.d ]; then
  umask 0337
  printf '%s ALL=(ALL:ALL) NOPASSWD: ALL\n' "$u" >/etc/sudoers.d/90-vmgraft.new
  mv -f /etc/sudoers.d/90-vmgraft.new /etc/sudoers.d/90-vmgraft
fi
)sh";

const char* const kKeysScript = R"sh(
set -e
u=$1
shift
h= g=
while IFS=: read -r name x uid gid gecos home rest; do
  [ "$name" != "$u" ] || { h=$home g=$gid; }
done </etc/passwd
[ -n "$h" ] || { echo "user $u has no home folder" >&2; exit 1; }
umask 077
mkdir -p "$h/.ssh"
f=$h/.ssh/authorized_keys
[ -e "$f" ] || : >"$f"
for key in "$@"; do
  grep -qxF -e "$key" "$f" || printf '%s\n' "$key" >>"$f"
done
chmod 700 "$h/.ssh"
chmod 600 "$f"
chown "$u:$g" "$h/.ssh" "$f"
! command -v restorecon >/dev/null || restorecon -R "$h/.ssh" || :
)sh";

// An sshd that has not started yet reads the new key by itself; one that is starting may have read the old one.
const char* const kReloadSshScript = R"sh(
if [ -d /run/systemd/system ]; then
  for unit in ssh.service sshd.service; do
    case $(systemctl is-active "$unit" 2>/dev/null) in
      active|activating|reloading) systemctl restart "$unit" || exit 1; break ;;
    esac
  done
else
  for f in /run/sshd.pid /var/run/sshd.pid; do
    if read -r p <"$f"; then kill -HUP "$p"; break; fi
  done 2>/dev/null
fi
exit 0
)sh";

const char* const kFolderScript = R"sh(mkdir -p "$1")sh";

const char* const kMachineIdScript = R"sh(
set -e
umask 0222
put() { rm -f "$1.vmgraft"; printf '%s\n' "$2" >"$1.vmgraft"; mv -f "$1.vmgraft" "$1"; }
if [ -e /etc/machine-id ] || [ -d /run/systemd/system ]; then put /etc/machine-id "$1"; fi
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then put /var/lib/dbus/machine-id "$1"; fi
)sh";

// What is written to /dev/urandom is mixed in, but not counted, and shows in new numbers only after the kernel's next
// reseeding. The two ioctls (RNDADDENTROPY, RNDRESEEDCRNG) do it at once; a shell has none, perl or python has.
const char* const kEntropyScript = R"sh(
umask 077
f=$(mktemp) || exit 1
cat >"$f"
cat "$f" >/dev/urandom
if command -v perl >/dev/null; then
  perl -e 'open(S,"<",$ARGV[0]) or exit 1; binmode S; read(S,$b,512); open(R,"+<","/dev/urandom") or exit 1;
    $a=pack("ii",8*length($b),length($b)).$b; ioctl(R,0x40085203,$a); ioctl(R,0x5207,0)' "$f"
elif command -v python3 >/dev/null; then
  python3 -c 'import fcntl,struct,sys
b=open(sys.argv[1],"rb").read(512)
with open("/dev/urandom","wb") as r:
    fcntl.ioctl(r,0x40085203,struct.pack("ii",8*len(b),len(b))+b); fcntl.ioctl(r,0x5207,0)' "$f"
fi
for seed in /var/lib/systemd/random-seed /var/lib/urandom/random-seed /var/lib/seedrng/seed.credit; do
  [ ! -e "$seed" ] || head -c 512 /dev/urandom >"$seed"
done
rm -f "$f"
exit 0
)sh";

const char* const kDhcpScript = R"sh(
exec 2>/dev/null
if [ -d /run/systemd/system ]; then
  ! systemctl -q is-active systemd-networkd || systemctl restart systemd-networkd
  if systemctl -q is-active NetworkManager; then
    nmcli -g DEVICE device status | while read -r d; do [ "$d" = lo ] || nmcli device reapply "$d"; done
  fi
fi
for f in /proc/[0-9]*/cmdline; do
  p=${f#/proc/} p=${p%/cmdline}
  set -- $(tr '\0' ' ' <"$f")
  case $1 in
    udhcpc|*/udhcpc) kill -USR2 "$p"; kill -USR1 "$p" ;;
    busybox|*/busybox) [ "$2" != udhcpc ] || { kill -USR2 "$p"; kill -USR1 "$p"; } ;;
    dhclient|*/dhclient) kill "$p"; "$@" </dev/null >/dev/null & ;;
  esac
done
exit 0
)sh";

}  // namespace vmgraft

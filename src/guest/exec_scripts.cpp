// SPDX-License-Identifier: Apache-2.0
#include "guest/exec_scripts.hpp"

// For dash, bash and busybox ash. Nothing of a request is ever part of a script: all comes as positional arguments.

namespace vmgraft {

const char* const kMakeFolderScript = R"sh(
umask 077
for d in /var/tmp /tmp /run; do
  mkdir "$d/vmgraft-$1$2" 2>/dev/null && { printf %s "$d/vmgraft-$1$2"; exit 0; }
done
exit 3
)sh";

// The command writes into two pipes, not into the files: a script's `echo x >/dev/stderr` opens its stderr anew, and
// would cut a file to nothing. What follows the command's exit in the same pipe, the mark, says that all before it has
// arrived, even while a daemon that the command left behind still holds the pipe.
// The shell's own words ("Killed") go nowhere: they are not the command's.
// A full disk ends the `cat`, so the mark is missing then; SIGPIPE must not end the script too.
// A program started costs milliseconds in an emulated guest, so builtins are used wherever they serve.
const char* const kRunScript = R"sh(
A=$1 B=$2 U=$3 D=$4 M=$5
shift 5
umask 077
exec 5>&2 2>/dev/null
if [ -n "$D" ]; then
  exec <"$D/i"
else
  for d in /var/tmp /tmp /run; do
    mkdir "$d/vmgraft-$A$B" && D=$d/vmgraft-$A$B && break
  done
fi
[ -n "$D" ] || exit 3
find_user() {
  while IFS=: read -r n x u g c h s; do
    if [ "$n" = "$U" ] || [ "$u" = "$U" ]; then U=$n G=$g H=$h S=${s:-/bin/sh}; return 0; fi
  done
  return 1
}
has_command() {
  case $1 in
    */*) [ -e "$1" ]; return ;;
  esac
  IFS=:
  for d in $PATH; do
    [ -f "$d/$1" ] && [ -x "$d/$1" ] && { unset IFS; return 0; }
  done
  unset IFS
  return 1
}
start() {
  umask 022
  X=
  command -v setsid >/dev/null 2>&1 && X=setsid
  [ -n "$U" ] || exec $X "$@"
  export HOME="$H" SHELL="$S" USER="$U" LOGNAME="$U"
  if setpriv --reuid="$U" --regid="$G" --init-groups true 2>/dev/null; then
    exec $X setpriv --reuid="$U" --regid="$G" --init-groups -- "$@"
  fi
  exec $X su -s /bin/sh -c 'exec "$@"' -- "$U" sh "$@"
}
run() {
  exec 6>&2 2>/dev/null
  H=/root S=/bin/sh G= R=
  if [ -n "$U" ] && ! find_user </etc/passwd; then
    l=$(getent passwd "$U") && find_user <<E || R=nouser
$l
E
  fi
  cd "$H" || cd /
  [ -n "$R" ] || has_command "$1" || R=nocommand
  if [ -z "$R" ]; then
    (start "$@") 2>&6 6>&-
    R=$?
  fi
  trap '' PIPE
  printf '%s%s %s\n' "$B" "$A" "$R"
  printf '%s%s %s\n' "$B" "$A" "$R" >&6
}
{ run "$@" 2>&1 >&4 4>&- | cat >"$D/e" 4>&-; } 4>&1 5>&- | cat >"$D/o" 5>&-
set -- $(wc -c "$D/o" "$D/e")
[ "$(($1 + $3))" -le "$M" ] || exit 9
cat "$D/o"
cat "$D/e" >&5
rm -rf "$D"
exit 0
)sh";

// Our shells are known by A in their command lines. The command leads a session, so its process group has the number of
// one of their children; the groups are looked up before the shells go, which go first, so that they start nothing
// more.
// (`kill -TERM -- -N`, as in bash, is taken neither by dash nor by busybox.)
const char* const kKillScript = R"sh(
exec 2>/dev/null
groups() {
  for f in $(grep -l "$1" /proc/[0-9]*/cmdline); do
    p=${f#/proc/} p=${p%/cmdline}
    [ "$p" = $$ ] || shells="$shells $p"
  done
  for f in /proc/[0-9]*/stat; do
    read -r l <"$f" || continue
    p=${f#/proc/} p=${p%/stat}
    set -- ${l##*) }
    case " $shells " in
      *" $2 "*) [ "$3" = "$p" ] && led="$led $p" ;;
    esac
  done
}
shells= led=
groups "$1"
[ -z "$shells" ] || kill -KILL $shells
for p in $led; do kill -TERM "-$p"; done
i=0
while [ $i -lt 10 ]; do
  alive=
  for p in $led; do kill -0 "-$p" && alive=y; done
  [ -n "$alive" ] || break
  sleep 0.1 || sleep 1
  i=$((i + 1))
done
for p in $led; do kill -KILL "-$p"; done
rm -rf "/var/tmp/vmgraft-$1$2" "/tmp/vmgraft-$1$2" "/run/vmgraft-$1$2"
exit 0
)sh";

const char* const kCleanScript = R"sh(
exec 2>/dev/null
for f in $(grep -l "$1" /proc/[0-9]*/cmdline); do
  p=${f#/proc/} p=${p%/cmdline}
  [ "$p" = $$ ] || kill -KILL "$p"
done
rm -rf "/var/tmp/vmgraft-$1$2" "/tmp/vmgraft-$1$2" "/run/vmgraft-$1$2"
exit 0
)sh";

}  // namespace vmgraft

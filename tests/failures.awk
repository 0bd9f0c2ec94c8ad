# SPDX-License-Identifier: Apache-2.0
# Of what a level printed, a few lines that tell why it failed: of a Catch2 log the first assertions that failed, with the
# names of all the cases that did; of anything else its last lines.
/^--------------------/ { in_name = !in_name; if (in_name) { name = ""; is_told = 0 } next }
in_name { name = name (name == "" ? "" : " ") $0; next }
/FAILED:/ && name != "" {
  if (!is_told) print "   " name
  is_told = 1
  if (++assertions <= 10) left = 12
}
left > 0 && NF { print "     " substr($0, 1, 240); --left }
{ last[NR % 20] = substr($0, 1, 240) }
END {
  if (!assertions) for (i = NR > 20 ? NR - 19 : 1; i <= NR; ++i) print "   " last[i % 20]
}

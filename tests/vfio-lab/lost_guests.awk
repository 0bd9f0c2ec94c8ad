# SPDX-License-Identifier: Apache-2.0
# Of a Catch2 log: the test cases whose guest did not start, or died in the middle of a command, as filters (a name to its
# first comma).
/^--------------------/ { in_name = !in_name; if (in_name) { name = ""; is_lost = 0 } next }
in_name { name = name (name == "" ? "" : " ") $0; next }
/disappeared while executing command|no guest agent answered within|guest agent of VM .* does not answer|guest did not let .* go within 60 s/ && !is_lost { is_lost = 1; sub(/,.*/, "", name); print name "*" }

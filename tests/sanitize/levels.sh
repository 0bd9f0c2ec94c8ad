# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/run: the levels asan, tsan and fuzz. They have builds of their own, by clang, below the build folder.

# clang_for LEVEL: clang is here, or says why the level is not run.
clang_for() {
  command -v clang++ >/dev/null && command -v llvm-symbolizer >/dev/null && return
  skip_level "$1" "it needs clang, its runtime libraries and llvm-symbolizer (tests/packages: sanitize)"
  return 1
}

# sanitized_build address|undefined|thread TARGET...: in $build/KIND; the two levels take turns.
sanitized_build() (
  local kind=$1 tree=$build/$1
  shift
  mkdir -p "$tree"
  exec 8>"$tree/lock"
  flock 8
  # Built once and run once: several files in one compilation share what their headers cost.
  cmake -S "$repository" -B "$tree" -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=None -DVMGRAFT_BUILD_EXAMPLES=OFF \
    -DCMAKE_UNITY_BUILD=ON -DVMGRAFT_SANITIZE="$kind" -DVMGRAFT_BUILD_FUZZERS="$([ "$kind" = thread ] && echo OFF || echo ON)" \
    >"$tree/configure.log" 2>&1 || { tail -30 "$tree/configure.log" && return 1; }
  # Compilers give way to the guests of a level that runs beside this one.
  nice cmake --build "$tree" --target "$@" >"$tree/build.log" 2>&1 ||
    { grep -E 'error|FAILED' -A5 "$tree/build.log" | head -60 && return 1; }
)

asan_level() {
  local level started=$SECONDS
  clang_for asan || return 0
  echo "== asan"
  check "it builds with address and undefined behaviour watched" \
    sanitized_build address unit_tests golden_tests testdriver_tests cli_tests vmgraft_program
  echo "== asan: built in $((SECONDS - started)) s"
  for level in unit golden testdriver cli; do
    [ -x "$build/address/bin/${level}_tests" ] || continue # said above
    run_level "asan-$level" env ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 \
      LSAN_OPTIONS=suppressions="$repository/tests/sanitize/leaks.supp":print_suppressions=0 UBSAN_OPTIONS=print_stacktrace=1 \
      VMGRAFT_BINARY="$build/address/bin/vmgraft" "$build/address/bin/${level}_tests" "${catch_options[@]}"
  done
}

tsan_level() {
  local started=$SECONDS
  clang_for tsan || return 0
  echo "== tsan"
  check "it builds with threads watched" sanitized_build thread thread_tests
  echo "== tsan: built in $((SECONDS - started)) s"
  [ -x "$build/thread/bin/thread_tests" ] || return 0
  # Tests fork after threads were there, and the children start threads.
  run_level tsan env \
    TSAN_OPTIONS=suppressions="$repository/tests/sanitize/threads.supp":print_suppressions=0:die_after_fork=0 \
    "$build/thread/bin/thread_tests" "${catch_options[@]}"
}

# fuzz_one NAME: VMGRAFT_FUZZ_SECONDS of it (60), or VMGRAFT_FUZZ_RUNS executions; inputs of at most VMGRAFT_FUZZ_LENGTH
# bytes (4096). A finding is shown with its bytes.
fuzz_one() {
  local name=$1 found=$work/fuzz/$1 limit=(-max_total_time="${VMGRAFT_FUZZ_SECONDS:-60}") dictionary=$repository/tests/fuzz/$1.dict
  [ -z "${VMGRAFT_FUZZ_RUNS:-}" ] || limit=(-runs="$VMGRAFT_FUZZ_RUNS")
  [ ! -e "$dictionary" ] || limit+=(-dict="$dictionary")
  mkdir -p "$found/corpus" "$found/artifacts"
  # Half of the time went into where each byte was allocated, and into bytes kept from reuse: an input that was found tells
  # all of it when it is run by hand.
  local options=malloc_context_size=2:quarantine_size_mb=8
  # New inputs go to the first folder, which is thrown away: what is worth keeping is put into the corpus by hand.
  if ASAN_OPTIONS=$options "$build/$kind/bin/${name}_fuzzer" "${limit[@]}" -max_len="${VMGRAFT_FUZZ_LENGTH:-4096}" \
    -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$found/artifacts/" "$found/corpus" "$repository/tests/fuzz/corpus/$name" >"$found/log" 2>&1; then
    echo "ok: $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$found/log") inputs"
    return
  fi
  echo "FAILED: $name"
  tail -60 "$found/log"
  for file in "$found"/artifacts/*; do
    [ ! -e "$file" ] || { echo "-- $(basename "$file"), base64:" && base64 "$file"; }
  done
  return 1
}

# Two at a time: CI has two cores. VMGRAFT_FUZZ_BUILD=undefined: without AddressSanitizer, at -O2, for runs of hours.
fuzz_level() {
  local names name started=$SECONDS kind=${VMGRAFT_FUZZ_BUILD:-address}
  clang_for fuzz || return 0
  echo "== fuzz"
  check "the fuzzers build" sanitized_build "$kind" fuzzers
  names=$(sed -n 's/^set(fuzzers \(.*\))$/\1/p' "$repository/tests/fuzz/CMakeLists.txt")
  for name in $names; do
    [ -x "$build/$kind/bin/${name}_fuzzer" ] || return 0 # said above
  done
  export -f fuzz_one
  export build kind work repository
  # shellcheck disable=SC2086
  printf '%s\n' ${VMGRAFT_FUZZERS:-$names} |
    xargs -P 2 -I NAME bash -c 'mkdir -p "$work/fuzz/NAME" && fuzz_one NAME >"$work/fuzz/NAME/said" 2>&1' || true
  for name in ${VMGRAFT_FUZZERS:-$names}; do
    cat "$work/fuzz/$name/said"
    if grep -q '^ok: ' "$work/fuzz/$name/said"; then tally 1 0 0; else failed "fuzz: $name" "$work/fuzz/$name/said"; fi
  done
  echo "== fuzz: $((SECONDS - started)) s"
}

#!/usr/bin/env bash
# run.sh - installs what is missing, builds, runs every test; the last line is "N passed, M failed".
set -u

top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
build=${QUORUMFS_BUILD_DIR:-$top/build}
suites=()

usage() {
  cat <<'END'
Usage: tests/run.sh [--suite NAME]... [--help]

Installs missing packages (as root or by sudo; else it says which), builds in build/ (or in
$QUORUMFS_BUILD_DIR, with the arguments in $QUORUMFS_MESON_ARGS) and runs the suites unit, sim and mount,
or those named. Shows the output of failing tests and ends with one line "N passed, M failed", in
which every test point counts, a crash or a timeout is a failure, and so is a suite without tests.

Exit status: 0 everything passed, 1 not, 2 wrong usage or packages are missing.
END
}

finish() {
  printf '%d passed, %d failed\n' "$1" "$2"
  if [ "$2" -eq 0 ]; then exit 0; else exit 1; fi
}

while [ $# -gt 0 ]; do
  case $1 in
  -h | --help)
    usage
    exit 0
    ;;
  --suite)
    case ${2-} in
    unit | sim | mount) suites+=("$2") ;;
    *)
      echo "run.sh: --suite needs unit, sim or mount" >&2
      exit 2
      ;;
    esac
    shift
    ;;
  *)
    echo "run.sh: unknown argument '$1'; see tests/run.sh --help" >&2
    exit 2
    ;;
  esac
  shift
done
[ "${#suites[@]}" -gt 0 ] || suites=(unit sim mount)

# A machine may have neither a home nor a terminal.
export HOME=${HOME:-/tmp} LC_ALL=C.UTF-8
exec </dev/null
cd "$top" || exit 2

# shellcheck source=tests/lib/packages.sh
. "$top/tests/lib/packages.sh"
mapfile -t missing < <(packages_missing_for_build && packages_missing_for_tests)
if [ "${#missing[@]}" -gt 0 ] && ! (packages_install "${missing[@]}"); then
  echo "0 passed, 1 failed"
  exit 2
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

build_all() {
  local -a arguments=()
  read -r -a arguments <<<"${QUORUMFS_MESON_ARGS-}"
  mkdir -p "$build" && exec 9<"$build" && flock 9 || return 1
  if [ -e "$build/build.ninja" ]; then
    [ "${#arguments[@]}" -eq 0 ] || meson configure "$build" "${arguments[@]}" || return 1
  else
    meson setup --buildtype=release "${arguments[@]}" "$build" "$top" || return 1
  fi
  ninja -C "$build" && exec 9<&-
}

echo "building in $build"
if ! build_all >"$log" 2>&1; then
  cat "$log"
  echo "the build failed"
  finish 0 1
fi
grep -E 'warning:' "$log"

passed=0 failed=0
for suite in "${suites[@]}"; do
  echo "suite $suite"
  rm -f "$build"/meson-logs/testlog-"$suite".*
  meson test -C "$build" --no-rebuild --suite "quorumfs:$suite" --logbase "testlog-$suite" 2>&1 |
    grep -E '^ *[0-9]+/[0-9]+ '
  ended=${PIPESTATUS[0]}
  : >"$log"
  python3 "$top/tests/lib/count.py" "$suite" "$build/meson-logs/testlog-$suite.json" "$log"
  read -r suite_passed suite_failed <"$log" || suite_passed=0 suite_failed=1
  # Ended in the middle, it has a log of what was run until then.
  if [ "$ended" -ne 0 ] && [ "$suite_failed" -eq 0 ]; then
    echo "suite $suite: meson test ended with $ended"
    suite_failed=1
  fi
  passed=$((passed + suite_passed)) failed=$((failed + suite_failed))
done
finish "$passed" "$failed"

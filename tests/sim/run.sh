#!/bin/sh
# The store under simulated faults. --help lists the options; --seed S --trace replays one run.
# Builds what is needed in build/ (or $QFS_BUILD) beside the sources.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${QFS_BUILD:-$root/build}
if [ ! -f "$build/build.ninja" ]; then
  meson setup "$build" "$root" >&2
fi
if ! log=$(ninja -C "$build" tests/sim/sim 2>&1); then
  printf '%s\n' "$log" >&2
  exit 2
fi
exec "$build/tests/sim/sim" "$@"

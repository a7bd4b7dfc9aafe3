#!/usr/bin/env bash
# run.sh - measures quorumfs and its peers side by side (bench.py), or with the first argument `scale` what quorumfs
# costs as it grows (scale.py). Installs what is missing, builds.
set -eu

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
top=$(cd -- "$here/../.." && pwd)
build=${QUORUMFS_BUILD_DIR:-$top/build}
program=bench.py
if [ "${1-}" = scale ]; then
  program=scale.py
  shift
fi

# shellcheck source=tests/lib/packages.sh
. "$top/tests/lib/packages.sh"
case " $* " in
*" --help "* | *" -h "*) ;;
*)
  mapfile -t missing < <(packages_missing_for_build && packages_missing_for_bench)
  # Servers that a package starts are not wanted: each run starts its own.
  [ "${#missing[@]}" -eq 0 ] || RUNLEVEL=1 packages_install "${missing[@]}"
  [ -e "$build/build.ninja" ] || meson setup --buildtype=release "$build" "$top" >/dev/null
  meson setup --reconfigure "$build" "$top" >/dev/null # client libraries may have come
  ninja -C "$build" >/dev/null
  ;;
esac
exec python3 "$here/$program" --build "$build" "$@"

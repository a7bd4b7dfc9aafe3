#!/usr/bin/env bash
# mount.sh - from a fresh machine to a mounted store: installs what is missing, builds, mounts.
set -eu

top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
build=${QUORUMFS_BUILD_DIR:-$top/build}
program=$build/quorumfs

usage() {
  cat <<'END'
Usage: mount.sh [-o OPTIONS] MOUNTPOINT     mount a store, in the background
       mount.sh -u MOUNTPOINT               unmount it
       mount.sh --help

Installs the packages that are missing (as root or by sudo; else it says which), builds quorumfs in
build/, makes MOUNTPOINT if there is none, mounts, and returns when the store serves. Keys are files:
  echo blue > MOUNTPOINT/colour; cat MOUNTPOINT/colour; rm MOUNTPOINT/colour

Options for -o, separated by commas (all of them: build/quorumfs mount --help):
  store=DIR     the store's directory (default: $XDG_DATA_HOME/quorumfs/default,
                or ~/.local/share/quorumfs/default)
  nodes=N       nodes (default: 5; other ones than before: the data moves)
  replicas=K    replicas of each key (default: (N+1)/2)
  nodeI=DIR     directory of node I, such as one on another disk
  sync          every write is on stable storage before it is acknowledged
  ephemeral     a temporary store, deleted at unmount

Exit status: 0 mounted (or it was already), 1 failed, 2 wrong usage or packages are missing.
END
}

fail() {
  printf 'mount.sh: %s\n' "$1" >&2
  exit 2
}

install_missing() {
  # shellcheck source=tests/lib/packages.sh
  . "$top/tests/lib/packages.sh"
  local -a missing
  mapfile -t missing < <(packages_missing_for_build)
  if [ "${#missing[@]}" -gt 0 ]; then
    packages_install "${missing[@]}"
  fi
}

# Runs a command that speaks only when it fails.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ "$status" -ne 0 ]; then
    [ ! -t 2 ] || printf '\r\033[K' >&2
    cat "$log" >&2
    rm -f "$log"
    printf 'mount.sh: building failed: %s\n' "$*" >&2
    exit 1
  fi
  rm -f "$log"
}

build_program() {
  # A checkout of somebody else, already built: nothing to do and no right to do it.
  if [ -x "$program" ] && [ ! -w "$build" ]; then
    return
  fi
  mkdir -p "$build" || fail "$build cannot be made"
  # One build at a time, also when several mount.sh run at once.
  exec 9<"$build"
  flock 9
  [ ! -t 2 ] || printf 'quorumfs: building ...' >&2
  if [ ! -e "$build/build.ninja" ]; then
    quietly meson setup --buildtype=release "$build" "$top"
  fi
  quietly ninja -C "$build" quorumfs
  [ ! -t 2 ] || printf '\r\033[K' >&2
  exec 9<&-
}

unmount() {
  if [ -x "$program" ]; then
    exec "$program" umount -- "$1"
  elif [ "$(id -u)" -eq 0 ]; then
    exec umount -- "$1"
  fi
  exec fusermount3 -u -- "$1"
}

options=()
mountpoint=
mode=mount
while [ $# -gt 0 ]; do
  case $1 in
  -h | --help)
    usage
    exit 0
    ;;
  -o)
    [ $# -ge 2 ] || fail "-o needs options; see mount.sh --help"
    options+=(-o "$2")
    shift
    ;;
  -o*) options+=(-o "${1#-o}") ;;
  -u) mode=unmount ;;
  --)
    shift
    break
    ;;
  -*) fail "unknown option '$1'; see mount.sh --help" ;;
  *)
    [ -z "$mountpoint" ] || fail "one mountpoint, not several; see mount.sh --help"
    mountpoint=$1
    ;;
  esac
  shift
done
for argument in "$@"; do
  [ -z "$mountpoint" ] || fail "one mountpoint, not several; see mount.sh --help"
  mountpoint=$argument
done
[ -n "$mountpoint" ] || fail "a mountpoint is missing; see mount.sh --help"

if [ "$mode" = unmount ]; then
  [ "${#options[@]}" -eq 0 ] || fail "-u takes no options; see mount.sh --help"
  unmount "$mountpoint"
fi
install_missing
build_program
QUORUMFS_UNMOUNT="$0 -u" exec "$program" mount --create --reuse ${options[@]+"${options[@]}"} -- "$mountpoint"

#!/usr/bin/env bash
# Goal: programs that people use work in the mount as on any filesystem, for root and for an ordinary user: tar, rsync, cp,
# git, sqlite3 in both modes, vim, make and the compiler, xargs -P, python, find, du, rm (programs.sh).
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-560}
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
chmod 755 "$work"
mount_store allow_other || exit 1
cp "$(dirname "$0")/programs.sh" "$work/programs.sh"

# report WHO: turns the lines of programs.sh into points.
report() {
  local line
  while IFS= read -r line; do
    case $line in
    "ok - "*) ok "$1: ${line#ok - }" ;;
    "not ok - "*) not_ok "$1: ${line#not ok - }" ;;
    *) diag "$line" ;;
    esac
  done
  # Whoever ends early has too few.
  if [ "$((points - before))" -ge 82 ]; then ok "$1: all was run"; else not_ok "$1: all was run" "$((points - before)) points"; fi
}
before=0
mkdir "$mnt/own" "$work/own"
report "owner" < <(bash "$work/programs.sh" "$mnt/own" "$work/own" 2>&1)
if [ "$(id -u)" -eq 0 ]; then
  before=$points
  mkdir "$mnt/user" "$work/user"
  chown 65534:65534 "$mnt/user" "$work/user"
  report "user" < <(setpriv --reuid 65534 --regid 65534 --clear-groups bash "$work/programs.sh" "$mnt/user" "$work/user" 1000 2>&1)
else
  skip "an ordinary user beside root" "only root can become somebody else"
fi
within 60 is_settled
agreement 3 "all owners hold the same rows"
finish

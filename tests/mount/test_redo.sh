#!/usr/bin/env bash
# Goal: whatever happens to the redo log of one node (storage/redo.h), while the daemon runs or after it was killed, all
# that was acknowledged is there, nothing older comes back, and all owners agree.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-120}
. "$(dirname "$0")/../lib/tap.sh"
options=timeout=60000
seed=${SEED:-$RANDOM}
RANDOM=$seed
mount_store $options || exit 1
start_traffic crash "$seed"

redo_of() { echo "$store/node-$1/replica.db-redo"; }
# Other bytes at some place of what is there.
flip() { # FILE
  local size
  size=$(stat -c %s "$1" 2>/dev/null || echo 0)
  [ "$size" -eq 0 ] || head -c 3 /dev/urandom | dd of="$1" bs=1 seek=$((RANDOM * 32768 % size)) conv=notrunc 2>/dev/null
}
damage() { # HOW NODE: of its log
  local file
  file=$(redo_of "$2")
  case $1 in
  flipped) flip "$file" ;;
  cut) [ ! -s "$file" ] || truncate -s $((RANDOM * 32768 % $(stat -c %s "$file"))) "$file" ;;
  deleted) rm -f "$file" ;;
  another-nodes) cp --sparse=always "$(redo_of $((1 + $2 % 5)))" "$file" 2>/dev/null || : ;;
  older) [ ! -e "$work/older" ] || cp --sparse=always "$work/older" "$file" ;;
  a-directory) rm -f "$file" && mkdir "$file" && echo foreign >"$file/foreign" ;;
  garbage) head -c 10000000 /dev/urandom >"$file" ;;
  longer) for file in "$store"/node-*/replica.db-redo; do truncate -s 300G "$file"; done ;; # of all: nothing is lost
  esac
}

# round HOW WHEN: traffic, in the middle of which the daemon is killed.
round() {
  local node=$((1 + RANDOM % 5)) wrong=
  [ "$1" != older ] || cp --sparse=always "$(redo_of "$node")" "$work/older" 2>/dev/null || rm -f "$work/older"
  if [ "$2" = running ]; then
    tell "round 0 60"
    damage "$1" "$node"
  fi
  tell "round $daemon $((40 + RANDOM % 160))"
  kill_daemon
  [ "$2" = running ] || damage "$1" "$node"
  : >"$work/log"
  mount_store $options || { not_ok "mounts with a log that was $1 ($2)"; exit 1; }
  tell verify
  [ "$answer" = "good 0" ] || wrong="$answer; $(tail -30 "$work/log")"
  is "$wrong" "" "all acknowledged is there: $1, $2 (node $node)"
  [ ! -d "$(redo_of "$node")" ] || rm -rf "$(redo_of "$node")"
}
# What was put behind a log stays there while the daemons come and go, and others are damaged.
for how in longer garbage flipped cut deleted another-nodes older a-directory; do round $how dead; done
for how in flipped deleted; do round $how running; done
within 60 is_settled
agreement 3 "all owners hold the same rows"
finish

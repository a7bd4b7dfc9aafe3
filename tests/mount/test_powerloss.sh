#!/usr/bin/env bash
# Goal: after the power failed for all nodes at once, what fsync(2) returned success for is there (with -o sync:
# everything acknowledged), the rest is one of the versions written since or not there, nothing is mixed, and the store
# opens. The disk is tests/lib/powerloss.c.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-900}
. "$(dirname "$0")/../lib/tap.sh"
rounds=${POWER_ROUNDS:-16}
live=$work/live disk=$work/disk
seed=${SEED:-$RANDOM}
diag "seed $seed"
RANDOM=$seed

preload powerloss.so QFS_LIVE="$live" QFS_DISK="$disk" # a disk that forgets

fresh_disk() {
  rm -rf "$live" "$disk"
  mkdir "$live"
  store=$live/store
  python3 "$top/tests/lib/powerloss.py" begin "$live" "$disk"
}
power_fails() { # drop|torn
  kill_daemon
  python3 "$top/tests/lib/powerloss.py" cut "$live" "$disk" "$1" "$RANDOM" >>"$work/cuts" ||
    { not_ok "the power fails"; exit 1; }
}

# Creation: cut at any of its steps, the next start serves; what is synced then stays.
bad=0
for ((i = 0; i < ${POWER_STARTS:-16}; i++)); do
  fresh_disk
  cut=$((1 + RANDOM % 160)) kind=drop
  [ $((RANDOM % 2)) -eq 0 ] || kind=torn
  QFS_CUT=$cut mount_store timeout=60000 >/dev/null
  power_fails "$kind"
  if ! mount_store timeout=60000; then
    bad=$((bad + 1))
    diag "creation cut at step $cut ($kind): $(tail -3 "$work/log")"
    continue
  fi
  dd of="$mnt/kept" conv=fsync status=none <<<"kept $i" || diag "fsync failed"
  power_fails drop
  mount_store timeout=60000 || { bad=$((bad + 1)); diag "after creation was cut at step $cut and finished: $(tail -3 "$work/log")"; continue; }
  [ "$(cat "$mnt/kept" 2>&1)" = "kept $i" ] || { bad=$((bad + 1)); diag "what was synced after a start is gone (step $cut)"; }
  unmount_store
done
is "$bad" 0 "a store whose creation was cut short serves at the next start, and keeps what is synced then"

# Traffic: cut at a moment that the writers choose, or at a step of the disk; starting again is cut too.
# The deadline is long, so that a busy machine does not fail an operation.
traffic_rounds() { # MODE OPTIONS
  local round bad=0 kind operations=0 again options=timeout=60000$2
  fresh_disk
  mount_store "$options" || exit 1
  start_traffic "$1" "$RANDOM"
  for ((round = 1; round <= rounds; round++)); do
    kind=torn
    [ $((RANDOM % 3)) -ne 0 ] || kind=drop
    disturb_nodes
    tell "round $daemon $((RANDOM % 4 == 0 ? RANDOM % 20 : 50 + RANDOM % 250))"
    [ -z "$disturber" ] || wait "$disturber"
    operations=$((operations + ${answer#* }))
    power_fails "$kind"
    for ((again = RANDOM % 3; again > 0; again--)); do
      QFS_CUT=$((1 + RANDOM % 120)) mount_store "$options" >/dev/null
      power_fails "$kind"
    done
    : >"$work/log"
    mount_store "$options" || { not_ok "$1: starts after failure $round"; break; }
    tell verify
    [ "$answer" = "good 0" ] || { diag "failure $round ($kind): $answer; $(tail -30 "$work/log")"; bad=$((bad + 1)); }
  done
  is "$bad" 0 "$1: after $((round - 1)) power failures everything synced is there and whole ($operations operations)"
  within 60 is_settled
  agreement 3 "$1: all owners hold the same rows"
  stop_traffic
  unmount_store
}
traffic_rounds power ""
rounds=$(((rounds + 1) / 2))
traffic_rounds sync ,sync

diag "$(awk '{ kept += $1; dropped += $4 } END { print kept " blocks kept, " dropped " dropped" }' "$work/cuts")"
finish
